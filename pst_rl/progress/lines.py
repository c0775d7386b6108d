"""Phases as plain lines, where there is no terminal: a log file of a cluster, a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from pst_rl.progress.phases import Phase, open_phases
from pst_rl.progress.words import begins, clock, ends, path, stands

INTERVAL = 30.0
"""Seconds after which something is said, whatever is going on."""


class Lines(AbstractContextManager):
    """A line when a phase begins, one when it ends, and one whenever nothing was said for `interval` seconds.

    The last comes from a thread of its own, so also from the middle of a single call that takes minutes, and where no
    phase is open. A context manager: inside, the thread runs.

    Args:
        write: Takes each line, without its end.
        name: Of what runs, for the lines where no phase is open.
        interval: Seconds; by default `INTERVAL`.
        clock: Counts seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        name: str,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.write, self.name, self.clock = write, name, clock
        self.interval = INTERVAL if interval is None else interval
        self._began = self._last = clock()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="pst-rl progress", daemon=True)

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    # ---- what it hears ----

    def began(self, phase: Phase) -> None:
        if not phase.brief:
            self._say(begins(phase, path(phase)))

    def moved(self, phase: Phase) -> None:
        pass  # told at the next beat

    def ended(self, phase: Phase) -> None:
        if not phase.brief:
            self._say(ends(phase, path(phase), self.clock() - phase.started))

    def said(self) -> None:
        self._last = self.clock()

    # ---- what it says ----

    def beat(self) -> float:
        """Says how things stand if nothing was said for so long; returns the seconds to the next look."""
        with self._lock:
            silent = self.clock() - self._last
            if silent < self.interval:
                return self.interval - silent
            now, phases = self.clock(), open_phases()
            self._say(stands(phases, now) if phases else f"{self.name}: at work, {clock(now - self._began)} so far")
            return self.interval

    def _beats(self) -> None:
        wait = self.interval
        while not self._stop.wait(wait):
            wait = self.beat()

    def _say(self, line: str) -> None:
        with self._lock:
            self._last = self.clock()
            self.write(line)
