"""Options in a file: read, checked against a command's, and written as the words that one would type."""

from __future__ import annotations

import contextlib
import difflib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
import yaml

from pst_rl.options import OLD_FIELDS, new_spelling

# Other names of options, which work on every command line and in every file.
ALIASES = {"prompt": "prompt_template"}


def by_one_name(argv: Sequence[str]) -> list[str]:
    """The words of a command line with the one name of each option that has several.

    >>> by_one_name(["--prompt", "boxed.v1", "--limit=3"])
    ['--prompt-template', 'boxed.v1', '--limit=3']
    """
    names = {f"--{other}": f"--{name.replace('_', '-')}" for other, name in ALIASES.items()}
    return ["".join((names.get(flag, flag), *rest)) for flag, *rest in (word.partition("=") for word in argv)]


def option_value(argv: Sequence[str], name: str) -> str | None:
    """The (last) value given for `--name` on the command line, before anything is parsed."""
    value = None
    for i, word in enumerate(argv):
        if word == f"--{name}" and i + 1 < len(argv):
            value = argv[i + 1]
        elif word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
    return value


def option_values(argv: Sequence[str], name: str) -> list[str] | None:
    """All values of `--name` where it is given last, before anything is parsed."""
    values = None
    for i, word in enumerate(argv):
        if word == f"--{name}":
            following = argv[i + 1 :]
            stop = next((k for k, value in enumerate(following) if value.startswith("--")), len(following))
            values = list(following[:stop])
        elif word.startswith(f"--{name}="):
            values = [word.split("=", 1)[1]]
    return values


def options_given(argv: Sequence[str]) -> set[str]:
    """The names of the options on a command line, with underscores.

    >>> sorted(options_given(["--max-steps", "3", "--no-use-peft"]))
    ['max_steps', 'use_peft']
    """
    flags = [word.partition("=")[0][2:].replace("-", "_") for word in argv if word.startswith("--")]
    return {flag.removeprefix("no_") for flag in flags}


def read_config(path: str) -> dict[str, Any]:
    """Option names (with underscores, each by its one name) and values in a YAML or `.json` file.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read, or holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"The configuration file {path!r} does not exist.")
    is_json = Path(path).suffix.lower() == ".json"
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text) if is_json else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid {'JSON' if is_json else 'YAML'}: {why}") from error
    if not isinstance(content, dict):
        example = '{"learning_rate": 1e-5}' if is_json else "learning_rate: 1.0e-5"
        raise ValueError(f"{path} must hold option names and values, such as `{example}`.")
    named = {str(key).replace("-", "_"): value for key, value in content.items()}
    return {ALIASES.get(name, name): value for name, value in named.items()}


def as_flags(options: Mapping[str, Any], hints: Mapping[str, Any], source: str) -> list[str]:
    """Options as command-line words.

    >>> as_flags({"peers": ["a", "b"], "use_peft": True}, {"peers": list[str], "use_peft": bool}, "x")
    ['--peers', 'a', 'b', '--use-peft']

    Raises:
        ValueError: An option that is not among `hints`; the message names the nearest one that is.
    """
    flags: list[str] = []
    check_old_names({name: value for name, value in options.items() if name not in hints}, source)
    for name, value in options.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise ValueError(f"Unknown option {name!r} in {source}{f'; did you mean {near[0]!r}?' if near else '.'}")
        flag = "--" + name.replace("_", "-")
        if hints[name] is bool and isinstance(value, bool):
            flags.append(flag if value else "--no-" + name.replace("_", "-"))
        elif hints[name] is bool:
            raise ValueError(f"The option {name!r} in {source} must be true or false, got {value!r}.")
        else:
            flags += [flag, *_words(value)]
    return flags


def check_old_flags(argv: Sequence[str]) -> None:
    """Refuses flags of an earlier version, as [`check_old_names`] does."""
    found: dict[str, Any] = {}
    for word, following in pairwise([*argv, "--"]):
        flag, is_set, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name.removeprefix("no_") in OLD_FIELDS:
            if not is_set:
                value = following if not following.startswith("--") else str(name[:3] != "no_").lower()
            with contextlib.suppress(json.JSONDecodeError):  # a word is itself
                value = json.loads(value)
            found[name.removeprefix("no_")] = value
    check_old_names(found)


def check_old_names(options: Mapping[str, Any], source: str | None = None) -> None:
    """Refuses options of an earlier version, in a file or as flags, with the flags that say the same now.

    >>> check_old_names({"pmi": "on", "pmi_tau": 2}, "run.yaml")
    Traceback (most recent call last):
    ValueError: pmi, pmi_tau in run.yaml: now --weighting pmi --weighting-options '{"tau": 2}'

    Raises:
        ValueError: There are some.
    """
    if old := {name: value for name, value in options.items() if name in OLD_FIELDS}:
        new = new_spelling(old)
        said = f"{', '.join(old)} in {source}" if source else ", ".join("--" + n.replace("_", "-") for n in old)
        raise ValueError(f"{said}: now {shlex.join(as_flags(new, dict.fromkeys(new, str), ''))}")


def option_types(command: type) -> dict[str, Any]:
    """The types of a command's options, by their names on the command line with underscores; no positional ones."""
    hints = _option_hints(command)
    return {_flag_name(name, hint): _bare(hint) for name, hint in hints.items() if not _is_positional(hint)}


def with_file(command: type, path: str | None) -> tuple[Any, list[str]]:
    """What a file, if there is one, says about a command: a dataclass whose fields are its options.

    Flags override a file by standing behind its words. A positional argument has no such order, so the file's becomes
    the default of the dataclass.

    Returns:
        A default instance (what is required and not in the file is missing), and the words of the other options.

    Raises:
        FileNotFoundError, ValueError: As [`read_config`] and [`as_flags`] do.
    """
    known = {_flag_name(name, hint): (name, hint) for name, hint in _option_hints(command).items()}
    options = read_config(path) if path else {}
    positional = {flag: known[flag] for flag in options if flag in known and _is_positional(known[flag][1])}
    others = {flag: value for flag, value in options.items() if flag not in positional}
    words = as_flags(others, {flag: _bare(hint) for flag, (_, hint) in known.items()}, str(path))
    values = {
        name: tyro.cli(_bare(hint), args=_words(options[flag]), prog=str(path))
        for flag, (name, hint) in positional.items()
    }
    required = [f.name for f in fields(command) if f.default is f.default_factory and f.name not in values]
    return command(**dict.fromkeys(required, tyro.MISSING), **values), words


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [json.dumps(value)]
    return [
        json.dumps(v) if isinstance(v, dict) else str(v)
        for v in (value if isinstance(value, (list, tuple)) else [value])
    ]


def _option_hints(command: type) -> dict[str, Any]:
    hints = get_type_hints(command, include_extras=True)
    return {f.name: hints[f.name] for f in fields(command)}


def _extras(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _is_positional(hint: Any) -> bool:
    return tyro.conf.Positional in _extras(hint)


def _flag_name(name: str, hint: Any) -> str:
    """The option's name on the command line, with underscores."""
    named = [extra.name for extra in _extras(hint) if getattr(extra, "name", None)]
    return (named[0] if named else name).replace("-", "_")
