"""Iterative bootstrap: one half of the labels relabels the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search.base import Searcher, check, halves
from pst_rl.coherence.search.run import Run


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Searcher):
    """Relabels a random half of the blocks given demonstrations from the other half, then the other way round.

        labels of block B = argmax over its consistent labels of  sum_{i in B} log p(l_i | x_i, demonstrations)

    All items of a half share one context and are read in one batch: a step reads about n + 2 `context_size` units,
    fewer than any other search. In terms of coherence optimisation (arXiv 2601.13566) this is block Gibbs at
    temperature 0. The division, the balance and the projection are our choice.

    Attributes:
        rounds: Number of steps; each relabels every block once.
        context_size: Demonstrations at most; clamped items are shown even beyond it.
        balanced: At most `context_size` / L demonstrations (at least one) per label value, as far as they exist:
            without it a label that most items have is what the context predicts for the rest.
    """

    name: ClassVar[str] = "bootstrap"

    rounds: int = 8
    context_size: int = 64
    balanced: bool = True

    def __post_init__(self):
        super().__post_init__()
        for option in ("rounds", "context_size"):
            check(getattr(self, option) >= 1, option, "at least 1", getattr(self, option))

    def _steps(self, problem: Problem) -> int:
        return self.rounds

    def _step(self, run: Run, step: int) -> None:
        for blocks, others in halves(run.problem.blocks, run.rng):
            shown = run.demonstrations(others, self.context_size, self.balanced)
            run.take(run.relabelled(shown, blocks), step)
