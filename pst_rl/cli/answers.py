"""`pst-rl answers`: responses in, how each is read out."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from pst_rl.answers.reading import Style

if TYPE_CHECKING:
    from pst_rl.answers.explain import Explanation

_SEPARATOR = re.compile(r"^={5,}[ \t]*$", re.MULTILINE)


@dataclass
class Answers:
    """Show how responses are read: each one's end in colour, with its answer and what else was considered.

    Reads JSON lines with a column of responses (a text, or several in a list or an object), or plain text: one
    response, or several with lines of five or more "=" between them.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = Path("-")
    """JSON lines or plain text; "-" is the standard input."""
    column: str = "response"
    """Column of the responses in JSON lines."""
    style: Style = "auto"
    """Where to look for an answer."""
    limit: int = 50
    """Responses shown; the table counts all of them."""
    characters: int = 600
    """Characters shown of a response."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Prints the responses and the table.

        Raises:
            FileNotFoundError: The file is missing.
            ValueError: No response, another column, or a limit below 0.
        """
        from rich.console import Console

        from pst_rl.answers.explain import explain
        from pst_rl.progress.words import terminal_width

        if self.limit < 0 or self.characters < 1:
            raise ValueError("--limit must not be negative, and --characters must be at least 1.")
        name = "The standard input" if self.file == Path("-") else str(self.file)
        responses = read_responses(self._text(), self.column, name)
        console = Console(width=terminal_width(), highlight=False)
        explained = [explain(response, self.style) for response in responses]
        for number, (response, found) in enumerate(zip(responses, explained, strict=True), start=1):
            if number <= self.limit:
                console.rule(f"{number} of {len(responses)}", align="left")
                self._show(console, response, found)
        if len(responses) > self.limit:
            console.print(f"{len(responses) - self.limit} more are not shown: --limit {len(responses)} shows all.")
        show_summary(console, explained)

    def _text(self) -> str:
        if self.file == Path("-"):
            return sys.stdin.read()
        if not self.file.is_file():
            raise FileNotFoundError(f"There is no file {self.file}.")
        return self.file.read_text(encoding="utf-8", errors="replace")

    def _show(self, console: Any, response: str, found: Explanation) -> None:
        from rich.text import Text

        from pst_rl.answers.explain import describe, render

        console.print(render(response, found, self.characters))
        console.print()
        for index, line in enumerate(describe(found)):
            style = "red" if found.answer is None and index == 0 else "bold" if index == 0 else "yellow"
            console.print(Text(f"  {line}"), style="" if line.startswith("read as") else style)


def read_responses(text: str, column: str, name: str) -> list[str]:
    """The responses in JSON lines or plain text.

    Raises:
        ValueError: There is none, or a line has no such column or something else in it than texts.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if lines and _is_object(lines[0][1]):
        responses = [part for number, line in lines for part in _cell(line, column, f"{name}, line {number}")]
    else:
        responses = [part.strip("\n") for part in _SEPARATOR.split(text) if part.strip()]
    if not responses:
        raise ValueError(f"{name} holds no response.")
    return responses


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _cell(line: str, column: str, place: str) -> list[str]:
    if not _is_object(line):
        raise ValueError(f"{place} is no JSON object, as the first line is.")
    row = json.loads(line)
    if column not in row:
        raise ValueError(f"{place} has no column {column!r}; name one with --column: {', '.join(row) or 'none'}.")
    value = row[column]
    values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise ValueError(f"{place}: column {column!r} holds no text; name another with --column.")
    return values


def show_summary(console: Any, explained: list[Explanation]) -> None:
    """A table of the share of each reason, and a warning where many responses announce no answer."""
    from pst_rl.answers.reading import MANY_FALLBACKS, REASONS
    from pst_rl.report.text_table import text_table

    counts = Counter(found.answer.reason if found.answer else None for found in explained)
    rows = [(reason, meaning) for reason, meaning in REASONS.items() if counts[reason]]
    lines = text_table(
        ("read as", "responses", "share", ""),
        [
            (reason or "unparsed", str(counts[reason]), f"{counts[reason] / len(explained):.1%}", meaning)
            for reason, meaning in [*rows, (None, "no answer was found")]
        ],
        width=console.width,
        texts=(0, 3),
    )
    console.print("\n".join(["", *lines, ""]), markup=False, soft_wrap=True)
    if counts["last_number"] > MANY_FALLBACKS * len(explained):
        share = counts["last_number"] / len(explained)
        console.print(
            f"warning: {share:.0%} of the answers are only the last quantity of a response that announces none.",
            style="yellow",
        )
