"""Loads `examples/pst_math.py` as a module and parses flags the way it does."""

import importlib.util
from pathlib import Path

from pst_rl.cli.parse import Arguments, parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script_arguments(flags) -> Arguments:
    return parse(load_example("pst_math").ScriptArguments, PRESETS, TINY_STYLE, flags)
