"""Several predictors as one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from pst_rl.coherence.predictor import Context, Predictor


class Ensemble(Predictor):
    """The mean log-probability of several predictors of the same items, renormalised: a product of experts.

        log p(l | x, demonstrations) = log_softmax over l of  mean over j of log p_j(l | x, demonstrations)

    A demonstration is read by every member: `units` counts it once, `tokens` for each.

    Raises:
        ValueError: No predictors, or predictors of different numbers of items or labels.
    """

    def __init__(self, members: Sequence[Predictor]):
        shapes = {(member.n_items, member.n_labels) for member in members}
        if len(shapes) != 1:
            raise ValueError(f"An ensemble needs predictors of the same items and labels, got {sorted(shapes)}.")
        self.members = tuple(members)
        ((self.n_items, self.n_labels),) = shapes

    @property
    def tokens(self) -> int:  # type: ignore[override]  # the members count; it has no count of its own to write to
        """Tokens that all members have read."""
        return sum(member.tokens for member in self.members)

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"members": [member.identity() for member in self.members]}

    def open(self) -> Context:
        return _Together(self, [member.open() for member in self.members])


class _Together(Context):
    predictor: Ensemble

    def __init__(self, predictor: Ensemble, contexts: Sequence[Context]):
        self.predictor, self.contexts, self.rows = predictor, list(contexts), contexts[0].rows

    @contextmanager
    def _extended(self, demos, parents):
        with ExitStack() as stack:
            deeper = [stack.enter_context(context._extended(demos, parents)) for context in self.contexts]
            yield _Together(self.predictor, deeper)

    def _score(self, items):
        return self._mean([context._score(items) for context in self.contexts])

    def _chain(self, demos):
        return self._mean([context._chain(demos) for context in self.contexts])

    def _mean(self, scores: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(scores).mean(0).log_softmax(-1)
