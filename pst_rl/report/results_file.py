"""`results.json`: three commands write a file of this name, and each file says whose it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pst_rl.files import write_atomically

FILE = "results.json"
VERSION = 1
"""Of the layout; raised when an older reader would misread a file."""


@dataclass(frozen=True)
class Kind:
    """One kind of results.

    Attributes:
        what: What they are, with their article.
        made_by, read_by: The commands that write and read them.
        needs: Entries that every such file has.
    """

    what: str
    made_by: str
    read_by: str
    needs: tuple[str, ...]


KINDS = {
    "training": Kind("a training run", "pst-rl train", "pst-rl report", ("peers", "vote")),
    "evaluation": Kind(
        "an evaluation", "pst-rl eval", "pst-rl report and pst-rl eval --compare", ("questions", "scores", "peers")
    ),
    "gap": Kind(
        "a generator-verifier gap",
        "pst-rl gv-gap",
        "pst-rl report and pst-rl gv-gap --compare",
        ("questions", "scores", "peers"),
    ),
}


class WrongKind(ValueError):
    """The file is not of the kind that was asked for, or does not say of which it is."""


def write_results_file(folder: str | Path, kind: str, content: Mapping[str, Any], indent: int | None = None) -> Path:
    """Writes `results.json` into the folder, with its `kind` and `version` in front, and returns its path.

    The file appears whole or not at all.

    Args:
        kind: One of `KINDS`.
        content: JSON values.
        indent: Of `json.dumps`.
    """
    needed = {"kind": kind, "version": VERSION} | dict(content)
    return write_atomically(Path(folder) / FILE, json.dumps(needed, indent=indent) + "\n")


def read_results_file(path: str | Path, kind: str) -> dict[str, Any]:
    """The content of a file, or of the `results.json` in a folder, if it is of this kind.

    A file without a `kind` is one of an older version: it is read as a training run if it has what those have.

    Raises:
        FileNotFoundError: There is no such file.
        WrongKind: It is of another kind; the message names it, the command that made it, and what to use instead.
        ValueError: It is no JSON, of a newer version, or lacks an entry.
    """
    wanted, file = KINDS[kind], Path(path)
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(f"There are no results in {path}: give the {FILE} of an earlier {wanted.made_by}.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} has no results of {wanted.made_by}.")
    found = content.get("kind", "training" if _has(content, KINDS["training"].needs) else None)
    if found is None:
        raise WrongKind(
            f"{file} does not say which command made it, and is no training run: was it written by an older version? "
            f"Write it again with {wanted.made_by}."
        )
    if found != kind:
        other = KINDS.get(found) if isinstance(found, str) else None
        holds = f"{other.what}, made by {other.made_by} and read by {other.read_by}" if other else f"{found!r}"
        raise WrongKind(f"{file} holds {holds}. What is needed here is {wanted.what}, made by {wanted.made_by}.")
    if content.get("version", VERSION) != VERSION:
        raise ValueError(
            f"{file} has version {content['version']!r}, and this pst_rl reads {VERSION}: read it with the version "
            f"that wrote it, or write it again with {wanted.made_by}."
        )
    if not _has(content, wanted.needs):
        raise ValueError(f"{file} has no results of {wanted.made_by}: it lacks one of {', '.join(wanted.needs)}.")
    return content


def _has(content: Mapping[str, Any], needs: tuple[str, ...]) -> bool:
    return set(needs) <= set(content) and isinstance(content["peers"], dict)
