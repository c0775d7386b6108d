"""Where a search stands: all of it, as JSON, so that it can go on after any interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from pst_rl.files import write_atomically

FILE = "search.json"


@dataclass
class State:
    """A search between two steps.

    Attributes:
        settings: What the search was asked for; a search with other settings does not go on from here.
        rng: Of `random.Random`.
        restart: Number of restarts behind it.
        step: Steps of this restart behind it; -1 before its start labels.
        labels: Now; `None` without a label.
        changed_at: The step at which each item took the label it has now.
        history: (restart, step, coherence in nats, violations) of each labelling that was measured.
        best: The labelling that is kept: `labels`, `changed_at`, `coherence`, `violations`.
        units: Demonstrations and targets read so far, over all sessions.
        tokens: Tokens read so far.
        extra: What one kind of search keeps beside.
    """

    settings: dict[str, Any]
    rng: list
    restart: int = 0
    step: int = -1
    labels: list[int | None] = field(default_factory=list)
    changed_at: list[int] = field(default_factory=list)
    history: list[list[float]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    units: int = 0
    tokens: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes `search.json` into the folder; it appears whole or not at all."""
        write_atomically(folder / FILE, json.dumps(asdict(self), allow_nan=False))


def load(folder: Path, settings: Mapping[str, Any]) -> State | None:
    """The state in the folder, or `None` if there is none.

    Raises:
        ValueError: It is that of a search with other settings; the message names what differs.
    """
    path = folder / FILE
    if not path.exists():
        return None
    state = State(**json.loads(path.read_text(encoding="utf-8")))
    if differences := [
        _difference(name, state.settings.get(name), settings.get(name))
        for name in dict.fromkeys([*state.settings, *settings])
        if state.settings.get(name) != settings.get(name)
    ]:
        raise ValueError(
            f"{path} is the state of another search: {'; '.join(differences)}. Use its settings, or another folder."
        )
    return state


def _difference(name: str, there: Any, here: Any) -> str:
    """In words; of two lists the lengths, or the first place where they differ."""
    if isinstance(there, list) and isinstance(here, list):
        if len(there) != len(here):
            return f"{name} has {len(there)} entries there and {len(here)} here"
        place = next(k for k, (a, b) in enumerate(zip(there, here, strict=True)) if a != b)
        return f"{name}[{place}] is {there[place]!r} there and {here[place]!r} here"
    return f"{name} is {there!r} there and {here!r} here"


def pack(rng: Random) -> list:
    """The state of a generator, for JSON."""
    version, numbers, gauss = rng.getstate()
    return [version, list(numbers), gauss]


def unpack(packed: list) -> Random:
    """The generator that `pack` saw."""
    rng = Random()
    version, numbers, gauss = packed
    rng.setstate((version, tuple(numbers), gauss))
    return rng
