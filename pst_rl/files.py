"""Files that appear whole or not at all, and digests by which contents are known."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

EDGE = 1 << 20
"""Bytes at each end of a file that `edges_digest` reads."""


def write_atomically(path: str | Path, content: str | bytes | Callable[[Path], Any]) -> Path:
    """Writes a file that appears whole or not at all, and returns its path; its folder is made if it is not there.

    The content is written to `<name>.part` beside it and synced to the disk before one rename brings it to its place.
    Without the sync a power failure could leave the new name on an empty file. The rename itself is not synced: after
    a power failure the file is the new one or the old one, and whole.

    Args:
        content: Text (written as UTF-8), bytes, or what writes a file at the path that it is given. That path ends in
            `.part`, so a writer that goes by the ending must be told the format.

    Raises:
        OSError: The disk is full or broken. Then, and if the writer fails or is interrupted, the old file is as it
            was, and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    try:
        if callable(content):
            content(beside)
        else:
            beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def digest(content: str | bytes, digits: int = 64) -> str:
    """The first hexadecimal digits of the SHA-256 of bytes, or of text as UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:digits]


def json_digest(content: Any, digits: int = 64, **options: Any) -> str:
    """The first hexadecimal digits of the SHA-256 of what JSON makes of the content.

    Args:
        options: Of `json.dumps`. Without `sort_keys`, dictionaries are equal only in the same order.
    """
    return digest(json.dumps(content, **options), digits)


def file_digest(path: str | Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(paths: Iterable[Path], *more: str) -> str:
    """32 hexadecimal digits that change with any byte of the files, their names, or the texts behind them.

    It reads every byte: results of models are known by it (`pst_rl.benchmarks.model.model_digest`).
    """
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.name.encode() + bytes.fromhex(file_digest(path)))
    for text in more:
        found.update(text.encode())
    return found.hexdigest()[:32]


def edges_digest(paths: Iterable[Path]) -> str:
    """16 hexadecimal digits from the names, lengths, beginnings and ends (1 MiB each) of files: fast at any size.

    A run is compared with its checkpoint by it (`pst_rl.loop.identity`), at every start.
    """
    found = hashlib.sha256()
    for path in sorted(paths):
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(EDGE)
            file.seek(max(0, size - EDGE))
            found.update(f"{path.name} {size} ".encode() + head + file.read())
    return found.hexdigest()[:16]
