r"""Exact canonical keys: two answers are equivalent if and only if their keys are equal.

A key is a function of one answer alone, so equivalence is transitive and independent of order, as a vote needs.
No tolerance is used: 7.03 and 7.03125 differ. Cost is bounded for any string: see `_MAX_LENGTH` and `expression`.
"""

import re
from functools import lru_cache

from pst_rl.answers.expression import NotAnExpression, Value, evaluate
from pst_rl.answers.latex import clean, enclosed, split_list, strip_wrappers
from pst_rl.answers.quantity import quantity

_MAX_LENGTH = 400  # characters; longer answers are compared as plain text
_MAX_CLEAN = 20_000  # even longer ones as they are
_MAX_DEPTH = 6  # lists within lists
_CHOICE = re.compile(r"\(?([A-Z])\)?[.:)]?|\(([A-Z])\)\s+\w.*|([A-Z])[.)]\s+[A-Za-z].*")  # B, (B), (B) text, B. text
_WORDS = re.compile(r"[A-Za-z]{2,}(?:[\s'-]+[A-Za-z]+)*")
_MATRIX = re.compile(r"\\begin\s*\{([pbvV]?matrix|array)\}(.*)\\end\s*\{\1\}", re.DOTALL)
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)|\\approx(?![A-Za-z])")
_SUBSCRIPT = r"(?:_\{?[A-Za-z0-9]+\}?)?"
# What may stand before "=" as a name: x, P_1, \theta, (Wins, Losses), Volume of 2% acid.  Not 2x or y - 2x.
_NAME = re.compile(rf"\(?\\?[A-Za-z][A-Za-z'-]*{_SUBSCRIPT}(?:[\s,]+(?:[A-Za-z][A-Za-z'-]*{_SUBSCRIPT}|[0-9]+%?))*\)?")
_ARITHMETIC = re.compile(r"[0-9\s.+\-*/()$%]+")
_PREFIX = re.compile(
    r"[A-Za-z]\s*\\in(?![A-Za-z])\s*"  # x \in
    r"|(?i:approximately|about|roughly|around|nearly|almost|exactly|only)\s+"
    r"|(?=[^:]*[A-Za-z])[A-Za-z0-9%][A-Za-z0-9\s%'()-]*:\s+"  # Smaller number:
)
_LOOSE_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")  # any but those between two words or numbers
_SHORT_BRACES = re.compile(r"([\^_])\{(.)\}")


def canonical_key(answer: str) -> str:
    r"""Exact key of an answer; unintelligible answers get a normalised plain string.

    >>> [canonical_key(a) for a in ("0.5", "1/2", r"\frac{1}{2}", "50/100", "$1,234.50", "36 dollars", "50%")]
    ['1/2', '1/2', '1/2', '1/2', '2469/2', '36', '50']
    >>> canonical_key("(B)"), canonical_key("True."), canonical_key("x = 3 and y = 4"), canonical_key(r"\{2, 1\}")
    ('B', 'true', '3, 4', '{1, 2}')
    >>> equivalent(r"11\sqrt{5}+11", r"11(1+\sqrt5)"), equivalent("50%", "0.5")
    (True, False)
    """
    if len(answer) > _MAX_LENGTH:
        return _plain(clean(answer) if len(answer) <= _MAX_CLEAN else answer)
    return _cached_key(answer)


def equivalent(a: str, b: str) -> bool:
    """Whether two answers have the same canonical key (exact: no numeric tolerance)."""
    return canonical_key(a) == canonical_key(b)


@lru_cache(maxsize=8192)
def _cached_key(answer: str) -> str:
    return _key(clean(answer), 0)


def _key(text: str, depth: int) -> str:
    text = strip_wrappers(text)
    if depth > _MAX_DEPTH:
        return _plain(text)
    if choice := _CHOICE.fullmatch(text):
        return choice[choice.lastindex]
    if _WORDS.fullmatch(text):
        return " ".join(text.casefold().split())
    if (value := quantity(text)) is not None:
        return str(value)
    return _structure_key(text, depth) or _equation_key(text, depth) or _expression_key(text) or _plain(text)


def _structure_key(text: str, depth: int) -> str | None:
    """Key of a matrix, a bracketed group, a union, a list or a plus-minus pair."""
    if matrix := _MATRIX.fullmatch(text):
        rows = [_keys(row.split("&"), depth) for row in matrix[2].split(r"\\")]
        return "[" + "; ".join(", ".join(row) for row in rows if row) + "]"
    if len(parts := split_list(text, only=r"\cup")) > 1:
        return r" \cup ".join(sorted(_keys(parts, depth)))
    if len(parts := split_list(text)) > 1:  # order is kept: "3 and 4" names the first and the second unknown
        return ", ".join(_keys(parts, depth))
    if group := enclosed(text):
        opening, inside, closing = group
        keys = _keys(split_list(inside), depth)
        if opening in ("{", r"\{"):
            return keys[0] if opening == "{" and len(keys) == 1 else "{" + ", ".join(sorted(set(keys))) + "}"
        if len(keys) > 1:
            return opening + ", ".join(keys) + closing
        if len(keys) == 1 and opening + closing == "()":
            return keys[0]
    if text.count(r"\pm") == 1:
        return ", ".join(sorted(_keys([text.replace(r"\pm", sign) for sign in "+-"], depth)))
    return None


def _keys(parts: list[str], depth: int) -> list[str]:
    return [key for part in parts if (key := _key(part, depth + 1))]


def strip_label(text: str) -> str:
    r"""Drop what names a value: "x = 3", "(a, b) = (1, 2)", "39000 - 18000 = 21000", "Fee: 5", "about 5".

    An equation such as "2x + 3 = 7" or "y = 2x" keeps its left side.

    >>> strip_label("Daily fee = 23"), strip_label("39000 - 18000 = 21000"), strip_label("2x = 6")
    ('23', '21000', '2x = 6')
    """
    sides = _EQUALS.split(text)
    left, right = "=".join(sides[:-1]).strip(), sides[-1].strip()
    if len(sides) > 1 and (not left or _NAME.fullmatch(left) or all(map(_ARITHMETIC.fullmatch, sides[:-1]))):
        return right
    prefix = _PREFIX.match(text)
    return text[prefix.end() :] if prefix else text


def _equation_key(text: str, depth: int) -> str | None:
    """Key of an equation, the same for every multiple and rearrangement; a named value is just its value."""
    value = strip_label(text)
    if value != text and _is_value(value):
        return _key(value, depth + 1)
    sides = _EQUALS.split(text)
    if len(sides) != 2:
        return None
    try:
        values = evaluate(f"({sides[0]})-({sides[1]})")
    except NotAnExpression:
        return None
    if len(values) < 2 or abs(values[0]) < 1e-9:
        return None
    return "0=" + _fingerprint([value / values[0] for value in values[1:]])


def _is_value(text: str) -> bool:
    """Whether text stands for numbers: a quantity, a list of quantities or a constant expression."""
    if quantity(text) is not None:
        return True
    group = enclosed(text)
    parts = split_list(group[1] if group else text)
    if len(parts) > 1:
        return all(_is_value(part) for part in parts)
    try:
        return len(evaluate(text)) == 1
    except NotAnExpression:
        return False


def _expression_key(text: str) -> str | None:
    try:
        values = evaluate(text)
    except NotAnExpression:
        return None
    if not all(isinstance(value, complex) for value in values):
        return str(values[0])
    number = complex(values[0])
    if len(values) == 1 and abs(number) < 1e4 and abs(number - round(number.real)) < 1e-11:
        return str(round(number.real))  # \sqrt{2}^2, \log_2 8
    return "~" + _fingerprint(values)


def _fingerprint(values: list[Value]) -> str:
    """Nine significant digits of each value: enough to tell expressions apart, few enough to hide rounding errors."""
    return "|".join(map(_nine_digits, map(complex, values)))


def _nine_digits(value: complex) -> str:
    noise = 1e-9 * max(abs(value), 1e-6)
    real, imag = (0.0 if abs(part) <= noise else part for part in (value.real, value.imag))
    return f"{real:.9g}{imag:+.9g}i" if imag else f"{real:.9g}"


def _plain(text: str) -> str:
    r"""Text without needless blanks, with x^{2} written x^2 and words in lower case."""
    text = _SHORT_BRACES.sub(r"\1\2", _LOOSE_BLANK.sub("", " ".join(text.split())))
    return text.casefold() if text.replace(" ", "").isalpha() else text
