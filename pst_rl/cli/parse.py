"""From the command line to a training run's configuration: a preset, a file and flags, the last word winning."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from pst_rl.cli.config_file import (
    as_flags,
    by_one_name,
    check_old_flags,
    option_value,
    option_values,
    options_given,
    read_config,
)
from pst_rl.cli.exit_status import REFUSED
from pst_rl.cli.mistakes import explained
from pst_rl.cli.presets import SPEED, all_tiny, not_contradicted, preset_for, switch_on
from pst_rl.cli.trl_names import check_trl_names, spelt_booleans
from pst_rl.methods import METHODS
from pst_rl.options.refusals import check_model_values, check_options
from pst_rl.options.table import MODEL
from pst_rl.quiet import quiet_warnings

if TYPE_CHECKING:
    from trl import ModelConfig

    from pst_rl.config import PSTConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """What a command line says: the script's own options, the trainer's, and TRL's model options.

    Attributes:
        notes: What of the preset was left out, and why.
    """

    script: Any
    config: PSTConfig
    model: ModelConfig
    notes: tuple[str, ...] = ()


def parse(
    script: type,
    presets: Mapping[str, Mapping[str, Any]],
    tiny_style: Mapping[str, Any],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> Arguments:
    """Parses `argv` (default: the process's) over a script dataclass, [`PSTConfig`] and [`~trl.ModelConfig`].

    The options of `--preset` come first, then those of `--method`, those of `--config FILE` (YAML or JSON) next, and
    flags override all. Without `--preset` it is the first for the tiny peers and `own` for all others. Where the peers
    are tiny ones, `tiny_style` (prompt and answer formats they were pretrained on) joins any preset, and so does the
    `answer_metric` of the data set's benchmark. Options that take a dict are given as JSON. A misspelt option is
    answered with the nearest one.

    Raises:
        ValueError, FileNotFoundError: One line, for anything that cannot be parsed.
        SystemExit: With status 0, after `--help`.
    """
    argv = by_one_name(sys.argv[1:] if argv is None else argv)
    check_old_flags(argv)
    check_trl_names(argv)
    from_file = read_config(path) if (path := option_value(argv, "config")) else {}
    defaults = preset_options(argv, from_file, presets, tiny_style)
    given = options_given(argv) | set(from_file)
    defaults = not_contradicted(defaults, given)
    wanted = {name: defaults.pop(name) for name in SPEED if name in defaults and name not in given}

    quiet_libraries()
    from trl import ModelConfig  # seconds, so not before it is needed

    from pst_rl.config import PSTConfig

    hints = {**get_type_hints(ModelConfig), **get_type_hints(PSTConfig), **get_type_hints(script)}
    flags = [*as_flags(defaults, hints, "the preset"), *as_flags(from_file, hints, str(path))]
    flags += spelt_booleans(argv, hints)
    arguments = in_one_line(lambda: _parse_flags((script, PSTConfig, ModelConfig), flags, prog), flags, hints)
    check_options(arguments.model, MODEL)
    check_model_values(arguments.model)
    if arguments.model.load_in_4bit and arguments.model.dtype == "float32" and not arguments.config.fp16:
        arguments.model.dtype = "bfloat16"  # as PeerSpec loads what is not quantized; and so 4-bit weights compute
    return replace(arguments, notes=tuple(switch_on(arguments.config, wanted)))


def preset_options(
    argv: Sequence[str],
    from_file: Mapping[str, Any],
    presets: Mapping[str, Mapping[str, Any]],
    tiny_style: Mapping[str, Any],
) -> dict[str, Any]:
    """The options that flags and a file stand on: of the preset, the method, and the data set's benchmark.

    Raises:
        ValueError: There is no such preset or method, or the preset is not for these peers.
    """
    from pst_rl.benchmarks.benchmark import metric_of

    wanted = str(option_value(argv, "preset") or from_file.get("preset") or "auto")
    peers = option_values(argv, "peers") or from_file.get("peers")
    if peers is None:
        peers = presets.get(wanted, {}).get("peers", ["tiny"])
    peers = [peers] if isinstance(peers, str) else peers
    preset = preset_for(peers, wanted, presets)
    options = {"preset": preset} | dict(presets[preset]) | (dict(tiny_style) if all_tiny(peers) else {})
    if preset == "own" and "dataset" not in options and not ({"dataset"} & (options_given(argv) | set(from_file))):
        raise ValueError(
            "Say which questions the peers are to learn from: --dataset FILE (.jsonl, .csv ...), a Hub id, or a "
            "benchmark's name such as gsm8k."
        )
    if dataset := option_value(argv, "dataset") or from_file.get("dataset") or options.get("dataset"):
        options["answer_metric"] = metric_of(str(dataset))
    method = option_value(argv, "method") or from_file.get("method")
    if method is not None and method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; choose one of {', '.join(METHODS)}.")
    return options | (METHODS[method] if method else {})


def in_one_line(parsed: Callable[[], T], words: Sequence[str] = (), hints: Mapping[str, Any] | None = None) -> T:
    """What a call of tyro gives; the box that it draws around a mistake becomes the one line of a `ValueError`.

    Args:
        words, hints: What is parsed, and the types of the options, for a line that says what the option takes.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = parsed()
    except SystemExit as stop:
        if stop.code:
            line = _unboxed(said.getvalue())
            raise ValueError(line if hints is None else explained(line, words, hints)) from None
        raise
    sys.stderr.write(said.getvalue())  # a warning of a library
    return found


def _unboxed(text: str) -> str:
    """tyro's message in one line, without its title and the box around it (drawn with blanks in some locales)."""
    lines = [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]
    title, *message = [line for line in lines if line.strip("-")]
    return " ".join(" ".join(message).split())


def quiet_libraries() -> None:
    """Silences what a person running a script can do nothing about."""
    from transformers.utils.logging import disable_progress_bar

    quiet_warnings()
    disable_progress_bar()  # one bar for each small file read or written


def fail(error: BaseException) -> int:
    """Prints an error as one line (or a line and a list) instead of a traceback; returns the exit status."""
    first, *items = str(error).split("\n  ")
    print("\n  ".join([f"error: {' '.join(first.split())}", *items]), file=sys.stderr)
    return REFUSED


def _parse_flags(parts: tuple[type, type, type], flags: list[str], prog: str | None) -> Arguments:
    flat = tyro.conf.OmitArgPrefixes
    script, config, model = parts

    def arguments(script: Any, config: Any, model: Any) -> Arguments:
        return Arguments(script, config, model)

    arguments.__doc__ = script.__doc__
    arguments.__annotations__ = dict(zip(("script", "config", "model"), (flat[part] for part in parts), strict=True))
    with json_options():
        return tyro.cli(arguments, args=flags, prog=prog, config=(tyro.conf.AvoidSubcommands,))


def json_options() -> tyro.constructors.ConstructorRegistry:
    """Inside, options that take a dict read JSON."""
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(json_rule)
    return registry


def json_rule(info: Any) -> Any:
    """Lets every option that may be a dict read JSON; tyro alone would make it a subcommand."""
    members = get_args(info.type) if get_origin(info.type) in (Union, types.UnionType) else (info.type,)
    if not any(get_origin(m) is dict or m is dict for m in members):
        return None

    def read(words: list[str]) -> Any:
        text = words[0]
        if text == "None":
            return None
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            if str in members and not text.lstrip().startswith("{"):  # e.g. a path to a JSON file, or a plain name
                return text
            raise ValueError(f"expected JSON such as '{{\"key\": 1}}', got {text!r}") from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, (dict, str)),
        str_from_instance=lambda value: [
            "None" if value is None else value if isinstance(value, str) else json.dumps(value)
        ],
    )


def check_resume(config: PSTConfig) -> None:
    """Refuses a resume from nothing before anything is loaded; the trainer then looks into the checkpoint.

    Raises:
        FileNotFoundError: There is no such checkpoint.
    """
    from pst_rl.loop.checkpoint_files import checkpoints_of

    wanted = config.resume_from_checkpoint
    if wanted is None or str(wanted).lower() == "auto":
        return
    there = checkpoints_of(config.output_dir)
    if str(wanted).lower() in ("last", "true"):
        if not there:
            raise FileNotFoundError(f"There is no checkpoint in {config.output_dir!r} to resume from.")
    elif not Path(wanted, "trainer_state.json").is_file():
        advice = f"there is: {', '.join(map(str, reversed(there)))}" if there else f"{config.output_dir!r} holds none"
        raise FileNotFoundError(f"{wanted!r} is no checkpoint; {advice}.")
