"""What a search returns: labels for all items, with how sure they are and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Labelling:
    """Labels of all n items of a problem.

    Attributes:
        labels: One label per item.
        probabilities: p(l | x_i, all labels outside i's group) for every item and each of the L label values, (n, L);
            of clamped items too. With two labels, `row[1]` is P(true).
        changed_at: The step at which each item took its label: 0 for the start and for clamped items, one more than
            the last step for items that the search left open and that were filled in at its end.
        coherence: Chain-rule coherence of the labels, in nats; over the same orders in every search of n items.
        violations: Pairs of items whose labels cannot both hold.
        units: Demonstrations and targets read.
        tokens: Tokens read.
        seed: The search's seed.
        method: The searcher's name.
    """

    labels: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    changed_at: tuple[int, ...]
    coherence: float
    violations: int
    units: int
    tokens: int
    seed: int
    method: str

    @property
    def confidences(self) -> tuple[float, ...]:
        """The probability of each item's own label."""
        return tuple(row[label] for row, label in zip(self.probabilities, self.labels, strict=True))


def agreement(labellings: Sequence[Labelling]) -> tuple[float, ...]:
    """For every item the share of labellings (of several seeds, say) that give it its most common label.

    Raises:
        ValueError: No labellings, or labellings of different numbers of items.
    """
    sizes = {len(labelling.labels) for labelling in labellings}
    if len(sizes) != 1:
        raise ValueError(f"Agreement needs labellings of the same items, got {sorted(sizes)} items.")
    columns = zip(*(labelling.labels for labelling in labellings), strict=True)
    return tuple(max(Counter(column).values()) / len(labellings) for column in columns)
