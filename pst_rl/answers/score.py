"""Score a response against gold: the only place with a numeric tolerance."""

import re
from collections.abc import Sequence
from fractions import Fraction
from numbers import Real
from typing import Literal

from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.extract import Answer, Style, answer_parts, find_answer
from pst_rl.answers.latex import clean
from pst_rl.answers.quantity import described_quantity
from pst_rl.answers.symbolic import symbolically_equal

Gold = str | Real

_MAX_ANSWER = 2_000  # characters
_ROUNDED = re.compile(r"[-+$\s\\]*[0-9,]*\.[0-9].*", re.DOTALL)  # a gold written as a decimal may be rounded
_NUMBER_KEY = re.compile(r"-?[0-9]{1,1500}(?:/[1-9][0-9]{0,1499})?")  # not 1/0, whose key is its text
_NAMED = re.compile(r"[A-Za-z](?:\([a-z]\))?\s*=(?P<value>[^=]+)")  # y = 2x + 3, f(x) = 2x


def is_correct(
    response: str | Answer,
    gold: Gold | Sequence[Gold],
    *,
    metric: Literal["first", "set"] = "first",
    style: Style = "auto",
) -> bool:
    r"""Whether the final answer of `response` is right.

    Two integers or two fractions must be equal. A gold written as a decimal may be rounded, so an answer within
    max(1e-2, 1e-3 |gold|) is right (1 % of the gold where |gold| < 1); for an integer gold a decimal answer may be
    1e-2 off (17.9999 for 18).

    Args:
        response: a response, or the `Answer` already found in it.
        gold: the gold answer, or the list of all solutions. A GSM8K gold may be the whole solution ("... #### 18").
        metric: "first": the first quantity stated must match the gold (the first of a list of golds). "set": the
            answer must state all golds and nothing else, in any order.
        style: where to look (see `find_answer`): "hash" is GSM8K's strict match, "number" its flexible one.

    >>> is_correct(r"\boxed{18000} at 4% and \boxed{21000} at 6%", "18000"), is_correct("Thus 7.03125 miles.", 7.03)
    (True, True)
    >>> is_correct(r"\boxed{4, 5}", [5, 4], metric="set"), is_correct(r"\boxed{4, 5}", [5, 4])
    (True, False)

    Raises:
        ValueError: unknown metric or style, or an empty list of golds.
    """
    if metric not in ("first", "set"):
        raise ValueError(f"unknown metric {metric!r}: choose 'first' or 'set'")
    golds = [_gold_text(item) for item in ([gold] if isinstance(gold, str | Real) else gold)]
    if not golds:
        raise ValueError("no gold answer: give a string, a number or a non-empty list of solutions")
    answer = response if isinstance(response, Answer) else find_answer(response, style)
    if answer is None:
        return False
    text = answer.text[:_MAX_ANSWER]
    if (metric == "first" or len(golds) == 1) and _matches(text, golds[0]):
        return True
    parts = answer_parts(text)
    if metric == "set" or (len(golds) == 1 and _is_bare_list(golds[0])):
        return _same_set(parts, [part for item in golds for part in answer_parts(item)])
    return bool(parts) and _matches(parts[0], golds[0])


def _gold_text(gold: Gold) -> str:
    if not isinstance(gold, str):
        return str(gold)
    found = find_answer(gold, "hash") if "####" in gold else find_answer(gold, "boxed")
    return (found.text if found else gold.strip())[:_MAX_ANSWER]


def _is_bare_list(gold: str) -> bool:
    """A gold such as "1,-2" lists solutions in no order; "(1,-2)" is a point."""
    return len(answer_parts(gold)) > 1 and clean(gold)[:1] not in ("(", "[")


def _same_set(parts: Sequence[str], golds: Sequence[str]) -> bool:
    return all(any(_matches(part, gold) for part in parts) for gold in golds) and all(
        any(_matches(part, gold) for gold in golds) for part in parts
    )


def _matches(answer: str, gold: str) -> bool:
    key, gold_key = canonical_key(answer), canonical_key(gold)
    if key == gold_key:
        return True
    if _NUMBER_KEY.fullmatch(gold_key):
        value = Fraction(key) if _NUMBER_KEY.fullmatch(key) else described_quantity(clean(answer))
        return value is not None and _close(value, Fraction(gold_key), rounded=bool(_ROUNDED.fullmatch(gold)))
    for named, other in ((answer, gold_key), (gold, key)):  # y = 2x + 3 for 2x + 3
        if (match := _NAMED.fullmatch(clean(named))) and canonical_key(match["value"]) == other:
            return True
    return symbolically_equal(gold, answer)


def _close(value: Fraction, gold: Fraction, rounded: bool) -> bool:
    error, size = abs(value - gold), abs(gold)
    if gold.denominator == 1:
        return error == 0 or (value.denominator != 1 and error <= Fraction(1, 100))
    return error == 0 or (rounded and error <= max(min(Fraction(1, 100), size / 100), size / 1000))
