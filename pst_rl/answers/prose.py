r"""Quantities that stand alone in prose: whole expressions, never a number torn out of one.

A sentence is cut into words and runs of mathematics. A run is a candidate for an answer if it holds a number (or
`\pi`, `\sqrt`, `\infty`, a matrix) that is not a label ("Step 3", "5. ", "x_1", "(see step 3)"). Each step reads its
text once, so the cost is linear.
"""

import re
from typing import NamedTuple

from pst_rl.answers.latex import split_list

_TOKEN = re.compile(
    r"""(?P<note><<[^<>\n]{0,80}>>)                                            # GSM8K's calculator: <<9*2=18>>
    |(?P<math>\\begin\s*\{(?P<env>[pbvBV]?matrix|array|cases)\}(?s:.{0,600}?)\\end\s*\{(?P=env)\}
        |\\(?:frac|sqrt|mathbf|mathbb|mathcal|vec|hat|overline|binom|boldsymbol|left|right)(?![A-Za-z])
        |(?![23]D\b)[0-9０-９]+(?:,[0-9]{3})*(?![0-9])(?:[.:/][0-9]+)*[½¼¾⁰¹²³⁴-⁹⁻°]*(?:[eE][-+]?[0-9]{1,3}(?!\w))?
        |\.[0-9]+|[½¼¾]
        |(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|inf)(?![A-Za-z])
        |\\[{}%$!,;:&#]|[-+/^_=<>−–×·÷±≤≥≈%€£¥₹|(){}\[\]π√∞∪∩°⁰¹²³⁴-⁹⁻∈]|\*(?!\*))
    |(?P<text>\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|operatorname)\s*\{[^{}\n]{0,200}\})
    |(?P<mark>\\[()\[\]]|\$\$?|\*\*|`+|\\q?quad(?![A-Za-z])|\\[ ])
    |(?P<row>\\\\|&)
    |(?P<command>\\[A-Za-z]+)
    |(?P<word>[A-Za-z]\w*_[A-Za-z]\w*|[A-Za-z]+(?:['’][A-Za-z]+)*)
    |(?P<blank>\s+)
    |(?P<point>[.,;:!?])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_WEIGHT = re.compile(r"(?<![A-Za-z_0-9.])\.?[0-9]|[０-９½¼¾π∞√]|\\(?:pi|infty|sqrt|emptyset|begin)(?![A-Za-z])")
_LAST_DIGIT = re.compile(r"[0-9０-９½¼¾π∞√]|(?:ip|ytfni|trqs|tesytpme|nigeb)\\\\")
_EDGE = " \t\r\n$*`_:,;.!?=+/^<>≈×·&|~\\"
_STARTS = _EDGE.replace("\\", "")
_BRACKET = re.compile(r"[()\[\]{}]")
_RESTATED = re.compile(r"\(\$?[0-9./]+%?\)")
_ONE_NUMBER = re.compile(r"\(\$?[0-9.]+%?\)")
_LIST = re.compile(r"[\s$*]*(?:\\[)\]])?[\s$*]*[,;]?\s*(?:\\text\s*\{)?\s*(?:and|or)\s*\}?[\s$*]*(?:\\[(\[])?[\s$*]*")
_COMPOUND = r"(?:hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|inch(?:es)?|yards?"
_COMPOUND += r"|miles?|pounds?|lbs?|ounces?|oz|dollars?|cents?|degrees?|met(?:er|re)s?|km|cm|kg|grams?|remainder|R)"
_TO = re.compile(r"[\s$]+to[\s$]+")
_PARTS = re.compile(rf"\s*(?:out\s+of|{_COMPOUND},?(?:\s+and)?)\s*", re.IGNORECASE)
_CENTS = re.compile(r"\s*cents?(?![A-Za-z])")
_UNIT_AFTER = re.compile(rf"\s*{_COMPOUND}(?![A-Za-z])", re.IGNORECASE)
# Words after a number that change it: "1.5 million", "7 halves", "3:45 PM", "5 squared".
_CHANGED = re.compile(
    r"[ -](?:hundred|thousand|million|billion|trillion|dozen|hal(?:f|ves)|(?:third|quarter|fourth|fifth|sixth|eighth|"
    r"tenth|hundredth)s|squared|cubed|percent|factorial|[aApP]\.?[mM]\b\.?|"
    r"in the (?:morning|afternoon|evening)|at night)(?![A-Za-z])"
)
_MINUS = re.compile(r"\b(?:negative|minus)\s+[$(\\]*$", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:steps?|parts?|cases?|questions?|problems?|equations?|eqs?\.?|options?|sections?|figures?|tables?|theorems?|"
    r"lines?|methods?|scenarios?|chapters?|exercises?|lemmas?|no\.?|number|\#)\s*[(\[#]?$",
    re.IGNORECASE,
)
_ENUMERATOR = re.compile(r"[\s>*#_-]*(?:\(?[0-9]{1,2}[.)]|\(?[a-z]\)|[ivx]{1,4}[.)])(?=[\s*]|$)")
_BULLET = re.compile(r"\s*[-*+–•]\s+")
_UNIT_LETTER = re.compile(r"(?:(?<=[\w})])[\s$]+[mgshlLAVWJNKCF]|(?<=°)\s?[CFK])$")
_MONTH = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\s+$"
)  # "March 5" is no 5
_LONE_LETTER = re.compile(r"[A-Za-z](?![\w(^])\s+(?![-+=/^*<>≤≥≈·×\\_(])")
_TAIL_LETTER = re.compile(r"(?<![-+=/^*<>≤≥≈·×_({\s\\])\s+[A-Za-z]$")
# Words that introduce a circumstance, not the quantity asked for: "36 dollars for 18 eggs", "18 (see step 3)".
_ADJUNCT = re.compile(
    r"(?:\b(?:for|per|in|after|at|by|with|from|on|since|because|when|if|where|before|within|over|during|than|not|see|"
    r"every|each|using|until|about\s+the)(?:\s+(?:the|a|an|his|her|their|its|these|those|all|each|every|[a-z]+ing))?"
    r"(?:\s+(?:first|last|other|remaining|next))?|\bof\s+(?:the|these|those|his|her|their))\s+[$\\(*]*$",
    re.IGNORECASE,
)
_WEAK = frozenset("for at by with in on from of using".split())  # "he works for 6 days" may be the answer
_BOLD = re.compile(r"[$.)\\]{0,3}\*\*")
_ASIDE = re.compile(r"(?<!\\)\(")  # an opening bracket of prose
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)|\\approx(?![A-Za-z])|≈")
_NAMED = re.compile(r"[\s$*\\(]*\\?[A-Za-z][A-Za-z']*(?:_\{?\w+\}?)?\s*")
_SHORT_WORDS = frozenset("km cm mm kg mg ml st nd rd th ft am pm lb oz hr in gb mb ms".split())  # not products: 3xy
_MAX_SENTENCE = 2_000
_MAX_LIST = 16
_MAX_GAP = 60  # characters between two parts of one quantity


class Quantity(NamedTuple):
    """A run of mathematics in a text, and how it reads: usually as it stands, "-5" for "negative 5"."""

    begin: int
    end: int
    text: str


def quantities(text: str) -> list[Quantity]:
    r"""The stand-alone quantities of a sentence, in order; those of one list or measure are one.

    >>> [q.text for q in quantities("He sold 20, then 2 hours 30 minutes later 3 1/2 of the $9\\pi$ and 4")]
    ['20', '2 hours 30 minutes', '3 1/2', '9\\pi$ and 4']
    >>> [q.text for q in quantities("Step 2: x_1 is negative 5, a ratio of 2:3 in 10^6")]
    ['-5', '2:3', '10^6']
    """
    text = text[:_MAX_SENTENCE]
    found: list[tuple[int, int]] = []
    enumerator = _ENUMERATOR.match(text)
    first = enumerator.end() if enumerator else 0
    for begin, end in _runs(text, first):
        torn = _is_torn(text, begin, end)
        begin, end = _trimmed(text, begin, end)
        if torn or begin >= end or not _WEIGHT.search(text, begin, end) or _is_label(text, begin):
            continue
        if month := _MONTH.search(text, max(0, begin - 12), begin):
            begin = month.start()
        if changed := _CHANGED.match(text, end):
            end = changed.end()
        if found and (unit := _joined(text, found[-1], begin, end)) is not None:
            found[-1] = (found[-1][0], end + unit)
        else:
            found.append((begin, end))
    return [_quantity(text, begin, end) for begin, end in found]


def has_weight(text: str) -> bool:
    r"""Whether a text may state a quantity: a digit that is no index, `\\pi`, `\\sqrt`, a matrix."""
    return bool(_WEIGHT.search(text))


def last_weight(text: str) -> int | None:
    """Where the last sign of a quantity begins, or None."""
    return next((len(text) - match.end() for match in _LAST_DIGIT.finditer(text[::-1])), None)


def _runs(text: str, first: int) -> list[tuple[int, int]]:
    """Stretches of `text` made of mathematics, from `first` on; words outside braces and sentence marks end them."""
    runs: list[tuple[int, int]] = []
    begin, depth = -1, 0
    for token in _TOKEN.finditer(text, first):
        if _continues(text, token, depth, begin):
            if begin < 0 and token.lastgroup != "blank":
                begin, depth = token.start(), 0
            depth = max(0, depth + (token[0] in ("{", r"\{")) - (token[0] in ("}", r"\}")))
        elif begin >= 0:
            runs.append((begin, token.start()))
            begin, depth = -1, 0
    if begin >= 0:
        runs.append((begin, len(text)))
    return runs


def _continues(text: str, token: re.Match[str], depth: int, begin: int) -> bool:
    """Whether a token belongs to a run of mathematics."""
    kind, surface = token.lastgroup, token[0]
    if surface == "(" and begin >= 0 and _RESTATED.match(text, token.start()) and text[token.start() - 1] == " ":
        return False  # "0.667 (2/3)" says it twice, "2(3)" is a product
    if kind in ("math", "env", "mark", "blank", "command"):
        return "\n\n" not in surface
    before, after = text[max(0, token.start() - 1) : token.start()], text[token.end() : token.end() + 2]
    if kind == "word":  # 3xy and x are mathematics, 5km and cats are not
        glued = before.isdigit() and len(surface) == 2 and surface.islower() and surface not in _SHORT_WORDS
        return depth > 0 or len(surface) == 1 or glued
    if kind == "point":
        if surface in ",;":
            return begin >= 0 and bool(re.match(r"\s*[-−\\$(\[]*[\w.\\√∞π½]", text[token.end() : token.end() + 8]))
        if surface == "!":
            return begin >= 0 and after.lstrip()[:1] in tuple("$)+-*/^=}!\\")
        return depth > 0 or (surface == ":" and before.isdigit() and after[:1].isdigit())
    return False


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """A run without marks, lone operators, unit letters and unpaired brackets at its ends."""
    if begin == len(text) - len(text.lstrip()) and (bullet := _BULLET.match(text, begin, end)):
        begin = bullet.end()
    bars = "|" if text.count("|", begin, end) % 2 == 0 else ""  # of |x| + 2
    while begin < end:
        size = end - begin
        while begin < end and (
            text[begin] in _STARTS and text[begin] != bars or text.startswith((r"\(", r"\[", r"\ "), begin)
        ):
            begin += 2 if text[begin] == "\\" else 1
        if text[begin : begin + 1] in tuple("-−–") and text[begin + 1 : begin + 2].isspace():
            begin += 1
        if lone := _LONE_LETTER.match(text, begin, end):
            begin = lone.end()
        while begin < end and (
            text[end - 1] in _EDGE and text[end - 1] != bars or text.endswith((r"\)", r"\]"), begin, end)
        ):
            end -= 2 if text.endswith((r"\)", r"\]"), begin, end) else 1
        while begin < end and text[end - 1] in "-−–":
            end -= 1
        if tail := _UNIT_LETTER.search(text, max(begin, end - 8), end) or _TAIL_LETTER.search(text, begin, end):
            end = tail.start()
        begin, end = _paired(text, begin, end)
        if end - begin == size:
            break
    return begin, end


def _paired(text: str, begin: int, end: int) -> tuple[int, int]:
    """A run cut at a bracket that has no partner in it, and without brackets around one number; (0, 1] is a pair."""
    opened: list[int] = []
    if text.count("{", begin, end) != text.count("}", begin, end):
        return begin, begin  # a part of an expression
    for bracket in _BRACKET.finditer(text, begin, end):
        if bracket[0] in "([{":
            opened.append(bracket.start())
        elif opened:
            opened.pop()
        else:
            return (bracket.end(), end) if _WEIGHT.search(text, bracket.end(), end) else (begin, bracket.start())
    if opened:
        return (begin, opened[0]) if _WEIGHT.search(text, begin, opened[0]) else (opened[0] + 1, end)
    return (begin + 1, end - 1) if _ONE_NUMBER.fullmatch(text, begin, end) else (begin, end)


def _is_label(text: str, begin: int) -> bool:
    """Whether the run at `begin` numbers or indexes something: "Step 2", "solve(x)[0]", "cost_1"."""
    if _LABEL.search(text, max(0, begin - 16), begin):
        return True
    before = text[max(0, begin - 2) : begin]
    return bool(re.search(r"\w[\[(]$|[_A-Za-z]$", before)) or (text[begin] == "[" and before[-1:] in tuple(")]"))


def _is_torn(text: str, begin: int, end: int) -> bool:
    """Whether a run calculates with a word before or after it, as in "3 * price" and "price + 2"."""
    run = text[begin:end].strip()
    return (
        run[-1:] in tuple("*+×·^")
        and not run.endswith("**")
        and text[end : end + 1].isalpha()
        or (run[:1] in tuple("*+×·^") and not run.startswith("**") and "=" not in run and begin > 0)
    )


def _joined(text: str, last: tuple[int, int], begin: int, end: int) -> int | None:
    """Characters of the unit after a quantity that belongs to the `last` one, else None.

    "3 and 4", "5 feet 7 inches" (the unit is "inches") and "3 out of 10" are one.
    """
    gap = text[last[1] : begin]
    if len(gap) > _MAX_GAP:
        return None
    if _LIST.fullmatch(gap):
        if cents := _CENTS.match(text, end):  # $5 and 30 cents
            return len(cents[0])
        return 0 if text.count(" and ", *last) < _MAX_LIST else None
    if _TO.fullmatch(gap):  # a ratio or a range; "from 5 to 10" ends at 10
        return None if text[: last[0]].rstrip(" $").endswith("from") else 0
    if not _PARTS.fullmatch(gap):
        return None
    unit = _UNIT_AFTER.match(text, end)
    return len(unit[0]) if unit else 0 if "of" in gap else None


def _quantity(text: str, begin: int, end: int) -> Quantity:
    surface = text[begin:end]
    minus = _MINUS.search(text, max(0, begin - 12), begin)
    if minus:
        return Quantity(minus.start(), end, f"-{surface}")
    return Quantity(begin, end, surface)


def result(quantity: Quantity) -> Quantity:
    r"""The value that a calculation ends with: "10 - 3 = 7" is 7; named values ("x = 3, y = 4") keep their names.

    >>> result(Quantity(0, 10, "10 - 3 = 7")).text, result(Quantity(0, 12, "x = 3, y = 4")).text
    ('7', 'x = 3, y = 4')
    """
    sides = [side for side in _EQUALS.finditer(quantity.text) if _is_outside(quantity.text, side.start())]
    if not sides or (len(split_list(quantity.text)) > 1 and _NAMED.fullmatch(quantity.text[: sides[0].start()])):
        return quantity
    cut = sides[-1].end()
    if quantity.text[cut:].strip() == "0" and not _NAMED.fullmatch(quantity.text[: sides[0].start()]):
        return quantity  # x + y - 2 = 0
    value = quantity.text[cut:]
    cut += len(value) - len(value.lstrip(_STARTS))
    if not _WEIGHT.search(quantity.text, cut):
        return quantity
    return Quantity(quantity.begin + cut, quantity.end, quantity.text[cut:])


def _is_outside(text: str, at: int) -> bool:
    """Whether a place is in no bracket: not the "=" in \\sum_{i=1}^n."""
    before = text[:at]
    return all(before.count(opening) <= before.count(closing) for opening, closing in ("{}", "()"))


def stated_quantity(sentence: str) -> Quantity | None:
    """The quantity that a sentence states: the last one in bold, else the last that is least of a circumstance.

    >>> [stated_quantity(s).text for s in ("She makes 18 dollars by selling 9 eggs", "If there are 20, he sells 15")]
    ['18', '15']
    """
    found = quantities(sentence)
    rank = [_circumstance(sentence, quantity) for quantity in found]
    stated = [quantity for quantity, its in zip(found, rank, strict=True) if its == min(rank)]
    bold = [q for q in stated if sentence[: q.begin].rstrip(" $").endswith("**") and _BOLD.match(sentence, q.end)]
    return result((bold or stated)[-1]) if stated else None


def _circumstance(sentence: str, found: Quantity) -> int:
    """How surely a quantity is a circumstance: 0 is none, 1 after "for" or "at", 2 after "during" or in an aside.

    What is calculated there still counts.
    """
    before = sentence[: found.begin]
    if len(_ASIDE.findall(before)) > before.count(")") - before.count(r"\)"):
        return 2
    adjunct = _ADJUNCT.search(before[-40:])
    if adjunct is None or "=" in found.text:
        return 0
    return 1 if adjunct[0].split()[0].lower() in _WEAK else 2
