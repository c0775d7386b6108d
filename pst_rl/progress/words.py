"""Phases in words: how a line about one reads."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from pst_rl.progress.phases import Phase, open_phases

WIDTH = 80
"""Columns where there is no terminal: a log file, a pipe."""


def terminal_width() -> int:
    """The columns of the terminal that is written to; `WIDTH` where there is none."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def folded(text: str, width: int = WIDTH, indent: str = "    ") -> str:
    """A line as lines of at most `width` columns, all but the first indented; a longer word stays whole.

    >>> print(folded("a: 25% of its responses ended within 48 tokens", 30))
    a: 25% of its responses ended
        within 48 tokens
    """
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def begins(phase: Phase, path: str) -> str:
    """The line of a phase that begins, at the end of a path of titles.

    >>> begins(Phase("greedy", 900, "questions", ("gemma2", "llama")), "measuring, greedy")
    'measuring, greedy: 900 questions for each of gemma2, llama'
    """
    if phase.total is None:
        return path
    found = f", {phase.found:,} of them known already" if phase.found else ""
    each = f" for each of {', '.join(phase.parts)}" if phase.parts else ""
    return f"{path}: {phase.total:,} {phase.unit}{each}{found}"


def stands(phases: Sequence[Phase], now: float) -> str:
    """The line of phases that go on, from the outermost to the innermost.

    >>> steps, rows = Phase("training", 24, "steps"), Phase("generate", 64, "responses", ("a", "b"), current="b")
    >>> steps.done, rows.done, rows.started = {"": 6}, {"a": 64, "b": 16}, 52.0
    >>> stands([steps, rows], 60.0)
    'training: 6/24 steps, 10 s each, ETA 3:00; generate: b 16/64 responses, 10/s, ETA 0:05'
    """
    text = ""
    for opened in phases:
        innermost = opened is phases[-1]
        if innermost or opened.total is not None:
            text += _stands(opened, now - opened.started) + ("" if innermost else "; ")
        elif not opened.brief:  # it only holds others
            text += f"{opened.title}, "
    return text


def ends(phase: Phase, path: str, seconds: float) -> str:
    """The line of a phase that ended.

    >>> ends(Phase("saving", 2, "peers", done={"": 2}), "saving", 63.0)
    'saving: 2/2 peers in 1:03'
    """
    done, cut = phase.all_done, "stopped after " if phase.broken else ""
    if phase.whole is None and not done:
        return f"{path}: {cut}{clock(seconds)}{_noted(phase)}"
    much = f"{done:,} {phase.unit}" if phase.whole is None else f"{done:,}/{phase.whole:,} {phase.unit}"
    return f"{path}: {cut}{much} in {clock(seconds)}{_noted(phase)}"


def path(phase: Phase) -> str:
    """The title of a phase behind those of the phases around it that only hold others."""
    around = [p.title for p in open_phases() if p is not phase and p.total is None and not p.brief]
    return ", ".join([*around, phase.title])


def clock(seconds: float) -> str:
    """
    >>> clock(0.2), clock(75), clock(3725)
    ('0:00', '1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(phase: Phase, part: str) -> str:
    """How much of a part is done: `12/24 steps`, or `12 steps` where the total is not known.

    >>> count(Phase("training", 24, "steps", done={"": 12}), "")
    '12/24 steps'
    """
    done = phase.done_of(part)
    if phase.total is None:
        return f"{done:,} {phase.unit}" if done else ""
    return f"{done:,}/{phase.total:,} {phase.unit}"


def _stands(phase: Phase, seconds: float) -> str:
    part = phase.current if phase.current in phase.parts else ""
    told = " ".join(filter(None, [phase.current, count(phase, part)]))
    made, left = phase.all_done - phase.found, None if phase.whole is None else phase.whole - phase.all_done
    words = [told] if told else []
    if made > 0 and seconds > 0:
        rate = made / seconds
        words.append(f"{_short(rate)}/s" if rate >= 1 else f"{_short(1 / rate)} s each")
        words += [f"ETA {clock(left / rate)}"] if left is not None else []
    else:
        words.append(f"{clock(seconds)} so far")
    return f"{phase.title}: {', '.join(words)}{_noted(phase)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _noted(phase: Phase) -> str:
    note = phase.note() if phase.note is not None else ""
    return f", {note}" if note else ""
