r"""Units and remarks around a value: dropped, never converted, except within one measure ("5 feet 7 inches").

A unit is what follows a value: words ("36 dollars", `9\pi \text{ square units}`) or a known symbol after a blank or in
roman type (`12\pi\text{ cm}^2`, "2.41 eV"). A letter that may be a variable is one: `5x`, `4 s^2`, `\frac{1}{2} h^2`.
"""

import re
from fractions import Fraction

SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORD = re.compile(r"[A-Za-z']+")
_LENGTHS = frozenset("mm cm dm m km in ft yd mi".split())
_SYMBOLS = _LENGTHS | frozenset(
    "g kg mg lb lbs oz l L ml mL cl dl s ms h hr hrs min sec gb mb kb GB MB KB st nd rd th ha "
    "eV keV MeV GeV kJ MJ kW MW kWh mW mV kV mA kN Pa kPa MPa Hz kHz MHz GHz mol rad kcal cal dB nm pm sq cu amu "
    "kmh mph kph rpm Nm pct".split()
)
_PLAIN_LETTERS = frozenset("N J W V K".split())  # after a decimal in text without LaTeX only
_PREPOSITIONS = frozenset("at of in on by to is for".split())
_NOT_UNITS = frozenset(  # words that change the value
    "pi sqrt sin cos tan cot sec csc log ln exp mod inf infinity squared cubed half halves third thirds quarter "
    "quarters fourth fourths fifth fifths sixth sixths eighth eighths tenth tenths hundredths thousandths plus minus "
    "times or to not more less fewer below up down right clockwise counterclockwise ago before after loss decrease "
    "north south east west january february march april may june july august "
    "september october november december".split()
)
_NOT_AFTER_EXPRESSIONS = _NOT_UNITS | frozenset(
    "is are if when for and with where even odd integer real positive negative alpha beta gamma delta theta lambda mu "
    "phi omega sigma rho tau epsilon frac cdot arcsin arccos arctan sinh cosh tanh".split()
)
# A unit after a number: "%", "dollars", "km/h", "cm^2", "5^{th}", "first-class tickets (each)". No digits, no LaTeX.
_UNIT = re.compile(
    r"\s*%?(?:\^\{?\s*(?:st|nd|rd|th)\s*\}?"
    r"|(?:(?:\s*(?=[A-Za-z])|\s+(?=\())(?:[\s/().,%]|[A-Za-z'](?:-(?=[A-Za-z]))?|\^\{?[23]\}?)*)?)\s*"
)
_POWERED = re.compile(r"(?<![A-Za-z/])([A-Za-z]+)\s*\^")
_TOKEN = re.compile(r"[(/]?([A-Za-z]+(?:[-/][A-Za-z]+)*)(?:\^\{?(?:-1|-2|2|3)\}?)?\)?[.,]?")
# What stands before a roman unit: a digit, a letter, a closing bracket, and perhaps blanks.
_ROMAN = re.compile(
    r"(?<=[0-9A-Za-z})])((?:\s|~|\\[,;:! ]|\\quad(?![A-Za-z]))*)"
    r"(?:\\(?:text|mbox|mathrm|textrm|textnormal|textup|rm)\s*\{(?:\s|~|\\[,;: ])*([A-Za-z])\s*\}"
    r"|(?<=[0-9])(?<!frac[0-9])(?<!sqrt[0-9])\{\s*([a-zA-Z]{1,2})\s*\}(?=\s*(?:\^|$)))"
)
_ROMAN_LETTERS = {
    "m": "metres",
    "g": "grams",
    "s": "seconds",
    "h": "hours",
    "l": "litres",
    "L": "litres",
    "N": "newtons",
    "J": "joules",
    "W": "watts",
    "V": "volts",
    "K": "kelvins",
    "T": "teslas",
}
_REMARK = re.compile(r"\s*\((?:see|from|by|as|since|because|using|rounded|approx|i\.e\.)(?![A-Za-z])[^()]*\)$")

_MEASURES = (  # units of one measure, each with its size in the last
    {
        "week": 604800,
        "day": 86400,
        "hour": 3600,
        "hr": 3600,
        "h": 3600,
        "minute": 60,
        "min": 60,
        "second": 1,
        "sec": 1,
    },
    {"mile": 63360, "yard": 36, "foot": 12, "feet": 12, "ft": 12, "inch": 1, "in": 1},
    {"kilometer": 100000, "km": 100000, "meter": 100, "metre": 100, "m": 100, "centimeter": 1, "cm": 1},
    {"year": 12, "month": 1},
    {"pound": 16, "lb": 16, "ounce": 1, "oz": 1},
    {"dollar": 100, "cent": 1},
    {"gallon": 8, "quart": 2, "pint": 1},
    {"kilogram": 1000, "kg": 1000, "gram": 1, "g": 1},
)
_MEASURE_OF = {name: (i, size) for i, sizes in enumerate(_MEASURES) for name, size in sizes.items()}
_MEASURED = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{1,12})\.?(?:\s*,?\s*(?:and\s+)?|$)")
_AND_CENTS = re.compile(r"([0-9]{1,9}) and (?=[0-9]{1,2} cents?$)")  # the dollar sign is gone
_CLOCK = re.compile(r"(?i:(1?[0-9]|2[0-4])(?::([0-5][0-9]))?(?::([0-5][0-9]))?\s*(?:([ap])\.?\s?m\.?)?)")


def is_unit(text: str) -> bool:
    """Whether `text`, which follows a number, is a unit: " cm", "cm", " cats", "%" are; "x", " xy", " pi" are not.

    >>> is_unit(" dollars each"), is_unit(" km/h"), is_unit("th"), is_unit("x"), is_unit(" halves"), is_unit(" s^2")
    (True, True, True, False, False, False)
    """
    if not _UNIT.fullmatch(text):
        return False
    words = _WORD.findall(text)
    return not words or (is_unit_name(words, attached=text[0].isalpha()) and _powers_fit(text))


def is_unit_name(words: list[str], attached: bool) -> bool:
    """Whether words after a number are a unit: "5 cm", "18cm", "3 cats" are; "5x", "3 xy", "2 pi" are products."""
    if any(word.lower() in _NOT_UNITS for word in words):
        return False
    first = words[0]
    if len(first) == 1 and not attached and first in _PLAIN_LETTERS:
        return True
    return len(first) >= 3 + attached or (first in _SYMBOLS and len(first) > attached) or first == "of"


def is_described(words: list[str]) -> bool:
    """Whether words after a number only describe it: "13000 at ...", "17 pounds of ..."."""
    return bool(words) and (words[0] in _PREPOSITIONS or is_unit_name(words[:1], attached=False))


def scale(text: str) -> int:
    """What the first word of a unit multiplies by: 1000 for " thousand dollars", else 1."""
    word = _WORD.search(text)
    return SCALES.get(word[0].lower(), 1) if word else 1


def _powers_fit(text: str) -> bool:
    """Only lengths are squared or cubed among one-letter symbols: m^2 is a unit, s^2 and h^2 are variables."""
    return all(len(name) > 1 or name == "m" for name in _POWERED.findall(text))


def name_roman_units(text: str) -> str:
    r"""Write one-letter units in roman type as words, before fonts are dropped: `\sqrt2 \text{ m}`, `144{m}^3`.

    >>> [name_roman_units(text) for text in (r"\sqrt{2}\ \mathrm{m}", r"2\mathrm{e}", r"20^\circ \text{C}")]
    ['\\sqrt{2} metres', '2\\mathrm{e}', '20^\\circ celsius']
    """

    def named(match: re.Match[str]) -> str:
        letter = match[2] or match[3]
        if letter in ("C", "F") and match.string[: match.start()].endswith("circ"):
            return " celsius" if letter == "C" else " fahrenheit"
        if match[3] and letter in _LENGTHS and len(letter) == 2:
            return " " + letter
        return " " + _ROMAN_LETTERS[letter] if letter in _ROMAN_LETTERS else match[0]

    return _ROMAN.sub(named, text)


def without_unit(text: str) -> str | None:
    r"""An expression without the unit or the remark after it; None if there is none.

    >>> without_unit(r"9\pi square units"), without_unit(r"12\pi cm^2"), without_unit("x^2 + 3x where x is real")
    ('9\\pi', '12\\pi', 'x^2 + 3x')
    >>> [without_unit(text) for text in ("n even", r"\frac{\sqrt{3}}{2} s", "2 pi", "42 (see step 3)")]
    [None, None, None, '42']
    """
    if (remark := _REMARK.search(text)) and remark.start():
        return text[: remark.start()]
    tokens = text.split(" ")
    if "where" in tokens[1:] and all(token.isalpha() for token in tokens[tokens.index("where") :]):
        return " ".join(tokens[: tokens.index("where")])
    count = len(tokens)
    while count > 1 and _is_unit_token(tokens[count - 1]):
        count -= 1
    body = " ".join(tokens[:count])
    if count == len(tokens) or not _is_unit_start(tokens[count]) or not re.search(r"[0-9\\]", body):
        return None
    return body


def _is_unit_token(token: str) -> bool:
    match = _TOKEN.fullmatch(token)
    names = re.split("[-/]", match[1]) if match else []
    return bool(match) and not any(name.lower() in _NOT_AFTER_EXPRESSIONS for name in names) and _powers_fit(token)


def _is_unit_start(token: str) -> bool:
    match = _TOKEN.fullmatch(token)
    assert match is not None  # `_is_unit_token`
    first, *others = re.split("[-/]", match[1])
    compound = bool(others) and _SYMBOLS.issuperset([first, *others])  # m/s
    return len(first) >= 3 or compound or (len(first) == 2 and first in _SYMBOLS)


def measure(text: str) -> Fraction | None:
    """Value of a measure in two or three units of one kind, in the first of them; None for anything else.

    >>> measure("5 feet 6 inches"), measure("2 hours and 30 minutes"), measure("3 adults and 50 children")
    (Fraction(11, 2), Fraction(5, 2), None)
    >>> measure("5 dollars and 30 cents"), measure("5 and 30 cents")
    (Fraction(53, 10), Fraction(53, 10))
    """
    text = _AND_CENTS.sub(r"\1 dollars and ", text)
    parts = list(_MEASURED.finditer(text)) if len(text) < 80 else []
    if len(parts) < 2 or "".join(part[0] for part in parts) != text:
        return None
    sizes = [size for part in parts if (size := _size(part[2].lower()))]
    if len(sizes) < len(parts) or len({kind for kind, _ in sizes}) > 1:
        return None
    steps = [size for _, size in sizes]
    if any(a <= b for a, b in zip(steps, steps[1:], strict=False)):
        return None
    return sum((Fraction(part[1]) * step for part, step in zip(parts, steps, strict=True)), Fraction(0)) / steps[0]


def _size(name: str) -> tuple[int, int] | None:
    """Which measure a unit belongs to, and its size in that: "hours", "hour" and "inches" alike."""
    singular = (name, name.removesuffix("s"), name.removesuffix("es"))
    return next((_MEASURE_OF[form] for form in singular if form in _MEASURE_OF), None)


def clock(text: str) -> str | None:
    """Key of a time of day that names its half, or its seconds; None for anything else.

    >>> clock("4:30 p.m."), clock("11 AM"), clock("20:34:00"), clock("2:30"), clock("11")
    ('4:30 pm', '11:00 am', '20:34', None, None)
    """
    match = _CLOCK.fullmatch(text)
    if match is None or not (match[4] or match[3]):
        return None
    hour, minute, second = match[1], match[2] or "00", match[3]
    seconds = f":{second}" if second and second != "00" else ""
    return f"{int(hour)}:{minute}{seconds}" + (f" {match[4].lower()}m" if match[4] else "")
