"""Where a number may differ from gold: roundings. Only scoring uses this; keys are exact."""

import re
from fractions import Fraction

_DECIMAL = re.compile(r"[-+]?(?P<whole>[0-9]{0,60})\.(?P<places>[0-9]{1,60})(?![0-9])")
_MIN_DIGITS = 3  # significant digits of a decimal that stands for a fraction or a root


def is_close(answer: str, value: Fraction, gold: str, right: Fraction, *, exact: bool) -> bool:
    r"""Whether `value`, written as `answer`, is `right`, written as `gold`, or a rounding of it.

    Args:
        exact: neither is rational (\sqrt{2}, 2\pi): its value is known to nine digits.

    - Equal values are; two integers or two fractions must be.
    - For an integer gold a decimal answer may be 1e-2 off (17.9999 for 18).
    - A gold written as a decimal may be rounded: within max(1e-2, 1e-3 |gold|), 1 % of it where |gold| < 1.
    - A decimal with three significant digits or more stands for the fraction or root it is a rounding of.

    >>> from fractions import Fraction as F
    >>> cases = (("17.9999", "18"), ("0.07", "1/16"), ("0.4706", "8/17"), ("100/3", "33.3"), ("0.3334", "1/3"))
    >>> [is_close(a, F(a), gold, F(gold), exact=True) for a, gold in cases]
    [True, False, True, True, True]
    """
    error = abs(value - right)
    if error == 0:
        return True
    written, rounded = _decimal(answer, value), _decimal(gold, right)
    if right.denominator == 1:
        return exact and value.denominator != 1 and error <= Fraction(1, 100)
    size = abs(right)
    if rounded and error <= max(min(Fraction(1, 100), size / 100), size / 1000):
        return True
    if rounded and not written and _digits(rounded) >= _MIN_DIGITS:
        return error <= Fraction(51, 100) * _place(rounded)
    return bool(written and not rounded and _digits(written) >= _MIN_DIGITS and error < _place(written))


def _decimal(text: str, value: Fraction) -> re.Match[str] | None:
    """The decimal that is the whole of a value, and not a factor of it ("9.98 x 10^-25") or a multiple."""
    match = _DECIMAL.match(text)
    return match if match and Fraction(match[0]) == value else None


def _digits(match: re.Match[str]) -> int:
    return len((match["whole"] + match["places"]).lstrip("0"))


def _place(match: re.Match[str]) -> Fraction:
    return Fraction(1, 10 ** len(match["places"]))
