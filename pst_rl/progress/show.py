"""Who shows the phases: bars on a terminal, lines elsewhere, in the first of several processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from pst_rl.progress.lines import Lines
from pst_rl.progress.phases import listened, listening
from pst_rl.progress.words import folded


@contextmanager
def showing(name: str, stream: TextIO | None = None, interval: float | None = None) -> Iterator[None]:
    """Inside, phases are shown: as bars if the stream is a terminal, else as lines, one every 30 s at least.

    Nothing changes where they are shown already, and in all processes of a run but the first.

    Args:
        name: Of what runs.
        stream: By default the standard error: results go to the standard output.
        interval: Seconds between lines at most; by default `pst_rl.progress.lines.INTERVAL`.
    """
    if listened() or int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    if (stream or sys.stderr).isatty() and os.environ.get("TERM") != "dumb":
        from pst_rl.progress.bars import Bars

        with Bars(stream or sys.stderr) as bars, listening(bars):
            yield
        return
    with Lines(_writer(stream), name, interval) as lines, listening(lines):
        yield


def _writer(stream: TextIO | None):
    def write(line: str) -> None:
        try:
            print(folded(line), file=stream or sys.stderr, flush=True)
        except (OSError, ValueError):
            pass  # whoever read it is gone; that ends no work

    return write
