"""U(D) of ICM: how well labels predict each other, less how often they contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import Labels, coherence, leave_one_out, score_given


@dataclass(frozen=True)
class Labelled:
    """A set D of labelled items.

    Attributes:
        labels: Of all items; `None` outside D.
        value: P(D), or log p(D): what the utility is computed from, in nats.
    """

    labels: tuple[int | None, ...]
    value: float


class Utility:
    """U(D) = alpha P(D) - I(D), for one step of a search: it remembers every score that it computed.

    I(D) is the number of pairs of items whose labels contradict each other, each counted once (the paper writes a
    double sum over items).

    Args:
        order: All items, in the order in which they are shown: U is a function of D only if it stays.
        alpha: Contradictions that one nat is worth.
        reduction: "sum" over D, or "mean".
        score: Of an item's label: "logprob", log p; "logodds", log p / (1 - p).
        delta: "exact": P(D) = sum_{i in D} score(y_i | x_i, D without i), n (log2 n + 1) units for each D.
            "conditional": the joint log p(D) in place of P(D); it changes by log p(new) - log p(old) of the item that
            changes, given all others: at most n units for each item that changes.
    """

    def __init__(
        self,
        predictor: Predictor,
        problem: Problem,
        order: Sequence[int],
        *,
        alpha: float,
        reduction: Literal["sum", "mean"],
        score: Literal["logprob", "logodds"],
        delta: Literal["exact", "conditional"],
    ):
        self.predictor, self.problem, self.order = predictor, problem, order
        self.alpha, self.reduction, self.score, self.delta = alpha, reduction, score, delta
        self._values: dict[tuple, float] = {}
        self._predictions: dict[tuple, list[float]] = {}

    def measured(self, labels: Labels) -> Labelled:
        """D with its value, from nothing."""
        labels = tuple(labels)
        if self.delta == "exact":
            return Labelled(labels, self._mutual(labels))
        return Labelled(labels, coherence(self.predictor, labels, [self.order]).nats)

    def moved(self, before: Labelled, labels: Labels) -> Labelled:
        """D with its value, where D differs from `before` in a few items, which all have a label now."""
        if self.delta == "exact":
            return self.measured(labels)
        now, value = list(before.labels), before.value
        for item, label in enumerate(labels):
            old = now[item]
            if label is not None and label != old:
                row = self.predicted(item, now)
                value += row[label] - (0.0 if old is None else row[old])
                now[item] = label
        return Labelled(tuple(now), value)

    def __call__(self, found: Labelled) -> float:
        """U(D)."""
        count = sum(label is not None for label in found.labels)
        value = found.value / max(1, count) if self.reduction == "mean" else found.value
        return self.alpha * value - len(self.problem.violations(found.labels))

    def predicted(self, item: int, labels: Labels) -> list[float]:
        """log p(l | x_item, D without item) of every label l, in nats."""
        key = item, tuple(label for other, label in enumerate(labels) if other != item)
        if key not in self._predictions:
            shown = [other for other in self.order if other != item]
            self._predictions[key] = score_given(self.predictor, labels, shown, [item])[0].tolist()
        return self._predictions[key]

    def _mutual(self, labels: tuple[int | None, ...]) -> float:
        """P(D)."""
        if labels not in self._values:
            items = [item for item in self.order if labels[item] is not None]
            self._values[labels] = 0.0
            if items:
                rows = leave_one_out(self.predictor, labels, [[item] for item in items])[items].double()
                own = torch.tensor([labels[item] for item in items])[:, None]
                found = rows.gather(1, own)[:, 0]
                if self.score == "logodds":
                    found = found - rows.scatter(1, own, float("-inf")).logsumexp(1)
                self._values[labels] = float(found.sum())
        return self._values[labels]
