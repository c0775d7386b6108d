r"""Exact canonical keys: two answers are equivalent if and only if their keys are equal.

A key is a function of one answer alone, so equivalence is transitive and independent of order, as a vote needs.
No tolerance is used: 7.03 and 7.03125 differ. Cost is bounded for any string: see `_MAX_LENGTH` and `expression`.
"""

import re
from functools import lru_cache

from pst_rl.answers.expression import NotAnExpression, evaluate, magnitude
from pst_rl.answers.fingerprint import fingerprint, value_key
from pst_rl.answers.labels import EQUALS, MATRIX, RATIO, is_value, strip_label
from pst_rl.answers.latex import clean, enclosed, split_list, split_separated, strip_wrappers, unboxed
from pst_rl.answers.quantity import quantity
from pst_rl.answers.relations import relation_key
from pst_rl.answers.tuples import list_key, set_key, tuple_key
from pst_rl.answers.units import clock, measure, name_roman_units, without_unit

__all__ = ["canonical_key", "equivalent", "strip_label"]

_MAX_LENGTH = 400  # characters; longer answers are compared as plain text
_MAX_CLEAN = 20_000  # even longer ones as they are
_MAX_DEPTH = 6  # lists within lists
# B, (B), (b), (B) text, B. text, B) 5; not "(A) and (B)", nor the variables b and (x)
_CHOICE = re.compile(
    r"\(?([A-Z])\)?[.:)]?|\(([a-f])\)|\(([A-Za-f])\)\s+(?![A-Za-z]\b|and\b|or\b|\\c[au]p)[\w\\\[$].*|([A-Z])[.)]\s+\w.*",
    re.DOTALL,
)
_ANOTHER_CHOICE = re.compile(r"\([A-Z]\)|(?<![A-Za-z(])[A-Z][.)]\s")
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
_NO_SOLUTION = re.compile(r"(no (?:[a-z]+ )?solution)s(?: exists?)?|(no (?:[a-z]+ )?solution) exists?")
# Words around an answer that do not change it: "Therefore x >= 5 is the solution".
_FRAME = re.compile(
    r"(?:(?:therefore|thus|hence|so|finally|we (?:find|get|have|obtain|conclude)(?: that)?|it follows that"
    r"|(?:the|our|my) (?:final )?(?:answer|solution)(?: set)? is)\b[,:]?\s+){0,3}(?P<inside>.*?)"
    r"(?:,?\s+(?:is|are) (?:the|our|my) (?:final )?(?:answers?|solutions?)(?: set)?)?",
    re.IGNORECASE | re.DOTALL,
)
_FRAMING = re.compile(r"\b(?:therefore|thus|hence|so|finally|we|follows|answers?|solutions?)\b", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z]{2,}(?:[\s'-]+[A-Za-z]+)*")
_DECIMAL_COMMA = re.compile(r"([-+]?(?:0(?=,[0-9]{2})|[0-9](?=,[0-9]{2}$)|[0-9]+(?=,[0-9]{4}))),([0-9]{2,30})")
_BASE = re.compile(r"([0-9][0-9A-Fa-f]{0,60})\s*_\s*(?:\{\s*([0-9]{1,2}|[a-z]+)\s*\}|([0-9]{1,2}))")
_BASES = {word: str(base) for base, word in enumerate("two three four five six seven eight nine ten".split(), 2)}
_DATE = re.compile(r"[0-9]{1,2}/[0-9]{1,2}/(?:[0-9]{2}|[0-9]{4})|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OUT_OF = re.compile(r"([0-9]{1,30}) out of (?:a total of )?([1-9][0-9]{0,29})")
_FUNCTION = re.compile(r"[A-Za-z](?:_\{?[0-9a-z]\}?)?'{0,2}\s*\([a-z]\)\s*=")  # f(x) = ...
_MAX_SIGNED = 3  # \pm in one answer
_LOOSE_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")  # any but those between two words or numbers
_SHORT_BRACES = re.compile(r"([\^_])\{(.)\}")


def canonical_key(answer: str) -> str:
    r"""Exact key of an answer; unintelligible answers get a normalised plain string.

    >>> [canonical_key(a) for a in ("0.5", "1/2", r"\frac{1}{2}", "50/100", "$1,234.50", "36 dollars", "50%")]
    ['1/2', '1/2', '1/2', '1/2', '2469/2', '36', '50']
    >>> canonical_key("(B)"), canonical_key("True."), canonical_key("x = 3 and y = 4"), canonical_key(r"\{2, 1\}")
    ('B', 'true', '3, 4', '1, 2')
    >>> equivalent(r"11\sqrt{5}+11", r"11(1+\sqrt5)"), equivalent("50%", "0.5")
    (True, False)
    """
    if "boxed" in answer or "fbox" in answer:
        answer = unboxed(answer[-_MAX_CLEAN:])
    if len(answer) > _MAX_LENGTH:
        return _plain(clean(answer) if len(answer) <= _MAX_CLEAN else answer)
    return _cached_key(answer)


def equivalent(a: str, b: str) -> bool:
    """Whether two answers have the same canonical key (exact: no numeric tolerance)."""
    return canonical_key(a) == canonical_key(b)


@lru_cache(maxsize=8192)
def _cached_key(answer: str) -> str:
    comma = _DECIMAL_COMMA.fullmatch(answer.strip("$ "))
    text = f"{comma[1]}.{comma[2]}" if comma else answer
    return _key(_unframed(clean(name_roman_units(text) if "{" in text else text)), 0)


def _unframed(text: str) -> str:
    """What an answer sentence states, if it is mathematics: x < 3 of "We find that x < 3"."""
    framed = _FRAME.fullmatch(text) if _FRAMING.search(text) else None
    if framed is None:
        return text
    inside = framed["inside"]
    return inside if re.search(r"[0-9<>=\\]", inside) else text


def _key(text: str, depth: int) -> str:
    text = strip_wrappers(text)
    if depth > _MAX_DEPTH:
        return _plain(text)
    if choice := _CHOICE.fullmatch(text):
        letter = choice.lastindex or 0
        if not _ANOTHER_CHOICE.search(text, choice.end(letter) + 1):
            return choice[letter].upper()
    if _WORDS.fullmatch(text):
        words = " ".join(text.casefold().split())
        return _NUMBER_WORDS.get(words) or _NO_SOLUTION.sub(r"\1\2", words)
    if (value := quantity(text)) is not None:
        return str(value)
    return (
        _notation_key(text)
        or _structure_key(text, depth)
        or _equation_key(text, depth)
        or _unit_key(text, depth)
        or _expression_key(text)
        or _plain(text)
    )


def _notation_key(text: str) -> str | None:
    """Key of a number in another base, a ratio, a time of day, a measure ("5 feet 7 inches") or "3 out of 10"."""
    if not text[:1].isdigit():
        return None
    if (base := _BASE.fullmatch(text)) and (sign := _BASES.get(base[2] or "", base[2] or base[3])).isdigit():
        return f"{base[1].upper()}_{sign}"
    if time := clock(text):
        return time
    if _DATE.fullmatch(text):
        return text
    if RATIO.fullmatch(text):
        return "".join(text.split())
    if part := _OUT_OF.fullmatch(text):
        return _key(f"{part[1]}/{part[2]}", 0)
    return None if (value := measure(text)) is None else str(value)


def _structure_key(text: str, depth: int) -> str | None:
    """Key of a matrix, an inequality, a bracketed group, a union, a list or a plus-minus pair."""
    if matrix := MATRIX.fullmatch(text):
        broken = r"\\\\" if r"\\" in matrix[2] else r"\\(?=[-+0-9])"  # a row break that lost a backslash
        rows = [_keys(row.split("&"), depth) for row in re.split(broken, matrix[2])]
        return "[" + "; ".join(", ".join(row) for row in rows if row) + "]"
    if relation := relation_key(text, lambda part: _key(part, depth + 1)):
        return relation
    if len(parts := split_list(text, only=r"\cup")) > 1:
        return r" \cup ".join(sorted(_keys(parts, depth)))
    parts, separators = split_separated(text)
    if len(parts) > 1:
        return list_key(parts, separators, lambda part: next(iter(_keys([part], depth)), ""))
    if group := enclosed(text):
        opening, inside, closing = group
        keys = _keys(split_list(inside), depth)
        if opening in ("{", r"\{") and keys:
            return set_key(keys)
        if len(keys) > 1:
            return opening + ", ".join(keys) + closing
        if len(keys) == 1 and opening + closing in ("()", "[]"):
            return keys[0]
    if r"\pm" in text and text.count(r"\pm") <= _MAX_SIGNED:
        return set_key(_keys([_signed(strip_label(text), *signs) for signs in ("+-", "-+")], depth))
    return None


def _signed(text: str, upper: str, lower: str) -> str:
    return text.replace(r"\pm", upper).replace(r"\mp", lower)


def _keys(parts: list[str], depth: int) -> list[str]:
    """Keys of parts; a list within a list keeps braces, so that {{1, 2}, 3} is not {1, 2, 3}."""
    keys = ((part, _key(part, depth + 1)) for part in parts)
    return ["{" + key + "}" if ", " in key and _is_open(part, key) else key for part, key in keys if key]


def _is_open(part: str, key: str) -> bool:
    return r"\pm" not in part and len(split_list(key)) > 1


def _equation_key(text: str, depth: int) -> str | None:
    """Key of an equation, the same for every multiple and rearrangement; a named value is just its value."""
    value = strip_label(text)
    if value != text and (is_value(value) or (_FUNCTION.match(text) and not EQUALS.search(value))):
        return _named_tuple_key(text, value, depth) or _key(value, depth + 1)
    if value != text and not EQUALS.search(text):  # x \in (1, 2), about 5 to 6
        return _key(value, depth + 1)
    sides = EQUALS.split(text)
    if len(sides) != 2:
        return None
    try:
        values = evaluate(f"({sides[0]})-({sides[1]})")
    except NotAnExpression:
        return None
    if len(values) < 2 or magnitude(values[0]) < 1e-9:
        return None
    return "0=" + fingerprint([value / values[0] for value in values[1:]])


def _named_tuple_key(text: str, value: str, depth: int) -> str | None:
    names, group = enclosed(EQUALS.split(text)[0].strip()), enclosed(value)
    if names is None or group is None or names[0] + names[2] + group[0] + group[2] != "()()":
        return None
    return tuple_key(split_list(names[1]), _keys(split_list(group[1]), depth))


def _expression_key(text: str) -> str | None:
    try:
        return value_key(evaluate(text))
    except NotAnExpression:
        return None


def _unit_key(text: str, depth: int) -> str | None:
    """Key of an expression with a unit or a remark after it: that of the expression."""
    body = without_unit(text)
    if body is None:
        return None
    if quantity(body) is not None or _expression_key(body) is not None:
        return _key(body, depth + 1)
    return None


def _plain(text: str) -> str:
    r"""Text without needless blanks, with x^{2} written x^2 and words in lower case."""
    text = _SHORT_BRACES.sub(r"\1\2", _LOOSE_BLANK.sub("", " ".join(text.split())))
    return text.casefold() if text.replace(" ", "").isalpha() else text
