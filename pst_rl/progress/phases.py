"""Phases: library code says what it is doing, and how far it is; whoever listens shows it. Without one: silence.

    with phase("loading", 3, "peers") as loading:
        for name in names:
            loading.at(name)
            ...
            loading.advance()

It imports nothing of the package, so that every room may open phases. One listener shows the phases of one process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(eq=False)
class Phase:
    """Something that is being done.

    Attributes:
        title: What it is.
        total: How much there is to do, for each part where there are parts; `None` if that is not known.
        unit: Of what.
        parts: What is counted apart, as peers are.
        found: How much was there already when it began, and so says nothing about the rate.
        share: This process does one of so many equal shares, and its counts stand for all of them.
        brief: One of many short ones inside another, which need no line for their beginning and end.
        note: Asked for more to say about it, whenever it is shown.
        started: When it began, by the listener's clock.
        done: How much is done, by part (`""` without parts).
        current: The part that is being worked on.
        broken: Whether it ended before it was done, by an error or an interruption.
    """

    title: str
    total: int | None = None
    unit: str = ""
    parts: tuple[str, ...] = ()
    found: int = 0
    share: int = 1
    brief: bool = False
    note: Callable[[], str] | None = None
    started: float = 0.0
    done: dict[str, int] = field(default_factory=dict)
    current: str = ""
    broken: bool = False

    def at(self, part: str) -> None:
        """Says which part is worked on now."""
        self.current = part

    def advance(self, count: int = 1) -> None:
        """Says that so much more of the current part is done."""
        name = self.current if self.current in self.parts else ""
        self.done[name] = self.done.get(name, 0) + count
        _tell("moved", self)

    def reach(self, count: int) -> None:
        """Says how much is done by now, of a phase without parts."""
        self.done[""] = count
        _tell("moved", self)

    def done_of(self, part: str) -> int:
        """How much of a part is done, by all processes; never more than there is to do."""
        done = self.done.get(part, 0) * self.share
        return done if self.total is None else min(done, self.total)

    @property
    def all_done(self) -> int:
        """How much of all parts is done."""
        return sum(self.done_of(part) for part in self.parts or ("",))

    @property
    def whole(self) -> int | None:
        """How much of all parts there is to do."""
        return None if self.total is None else self.total * max(1, len(self.parts))


class Listener(Protocol):
    """Shows phases. Its clock counts seconds."""

    def clock(self) -> float:
        """Now, in seconds from some time on."""
        ...

    def began(self, phase: Phase) -> None:
        """A phase was opened; it is the last of `open_phases()`."""
        ...

    def moved(self, phase: Phase) -> None:
        """More of a phase is done."""
        ...

    def ended(self, phase: Phase) -> None:
        """A phase was closed; `phase.broken` says whether it was cut short."""
        ...

    def said(self) -> None:
        """A line was printed (`say`)."""
        ...


_open: list[Phase] = []
_listening: list[Listener] = []  # none, or one


def _forget() -> None:
    """In a forked child: its parent speaks."""
    _open.clear()
    _listening.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, the listener hears of all phases."""
    _listening.append(listener)
    try:
        yield
    finally:
        _listening.clear()


def listened() -> bool:
    """Whether somebody listens."""
    return bool(_listening)


def open_phases() -> tuple[Phase, ...]:
    """The phases that are open, the outermost first."""
    return tuple(_open)


@contextmanager
def phase(
    title: str,
    total: int | None = None,
    unit: str = "",
    *,
    parts: tuple[str, ...] = (),
    found: int = 0,
    share: int = 1,
    brief: bool = False,
    note: Callable[[], str] | None = None,
) -> Iterator[Phase]:
    """Opens a phase; arguments as [`Phase`] has them."""
    opened = Phase(title, total, unit, parts, found, share, brief, note)
    opened.started = _listening[0].clock() if _listening else time.monotonic()
    opened.done = {"": found} if found else {}
    _open.append(opened)
    try:
        _tell("began", opened)
        yield opened
    except BaseException:
        opened.broken = True
        raise
    finally:
        _open.remove(opened)
        _tell("ended", opened)


@contextmanager
def part(name: str, count: int = 0) -> Iterator[None]:
    """Inside, `count` things of a part are worked on, and afterwards they are done.

    Counted by the innermost open phase if that has such a part. So what does the work need not know in which phase it
    is done: a peer that answers says so, whether it is measured, trained or asked by hand.
    """
    inner = _open[-1] if _open and name in _open[-1].parts else None
    if inner is not None:
        inner.at(name)
    yield
    if inner is not None:
        inner.advance(count)


def say(text: str) -> None:
    """Prints a line or a block (a header, a verdict, what a log holds) at once, above the bars of a terminal."""
    print(text, flush=True)
    if _listening:
        _listening[0].said()


def _tell(what: str, opened: Phase) -> None:
    for listener in _listening:
        getattr(listener, what)(opened)
