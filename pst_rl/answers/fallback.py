r"""What a response says that announces no answer: all of it if it is nothing but one, else its last quantity."""

import re

from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.choices import leading_letter
from pst_rl.answers.parts import are_quantities
from pst_rl.answers.prose import has_weight, last_weight, stated_quantity
from pst_rl.answers.reading import Reading
from pst_rl.answers.statements import MAX_STATEMENT, is_bare, within

_REGION = 4_000  # characters before the last digit that are searched for a quantity
_MAX_LINES = 200
_BLOCK = re.compile(
    r"\\\[(?s:.{1,600}?)\\\]|\$\$(?s:.{1,600}?)\$\$|\\begin\s*\{(\w{1,12}\*?)\}(?s:.{0,600}?)\\end\s*\{\1\}"
)
_STOP_TOKEN = re.compile(r"</?s>|<\|[^|<>\n]{0,40}\|>")
_SENTENCE = re.compile(r"(?<=[.!?])[)*\"$]*\s+(?=[A-Z(*$\\\[])")
_LAST_LINE = re.compile(r"(?:^|\n)[ \t*_]*(True|False|Yes|No|\(?[A-Z]\)|[A-Z])[*_.]{0,4}[ \t]*(?:</?s>|\s){0,8}$")
_OPTION = re.compile(  # a line "(b) {0, 1}"; not "(A) or (B)"
    r"^[ \t*_]*(\([A-Ha-h]\))[*_]*[ \t]+(?!(?:and|or|&)\s+\(?[A-Ha-h]\)?\W*$)\S", re.MULTILINE
)
# A last sentence that says whether something holds, or that there is no solution.
_VERDICT = re.compile(
    r"\b(?:statement|claim|proposition|conjecture|assertion)\s+(?:is|must be)[\s*]+(?:(?:therefore|thus|hence|indeed|"
    r"actually)[\s*]+)?(?P<truth>true|false)\b"
    r"|\b(?P<none>no\s+(?:(?:real|integer|positive|valid|possible)\s+){0,2}solutions?)\b",
    re.IGNORECASE,
)
_LIMITED = re.compile(r"\b(?:other|second|first|case|otherwise|if|when|for|unless|whether|why)\b", re.IGNORECASE)
_ROW = re.compile(r"[ \t]*\|[ \t].*[ \t]\|[ \t]*")  # of a Markdown table
_TITLE = re.compile(r"\s*#{1,6}\s")
_TRUTHS = ("true", "false", "yes", "no")
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


def find_whole(text: str) -> Reading | None:
    """The whole text, if it is nothing but an answer: "36 dollars", "x = 3 and y = 4", "(B)", "Yes".

    A last line that is only a letter, yes or no is the answer too, and one that repeats a single option, "(b) text".
    """
    surface = text.strip().rstrip(" #")
    if last := _LAST_LINE.search(text):
        return Reading(last.start(1), last[1], last.span(1), "whole")
    options = list(_OPTION.finditer(text))
    if len(options) == 1 and "\n" not in text[options[0].end() :].rstrip():  # two would list options, or parts
        return Reading(options[0].start(1), options[0][1], options[0].span(1), "whole")
    if not surface or len(surface) > MAX_STATEMENT or ("\n" in surface and "\\begin" not in surface):
        return None
    begin = text.index(surface)
    span = (begin, begin + len(surface))
    if are_quantities(surface) or len(canonical_key(surface)) == 1 or canonical_key(surface) in _TRUTHS:
        return Reading(0, surface, span, "whole")
    if letter := leading_letter(surface):
        return Reading(0, letter[0], (begin + letter[1][0], begin + letter[1][1]), "whole")
    stated = within(surface, begin) if has_weight(surface) and is_bare(surface) else None
    return Reading(0, stated[0], stated[1], "whole") if stated else None


def find_verdict(text: str) -> Reading | None:
    """What a last sentence says without a condition: "The statement is false.", "There are no real solutions."."""
    tail = _STOP_TOKEN.sub(lambda token: " " * len(token[0]), text[-_REGION:]).rstrip()
    line = tail.rfind("\n") + 1
    begin, end = (line + place for place in (_sentences(tail[line:]) or [(0, 0)])[-1])
    match = next(reversed(list(_VERDICT.finditer(tail, begin, end))), None)
    if match is None or _LIMITED.search(tail, begin, end) or has_weight(tail[match.end() : end]):
        return None
    said = match.lastgroup or 0
    start, stop = (max(0, len(text) - _REGION) + place for place in match.span(said))
    return Reading(start, match[said], (start, stop), "whole")


def find_last_quantity(text: str) -> Reading | None:
    """The stand-alone quantity of the last sentence that states one; headings and labels state none."""
    digits = last_weight(text)
    if digits is None:
        return None
    stop = min(len(text), digits + 600)  # with the rest of a display that the digit is in
    begin = max(0, stop - _REGION)
    region = _BLOCK.sub(lambda block: block[0].replace("\n", " "), text[begin:stop])
    region = _STOP_TOKEN.sub(lambda token: " " * len(token[0]), region)
    end = len(region)
    for line in region.split("\n")[: -_MAX_LINES - 1 : -1]:
        at = end - len(line)
        if has_weight(line) and not _TITLE.match(line):
            for sentence in reversed(_cells(line) if _ROW.fullmatch(line) else _sentences(line)):
                if found := stated_quantity(line[slice(*sentence)]):
                    offset = begin + at + sentence[0]
                    span = (offset + found.begin, offset + found.end)
                    return Reading(span[0], found.text, span, "last_number")
        end = at - 1
    return None


def _sentences(line: str) -> list[tuple[int, int]]:
    """Begin and end of the sentences of a line."""
    cuts = [0, *(match.end() for match in _SENTENCE.finditer(line)), len(line)]
    return [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < b]


def _cells(row: str) -> list[tuple[int, int]]:
    """Begin and end of the cells of a row of a table."""
    return [match.span() for match in re.finditer(r"[^|]+", row)]


def find_number(text: str) -> Reading | None:
    """The last number alone, as the flexible match of GSM8K harnesses takes it."""
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    surface = matches[-1][0].strip()
    begin = matches[-1].start()
    return Reading(begin, surface, (begin, begin + len(surface)), "last_number")
