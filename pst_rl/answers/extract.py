r"""Find the final answer in a response: \boxed{x}, "#### x", "the answer is x", or the last number."""

import re
from dataclasses import dataclass
from typing import Literal

from pst_rl.answers.canonical import canonical_key, strip_label
from pst_rl.answers.latex import clean, enclosed, split_list
from pst_rl.answers.quantity import quantity

Style = Literal["auto", "boxed", "hash", "phrase", "number", "choice"]

_WINDOW = 20_000  # only the end of a response is inspected, in characters
_MAX_BOX = 2_000  # characters inside one box
_MAX_BOXES = 16  # boxes inspected, from the last
_MAX_STATEMENT = 300  # characters of an answer after "####" or "the answer is"
_MAX_WORDS = 4  # of an answer without numbers: "the answer is north east"
_SAME_STATEMENT = 100  # characters between the boxes of one answer: "\boxed{3} cows and \boxed{4} hens"

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{|[^\s{}$\\]+)")
_BRACE = re.compile(r"(?<!\\)[{}]|\n\s*\n")
# Between two boxes of one answer there is no new sentence and no end of a line of code with a string in it.
_BREAK = re.compile(r"[.!?]\s+[A-Z]|[\"']\)?\s*\n")
_PHRASE = re.compile(
    r"(?:\bthe\s+)?(?:\b(?:final|correct)\s+)?\banswer\b[^.\n:=]{0,60}?(?:\bis\b|[:=])[ \t]*[:*]*\s*",
    re.IGNORECASE,
)
# Where an answer statement ends: a new line, a stop token, a full stop before a new sentence, or an explanation.
_END = re.compile(r"\n|</s>|<\||[.!?](?=\s+[A-Z(*]|\s*$)|,?\s+(?:because|since|which|so)\b")
_MATH_OPENING = re.compile(r"(?:\\[(\[]|\$\$?|\*\*)\s*$")
_ONLY_MATH_OPENING = re.compile(r"[\s$*:]*(?:\\[(\[])?\s*")
_NUMBER = re.compile(
    r"""(?:(?<![\w)\]}.])[-−–])?                                # a minus sign, not an operator
        (?:\\?[$€£¥₹]\s?[-−]?)?
        (?:\\[dt]?frac\{-?[0-9]+\}\{[0-9]+\}
        | (?<![\w.])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![\w]))?
          (?:/[0-9]+(?:\.[0-9]+)?)?
        | (?<![\w.])\.[0-9]+)
        (?![0-9_])(?:\s?\\?%)?""",
    re.VERBOSE,
)
_LABEL = re.compile(r"[A-Za-z]\w{0,20}\s*=\s*[$\\(]*$")
# Between two numbers of one list: "3, 4", "3 and 4", "\(x = 3\) and \(y = 4"
_JOIN = re.compile(
    r"[\s$]*(?:\\\)[\s$]*)?(?:[,;](?:\s*(?:and|or)\b)?|\b(?:and|or)\b)[\s$]*(?:\\\([\s$]*)?(?:[A-Za-z]\w{0,20}\s*=\s*)?"
)
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_LETTER = r"(?:[B-HJ-Z]|[AI](?!\s+[a-z]))"  # "A dog" and "I think" are prose
_CHOICES = (
    re.compile(rf"\b[Aa](?:nswer|NSWER)\b[^.\n]{{0,40}}?(?:\bis\b|[:=])[\s*]*[(\[{{]?({_LETTER})(?![A-Za-z0-9'])"),
    re.compile(r"\(([A-Z])\)"),
    re.compile(r"^[ \t*]*([A-Z])(?:[.):][*]*(?:[ \t]|$)|[ \t*]*$)", re.MULTILINE),
)


@dataclass(frozen=True)
class Answer:
    """A final answer: its surface `text`, its exact equivalence class `key` and where its statement starts.

    `response[:start]` is the reasoning with the final answer cut off (`start` in characters).
    """

    text: str
    key: str
    start: int

    @classmethod
    def of(cls, text: str) -> "Answer":
        """An answer from its bare text, `start` 0."""
        return cls(text=text, key=canonical_key(text), start=0)


def find_answer(text: str, style: Style = "auto") -> Answer | None:
    r"""Find the final answer of a response, or None if it states none.

    "auto" takes the last \boxed{...} (several boxes of one statement are one answer, joined by ", "), else "#### x",
    else "the answer is x", else a text that is nothing but an answer, else the last number (with those joined to it
    by "and" or a comma), else a choice letter in brackets. The other styles accept one form only; "number" is the
    last number alone.

    >>> find_answer("So x = 3.\nThe answer is \\boxed{3}.")
    Answer(text='3', key='3', start=10)
    >>> find_answer("Thus \\boxed{4} cows and \\boxed{5} hens.").text, find_answer("We do not know.")
    ('4, 5', None)

    Raises:
        ValueError: unknown style.
    """
    if style not in _FINDERS:
        raise ValueError(f"unknown answer style {style!r}: choose one of {', '.join(_FINDERS)}")
    offset = max(0, len(text) - _WINDOW)
    window = text[offset:]
    for finder in _FINDERS[style]:
        found = finder(window)
        if found is not None:
            start, surface = found
            key = canonical_key(surface)
            if key:
                return Answer(text=surface, key=key, start=offset + start)
    return None


def extract_answer(text: str, style: Style = "auto") -> str | None:
    """Surface text of the final answer, or None: see `find_answer`."""
    answer = find_answer(text, style)
    return None if answer is None else answer.text


def extract_answers(text: str, style: Style = "auto") -> tuple[str, ...]:
    r"""The parts of the final answer, in the order stated.

    >>> extract_answers(r"Thus \boxed{4} cows and \boxed{5} hens."), extract_answers("x = 3 and y = 4")
    (('4', '5'), ('3', '4'))
    >>> extract_answers(r"\boxed{(W, L) = (116, 46)}"), extract_answers("It is 1,234.")
    (('116', '46'), ('1234',))
    """
    answer = find_answer(text, style)
    return () if answer is None else answer_parts(answer.text)


def answer_parts(answer: str) -> tuple[str, ...]:
    """Split one answer into its cleaned parts, without labels: lists, tuples, sets and "and"."""
    text = strip_label(clean(answer[:_MAX_BOX]))
    group = enclosed(text)
    parts = split_list(group[1]) if group else split_list(text)
    if len(parts) < 2:
        return (text,) if text else ()
    return tuple(strip_label(part) for part in parts)


def _find_boxed(text: str) -> tuple[int, str] | None:
    boxes = []  # (start, end, content), from the last
    for match in list(_BOX.finditer(text))[-1 : -_MAX_BOXES - 1 : -1]:
        content, end = _box_content(text, match)
        if not content.strip(" ."):  # an empty \boxed{} quotes the instructions
            continue
        gap = text[end : boxes[-1][0]] if boxes else ""
        if len(gap) > _SAME_STATEMENT or _BREAK.search(gap):
            break
        boxes.append((match.start(), end, content.strip()))
    if not boxes:
        return None
    unique: dict[str, str] = {}
    for _, _, content in reversed(boxes):
        unique.setdefault(canonical_key(content), content)
    return _statement_start(text, boxes[-1][0]), ", ".join(unique.values())


def _box_content(text: str, match: re.Match[str]) -> tuple[str, int]:
    if match[1] != "{":  # \boxed 5
        return match[1].rstrip(".,"), match.end()
    depth = 1
    for brace in _BRACE.finditer(text, match.end(), match.end() + _MAX_BOX):
        if brace[0] not in "{}":
            break
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[match.end() : brace.start()], brace.end()
    line = text[match.end() : match.end() + _MAX_BOX].split("\n", 1)[0]  # never closed: the rest of the line
    return line, match.end() + len(line)


def _statement_start(text: str, start: int) -> int:
    r"""Move `start` back over "\(" or "$" and over "The answer is" right before it."""
    before = text[max(0, start - 120) : start]
    for phrase in _PHRASE.finditer(before):
        if _ONLY_MATH_OPENING.fullmatch(before, phrase.end()):
            return start - len(before) + phrase.start()
    opening = _MATH_OPENING.search(before[-12:])
    return start - len(opening[0]) if opening else start


def _find_hash(text: str) -> tuple[int, str] | None:
    start = text.rfind("####")
    if start < 0:
        return None
    surface = _without_prose(_statement(text, start + len("####")))
    return (start, surface) if surface else None


def _statement(text: str, begin: int) -> str:
    """The answer statement that begins at `begin`, up to its natural end."""
    line = text[begin : begin + _MAX_STATEMENT].lstrip(" \t")
    for opening in (r"\[", r"\(", "$$"):  # display math opens a new line
        if line.startswith(opening):
            line = line[len(opening) :].lstrip()
    return _END.split(line, maxsplit=1)[0].strip(" \t\r*").rstrip(".,;: ")


def _find_phrase(text: str) -> tuple[int, str] | None:
    fallback = None
    for match in list(_PHRASE.finditer(text))[:-9:-1]:
        surface = _without_prose(_statement(text, match.end()))
        if re.search(r"[0-9\\]", surface) or len(canonical_key(surface)) == 1 or _is_truth(surface):
            return match.start(), surface
        if surface and len(surface.split()) <= _MAX_WORDS:
            fallback = fallback or (match.start(), surface)
    return fallback


def _without_prose(surface: str) -> str:
    """The numbers of a statement in words ("that she has 36 dollars left" is "36"); others unchanged."""
    if not _PROSE.search(surface) or all(quantity(part) is not None for part in answer_parts(surface)):
        return surface
    if canonical_key(surface).startswith(("~", "0=")):  # 2sqrt(3), area = 2x
        return surface
    found = _find_numbers(surface)
    return found[1] if found else surface


def _is_truth(text: str) -> bool:
    return canonical_key(text) in ("true", "false", "yes", "no")


def _find_whole(text: str) -> tuple[int, str] | None:
    """The whole text, if it is nothing but an answer: "36 dollars", "x = 3 and y = 4", "(B)", "Yes"."""
    surface = text.strip()
    if not surface or len(surface) > _MAX_STATEMENT or "\n" in surface:
        return None
    parts = answer_parts(surface)
    bare = all(quantity(part) is not None for part in parts)
    return (0, surface) if parts and (bare or len(canonical_key(surface)) == 1 or _is_truth(surface)) else None


def _find_number(text: str) -> tuple[int, str] | None:
    matches = list(_NUMBER.finditer(text))
    return (matches[-1].start(), matches[-1][0].strip()) if matches else None


def _find_numbers(text: str) -> tuple[int, str] | None:
    """The last number together with those joined to it by a comma or "and"."""
    run: list[re.Match[str]] = []
    for match in _NUMBER.finditer(text):
        joined = run and len(gap := text[run[-1].end() : match.start()]) < 60 and _JOIN.fullmatch(gap)
        run = [*run, match] if joined and len(run) < _MAX_BOXES else [match]
    if not run:
        return None
    start, end = run[0].start(), run[-1].end()
    if len(run) > 1 and (label := _LABEL.search(text[max(0, start - 40) : start])):
        start -= len(label[0])
    return start, text[start:end].strip()


def _find_choice(text: str) -> tuple[int, str] | None:
    boxed = _find_boxed(text)
    if boxed and re.fullmatch("[A-Z]", canonical_key(boxed[1])):
        return boxed
    for pattern in _CHOICES:
        matches = list(pattern.finditer(text))
        if matches and (pattern is not _CHOICES[-1] or len({match[1] for match in matches}) == 1):
            return matches[-1].start(), matches[-1][1]  # lines "A. x", "B. y" repeat the options and choose none
    return None


def _find_bracketed_choice(text: str) -> tuple[int, str] | None:
    matches = list(_CHOICES[1].finditer(text))
    return (matches[-1].start(), matches[-1][0]) if matches else None


_FINDERS = {
    "auto": (_find_boxed, _find_hash, _find_phrase, _find_whole, _find_numbers, _find_bracketed_choice),
    "boxed": (_find_boxed,),
    "hash": (_find_hash,),
    "phrase": (_find_phrase,),
    "number": (_find_number,),
    "choice": (_find_choice,),
}
