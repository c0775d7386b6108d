"""Exact value of a plain quantity: an integer, decimal or fraction, perhaps with a percent sign or a unit."""

import re
from fractions import Fraction

_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
# sign, then a mixed number, a fraction or a decimal.  Examples: -3, 3 1/2, \frac{270}7, 1.2 \times 10^{5}, Rs. 5
_QUANTITY = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*(?:(?i:us|usd|eur|rs\.?|inr)(?![A-Za-z])\s*)?
    (?:
      (?:(?P<whole>[0-9]+)\s*)?\\frac\s*(?:\{{\s*(?P<top>-?{_DECIMAL})\s*\}}|(?P<top1>[0-9]))\s*
                                        (?:\{{\s*(?P<bottom>{_DECIMAL})\s*\}}|(?P<bottom1>[0-9]))
    | (?:(?P<whole2>[0-9]+)\s+)?(?P<num>{_DECIMAL})\s*/\s*(?P<den>{_DECIMAL})
    | (?P<decimal>{_DECIMAL})(?:[eE](?P<exp>[-+]?[0-9]{{1,3}})(?![0-9A-Za-z])
        |\s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*
         (?:\{{\s*(?P<exp2>[-+]?[0-9]{{1,3}})\s*\}}|(?P<exp3>[-+]?[0-9]{{1,3}})(?![0-9])))?
    )""",
    re.VERBOSE,
)
_MAX_LITERAL = 400  # characters; longer ones are compared as text
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORD = re.compile(r"[A-Za-z']+")
# A unit after a number: "%", "dollars", "km/h", "cm^2", "first-class tickets (each)". No digits, no LaTeX.
_UNIT = re.compile(
    r"\s*%?(?:(?:\s*(?=[A-Za-z])|\s+(?=\())(?:[\s/().,%]|[A-Za-z'](?:-(?=[A-Za-z]))?|\^\{?[23]\}?)*)?\s*"
)
_DESCRIPTION = re.compile(r"\s*%?\s+[A-Za-z(][^\\^=+*<>|]*")  # " at 4%", " pounds of 9-dollar coffee"
_SHORT_UNITS = frozenset("m g s h l L km cm mm kg mg ml mL lb oz ft in hr am pm st nd rd th gb mb ms".split())
_PREPOSITIONS = frozenset("at of in on by to is for".split())
_NOT_UNITS = frozenset(  # words that change the value
    "pi sqrt sin cos tan cot sec csc log ln exp mod inf infinity squared cubed half halves third thirds quarter "
    "quarters fourth fourths fifth fifths sixth sixths eighth eighths tenth tenths hundredths thousandths plus minus "
    "times or to not".split()
)


def leading_quantity(text: str) -> tuple[Fraction, str] | None:
    r"""Value of the number at the start of cleaned `text`, and what follows it; None if there is none.

    >>> leading_quantity("13000 at 4%")
    (Fraction(13000, 1), ' at 4%')
    >>> leading_quantity(r"3\frac{1}{2}")
    (Fraction(7, 2), '')
    """
    match = _QUANTITY.match(text)
    if match is None or match.end() > _MAX_LITERAL:
        return None
    field = match.groupdict()
    if field["decimal"]:
        exponent = int(field["exp"] or field["exp2"] or field["exp3"] or 0)
        value = _decimal(field["decimal"]) * Fraction(10) ** exponent
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
    >>> quantity("5x"), quantity("7 halves"), quantity("3 4"), quantity("5 - 2")
    (None, None, None, None)
    """
    found = leading_quantity(text)
    if found is None:
        return None
    value, rest = found
    if not rest:
        return value
    if not _UNIT.fullmatch(rest):
        return None
    words = _WORD.findall(rest)
    if not words:
        return value
    if not _is_unit(words, attached=rest[0].isalpha()):
        return None
    return value * _SCALES.get(words[0].lower(), 1)


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
    words = _WORD.findall(found[1])
    described = words and (words[0] in _PREPOSITIONS or _is_unit(words[:1], attached=False))
    return found[0] if described else None


def _is_unit(words: list[str], attached: bool) -> bool:
    """Whether words after a number are a unit: "5 cm", "18cm", "3 cats" are; "5x", "3 xy", "2 pi" are products."""
    if any(word.lower() in _NOT_UNITS for word in words):
        return False
    first = words[0]
    return len(first) >= 3 + attached or (first in _SHORT_UNITS and len(first) > attached) or first == "of"


def _decimal(literal: str) -> Fraction:
    return Fraction(literal.rstrip("."))  # "18." is 18
