r"""Answers in boxes: the last statement made of \boxed{...} or \fbox{...}."""

import re
from typing import NamedTuple

from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.reading import Reading, statement_start

_MAX_BOX = 2_000  # characters inside one box
_MAX_BOXES = 16  # boxes inspected, from the last
_SAME_STATEMENT = 100  # characters between the boxes of one answer: "\boxed{3} cows and \boxed{4} hens"

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{|[^\s{}$\\]+)")
_BRACE = re.compile(r"(?<!\\)[{}]|\n\s*\n")
# Between two boxes of one answer there is no new sentence and no end of a line of code with a string in it.
_BREAK = re.compile(r"[.!?]\s+[A-Z]|[\"']\)?\s*\n")
# What takes the box before it back.
RETRACTION = re.compile(
    r"\b(?:wait|actually|hold on|hmm+|oops|sorry|scratch that|correction|corrected|mistake|mistaken|wrong|incorrect|"
    r"error|re-?check|impossible|invalid|extraneous|reject(?:ed)?|instead|rather than|should be|no[,.!:;]|no\s*[$\\])",
    re.IGNORECASE,
)
_SAME_VALUE = re.compile(
    r"[\s$]*(?:\\\)|\\\])?[\s$,]*(?:=|\\approx|≈|\\implies|\\equiv|(?:(?:which|that) is|or)\s+(?:approximately|about|"
    r"roughly)|(?:which|that) is)[\s$]*(?:\\\(|\\\[)?[\s$]*"
)
_JOINER = re.compile(r"[,;&\n]|\\\\|\\q?quad|(?<![A-Za-z])(?:and|or|while|with)(?![A-Za-z])")
_TWO_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_RESULT = re.compile(r"\b(?:final(?:ly)?|simplif(?:y|ies|ied)|reduces|rounds|rounded)\b", re.IGNORECASE)
_DECORATION = re.compile(r"\\text\s*\{|[\s.…_*()\[\]{}<>]")
_PLACEHOLDERS = frozenset(
    ("answer", "finalanswer", "youranswer", "yourfinalanswer", "answerhere", "youranswerhere", "thefinalanswer", "")
)


class Box(NamedTuple):
    """One box: where it begins and ends, its content and where that begins."""

    start: int
    end: int
    content: str
    inside: int


def is_placeholder(text: str) -> bool:
    r"""Whether a box or tag only quotes the instructions: \boxed{}, <answer>your answer here</answer>, \boxed{...}."""
    return _DECORATION.sub("", text[:80]).casefold() in _PLACEHOLDERS


def find_box(text: str) -> Reading | None:
    r"""The answer in the last boxes: several of one statement are one answer, joined by ", ".

    A retraction between two boxes ("wait", "actually", "that is wrong"), prose that does not join them, or "the final
    result" makes the later one a statement of its own;
    "=" or "\approx" between them states one value twice, of which the first, exact form counts.
    """
    boxes: list[Box] = []  # from the last
    for match in list(_BOX.finditer(text))[-1 : -_MAX_BOXES - 1 : -1]:
        box = _box(text, match)
        if is_placeholder(box.content):
            continue
        gap = text[box.end : boxes[-1].start] if boxes else ""
        if boxes and not _is_one_statement(gap):
            break
        if boxes and _SAME_VALUE.fullmatch(gap):
            boxes.pop()
        boxes.append(box)
    if not boxes:
        return None
    unique: dict[str, str] = {}
    for box in reversed(boxes):
        unique.setdefault(canonical_key(box.content), box.content)
    first, last = boxes[-1], boxes[0]
    span = (first.inside, last.inside + len(last.content))
    return Reading(statement_start(text, first.start), ", ".join(unique.values()), span, "box")


def _is_one_statement(gap: str) -> bool:
    r"""Whether the boxes before and after `gap` are one answer.

    >>> [_is_one_statement(gap) for gap in (" cows and ", r"\) \(", " no no ", ", so finally ", ". It is ")]
    [True, True, False, False, False]
    """
    if len(gap) > _SAME_STATEMENT or _BREAK.search(gap) or RETRACTION.search(gap) or _RESULT.search(gap):
        return False
    return bool(_JOINER.search(gap) or _SAME_VALUE.fullmatch(gap)) or not _TWO_WORDS.search(gap)


def _box(text: str, match: re.Match[str]) -> Box:
    if match[1] != "{":  # \boxed 5
        return Box(match.start(), match.end(), match[1].rstrip(".,"), match.start(1))
    begin, end = match.end(), _closing(text, match.end())
    if end is None:  # never closed: the rest of the line
        inside = text[begin : begin + _MAX_BOX].split("\n", 1)[0]
        end = begin + len(inside)
    else:
        inside = text[begin:end]
    content = inside.strip()
    if text.startswith("\\\\", match.start() - 1):  # escaped, as in JSON: \\boxed{\\frac{1}{2}}
        content = content.replace("\\\\", "\\")
    return Box(match.start(), end + 1, content, begin + len(inside) - len(inside.lstrip()))


def _closing(text: str, begin: int) -> int | None:
    """Where the brace opened before `begin` closes; None if not within the limit or its paragraph."""
    depth = 1
    for brace in _BRACE.finditer(text, begin, begin + _MAX_BOX):
        if brace[0] not in "{}":
            return None
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return None
