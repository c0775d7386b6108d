"""Groups of claims: how they are named, and the rules that hold within them.

| rule | labels of a group |
|---|---|
| `one_answer` | equal answers have equal labels, different ones are not both true |
| `at_most_one`, `exactly_one` | so many are true |
| `all_equal` | all the same |
| `antisymmetric` | the two of a pair differ |

A group of one has no rule. Source: the rules are ICM's (arXiv 2506.10139), but for `exactly_one`. That groups are the
question's by default, and how claims are normalised, is our choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Literal

from pst_rl.coherence.constraints import AllEqual, Antisymmetric, AtMostOne, Constraint, ExactlyOne, OneAnswer

GroupRule = Literal["one_answer", "at_most_one", "exactly_one", "all_equal", "antisymmetric"]
RULES = ("one_answer", "at_most_one", "exactly_one", "all_equal", "antisymmetric")

INPUTS_ONLY = (
    "prompts, groups and rules are computed from inputs only, or gold would leak into the labels that are to be found "
    "without it."
)


class InputRow(Mapping):
    """A row without its label columns; asking for one of those is refused, with the reason."""

    def __init__(self, row: Mapping[str, Any], apart: Collection[str]):
        self._row, self._apart = row, apart

    def __getitem__(self, column: str) -> Any:
        if column in self._apart:
            raise ValueError(
                f"The key function asked for {column!r}, which may hold gold labels, and is refused: {INPUTS_ONLY}"
            )
        return self._row[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def whole_groups(groups: Sequence[str], limit: int, seed: int) -> list[int]:
    """The items, at most `limit`, of groups drawn by `seed` until no other fits; in their order.

    Raises:
        ValueError: If no group is small enough.
    """
    sizes = Counter(groups)
    order, room, kept = list(sizes), limit, set()
    Random(seed).shuffle(order)
    for group in order:
        if sizes[group] <= room:
            room -= sizes[group]
            kept.add(group)
    if not kept:
        raise ValueError(f"limit={limit} leaves no whole group: the smallest has {min(sizes.values())} rows.")
    return [i for i, group in enumerate(groups) if group in kept]


def constraints_of_groups(
    rule: GroupRule, groups: Sequence[str], answers: Sequence[str | None], true: int | None
) -> dict[str, Constraint]:
    """A constraint for every group of two or more, by the group's name.

    Args:
        groups: The group of every item.
        answers: What `one_answer` compares; items without an answer are left out of that rule.
        true: The label that says that a claim holds.

    Raises:
        ValueError: A rule about true claims where no label says so, no answers for `one_answer`, or an antisymmetric
            group of more than two.
    """
    if true is None and rule in ("one_answer", "at_most_one", "exactly_one"):
        raise ValueError(f"The rule {rule!r} needs a label that says that a claim holds: set true_label.")
    if rule == "one_answer" and all(answer is None for answer in answers):
        raise ValueError("The rule 'one_answer' compares claims, and has none: set claim_column or answer_column.")
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        if rule != "one_answer" or answers[i] is not None:
            members.setdefault(group, []).append(i)
    value = -1 if true is None else true  # of a rule that asks for none
    found: dict[str, Constraint] = {}
    for group, items in members.items():
        if len(items) < 2:
            continue
        if rule == "antisymmetric" and len(items) != 2:
            raise ValueError(f"The group {group!r} has {len(items)} rows, but an antisymmetric pair has two.")
        found[group] = _constraint(rule, tuple(items), answers, value)
    return found


def refuse_contradictions(
    constraints: Mapping[str, Constraint], clamped: Mapping[int, int], n_items: int, names: Sequence[str]
) -> None:
    """Raises a ValueError that names the first group whose clamped labels contradict its rule."""
    labels = [clamped.get(i) for i in range(n_items)]
    for group, constraint in constraints.items():
        if constraint.violations(labels):
            shown = {i: names[clamped[i]] for i in constraint.items if i in clamped}
            raise ValueError(
                f"The clamped labels of the group {group!r} contradict its rule: {shown} by item. Clamp fewer, "
                "correct them, or choose another group_rule."
            )


def _constraint(rule: GroupRule, items: tuple[int, ...], answers: Sequence[str | None], true: int) -> Constraint:
    match rule:
        case "one_answer":
            return OneAnswer(items, answers=tuple(answers[i] for i in items), value=true)
        case "at_most_one":
            return AtMostOne(items, true)
        case "exactly_one":
            return ExactlyOne(items, true)
        case "all_equal":
            return AllEqual(items)
        case _:
            return Antisymmetric(items)
