r"""Keys of inequalities: of one variable as intervals (`5 \le x` is `[5, \infty)`), others by their values.

An inequality is a difference that is positive. It is compared at the fixed points of `expression`, up to a positive
factor; where it is linear in one variable, its solution is an interval, so `-x > -1` is `(-\infty, 1)`.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from pst_rl.answers.expression import NotAnExpression, Value, evaluate, evaluate_at, magnitude
from pst_rl.answers.fingerprint import fingerprint, value_key
from pst_rl.answers.latex import split_list

Key = Callable[[str], str]

_OPERATOR = re.compile(r"\\leq(?![A-Za-z])|\\geq(?![A-Za-z])|<|>")
_VARIABLE = re.compile(r"\\?[A-Za-z]+(?:_\{?[A-Za-z0-9]+\}?)?")
_OR = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])")
_POINTS = (0, 1, -2, 10**9 + 7, -(10**9) - 9)
_MAX_LENGTH = 200  # characters


def relation_key(text: str, key: Key) -> str | None:
    r"""Key of an inequality, of a chain such as "-1 < a < 2" or of two joined by "or"; None for anything else."""
    if len(text) > _MAX_LENGTH or not _OPERATOR.search(text):
        return None
    if len(parts := _OR.split(text)) > 1:
        keys = [relation_key(part.strip(), key) for part in parts]
        return r" \cup ".join(sorted(found)) if len(found := [k for k in keys if k]) == len(parts) else None
    if len(split_list(text)) > 1:
        return None
    sides = [side.strip() for side in _OPERATOR.split(text)]
    signs = [sign[0] for sign in _OPERATOR.finditer(text)]
    if not all(sides):
        return None
    if len(signs) == 2:
        return _chain_key(sides, signs, key)
    return _single_key(sides, signs[0]) if len(signs) == 1 else None


def _chain_key(sides: list[str], signs: list[str], key: Key) -> str | None:
    upward = [sign in ("<", r"\leq") for sign in signs]
    if upward[0] != upward[1] or not _VARIABLE.fullmatch(sides[1]) or sides[1] in ("e", "i", r"\pi", "pi"):
        return None
    low, high = (sides[0], sides[2]) if upward[0] else (sides[2], sides[0])
    below, above = signs if upward[0] else signs[::-1]
    return ("(" if below in "<>" else "[") + f"{key(low)}, {key(high)}" + (")" if above in "<>" else "]")


def _single_key(sides: list[str], sign: str) -> str | None:
    """Key of left < right: the sign of right - left, or the interval it leaves for one variable."""
    left, right = sides if sign in ("<", r"\leq") else sides[::-1]
    strict = sign in "<>"
    difference = f"({right})-({left})"
    try:
        values = evaluate(difference)
        if len(values) < 2:
            return None
    except NotAnExpression:
        return None
    if (line := _line(difference)) is not None:
        slope, start = line
        end = value_key([-start / slope])
        if (slope if isinstance(slope, Fraction) else slope.real) > 0:
            return ("(" if strict else "[") + end + r", \infty)"
        return r"(-\infty, " + end + (")" if strict else "]")
    size = max(magnitude(values[0]), 1e-300)
    return ("0<" if strict else "0<=") + fingerprint([value / size for value in values])


def _line(text: str) -> tuple[Value, Value] | None:
    """Slope and start of an expression that is linear in its only variable, also far from zero (no |x - 5|)."""
    try:
        found = [evaluate_at(text, Fraction(point)) for point in _POINTS]
    except NotAnExpression:
        return None
    if "|" in text or any(names != 1 for _, names in found):
        return None
    values = [real for value, _ in found if (real := _real(value)) is not None]
    if len(values) < len(found):
        return None
    start, slope = values[0], values[1] - values[0]
    for point, value in zip(_POINTS[2:], values[2:], strict=True):
        expected = start + slope * point
        if value != expected and magnitude(value - expected) > 1e-9 * magnitude(expected):
            return None
    size = max(magnitude(start), magnitude(values[1]))
    return (slope, start) if magnitude(slope) > 1e-9 * size or isinstance(slope, Fraction) and slope else None


def _real(value: Value) -> Value | None:
    if isinstance(value, Fraction):
        return value
    return complex(value.real) if abs(value.imag) <= 1e-12 * abs(value) else None
