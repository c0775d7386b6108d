r"""What names a value: "x = 3", "(a, b) = (1, 2)", `f(2) = 5`, `AB : CD = 2 : 3`, "Fee: 5", `x = 1/3 \approx 0.33`."""

import re

from pst_rl.answers.expression import NotAnExpression, evaluate
from pst_rl.answers.latex import enclosed, split_list
from pst_rl.answers.quantity import quantity

EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
MATRIX = re.compile(
    r"\(?\s*\\begin\s*\{([pbvVB]?matrix|smallmatrix|array)\}(?:\s*\{[clr|\s]*\})?(.*)\\end\s*\{\1\}\s*\)?", re.DOTALL
)
RATIO = re.compile(r"-?[0-9.]{1,30}(?:\s*:\s*-?[0-9.]{1,30}){1,5}")
_APPROX = re.compile(r"\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])")
_SUBSCRIPT = r"(?:_\{?[A-Za-z0-9]+\}?)?"
# What may stand before "=" as a name: x, P_1, \theta, (Wins, Losses), Volume of 2% acid.  Not 2x or y - 2x.
_WORDS = rf"\(?\\?[A-Za-z][A-Za-z'-]*{_SUBSCRIPT}(?:[\s,]+(?:[A-Za-z][A-Za-z'-]*{_SUBSCRIPT}|[0-9]+%?))*\)?"
_NAME = re.compile(
    rf"{_WORDS}"
    r"|[A-Za-z](?:_\{?[0-9a-z]\}?)?'{0,2}\s*\((?:[A-Za-z]|\\[a-z]+|-?[0-9]{1,6})\)(?<![a-eijklmnorstuvwxyz]\([a-z]\))"
    r"|\\(?:angle|triangle|overline|vec|hat|bar)\s*\{?\s*[A-Za-z]{1,4}\s*\}?"
    r"|[A-Z]{2}|\\frac\s*\{\s*[A-Z]{2}\s*\}\s*\{\s*[A-Z]{2}\s*\}|\|[A-Z]{2}\||[a-z]\\angle\s*[A-Z]{1,3}"
    rf"|[A-Za-z]{{1,2}}{_SUBSCRIPT}(?:\s*:\s*[A-Za-z]{{1,2}}{_SUBSCRIPT}){{1,3}}"
)
_FUNCTION = re.compile(
    r"\\?(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp)h?(?![a-z])|\\sqrt"
)  # \cos x = 1/2 does not name 1/2
_ARITHMETIC = re.compile(r"[0-9\s.+\-*/()$%]+")
_PREFIX = re.compile(
    r"\\?[A-Za-z]+(?:_\{?[A-Za-z0-9]\}?)?\s*\\in(?![A-Za-z])\s*"  # x \in
    r"|(?i:approximately|about|roughly|around|nearly|almost|exactly|only)\s+"
    r"|\\approx(?![A-Za-z])\s*"
    r"|(?=[^:]*[A-Za-z])[A-Za-z0-9%][A-Za-z0-9\s%'()-]*:\s+"  # Smaller number:
)
_NEGATIVE = re.compile(r"(?i:negative|minus)\s+(?=[0-9.\\])")


def strip_label(text: str) -> str:
    r"""Drop what names a value: "x = 3", "(a, b) = (1, 2)", "39000 - 18000 = 21000", "Fee: 5", "about 5".

    An equation such as "2x + 3 = 7" keeps its left side. Of an exact and a rounded value the exact one stays.

    >>> strip_label("Daily fee = 23"), strip_label("39000 - 18000 = 21000"), strip_label("2x = 6")
    ('23', '21000', '2x = 6')
    >>> strip_label(r"x = 1/3 \approx 0.33"), strip_label(r"x \approx 0.33"), strip_label("negative 5")
    ('1/3', '0.33', '-5')
    """
    exact, *rounded = _APPROX.split(text)
    if rounded and exact.strip():
        value = strip_label(exact.strip())
        return value if is_value(value) else rounded[-1].strip()
    found = _named(text)
    if found is not None:
        return found[1]
    text = text[prefix.end() :] if (prefix := _PREFIX.match(text)) else text
    return _NEGATIVE.sub("-", text, count=1) if _NEGATIVE.match(text) else text


def named_value(text: str) -> tuple[str, str] | None:
    """The name and the value of "x = 3" or "Solution: x = 3"; None where the value has no name.

    >>> named_value("x = 3"), named_value("Solution: x = 3"), named_value("1 + 2 = 3"), named_value("2x = 3")
    (('x', '3'), ('x', '3'), None, None)
    """
    found = _named(text)
    if found is None and (prefix := _PREFIX.match(text)):
        found = _named(text[prefix.end() :])
    if found is None or not found[0] or found[0][:1].isdigit():
        return None
    name = " ".join(found[0].replace("{", "").replace("}", "").split())
    return (name if len(name.split("_")[0]) == 1 else name.casefold()), found[1]


def _named(text: str) -> tuple[str, str] | None:
    if "=" not in text:
        return None
    sides = [side.strip() for side in EQUALS.split(text)]
    first, last = sides[0], sides[-1]
    if len(sides) < 2:
        return None
    if not first or all(map(_ARITHMETIC.fullmatch, sides[:-1])):
        return "", last
    if not _NAME.fullmatch(first) or _FUNCTION.match(first):
        return None
    if len(sides) > 2 and (any(len(split_list(side)) > 1 for side in sides[:-1]) or not is_value(last)):
        return None
    return first, last  # V = lwh = 3(4)(5) = 60


def is_value(text: str) -> bool:
    """Whether text stands for numbers: a quantity, a constant, a list of these, a matrix or an interval."""
    if (
        quantity(text) is not None
        or MATRIX.fullmatch(text)
        or RATIO.fullmatch(text)
        or text in (r"\infty", r"-\infty", r"\emptyset")
    ):
        return True
    group = enclosed(text)
    parts = split_list(group[1] if group else text)
    if len(parts) > 1 or (parts and parts[0] != text):
        return all(is_value(part) for part in parts)
    try:
        return len(evaluate(text)) == 1
    except NotAnExpression:
        return False
