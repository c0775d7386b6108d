"""Phases as bars, on a terminal: one for every phase, or for every part of it."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pst_rl.progress.phases import Phase, open_phases
from pst_rl.progress.words import count, ends, path


class Bars(AbstractContextManager):
    """Bars while phases are open, and a line that stays for each that ended.

    A brief phase that counts something keeps its bars until the phase around it ends, so that nothing jumps. A context
    manager: on leaving it the terminal is as it was.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO):
        self.console = Console(file=stream, highlight=False)
        self._shown: Progress | None = None
        self._tasks: dict[tuple[int, str, str], TaskID] = {}  # by depth, title and part

    def __exit__(self, *_) -> None:
        self._close()

    def clock(self) -> float:
        """Seconds."""
        return time.monotonic()

    # ---- what it hears ----

    def began(self, phase: Phase) -> None:
        if phase.brief and phase.total is None:
            return
        depth = len(open_phases()) - 1
        for part in phase.parts or ("",):
            key = (depth, phase.title, part)
            words: dict[str, Any] = {"total": phase.total, "completed": phase.done_of(part)}
            words |= {"count": count(phase, part), "note": ""}
            if key in self._tasks:
                self._bars().reset(self._tasks[key], **words)
            else:
                title = f"{'  ' * depth}{phase.title}{': ' if part else ''}{part}"
                self._tasks[key] = self._bars().add_task(title, **words)

    def moved(self, phase: Phase) -> None:
        phases = open_phases()
        depth = phases.index(phase) if phase in phases else -1
        for part in phase.parts or ("",):
            if (task := self._tasks.get((depth, phase.title, part))) is not None:
                note = phase.note() if phase.note is not None else ""
                self._bars().update(task, completed=phase.done_of(part), count=count(phase, part), note=note)

    def ended(self, phase: Phase) -> None:
        depth = len(open_phases())  # it is no longer among them
        if phase.brief:
            return
        for key in [key for key in self._tasks if key[0] >= depth]:
            self._bars().remove_task(self._tasks.pop(key))
        line = ends(phase, path(phase), self.clock() - phase.started)
        if self._shown is not None:
            self._shown.console.print(line, markup=False, soft_wrap=True)
        if not self._tasks:
            self._close()

    def said(self) -> None:
        pass

    # ---- the terminal ----

    def _bars(self) -> Progress:
        if self._shown is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"))
            self._shown = Progress(
                *columns,
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self.console,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # what goes to a file goes on going there
            )
            self._shown.start()
        return self._shown

    def _close(self) -> None:
        if self._shown is not None:
            self._shown.stop()
        self._shown, self._tasks = None, {}
