"""How many labels are right. This is all that gold labels are read for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from pst_rl.coherence.labelling import Labelling
from pst_rl.measure import Interval, paired_bootstrap


@dataclass(frozen=True)
class Accuracy:
    """The share of right labels among the items whose gold label is known and was not given away.

    Attributes:
        right: Whether the label is right, for each of these items.
        recalls: For each gold label that occurs among them, the share of its items that have it.
    """

    right: tuple[bool, ...]
    recalls: tuple[float, ...]

    @property
    def share(self) -> float:
        return fmean(self.right)

    @property
    def balanced(self) -> float:
        """The mean recall: 1 / L for labels that are all the same, however unequal the classes are."""
        return fmean(self.recalls)

    @property
    def interval(self) -> Interval:
        """The share with its 95 % bootstrap interval over items (see `pst_rl.measure.paired_bootstrap`).

        Items of one group are not independent, which this leaves out: with large groups it is too narrow.
        """
        return paired_bootstrap([False] * len(self.right), self.right)

    def over(self, other: Accuracy) -> Interval:
        """The gain over another labelling of the same items, as a share, with its interval."""
        return paired_bootstrap(other.right, self.right)


def accuracy(labelling: Labelling, gold: Sequence[int | None], clamped: Collection[int] = ()) -> Accuracy | None:
    """The accuracy of a labelling; `None` if no gold label is known but the clamped ones.

    Args:
        gold: `Claims.gold`.
        clamped: Items to leave out: `Claims.problem.clamped`.
    """
    asked = [(label, g) for i, (label, g) in enumerate(zip(labelling.labels, gold, strict=True)) if i not in clamped]
    pairs = [(label, g) for label, g in asked if g is not None]
    if not pairs:
        return None
    recalls = [fmean(label == g for label, g in pairs if g == value) for value in sorted({g for _, g in pairs})]
    return Accuracy(tuple(label == g for label, g in pairs), tuple(recalls))
