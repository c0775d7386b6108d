"""Exact value of a plain quantity: an integer, decimal or fraction, perhaps with a percent sign or a unit."""

import re
from fractions import Fraction

from pst_rl.answers.units import is_described, is_unit, scale

_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
# sign, then a mixed number, a fraction or a decimal.  Examples: -3, 3 1/2, \frac{270}7, 1.2 \times 10^{5}, Rs. 5
_QUANTITY = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*(?:(?i:us|usd|eur|rs\.?|inr)(?![A-Za-z])\s*)?
    (?:
      (?:(?P<whole>[0-9]+)\s*)?\\frac\s*(?:\{{\s*(?P<top>-?{_DECIMAL})\s*\}}|(?P<top1>[0-9]))\s*
                                        (?:\{{\s*(?P<bottom>{_DECIMAL})\s*\}}|(?P<bottom1>[0-9]))
    | (?:(?P<whole2>[0-9]+)\s+)?(?P<num>{_DECIMAL})\s*/\s*(?P<den>{_DECIMAL})
    | (?P<before>[0-9]{{0,30}}\.[0-9]{{0,30}})\\overline\s*\{{\s*(?P<period>[0-9]{{1,30}})\s*\}}
    | (?P<decimal>{_DECIMAL})(?:[eE](?P<exp>[-+]?[0-9]{{1,3}})(?![0-9A-Za-z])
        |\s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*
         (?:\{{\s*(?P<exp2>[-+]?[0-9]{{1,3}})\s*\}}|(?P<exp3>[-+]?[0-9]{{1,3}})(?![0-9])))?
    )""",
    re.VERBOSE,
)
_MAX_LITERAL = 400  # characters; longer ones are compared as text
_WORD = re.compile(r"[A-Za-z']+")
_DESCRIPTION = re.compile(r"\s*%?\s+[A-Za-z(][^\\^=+*<>|]*")  # " at 4%", " pounds of 9-dollar coffee"
# What may bring a second number after a counted thing: "36 dollars for 18 eggs"; not "per", "by", "to" and "out of",
# after which the first number is only a part of the answer.
_REMARK = re.compile(r"\s*%?[^0-9,;]*?(?:\s(?:for|at|in|on|from|with|after|over|of)\s|\()[^,;]*")
_OTHER_VALUE = re.compile(r"(?<![A-Za-z])(?:per|by|to|out|or|and)(?![A-Za-z])")


def leading_quantity(text: str) -> tuple[Fraction, str] | None:
    r"""Value of the number at the start of cleaned `text`, and what follows it; None if there is none.

    >>> leading_quantity("13000 at 4%")
    (Fraction(13000, 1), ' at 4%')
    >>> leading_quantity(r"3\frac{1}{2}"), leading_quantity(r"0.1\overline{6}")
    ((Fraction(7, 2), ''), (Fraction(1, 6), ''))
    """
    match = _QUANTITY.match(text)
    if match is None or match.end() > _MAX_LITERAL:
        return None
    field = match.groupdict()
    if field["decimal"]:
        exponent = int(field["exp"] or field["exp2"] or field["exp3"] or 0)
        value = _decimal(field["decimal"]) * Fraction(10) ** exponent
    elif field["period"]:
        value = _repeating(field["before"], field["period"])
    else:
        bottom = _decimal(field["bottom"] or field["bottom1"] or field["den"])
        if bottom == 0:
            return None
        whole = Fraction(field["whole"] or field["whole2"] or 0)
        value = whole + _decimal(field["top"] or field["top1"] or field["num"]) / bottom
    return (-value if field["sign"] == "-" else value), text[match.end() :]


def quantity(text: str) -> Fraction | None:
    r"""Exact value of cleaned `text` if it is one quantity with nothing but a unit after it.

    >>> quantity("36 dollars"), quantity("50%"), quantity("15 cm^2"), quantity("2.5 million")
    (Fraction(36, 1), Fraction(50, 1), Fraction(15, 1), Fraction(2500000, 1))
    >>> quantity("5x"), quantity("7 halves"), quantity("3 4"), quantity("5 - 2"), quantity("1/2/2020")
    (None, None, None, None, None)
    """
    found = leading_quantity(text)
    if found is None:
        return None
    value, rest = found
    if not rest:
        return value
    return value * scale(rest) if is_unit(rest) else None


def described_quantity(text: str) -> Fraction | None:
    """Value of a number followed by any words, also words with numbers: for scoring, where the first number counts.

    >>> described_quantity("17 pounds of 9-dollar coffee"), described_quantity("2 x + 3")
    (Fraction(17, 1), None)
    """
    value = quantity(text)
    if value is not None:
        return value
    found = leading_quantity(text)
    if found is None or not _DESCRIPTION.fullmatch(found[1]):
        return None
    return found[0] if is_described(_WORD.findall(found[1])) else None


def remarked_quantity(text: str) -> Fraction | None:
    """Value of one quantity with a remark that may hold other numbers, none of which is a part of the value.

    >>> remarked_quantity("36 dollars for 18 eggs"), remarked_quantity("42 (see step 3)")
    (Fraction(36, 1), Fraction(42, 1))
    >>> [remarked_quantity(text) for text in ("5 feet 7 inches", "36 per 2 days", "3 out of 10", "3 at 4% and 5")]
    [None, None, None, None]
    """
    value, found = described_quantity(text), leading_quantity(text)
    if value is None or found is None or quantity(text) is not None:
        return value
    rest = found[1]
    return value if _REMARK.fullmatch(rest) and not _OTHER_VALUE.search(rest) else None


def _decimal(literal: str) -> Fraction:
    return Fraction(literal.rstrip("."))  # "18." is 18


def _repeating(before: str, period: str) -> Fraction:
    """0.1 with the period 6 is 1/6."""
    places = len(before.split(".")[1])
    start = Fraction(before.rstrip(".") or 0) if before != "." else Fraction(0)
    return start + Fraction(int(period), 10**places * (10 ** len(period) - 1))
