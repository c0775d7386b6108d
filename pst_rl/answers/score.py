"""Score a response against gold: the only place with a numeric tolerance."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Real
from typing import Literal

from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.extract import Answer, Style, answer_parts, find_answer
from pst_rl.answers.labels import MATRIX, named_value, strip_label
from pst_rl.answers.latex import clean, enclosed, split_list, unboxed
from pst_rl.answers.quantity import described_quantity, remarked_quantity
from pst_rl.answers.symbolic import symbolically_equal
from pst_rl.answers.tolerance import is_close
from pst_rl.answers.tuples import real_value

Gold = str | Real
Metric = Literal["whole", "first", "set", "letter"]

_MAX_ANSWER = 2_000  # characters
_MAX_PARTS = 40  # longer lists are compared without tolerance
_MAX_DEPTH = 3  # lists within lists
_NAMED = re.compile(r"[A-Za-z](?:\([a-z]\))?\s*=(?P<value>[^=]+)")  # y = 2x + 3, f(x) = 2x
_NAMING = re.compile(r"(?P<name>[^0-9=+*/^<>-]{1,60})=(?P<value>[^=<>]+)")  # \tan A = 2
_COMMA = re.compile(r"(-?[0-9]{1,15}),([0-9]{1,15})")
_BASE = re.compile(r"([0-9A-F]+)_[0-9]+")
_RATIO = re.compile(r"([0-9]{1,30}):([0-9]{0,29}[1-9])")
_LETTER = re.compile(r"[A-Za-z]")


def is_correct(
    response: str | Answer,
    gold: Gold | Sequence[Gold],
    *,
    metric: Metric = "whole",
    style: Style = "auto",
) -> bool:
    r"""Whether the final answer of `response` is right.

    Two integers or two fractions must be equal; decimals may be roundings (`pst_rl.answers.tolerance`). Where the gold
    has an order (a tuple, an interval, named values) the answer must have it too; a bare list or a set has none.

    Args:
        response: a response, or the `Answer` already found in it.
        gold: the gold answer, or the list of all solutions. A GSM8K gold may be the whole solution ("... #### 18").
        metric: what is asked for, which is the benchmark's to say. "whole": the answer is the gold and nothing else,
            or all of a list of golds in their order. "first": the first quantity stated must match the gold (the first
            of a list of golds); SimulEq's. "set": all golds and nothing else, in any order. "letter": a choice.
        style: where to look (see `find_answer`): "hash" is GSM8K's strict match, "number" its flexible one.

    >>> is_correct(r"\boxed{4, -4}", "4"), is_correct(r"\boxed{4, -4}", "4", metric="first")
    (False, True)
    >>> is_correct("Thus 7.03125 miles.", 7.03)
    True
    >>> is_correct(r"\boxed{(2, 1)}", "(1, 2)"), is_correct(r"\boxed{2, 1}", "1, 2")
    (False, True)
    >>> is_correct(r"\boxed{4, 5}", [5, 4]), is_correct(r"\boxed{4, 5}", [5, 4], metric="set")
    (False, True)

    Raises:
        ValueError: unknown metric or style, or an empty list of golds.
    """
    if metric not in _METRICS:
        raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join(_METRICS)}")
    golds = [_gold_text(item) for item in ([gold] if isinstance(gold, str | Real) else gold)]
    if not golds:
        raise ValueError("no gold answer: give a string, a number or a non-empty list of solutions")
    answer = response if isinstance(response, Answer) else find_answer(response, style)
    return answer is not None and _METRICS[metric](unboxed(answer.text[:_MAX_ANSWER]), golds)


def _gold_text(gold: Gold) -> str:
    if not isinstance(gold, str):
        return str(gold)
    found = find_answer(gold, "hash") if "####" in gold else find_answer(gold, "boxed")
    return (found.text if found else gold.strip())[:_MAX_ANSWER]


# ---- what a benchmark asks for ----


def _is_whole(text: str, golds: Sequence[str]) -> bool:
    return _matches(text, golds[0] if len(golds) == 1 else ", ".join(golds), ordered=len(golds) > 1)


def _is_first(text: str, golds: Sequence[str]) -> bool:
    if _matches(text, golds[0], described_quantity):
        return True
    parts = answer_parts(text)
    if len(golds) == 1 and len(answer_parts(golds[0])) > 1 and clean(golds[0])[:1] not in ("(", "["):
        return _same_parts(parts, answer_parts(golds[0]), described_quantity)
    return bool(parts) and _matches(parts[0], golds[0], described_quantity)


def _is_set(text: str, golds: Sequence[str]) -> bool:
    if len(golds) == 1 and _matches(text, golds[0], described_quantity):
        return True
    return _same_parts(answer_parts(text), [part for gold in golds for part in answer_parts(gold)], described_quantity)


def _is_letter(text: str, golds: Sequence[str]) -> bool:
    letters = [
        canonical_key(item).upper() if len(clean(item)) > 1 else clean(item).upper() for item in (text, golds[0])
    ]
    return letters[0] == letters[1] and bool(letters[0])


_METRICS: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "whole": _is_whole,
    "first": _is_first,
    "set": _is_set,
    "letter": _is_letter,
}


# ---- one answer against one gold ----

Reader = Callable[[str], Fraction | None]


def _matches(
    answer: str, gold: str, read: Reader = remarked_quantity, *, ordered: bool = False, depth: int = 0
) -> bool:
    """Whether an answer is the gold; `read` values a number in words, `ordered` keeps the order of a bare list."""
    gold_key = canonical_key(gold)
    if any(_is_same(form, canonical_key(form), gold, gold_key, read) for form in _readings(answer)):
        return True
    if depth < _MAX_DEPTH and (parts := _parts(gold)) is not None:
        return any(_same_list(form, gold, parts, read, ordered, depth) for form in _readings(answer))
    return depth == 0 and symbolically_equal(gold, answer)


def _readings(answer: str) -> list[str]:
    """An answer, and what else it may say: the rounded value after the exact one; "1,22" as a list and a decimal."""
    forms = [answer]
    if r"\approx" in answer or "≈" in answer:
        forms.append(re.split(r"\\approx|≈", answer)[-1])
    if comma := _COMMA.fullmatch(clean(answer) if len(answer) < 60 else ""):
        forms += [f"{comma[1]}.{comma[2]}", f"{comma[1]}, {comma[2]}"]
    return forms


def _is_same(answer: str, key: str, gold: str, gold_key: str, read: Reader) -> bool:
    if key == gold_key:
        return True
    right = real_value(gold_key)
    if right is not None:
        value = real_value(key)
        if value is None:
            value = read(clean(answer))
        if value is not None:
            exact = not (key.startswith("~") or gold_key.startswith("~"))
            texts = (strip_label(clean(text)) for text in (answer, gold))
            return is_close(next(texts), value, next(texts), right, exact=exact)
        if (naming := _NAMING.fullmatch(clean(answer))) and not named_value(answer):
            return canonical_key(naming["value"]) == gold_key
    return _is_same_notation(key, gold_key) or _is_same_function(answer, key, gold, gold_key)


def _is_same_notation(key: str, gold_key: str) -> bool:
    """2516 for 2516_8 (the base is the question's), 2/3 for 2:3 and 3:2 for 3/2, "b" for "B"."""
    if base := _BASE.fullmatch(gold_key):
        return key == base[1]
    for one, other in ((key, gold_key), (gold_key, key)):
        if (ratio := _RATIO.fullmatch(one)) and real_value(other) == Fraction(int(ratio[1]), int(ratio[2])):
            return True
    return False


def _is_same_function(answer: str, key: str, gold: str, gold_key: str) -> bool:
    """y = 2x + 3 for 2x + 3, and the other way round; "b" for "B"."""
    for named, other in ((answer, gold_key), (gold, key)):
        if (match := _NAMED.fullmatch(clean(named))) and canonical_key(match["value"]) == other:
            return True
    return (
        len(gold_key) == 1 and bool(_LETTER.fullmatch(gold_key)) and clean(answer).strip("{}() ").upper() == gold_key
    )


# ---- lists ----


def _parts(text: str) -> tuple[str, list[str]] | None:
    r"""The brackets and the parts of a list, tuple, interval or set; None for anything else.

    >>> _parts("(1, 2]"), _parts("1, 2"), _parts(r"\{1, 2\}"), _parts("x")
    (('(]', ['1', '2']), ('', ['1', '2']), ('{}', ['1', '2']), None)
    """
    cleaned = clean(text)
    if (matrix := MATRIX.fullmatch(strip_label(cleaned))) and "&" not in matrix[2]:  # a column vector
        return "||", [row.strip() for row in matrix[2].split(r"\\") if row.strip()]
    group = enclosed(strip_label(cleaned) if not named_list(cleaned) else cleaned)
    parts = split_list(group[1] if group else cleaned)
    if len(parts) < 2 and not (group and parts and group[0] != "("):
        return None
    return (group[0][-1] + group[2][-1] if group else ""), parts


def named_list(text: str) -> list[tuple[str, str]] | None:
    """The names and values of "x = 3, y = 4", each name once; None for anything else."""
    named = [named_value(part) for part in split_list(text)]
    found = [pair for pair in named if pair]
    return found if len(found) == len(named) > 1 and len({name for name, _ in found}) == len(found) else None


def _same_list(
    answer: str, gold: str, gold_parts: tuple[str, list[str]], read: Reader, ordered: bool, depth: int
) -> bool:
    """Whether the parts of an answer match those of a gold list, in its order if it has one."""
    brackets, golds = gold_parts
    named, gold_named = named_list(clean(answer)), named_list(clean(gold))
    if named and gold_named:
        values, golds = dict(named), dict(gold_named)
        if values.keys() == golds.keys():
            return all(_matches(values[name], golds[name], read, depth=depth + 1) for name in values)
        return False
    if names := named or gold_named:
        by_name = [value for _, value in sorted(names)]
        stated = [value for _, value in names]
        other = [strip_label(part) for part in (golds if named else (_parts(answer) or ("", []))[1])]
        pairs = ((form, other) if named else (other, form) for form in (by_name, stated))
        return any(_same_order(ours, theirs, read, depth) for ours, theirs in pairs)
    found = _parts(answer)
    if found is None:
        return False
    own, parts = found
    if brackets in ("", "{}") and not ordered:
        return _same_parts(parts, golds, read, depth)
    if own == "{}" and brackets == "[]" and not _is_interval(golds):
        return _same_parts(parts, golds, read, depth)  # a set for a list that somebody wrote down
    if own and own != brackets and "||" not in (own, brackets) and not (ordered and brackets == ""):
        return False
    return _same_order(parts, golds, read, depth)


def _is_interval(ends: Sequence[str]) -> bool:
    """Whether parts in square brackets may be the ends of an interval: two, the second not below the first."""
    low, high = (real_value(canonical_key(end)) for end in ends) if len(ends) == 2 else (Fraction(1), Fraction(0))
    return low is None or high is None or low <= high


def _same_order(parts: Sequence[str], golds: Sequence[str], read: Reader, depth: int) -> bool:
    return len(parts) == len(golds) and all(
        _matches(strip_label(part), strip_label(gold), read, depth=depth + 1)
        for part, gold in zip(parts, golds, strict=True)
    )


def _same_parts(parts: Sequence[str], golds: Sequence[str], read: Reader, depth: int = 0) -> bool:
    """Whether each part matches a gold and each gold a part, in any order."""
    if not parts or max(len(parts), len(golds)) > _MAX_PARTS:
        return sorted(map(canonical_key, parts)) == sorted(map(canonical_key, golds))
    matched = [[_matches(part, gold, read, depth=depth + 1) for gold in golds] for part in parts]
    return all(map(any, matched)) and all(map(any, zip(*matched, strict=True)))
