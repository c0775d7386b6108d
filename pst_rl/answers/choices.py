"""Letters that a response chooses: "(B)", "B. text", "The answer is A because ..."; no "A dog" and no "I think"."""

import re

from pst_rl.answers.boxes import find_box
from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.reading import Reading

_OPEN = r"[\s*_$]*(?:\\\()?(?:\\text(?:bf)?\s*\{)?[\s*_$]*"
_NO_LIST = r"(?![\s*}$)\]]*(?:,|/|and\b|or\b|&)[\s*$]*[(\[]?[A-Z](?:[)\],.\s]|$))"  # "A and C" names two letters
# A letter at the start of a statement: in brackets, before text, before a reason, or alone.
_LEADING = re.compile(
    rf"{_OPEN}(?:(?i:option|choice|letter)\s+)?(?:\((?P<round>[A-Za-z])\)(?![\w^/+=(-])(?!\s*[-+=*/^<>])|\[(?P<square>[A-Z])\](?!\w)"
    r"|(?P<bare>[A-Z])(?=[*_}\s]*[.):][*_}]*\s+\S|[.):*_}$\s]*$|[\s*_}]+\(?(?:because|since|as|and\s+not|but\s+not|not|rather)\b"
    rf"|,\s+(?:because|since|as|not|so)\b)){_NO_LIST}"
)
_ANNOUNCED = re.compile(r"\b(?:answer|choice|option|ANSWER|Answer|Choice|Option)\b[^.\n]{0,40}?(?:\bis\b|[:=])[\s:]*")
_PROSE_LETTER = re.compile(r"[\s*]*[(\[{]?(?P<letter>[B-HJ-Z]|[AI](?!\s+[a-z]))(?![A-Za-z0-9'])" + _NO_LIST)
_BRACKETED = re.compile(r"(?<![A-Za-z\\])\(([A-Z])\)")  # not P(A)
# A letter in brackets that stands in a list of them: "(A) or (B)" chooses none.
_LISTED = re.compile(r"\([A-Z]\)(?:[\s*]{0,4}(?:,|/|and\b|or\b|&)[\s*]{0,4}){1,2}(?=\([A-Z]\))")
_NAMED = re.compile(  # "called B. scapulimancy", "option C", "C is correct", "the correct one is B", "I choose (b)"
    r"\b(?:(?:is|are|be|called)\s+(?P<text>[A-J])[.)]\s+[a-z]|[oO]ption\s+(?P<option>[A-Z])\b(?!\s+[a-z]+s\b)"
    r"|(?P<is>[A-J])\s+is\s+(?:the\s+)?(?:correct|right|best|answer)\b|(?:correct|right|best)\s+one\s+is\s+(?P<one>[A-J])\b"
    r"|(?:choose|select|pick|option|choice)\s+(?P<low>\([a-e]\))"
    r"|(?:Therefore|Thus|Hence|So),?\s+(?P<so>[B-HJ-Z])(?=\.?\s*$))"
    r"|(?<![A-Za-z])(?P<low_is>\([a-e]\))\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
)
_LINE = re.compile(r"^[ \t*]*([A-Z])(?:[.):][*]*(?:[ \t]|$)|[ \t*]*$)", re.MULTILINE)
_CLAUSE = re.compile(
    r"[.!?;\n]|,\s+(?=(?:[oO]ption|while|whereas)\b)|,?\s+(?:so|but|hence|thus|therefore|leaving|which leaves)\b"
)
_REJECTED = re.compile(
    r"\bnot\b|n't\b|\b(?:wrong|incorrect|false|eliminate[ds]?|rule[ds]? out|cannot|neither|nor|fails?|invalid|"
    r"except)\b",
    re.IGNORECASE,
)


def leading_letter(statement: str) -> tuple[str, tuple[int, int]] | None:
    """The letter that an answer statement begins with, in brackets if it is written so, and its span.

    >>> [leading_letter(s)[0] for s in ("(b) Poisson", "**C**", "A because it fits", "B: park", "A and not C")]
    ['(b)', 'C', 'A', 'B', 'A']
    >>> [leading_letter(s) for s in ("A dog", "I think so", "A and C", "(x) + 2", "Cats")]
    [None, None, None, None, None]
    """
    match = _LEADING.match(statement)
    if match is None:
        return None
    kind = match.lastgroup or 0
    begin, end = match.span(kind)
    if kind == "round":
        begin, end = begin - 1, end + 1
    return statement[begin:end], (begin, end)


def find_choice(text: str) -> Reading | None:
    """The letter a response chooses: boxed, else announced, else of a sentence, else of a line of its own."""
    boxed = find_box(text)
    if boxed and re.fullmatch("[A-Z]", canonical_key(boxed.text)):
        return boxed
    return _announced(text) or find_bracketed(text, bare=True) or _of_line(text)


def _announced(text: str) -> Reading | None:
    for phrase in reversed(list(_ANNOUNCED.finditer(text))):
        rest = text[phrase.end() : phrase.end() + 200].split("\n", 1)[0]
        if found := leading_letter(rest):
            letter, (begin, end) = found
            letter, begin, end = letter.strip("()").upper(), begin + letter.startswith("("), end - letter.endswith(")")
        elif prose := _PROSE_LETTER.match(rest):
            letter, (begin, end) = prose["letter"], prose.span("letter")
        else:
            continue
        at = phrase.end()
        return Reading(phrase.start(), letter, (at + begin, at + end), "choice")
    return None


def find_bracketed(text: str, *, bare: bool = False) -> Reading | None:
    """The last letter in brackets that its clause does not reject: "(A). (B) and (C) do not fit" chooses A.

    "(A) or (B)" chooses none. `bare` leaves the brackets out of the text. Where every clause rejects its letters, the
    last letter counts.
    """
    listed = {at for some in _LISTED.finditer(text) for at in (some.start(), some.end())}
    matches = [match for match in _BRACKETED.finditer(text) if match.start() not in listed][-32:]
    chosen = next((match for match in reversed(matches) if not _is_rejected(text, match)), None)
    match = chosen or (matches[-1] if matches else None)
    if match is None:
        named = next((found for found in reversed(list(_NAMED.finditer(text))) if not _is_rejected(text, found)), None)
        if named is None:
            return None
        kind = named.lastgroup or 0
        return Reading(named.start(kind), named[kind], named.span(kind), "choice")
    group = 1 if bare else 0
    return Reading(match.start(), match[group], match.span(group), "choice")


def _is_rejected(text: str, match: re.Match[str]) -> bool:
    begin = max((cut.end() for cut in _CLAUSE.finditer(text, max(0, match.start() - 200), match.start())), default=-1)
    begin = max(0, match.start() - 200) if begin < 0 else begin
    end = _CLAUSE.search(text, match.end(), match.end() + 200)
    return bool(_REJECTED.search(text, begin, end.start() if end else match.end() + 200))


def _of_line(text: str) -> Reading | None:
    matches = list(_LINE.finditer(text))
    if len({match[1] for match in matches}) != 1:  # lines "A. x", "B. y" repeat the options and choose none
        return None
    return Reading(matches[-1].start(), matches[-1][1], matches[-1].span(1), "choice")
