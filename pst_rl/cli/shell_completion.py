"""The script that lets a shell complete the commands' options."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from pst_rl.cli.options import Train
from pst_rl.cli.parse import json_options
from pst_rl.cli.presets import PRESETS
from pst_rl.methods import METHODS

# Where the options of `pst-rl train` are declared, the first word on each; importing them takes ten seconds.
SOURCES = (
    ("pst_rl", "config.py", "PSTConfig"),
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/model_config.py", "ModelConfig"),
)


def print_script(shell: str, commands: Mapping[str, Callable[..., Any]]) -> int:
    """Prints the script for bash, zsh or fish; returns the exit status.

    Args:
        commands: The subcommands of `pst-rl`; the options of `train` are replaced by all that it takes.
    """
    known: dict[str, Callable[..., Any]] = {**commands, "train": train_options()}
    status, script = 0, io.StringIO()
    try:
        with json_options(), contextlib.redirect_stdout(script):
            tyro.extras.subcommand_cli_from_dict(known, args=["--tyro-print-completion", shell], prog="pst-rl")
    except SystemExit as stop:
        status = int(stop.code or 0)
    print("\n".join(map(_with_short_help, script.getvalue().splitlines())))
    return status


def _with_short_help(line: str) -> str:
    """A line of the script with each option's help in one line: tyro (1.0) would offer a second one as a word."""
    return line.replace(r"\n", " ") if line.startswith("COMPLETION_SPEC = ") else line


def train_options() -> type:
    """A dataclass with the names and choices of all options of `pst-rl train`, read from the sources of its parts."""
    found: dict[str, Any] = {}
    for package, path, name in SOURCES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"The options of training are declared in {package}, which is not installed.")
        for option, annotation in _declared(Path(spec.origin).parent / path, name).items():
            found.setdefault(option, _as_type(annotation))
    # Names that are free text to the parser, which knows more of them when it runs.
    found |= {
        name: (Literal[tuple(names)], next(iter(names)))
        for name, names in {"preset": ("auto", *PRESETS), "method": METHODS}.items()
    }
    rest = [(option, kind, field(default=default)) for option, (kind, default) in found.items()]
    made = make_dataclass("TrainFlags", rest, bases=(Train,))
    made.__doc__ = Train.__doc__
    return made


def _declared(path: Path, name: str) -> dict[str, ast.expr]:
    """The fields of a dataclass, by its source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.target.id: node.annotation
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if "ClassVar" not in ast.unparse(node.annotation)
    }


def _as_type(annotation: ast.expr) -> tuple[Any, Any]:
    """What completion has to know, with a default of that type: a switch, choices, or anything."""
    if ast.unparse(annotation) == "bool":
        return bool, False
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            written = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            choices = tuple(constant.value for constant in written if isinstance(constant, ast.Constant))
            return Literal[choices], choices[0]
    return str, ""
