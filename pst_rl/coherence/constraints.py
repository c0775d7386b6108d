"""Which labels of related items can hold together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from pst_rl.files import json_digest


@dataclass(frozen=True)
class Constraint(ABC):
    """A rule over the labels of a few items. A subclass says which *pairs* of labels it allows.

    Attributes:
        items: The items, by index, at least two.
    """

    items: tuple[int, ...]

    def __post_init__(self):
        if len(self.items) < 2 or len(set(self.items)) < len(self.items):
            raise ValueError(f"A constraint needs at least two different items, got {list(self.items)}.")

    @abstractmethod
    def allows(self, p: int, a: int, q: int, b: int) -> bool:
        """Whether the items at positions p < q of `items` may be labelled a and b."""

    def allows_all(self, labels: Sequence[int]) -> bool:
        """Whether the labels of *all* items, pairwise allowed, are allowed together. Most rules need nothing here."""
        return True

    def description(self, n_labels: int) -> str:
        """Its kind and fields, and a digest of the pairs of labels that it allows, which tells apart what a function
        decides; the same in every process."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items() if not callable(value))
        places, labels = range(len(self.items)), range(n_labels)
        allowed = [self.allows(p, a, q, b) for q in places for p in range(q) for a in labels for b in labels]
        return f"{type(self).__name__}({shown}) {json_digest(allowed, 8)}"

    def violations(self, labels: Sequence[int | None]) -> list[tuple[int, int]]:
        """The pairs of items whose labels cannot both hold; `labels` are those of all items of the problem.

        Items without a label violate nothing. Labels that are wrong only all together count as one pair, the first.
        """
        own = [(place, label) for place, item in enumerate(self.items) if (label := labels[item]) is not None]
        pairs = [
            (self.items[p], self.items[q])
            for k, (p, a) in enumerate(own)
            for q, b in own[k + 1 :]
            if not self.allows(p, a, q, b)
        ]
        if not pairs and len(own) == len(self.items) and not self.allows_all([label for _, label in own]):
            return [(self.items[0], self.items[1])]
        return pairs


@dataclass(frozen=True)
class AtMostOne(Constraint):
    """At most one item has the label `value`: rival claims, of which several may be false."""

    value: int = 1

    def allows(self, p, a, q, b):
        return not a == b == self.value


@dataclass(frozen=True)
class ExactlyOne(AtMostOne):
    """Exactly one item has the label `value`: the choices of a multiple-choice question."""

    def allows_all(self, labels):
        return self.value in labels


@dataclass(frozen=True)
class AllEqual(Constraint):
    """All items have the same label: restatements of one claim."""

    def allows(self, p, a, q, b):
        return a == b


@dataclass(frozen=True)
class Antisymmetric(Constraint):
    """Two items have different labels: "A is better than B" and "B is better than A"."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.items) != 2:
            raise ValueError(f"An antisymmetric pair has two items, got {list(self.items)}.")

    def allows(self, p, a, q, b):
        return a != b


@dataclass(frozen=True)
class OneAnswer(Constraint):
    """Items propose answers to one question: equal answers have equal labels, different ones are not both true.

    Attributes:
        answers: The answer that each item proposes, in the order of `items`; compared with ==.
        value: The label that says "true".
    """

    answers: tuple = ()
    value: int = 1

    def __post_init__(self):
        super().__post_init__()
        if len(self.answers) != len(self.items):
            raise ValueError(f"{len(self.items)} items need as many answers, got {len(self.answers)}.")

    def allows(self, p, a, q, b):
        return a == b if self.answers[p] == self.answers[q] else not a == b == self.value


@dataclass(frozen=True)
class Pairwise(Constraint):
    """A rule of the user's own: `rule(label, other_label)` says which labels of any two items may stand together."""

    rule: Callable[[int, int], bool] = lambda a, b: True

    def allows(self, p, a, q, b):
        return bool(self.rule(a, b))
