"""Why a response is read as it is: what was chosen, what else was considered, and the response in colour."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.extract import FINDERS, Answer, Style, find_answer, inspected, readings
from pst_rl.answers.reading import REASONS, Reading, Reason
from pst_rl.answers.thoughts import spoken

if TYPE_CHECKING:
    from rich.text import Text

_KINDS = (
    ("number", re.compile(r"-?[0-9]+(?:/[0-9]+)?")),
    ("letter", re.compile(r"\(?[A-Za-z]\)?")),
    ("yes or no", re.compile("true|false|yes|no")),
    ("tuple, interval, set or matrix", re.compile(r"(?s)[(\[{\\].*[)\]}]")),
    ("list", re.compile(r"(?s).*, .*")),
    ("equation", re.compile(r"0=.*")),
    ("expression", re.compile(r"~.*")),
    ("words", re.compile(r"[^\W\d_]{2,}(?:[\s'-]+[^\W\d_]+)*")),
)
_NAMES: dict[Reason, str] = {
    "tag": "a tag",
    "box": "a box",
    "heading": "a heading",
    "phrase": "a phrase",
    "whole": "the whole text",
    "last_number": "the last quantity",
    "choice": "a chosen letter",
}
_MAX_THOUGHT = 20_000  # characters
_MAX_EARLIER = 3  # earlier statements of the chosen form that are listed


@dataclass(frozen=True)
class Candidate:
    """An answer that was considered and lost: its text and key, where it stands, its form and why it lost."""

    text: str
    key: str
    span: tuple[int, int]
    reason: Reason
    lost: str


@dataclass(frozen=True)
class Explanation:
    """How a response is read: its answer, the kind of the answer, and the candidates that lost, best first.

    `begin` is where the part of the response begins that is read; before it are thoughts, or text too far back.
    """

    answer: Answer | None
    kind: str
    considered: tuple[Candidate, ...]
    begin: int


def kind_of(key: str) -> str:
    """What kind of class a key names; "text" is one that is only compared as text.

    >>> [kind_of(key) for key in ("7/2", "B", "yes", "~3.46410162", "(1, 2)", "north east", "3, 4", "5 feet 7 inches")]
    ['number', 'letter', 'yes or no', 'expression', 'tuple, interval, set or matrix', 'words', 'list', 'text']
    """
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(key)), "text")


def explain(text: str, style: Style = "auto") -> Explanation:
    """How a response is read, and what else was considered.

    >>> found = explain("<think>Maybe 17.</think> It costs 20. The answer is 18.")
    >>> found.answer.text, found.answer.reason, [(c.text, c.lost) for c in found.considered]
    ('18', 'phrase', [('17', 'thoughts state no answer')])

    Raises:
        ValueError: unknown style.
    """
    answer = find_answer(text, style)
    considered = [*_lesser(text, style), *_earlier(text, style, answer), *_thought(text, style)]
    begin, end = answer.span if answer else (0, 0)
    unique = {c.span: c for c in reversed(considered) if c.span[1] <= begin or end <= c.span[0]}
    kind = kind_of(answer.key) if answer else "none"
    return Explanation(answer, kind, tuple(reversed(unique.values())), inspected(text)[0])


def _lesser(text: str, style: Style) -> list[Candidate]:
    """What the forms after the chosen one found."""
    found = list(readings(text, style))
    return [_candidate(reading, f"{_NAMES[found[0].reason]} comes first") for reading in found[1:]]


def _earlier(text: str, style: Style, answer: Answer | None) -> list[Candidate]:
    """Statements of the chosen form before the chosen one, the latest first."""
    found: list[Candidate] = []
    cut = answer.start if answer else 0
    while len(found) < _MAX_EARLIER and cut > 0:
        reading = next(readings(text[:cut], style), None)
        if answer is None or reading is None or reading.reason != answer.reason:
            break
        found.append(_candidate(reading, "a later statement counts"))
        cut = reading.start
    return found


def _thought(text: str, style: Style) -> list[Candidate]:
    """The last answer in the thoughts, were they read."""
    part = spoken(text)
    end = len(text) if part is None else part[0]
    offset = max(0, end - _MAX_THOUGHT)
    thoughts = text[offset:end]
    found = next((reading for finder in FINDERS[style] if (reading := finder(thoughts))), None)
    return [_candidate(found.moved(offset), "thoughts state no answer")] if found else []


def _candidate(reading: Reading, lost: str) -> Candidate:
    return Candidate(reading.text, canonical_key(reading.text), reading.span, reading.reason, lost)


def render(text: str, explanation: Explanation, characters: int = 600) -> "Text":
    """The end of a response with its answer in colour: what was read, what was considered, and what was not read.

    Characters that a terminal would obey (escape sequences of hostile text) are shown as U+FFFD.
    """
    from rich.text import Text

    answer = explanation.answer
    first = max(0, min(len(text) - characters, (answer.start if answer else len(text)) - characters // 4))
    shown = Text(_printable(text[first:]))
    shown.stylize("dim", 0, max(0, explanation.begin - first))
    for candidate in explanation.considered:
        _mark(shown, "yellow", candidate.span, first)
    if answer is not None:
        _mark(shown, "bold", (answer.start, answer.span[1]), first)
        _mark(shown, "bold black on green", answer.span, first)
    shown = shown[:characters] if len(shown) > characters else shown
    return Text("... ").append_text(shown) if first else shown


def _mark(shown: "Text", style: str, span: tuple[int, int], first: int) -> None:
    begin, end = (max(0, place - first) for place in span)
    if begin < end:
        shown.stylize(style, begin, end)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def describe(explanation: Explanation) -> list[str]:
    """Lines that say how a response is read: the answer with key, kind and reason, and each candidate that lost."""
    answer = explanation.answer
    if answer is None:
        lines = ["no answer"]
    else:
        assert answer.reason is not None  # it was read, by `explain`
        reason = f"{answer.reason}: {REASONS[answer.reason]}"
        lines = [f"answer {answer.text!r}  key {answer.key!r}  kind {explanation.kind}", f"read as {reason}"]
    return lines + [f"not {c.text!r} ({c.reason}, key {c.key!r}): {c.lost}" for c in explanation.considered]
