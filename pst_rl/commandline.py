"""From the command line to a configuration: a preset, a YAML file and flags, in that order, the last word winning."""

import difflib
import json
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import tyro
import yaml
from transformers.utils.logging import disable_progress_bar
from trl import ModelConfig

from pst_rl.checkpoints import checkpoints_of
from pst_rl.config import PSTConfig


@dataclass(frozen=True)
class Arguments:
    """What a command line says: the script's own options, the trainer's, and TRL's model options."""

    script: Any
    config: PSTConfig
    model: ModelConfig


def parse(
    script: type,
    presets: Mapping[str, Mapping[str, Any]],
    tiny_style: Mapping[str, Any],
    argv: Sequence[str] | None = None,
) -> Arguments:
    """Parses `argv` (default: the process's) over a script dataclass, [`PSTConfig`] and [`~trl.ModelConfig`].

    The options of `--preset` come first, those of `--config FILE.yaml` next, and flags override both. Where the peers
    are the embedded `tiny` ones, `tiny_style` (prompt and answer formats they were pretrained on) joins the preset.
    Options that take a dict are given as JSON. A misspelt option is answered with the nearest one.

    Raises:
        SystemExit: With status 2 and one message for anything that cannot be parsed.
    """
    quiet_libraries()
    argv = list(sys.argv[1:] if argv is None else argv)
    hints = {**get_type_hints(ModelConfig), **get_type_hints(PSTConfig), **get_type_hints(script)}
    try:
        from_file = read_yaml(path) if (path := option_value(argv, "config")) else {}
        preset = option_value(argv, "preset") or from_file.get("preset") or next(iter(presets))
        if preset not in presets:
            raise ValueError(f"Unknown preset {preset!r}; choose one of {', '.join(presets)}.")
        peers = option_value(argv, "peers") or from_file.get("peers") or presets[preset]["peers"]
        peers = peers if isinstance(peers, str) else peers[0]
        defaults = dict(presets[preset]) | (dict(tiny_style) if peers == "tiny" else {})
        flags = [*as_flags(defaults, hints, "the preset"), *as_flags(from_file, hints, str(path)), *argv]
        return _parse_flags(script, flags)
    except (ValueError, OSError) as error:
        raise SystemExit(fail(error)) from error


def quiet_libraries() -> None:
    """Silences what a person running a script can do nothing about."""
    # TRL still uses the older name of this option; transformers warns at each use.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing` is deprecated", category=FutureWarning)
    disable_progress_bar()  # one bar for each small file read or written


def fail(error: BaseException) -> int:
    """Prints an error as one message instead of a traceback; returns the exit status."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def _parse_flags(script: type, flags: list[str]) -> Arguments:
    flat = tyro.conf.OmitArgPrefixes

    def arguments(script: flat[script], config: flat[PSTConfig], model: flat[ModelConfig]) -> Arguments:
        return Arguments(script, config, model)

    arguments.__doc__ = script.__doc__
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(json_rule)
    with registry:
        return tyro.cli(arguments, args=flags, config=(tyro.conf.AvoidSubcommands,))


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


def option_value(argv: Sequence[str], name: str) -> str | None:
    """The (last) value given for `--name` on the command line, before anything is parsed."""
    value = None
    for i, word in enumerate(argv):
        if word == f"--{name}" and i + 1 < len(argv):
            value = argv[i + 1]
        elif word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
    return value


def read_yaml(path: str) -> dict[str, Any]:
    """A configuration file: option names and values."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"The configuration file {path!r} does not exist.")
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold option names and values, such as `learning_rate: 1.0e-5`.")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def as_flags(options: Mapping[str, Any], hints: Mapping[str, Any], source: str) -> list[str]:
    """Options as command-line words.

    >>> as_flags({"peers": ["a", "b"], "use_peft": True}, {"peers": list[str], "use_peft": bool}, "x")
    ['--peers', 'a', 'b', '--use-peft']
    """
    flags: list[str] = []
    for name, value in options.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise ValueError(f"Unknown option {name!r} in {source}{f'; did you mean {near[0]!r}?' if near else '.'}")
        flag = "--" + name.replace("_", "-")
        if hints[name] is bool:
            flags.append(flag if value else "--no-" + name.replace("_", "-"))
        elif isinstance(value, dict):
            flags += [flag, json.dumps(value)]
        elif isinstance(value, (list, tuple)):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    return flags
