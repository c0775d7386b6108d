"""A predictor whose joint law is known in closed form: a test bed for searches and scores that needs no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager

import torch

from pst_rl.coherence.predictor import Context, Demo, Predictor


class ConceptMixture(Predictor):
    """A mixture of concepts, each of which labels every item and is obeyed with a Beta-distributed reliability.

        p(labels) = sum_k prior_k  B(a + agree_k, b + disagree_k) / B(a, b)  (L - 1)^(- disagree_k)

    with agree_k and disagree_k the numbers of labels that are and are not concept k's, and B the beta function. It is
    exchangeable, so leave-one-out and Gibbs laws follow as ratios of joints, and the order of items does not matter.

    Args:
        concepts: The label that each concept gives each item, (K, n), 0 <= label < L.
        prior: (K,), summing to 1: the salience of the concepts.
        n_labels: L.
        agree: a, pseudo-count of obeying.
        disagree: b, pseudo-count of not obeying.

    Raises:
        ValueError: If shapes, labels, prior or counts do not fit.
    """

    def __init__(
        self,
        concepts: Sequence[Sequence[int]],
        prior: Sequence[float],
        *,
        n_labels: int = 2,
        agree: float = 8.0,
        disagree: float = 1.0,
    ):
        self.concepts = torch.tensor(concepts, dtype=torch.long)  # (K, n)
        self.prior = torch.tensor(prior, dtype=torch.float64)  # (K,)
        if self.concepts.ndim != 2 or len(self.concepts) != len(self.prior):
            raise ValueError("A concept mixture needs one row of labels and one prior per concept.")
        if n_labels < 2 or not ((self.concepts >= 0) & (self.concepts < n_labels)).all():
            raise ValueError(f"Labels of concepts must lie in 0 .. L - 1 with L >= 2, here L = {n_labels}.")
        if (self.prior <= 0).any() or abs(float(self.prior.sum()) - 1) > 1e-6:
            raise ValueError("The prior over concepts must be positive and sum to 1.")
        if min(agree, disagree) <= 0:
            raise ValueError("The pseudo-counts `agree` and `disagree` must be positive.")
        self.n_items, self.n_labels = self.concepts.shape[1], n_labels
        self.agree, self.disagree = agree, disagree

    def open(self) -> Context:
        return _Counts(self, [()])

    def log_joint(self, demos: Sequence[Demo]) -> float:
        """log p of these labels, in nats."""
        items, labels = [i for i, _ in demos], torch.tensor([label for _, label in demos])
        agree = (self.concepts[:, items] == labels).sum(1).double() if demos else torch.zeros(len(self.prior))
        disagree = len(demos) - agree
        a, b = torch.tensor(self.agree).double(), torch.tensor(self.disagree).double()
        beta = lambda x, y: torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)  # noqa: E731
        by_concept = beta(a + agree, b + disagree) - beta(a, b) - disagree * math.log(max(1, self.n_labels - 1))
        return float(torch.logsumexp(self.prior.log() + by_concept, 0))


class _Counts(Context):
    def __init__(self, predictor: ConceptMixture, histories: Sequence[tuple[Demo, ...]]):
        self.predictor, self.histories, self.rows = predictor, list(histories), len(histories)

    @contextmanager
    def _extended(self, demos, parents):
        self.predictor.tokens += sum(map(len, demos))
        yield _Counts(
            self.predictor, [self.histories[p] + tuple(more) for p, more in zip(parents, demos, strict=True)]
        )

    def _score(self, items):
        self.predictor.tokens += sum(map(len, items))
        rows = [(history, item) for history, asked in zip(self.histories, items, strict=True) for item in asked]
        return torch.stack([self._law(*row) for row in rows]) if rows else torch.zeros(0, self.predictor.n_labels)

    def _chain(self, demos):
        (history,) = self.histories
        self.predictor.tokens += len(demos)
        rows = [self._law(history + tuple(demos[:k]), item) for k, (item, _) in enumerate(demos)]
        return torch.stack(rows) if rows else torch.zeros(0, self.predictor.n_labels)

    def _law(self, history: tuple[Demo, ...], item: int) -> torch.Tensor:
        joint = [self.predictor.log_joint((*history, (item, label))) for label in range(self.predictor.n_labels)]
        return torch.log_softmax(torch.tensor(joint, dtype=torch.float64), 0).float()
