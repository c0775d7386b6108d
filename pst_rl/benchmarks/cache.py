"""Results that are never computed twice: a JSONL file of keys and values, one line a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pst_rl.files import json_digest, write_atomically


def cache_key(*parts: Any) -> str:
    """The SHA-256 of what a result depends on: model digest, prompt tokens, settings."""
    return json_digest(parts, 32, sort_keys=True)


class Cache:
    """What a file remembers. A batch is one line, so an interruption keeps a batch whole or leaves it out.

    Args:
        path: The file; it is made when the first batch is put in. A last line without its end (a killed process) is
            cut off.
    """

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = {}
        self.torn = False
        if path.is_file():
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        self.torn = True
                        break
                    try:
                        self.values |= json.loads(line)
                    except ValueError as error:
                        raise ValueError(
                            f"{path} is damaged ({error}): it is no cache of ours, or was edited. Delete it or choose "
                            "another --cache."
                        ) from error

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def put(self, batch: Mapping[str, Any]) -> None:
        """Remembers a batch of results."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.torn:
            whole = self.path.read_bytes()
            write_atomically(self.path, whole[: whole.rfind(b"\n") + 1])
            self.torn = False
        with self.path.open("ab") as file:
            file.write(json.dumps(batch).encode() + b"\n")
        self.values |= batch
