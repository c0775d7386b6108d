"""A predictor whose joint law is known in closed form: a test bed for searches and scores that needs no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pst_rl.coherence.predictor import Context, Demo, Predictor
from pst_rl.files import json_digest

Counts = tuple[int, ...]


class ConceptMixture(Predictor):
    """A mixture of concepts, each of which labels every item and is obeyed with a Beta-distributed reliability.

        p(labels) = sum_k prior_k  B(a_k + agree_k, b_k + disagree_k) / B(a_k, b_k)  (L - 1)^(- disagree_k)

    with agree_k and disagree_k the numbers of labels that are and are not concept k's, and B the beta function. It is
    exchangeable, so leave-one-out and Gibbs laws follow as ratios of joints, and the order of items does not matter.

    Args:
        concepts: The label that each concept gives each item, (K, n), 0 <= label < L.
        prior: (K,), summing to 1: the salience of the concepts.
        n_labels: L.
        agree: a, pseudo-count of obeying: one for all concepts, or (K,).
        disagree: b, pseudo-count of not obeying, in the same way. a / (a + b) is the mean reliability; large counts
            fix it.

    Raises:
        ValueError: If shapes, labels, prior or counts do not fit.
    """

    def __init__(
        self,
        concepts: Sequence[Sequence[int]],
        prior: Sequence[float],
        *,
        n_labels: int = 2,
        agree: float | Sequence[float] = 8.0,
        disagree: float | Sequence[float] = 1.0,
    ):
        self.concepts = [tuple(row) for row in concepts]  # plain numbers: these sums are too short for tensors
        self.prior = tuple(prior)
        if len(self.concepts) != len(self.prior) or len({len(row) for row in self.concepts}) != 1:
            raise ValueError(
                "A concept mixture needs one row of labels, all of one length, and one prior per concept."
            )
        if n_labels < 2 or not all(0 <= label < n_labels for row in self.concepts for label in row):
            raise ValueError(f"Labels of concepts must lie in 0 .. L - 1 with L >= 2, here L = {n_labels}.")
        if min(self.prior) <= 0 or abs(sum(self.prior) - 1) > 1e-6:
            raise ValueError("The prior over concepts must be positive and sum to 1.")
        self.agree, self.disagree = self._counts(agree), self._counts(disagree)
        self.n_items, self.n_labels = len(self.concepts[0]), n_labels
        self._start = [
            math.log(prior) - _log_beta(a, b)
            for prior, a, b in zip(self.prior, self.agree, self.disagree, strict=True)
        ]

    def identity(self) -> dict[str, Any]:
        concepts = [self.concepts, self.prior, self.agree, self.disagree]
        return super().identity() | {"concepts": json_digest(concepts, 8)}

    def open(self) -> Context:
        return _Counts(self, [(0,) * (len(self.prior) + 1)])

    def _counts(self, given: float | Sequence[float]) -> tuple[float, ...]:
        """A pseudo-count for each concept."""
        counts = (given,) * len(self.prior) if isinstance(given, (int, float)) else tuple(given)
        if len(counts) != len(self.prior) or min(counts) <= 0:
            raise ValueError("The pseudo-counts `agree` and `disagree` must be positive, one in all or per concept.")
        return counts

    def log_joint(self, demos: Sequence[Demo]) -> float:
        """log p of these labels, in nats."""
        return self.log_mass(self.counted((0,) * (len(self.prior) + 1), demos))

    def counted(self, counts: Counts, demos: Sequence[Demo]) -> Counts:
        """Counts after further demonstrations: how many labels obey each of the K concepts, and how many there are."""
        agree = (n + sum(c[i] == label for i, label in demos) for n, c in zip(counts, self.concepts, strict=False))
        return (*agree, counts[-1] + len(demos))

    def log_mass(self, counts: Counts) -> float:
        """log p of labels with these counts, in nats."""
        *agree, read = counts
        other = math.log(self.n_labels - 1)  # a label that does not obey is any of the others
        terms = [
            start + _log_beta(a + n, b + read - n) - (read - n) * other
            for start, a, b, n in zip(self._start, self.agree, self.disagree, agree, strict=True)
        ]
        most = max(terms)
        return most + math.log(sum(math.exp(term - most) for term in terms))

    def law(self, counts: Counts, item: int) -> list[float]:
        """log p(label | item, counts) for every label."""
        base = self.log_mass(counts)
        return [self.log_mass(self.counted(counts, [(item, label)])) - base for label in range(self.n_labels)]


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


class _Counts(Context):
    predictor: ConceptMixture

    def __init__(self, predictor: ConceptMixture, counts: Sequence[Counts]):
        self.predictor, self.counts, self.rows = predictor, list(counts), len(counts)

    @contextmanager
    def _extended(self, demos, parents):
        self.predictor.tokens += sum(map(len, demos))
        pairs = zip(parents, demos, strict=True)
        yield _Counts(self.predictor, [self.predictor.counted(self.counts[p], more) for p, more in pairs])

    def _score(self, items):
        laws = [self.predictor.law(row, i) for row, asked in zip(self.counts, items, strict=True) for i in asked]
        return self._tensor(laws)

    def _chain(self, demos):
        (counts,) = self.counts
        laws = []
        for demo in demos:
            laws.append(self.predictor.law(counts, demo[0]))
            counts = self.predictor.counted(counts, [demo])
        return self._tensor(laws)

    def _tensor(self, laws: list[list[float]]) -> torch.Tensor:
        self.predictor.tokens += len(laws)
        return torch.tensor(laws, dtype=torch.float32).view(-1, self.predictor.n_labels)
