"""What is wrong with a command line, in one sentence: the option, what it takes, and the nearest name."""

from __future__ import annotations

import difflib
import enum
import re
import types
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pst_rl.cli.config_file import option_values

_KINDS = {int: "a whole number", float: "a number", str: "a text", Path: "a path", bool: "true or false"}
_HELP = re.compile(r" ?(Perhaps you meant:.*|Argument helptext:.*|For full helptext.*)")


def explained(said: str, words: Sequence[str], hints: Mapping[str, Any]) -> str:
    """A message of tyro's without its help, naming the option and what it takes.

    Args:
        said: The message, in one line.
        words: What was parsed.
        hints: The types of the options, by their names with underscores.
    """
    if said.startswith("Unrecognized options:"):
        return _unknown(words, hints) or _stray(_HELP.sub("", said), words, hints)
    found = re.search(r"(?:Error parsing |argument ')--([\w-]+)", said)
    name = found[1].replace("-", "_") if found else ""
    if refused := re.match(r"Error parsing \w+: (.+)", _HELP.sub("", said)):
        return refused[1].strip()  # by the configuration itself
    if name not in hints:
        return said.replace("'options.", "'")  # a positional argument
    given = option_values(words, name) or option_values(words, name.replace("_", "-")) or []
    if not _is_several(hints[name]):
        given = given[:1]
    got = " ".join(map(repr, given)) or "nothing"
    return f"{_expected(name, hints[name])}, got {got}.{_nearest(hints[name], given)}"


def kind(hint: Any) -> str:
    """What an option of a type takes.

    >>> kind(int | None), kind(list[float]), kind(Literal["a", "b"])
    ('a whole number or None', 'a number, or several', 'one of a, b')
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        named = dict.fromkeys(kind(part) for part in parts if part is not type(None))
        return " or ".join([*named, *(["None"] if type(None) in parts else [])])
    if choices := _choices(hint):
        return f"one of {', '.join(choices)}"
    if origin is tuple and ... not in parts:
        return f"{len(parts)} values ({', '.join(map(kind, parts))})"
    if origin in (list, tuple):
        return f"{kind(parts[0])}, or several"
    if dict in (hint, origin):
        return "JSON such as '{\"key\": 1}'"
    return _KINDS.get(hint, "another value")


def _choices(hint: Any) -> list[str]:
    """The values of a `Literal` or an enumeration, also where it is one of several types or the kind of a list."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [str(member.value) for member in hint]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return []


def _is_several(hint: Any) -> bool:
    return any(get_origin(part) in (list, tuple) for part in (hint, *get_args(hint)))


def _nearest(hint: Any, given: Sequence[str]) -> str:
    choices = [choice for part in (hint, *get_args(hint)) for choice in _choices(part)]
    near = [found for word in given for found in difflib.get_close_matches(word, choices, n=1) if found != word]
    return f" Did you mean {near[0]!r}?" if near else ""


def _expected(name: str, hint: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    return f"{flag}: expected {kind(hint)}{' or nothing' if hint is bool else ''}"


def _unknown(words: Sequence[str], hints: Mapping[str, Any]) -> str | None:
    """The first flag that there is not, with the nearest one that there is."""
    for word in words:
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").replace("-", "_")
        meant = name.removeprefix("no_")
        if not flag.startswith("--") or name in (*hints, "config", "help", "") or hints.get(meant) is bool:
            continue
        near = [meant] if meant in hints else difflib.get_close_matches(name, hints, n=1)
        hint = f"; did you mean --{near[0].replace('_', '-')} ({kind(hints[near[0]])})?" if near else "."
        return f"Unrecognized options: {flag}{hint}"
    return None


def _stray(said: str, words: Sequence[str], hints: Mapping[str, Any]) -> str:
    """A word that belongs to no option: the value of a switch that takes another, if there is one."""
    for word, following in pairwise([*words, "--"]):
        flag, is_set, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        value = value if is_set else following
        if flag.startswith("--") and hints.get(name) is bool and (is_set or not value.startswith("-")):
            apart = value in said.split()
            beside = "" if apart else f" ({said.partition(': ')[2]!r} is one word too many)"
            return f"{_expected(name, bool)}, got {value!r}{beside}."
    return said
