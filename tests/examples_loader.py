"""Loads an example as a module, and parses flags the way `pst-rl train` and `examples/pst_math.py` do."""

import importlib.util
from pathlib import Path

from pst_rl.cli.parse import Arguments
from pst_rl.cli.train import TrainRun

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script_arguments(flags) -> Arguments:
    return TrainRun.parse(flags).arguments
