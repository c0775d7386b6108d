r"""Statements that announce an answer: tags, headings and phrases, and the value that such a statement gives.

`read_statement` is the heart: what follows the announcement is an answer as it stands if it is nothing else, its
leading expression if words follow ("36 dollars for 18 eggs"), else the quantity that its sentence states ("that she
has 36 dollars left"), else a few words ("north east").
"""

import re

from pst_rl.answers.boxes import find_box, is_placeholder
from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.choices import leading_letter
from pst_rl.answers.latex import clean
from pst_rl.answers.parts import are_quantities
from pst_rl.answers.prose import Quantity, quantities, result, stated_quantity
from pst_rl.answers.quantity import quantity
from pst_rl.answers.reading import OPENING_PHRASE, PHRASE, Reading, phrase_start
from pst_rl.answers.tags import ANSWER

MAX_STATEMENT = 300  # characters of an answer after "####" or "the answer is"
_MAX_WORDS = 4  # of an answer without numbers: "the answer is north east"
_MAX_TRIED = 8  # announcements inspected, from the last

_TAG = re.compile(
    rf"<(?P<close>/?)\s?{ANSWER}\s?>"
    r"|\[(?P<close2>/?)(?:FINAL[_ ])?ANSWER\]|<\|(?:begin|(?P<close3>end))_of_(?:answer|solution)\|>",
    re.IGNORECASE,
)
_FIELD = re.compile(r'"(?:final_?)?answer"\s*:\s*(?:"((?:[^"\\\n]|\\.){1,600})"|(-?[0-9][0-9.,]*))', re.IGNORECASE)
_ANNOUNCE = r"(?:(?:the|my|our)[ \t]+)?(?:(?:final|correct|short)[ \t]+)?(?:answer|(?<=final )result)"
_HEADING = re.compile(
    rf"^[ \t>]{{0,8}}(?:(?P<mark>#{{1,6}}|\*\*|__)[ \t]{{0,4}}[*_]{{0,2}})?"
    rf"[^\w\s#*\\$]{{0,3}}[ \t]{{0,4}}(?:[0-9]{{1,2}}[.)][ \t]{{0,4}})?"  # an emoji, a number
    rf"{_ANNOUNCE}[ \t]*[*_]{{0,2}}(?P<colon>[:：]?)[ \t]*[*_#]*[ \t]*(?P<inline>\S?)",
    re.MULTILINE | re.IGNORECASE,
)
_HASH = re.compile(r"(?<!#)####(?!#)[ \t]*[*_]{0,2}")
_TITLE = re.compile(r"[0-9]{1,2}[.):](?:\s|\*)+[A-Za-z]")  # "#### 2. Add the eggs"
_NUMBERED = re.compile(r"[\s*_]*[A-Za-z]+ [0-9]")  # "#### Step 2"
_BULLET = re.compile(r"^[ \t]*[-*•+][ \t]+", re.MULTILINE)
_BULLETS = re.compile(r"(?:[-*•+][ \t]+[^\n]{1,200}(?:\n[ \t]*(?=[-*•+][ \t])|$|(?=\n))){1,8}")
_BLANK_LINES = re.compile(r"(?:[\s_`]|</?(?:b|i|em|strong|p|br|span)\s?/?>|\*(?![ \t]+\w))*")
_DISPLAY = re.compile(r"(?:\\\[|\$\$)\s*((?s:.{1,600}?))\s*(?:\\\]|\$\$)")
_MATRIX = re.compile(r"\\begin\s*\{(\w{1,12}\*?)\}")
# Where an answer statement ends: a new line, a stop token, a full stop before a new sentence, or an explanation.
_END = re.compile(r"[\n。]|</s>|<\||[.!?](?=\**\s+[A-Z(*\\$]|\**\s*$)|,?\s+(?:because|since|which|so)\b")
_ESCAPES = re.compile(
    r"\\(?:begin|end)\s*\{\w+\}|\\[A-Za-z]+|(?<![A-Za-z])(?:and|or|sqrt|sin|cos|tan|cot|sec|csc|log|exp|inf)(?![A-Za-z])"
)
_PROSE = re.compile(r"[A-Za-z]{3,}|\b(?i:it|is|he|we|so|if|in|of|to|at|by|on|as|an|be|do|no|up|us|my)\b")
_TWICE = re.compile(r"[\w%}] \(\$?[0-9./]+%?\)$")
_TRUTH = re.compile(r"[\s*_]*((?i:yes|no|true|false))(?=[\s*_]*(?:[.,;:!]|$|\n))")
_LEAD = re.compile(  # words that do not change the quantity after them
    r"[\s$*_\\(\[`:]*(?:(?:approximately|about|roughly|around|nearly|almost|exactly|only|just|simply|indeed|then|"
    r"therefore|thus|also|now|equal to|given by|that|it is|equals)[\s$*_\\(\[:,]*){0,3}",
    re.IGNORECASE,
)
_CHANGING = re.compile(  # words after a number that make it a part of something: "3 to 5", "3 plus x"
    r"[\s$*)\]}]*(?:to|through|plus|minus|times|divided|over|or (?:more|less|fewer)|less than|more than|greater than|"
    r"out of|of [0-9]|in [0-9]+\s*$|pi|mod|choose|squared|cubed)\b",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[$)\]}\s][A-Za-z]{1,4}(?:\^?\{?[23²³]\}?)?$")
_RANGE = re.compile(r"[\s*_]*(?:between|from|either|at (?:least|most)|(?:less|more|greater) than)\b", re.IGNORECASE)
_NO_WORDS = re.compile(
    r"(?:\w+ly\s+)?(?:correct|incorrect|wrong|right|clear|found|verified|reasonable|consistent|valid|as follows|below|"
    r"above|here|given|this|that|inside|in|the following)\b.*",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"[\s*_]*(?:an?|the)\s+(?!(?:and|or)\b)", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are)\s+(?:(?:called|an?|the)\s+)*")
_CORRECTED = re.compile(  # after an answer: "Actually, it is 5", "No, that should be 5"
    r"\b(?i:wait|actually|sorry|correction|hold on|no)\b[,.!:—-]*\s*(?:(?i:no|actually)\b[,.]?\s*)?"
    r"(?:(?i:it|that|this|the answer)\s*(?:is|'s|should be)\s+)"
)
_TO_DO = re.compile(
    r"(?:\b(?:to|will|can|could|must|should|we'll|i'll)|let'?s|let us)\s+[a-z]+(?:\s+(?:out|up|for))?\s+$"
)
_PART_ONLY = re.compile(r"\b(?:part|step|first|previous|intermediate|not|subquestion)\b", re.IGNORECASE)

Stated = tuple[str, tuple[int, int]]  # a text and its span


def read_statement(text: str, begin: int, limit: int = MAX_STATEMENT) -> Stated | None:
    """The answer that the statement beginning at `begin` gives, and its span; None if it gives none."""
    blank = _BLANK_LINES.match(text, begin)
    assert blank is not None  # it may be empty
    begin = blank.end()
    if phrase := OPENING_PHRASE.match(text, begin, begin + limit):
        begin = phrase.end()  # "Final Answer:\nThe answer is I."
    if bullets := _BULLETS.match(text, begin):
        return _listed(text, bullets)
    if display := _DISPLAY.match(text, begin):
        surface = display[1].rstrip(".,; ")
        return (surface, (display.start(1), display.start(1) + len(surface))) if surface else None
    if text.startswith((r"\[", "$$"), begin):  # mathematics that never closes
        begin += 2
    begin += len(text[begin : begin + limit]) - len(text[begin : begin + limit].lstrip())
    stop, matrix = begin + limit, _matrix_end(text, begin, limit)
    end = _END.search(text, matrix, max(stop, matrix))
    surface = text[begin : end.start() if end else stop].rstrip(" \t\r*#").rstrip(".,;: ")
    return within(surface, begin) if surface else None


def _listed(text: str, bullets: re.Match[str]) -> Stated | None:
    """The answers of a list of points, joined by ", "."""
    points = [within(point.strip(" \t\r\n*.;,")) for point in _BULLET.split(bullets[0]) if point.strip()]
    stated = [point[0] for point in points if point and is_definite(point[0])]
    end = bullets.start() + len(bullets[0].rstrip())
    return (", ".join(stated), (bullets.start(), end)) if stated else None


def _matrix_end(text: str, begin: int, limit: int) -> int:
    """The end of a matrix that begins in the line at `begin`, which has lines of its own; else `begin`."""
    line = text[begin : begin + limit].split("\n", 1)[0]
    opening = _MATRIX.search(line)
    end = text.find(f"\\end{{{opening[1]}}}", begin, begin + 3 * limit) if opening else -1
    return end if end >= 0 else begin


def within(surface: str, offset: int = 0) -> Stated | None:
    r"""The answer in a statement, and its span moved by `offset`.

    >>> [within(s)[0] for s in ("36 dollars for 18 eggs", "$3\\sqrt{2}$ meters", "that she has 36 left", "negative 5")]
    ['36', '3\\sqrt{2}', '36', '-5']
    >>> [within(s)[0] for s in ("5 feet 7 inches", "3 out of 10", "x = 3 and y = 4", "an ellipse")]
    ['5 feet 7 inches', '3 out of 10', 'x = 3 and y = 4', 'ellipse']
    """
    if "boxed" in surface:  # the instructions, or a box that another finder has read
        boxed = find_box(surface)
        return (boxed.text, _moved(boxed.span, offset)) if boxed else None
    if truth := _TRUTH.match(surface):
        return truth[1], _moved(truth.span(1), offset)
    if letter := leading_letter(surface):
        return letter[0], _moved(letter[1], offset)
    whole = (surface, (offset, offset + len(surface)))
    bare = is_bare(surface)
    if bare and surface.count("=") > 1 and "," not in surface:  # y(2) = 3 \\cdot 2 + 1 = 7
        last = result(Quantity(0, len(surface), surface))
        if quantity(clean(last.text)) is not None:
            return _stated(last._replace(text=last.text.rstrip(" $)")), offset)
    if bare and not _UNIT.search(surface):
        return whole
    found = quantities(surface)
    if bare:  # "$2\\sqrt{3}$ cm"
        plain = quantity(clean(surface)) is not None or len(found) != 1
        return whole if plain else _stated(found[0], offset)
    if not found:
        return _words(surface, offset)
    lead = _LEAD.match(surface)
    assert lead is not None  # it may be empty
    if _RANGE.match(surface):
        return whole if len(surface) <= 80 else None
    if found[0].begin <= lead.end():
        if _CHANGING.match(surface, found[0].end):
            return whole
        return _stated(found[0], offset)
    stated = stated_quantity(surface)
    return _stated(stated, offset) if stated else None


def is_bare(surface: str) -> bool:
    """Whether a statement is nothing but an answer: quantities with their units, or mathematics without prose."""
    if _TWICE.search(surface):  # "0.667 (2/3)"
        return False
    if not _PROSE.search(_ESCAPES.sub(" ", surface)):
        return bool(re.search(r"[0-9０-９\\½¼¾∞π√=^]", surface)) and not surface.lower().startswith("not ")
    if surface.count("(") or " in " in surface or " per " in surface:  # "42 (see step 3)", "12 in 2 cups"
        return quantity(surface.strip(" $*")) is not None
    return are_quantities(surface)


def _words(surface: str, offset: int) -> Stated | None:
    """An answer in words: at most four, or those after the last "is"."""
    if re.search("[0-9]", surface):  # of a label: "Step 2: add"
        return None
    article = _ARTICLE.match(surface)
    begin = article.end() if article else 0
    if copula := list(_COPULA.finditer(surface)):
        begin = copula[-1].end()
    if len(surface[begin:].split()) > _MAX_WORDS:
        return None
    words = surface[begin:].strip(" *_\"'“”")
    if not words or _NO_WORDS.fullmatch(words) or not re.search(r"\w", words):
        return None
    begin = surface.index(words, begin)
    return words, (offset + begin, offset + begin + len(words))


def _stated(found: Quantity, offset: int) -> Stated:
    return found.text, (offset + found.begin, offset + found.end)


def _moved(span: tuple[int, int], offset: int) -> tuple[int, int]:
    return span[0] + offset, span[1] + offset


def is_definite(surface: str) -> bool:
    """Whether a text is more than words: mathematics, a letter, yes or no."""
    return (
        bool(re.search(r"[0-9０-９\\½¼¾∞π√]", surface))
        or leading_letter(surface) is not None
        or bool(_TRUTH.fullmatch(surface))
        or len(canonical_key(surface)) == 1
    )


def find_tag(text: str) -> Reading | None:
    """The content of the last answer tag or JSON field "answer" that has any, read as a response of its own."""
    tagged, field = _tagged(text), _field(text)
    return max(filter(None, (tagged, field)), key=lambda reading: reading.span, default=None)


def _field(text: str) -> Reading | None:
    r"""The last JSON field: {"reasoning": "...", "answer": "\\\\frac{1}{2}"}."""
    match = next(reversed(list(_FIELD.finditer(text))), None)
    if match is None:
        return None
    group = match.lastindex or 0
    found = _inside(match[group].replace("\\\\", "\\"), 0, 600, None)
    return found and Reading(match.start(), found.text, match.span(group), "tag")


def _tagged(text: str) -> Reading | None:
    """The content of the last tag that has any.

    A tag that is never closed lasts to the end (the closing tag may have been the stop string), one that is never
    opened was opened by the prompt.
    """
    if "<" not in text and "[" not in text:
        return None
    tags = list(_TAG.finditer(text))[-2 * _MAX_TRIED :]
    end = len(text)
    for i in range(len(tags) - 1, -1, -1):
        tag = tags[i]
        if any(tag.groups()):
            end = tag.start()
            if i == 0:
                return _inside(text, 0, end, None)
            continue
        if found := _inside(text, tag.end(), end, tag.start()):
            return found
        end = tag.start()
    return None


def _inside(text: str, begin: int, end: int, start: int | None) -> Reading | None:
    inner = text[begin:end]
    if is_placeholder(inner) and len(inner) < 80:
        return None
    found = find_box(inner) or find_heading(inner) or find_phrase(inner) or _content(inner)
    if found is None:
        return None
    found = found.moved(begin)
    return found._replace(reason="tag", start=found.start if start is None else start)


def _content(inner: str) -> Reading | None:
    """All of a tag's content if it is short: words are an answer there, and lines are a list."""
    surface = inner.strip(" \t\r\n*")
    if not surface or len(surface) > MAX_STATEMENT:
        return None
    begin = inner.index(surface)
    span = (begin, begin + len(surface))
    lines = [line.strip() for line in surface.splitlines() if line.strip()]
    if len(lines) > 1 and "\\begin" not in surface and all(is_bare(line) for line in lines):
        return Reading(begin, ", ".join(lines), span, "tag")
    stated = read_statement(inner, begin) if len(lines) == 1 or "\\" in surface else within(surface, begin)
    text, span = stated or (surface, span)
    return Reading(begin, text, span, "tag")


def find_heading(text: str) -> Reading | None:
    """The value of the last heading that announces an answer, or of the last "#### x", whichever is later."""
    announced, marked = _announced(text), find_hash(text)
    return max(filter(None, (announced, marked)), key=lambda reading: reading.span, default=None)


def _announced(text: str) -> Reading | None:
    """ "## Answer: 18", "**Final Answer**" or a line "Final answer" and the line after it."""
    for match in list(_HEADING.finditer(text))[: -_MAX_TRIED - 1 : -1]:
        if match["inline"] and not (match["mark"] and match["colon"]):
            continue  # "Answer: 18" is a phrase, "the answer is" too
        if not match["inline"] and text[match.end("colon") : match.end()].count("#") > 6:
            continue
        stated = read_statement(text, match.start("inline"))
        if stated and not text.startswith("#", stated[1][0]):
            begin = match.start() + len(match[0]) - len(match[0].lstrip(" \t>"))
            return Reading(begin, stated[0], stated[1], "heading")
    return None


def find_hash(text: str) -> Reading | None:
    """The last "#### x" whose x is a value, or words at the very end; "#### Step 2: ..." is a title."""
    for match in list(_HASH.finditer(text))[: -_MAX_TRIED - 1 : -1]:
        begin = match.end()
        line = text[begin : begin + MAX_STATEMENT].split("\n", 1)[0]
        phrase = OPENING_PHRASE.match(line)
        if not phrase and (not line.strip(" *_#") or _TITLE.match(line)):
            continue
        if not text[begin : begin + MAX_STATEMENT].split("\n", 1)[0].strip():
            continue
        stated = read_statement(text, begin)
        last = text[: match.start()].rstrip(" ")[-1:] in ("", "\n") and not text[begin + len(line) :].strip()
        if stated and (phrase or _is_value(line, stated, begin, last)):
            return Reading(match.start(), stated[0], stated[1], "heading")
    return None


def _is_value(line: str, stated: Stated, begin: int, last: bool) -> bool:
    """Whether what follows "####" is a value: it begins with one, or ends the response and is no numbered title."""
    lead = _LEAD.match(line)
    assert lead is not None  # it may be empty
    leads = stated[1][0] - begin <= lead.end()
    return (leads and is_definite(stated[0])) or (last and not _NUMBERED.match(line))


def find_phrase(text: str) -> Reading | None:
    """The last "the answer is x" or "Answer: x" that gives a value, else one that gives a few words."""
    fallback = None
    for match in list(PHRASE.finditer(text))[: -_MAX_TRIED - 1 : -1]:
        start = phrase_start(text, match.start())
        if _TO_DO.search(text[max(0, start - 40) : start].lower()):
            continue
        if match["of"] and _PART_ONLY.search(match["of"]):
            continue
        stated = read_statement(text, match.end())
        if stated is None:
            continue
        reading = Reading(start, stated[0], stated[1], "phrase")
        if is_definite(stated[0]):
            return find_correction(text, reading.span[1]) or reading
        fallback = fallback or reading
    return fallback


def find_correction(text: str, begin: int) -> Reading | None:
    """The value that corrects the answer before `begin`: "Actually, it is 5"."""
    for match in list(_CORRECTED.finditer(text, begin))[: -_MAX_TRIED - 1 : -1]:
        stated = read_statement(text, match.end())
        if stated and is_definite(stated[0]):
            return Reading(match.start(), stated[0], stated[1], "phrase")
    return None
