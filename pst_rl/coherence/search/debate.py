"""Debate: the claims of one block are restated in turn, each given the others, until a verdict fits them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch

from pst_rl.coherence.predictor import Context
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import Blocks, demos_of
from pst_rl.coherence.search.base import Searcher, check, halves
from pst_rl.coherence.search.choose import draw
from pst_rl.coherence.search.run import Run

_ROWS = 16  # blocks that are read side by side


@dataclass(frozen=True, kw_only=True)
class Debate(Searcher):
    """Coherence optimisation over each small set of items: a block, the claims on one question.

    A step is one round of every block. Its items speak in random order: each states the label with the largest
    p(l | x_i, the block's other labels as they stand, shared context), whether or not it fits the constraints.
    The verdict is then the block's consistent labels with the largest summed log-probability of those statements'
    scores, and the next round starts from it. With a temperature, statements and verdict are draws.

    An item alone in its block hears only the shared context. arXiv 2601.13566 names debate as Gibbs over a small set;
    turns, verdict and context are our choice.

    Attributes:
        rounds: Number of steps.
        temperature: 0 takes the most probable labels.
        context_size: Labelled items of other blocks that are shown to all, balanced over label values; blocks are
            then split at random into halves that show each other. Clamped items are always shown.
    """

    name: ClassVar[str] = "debate"

    rounds: int = 2
    temperature: float = 0.0
    context_size: int = 0

    def __post_init__(self):
        super().__post_init__()
        check(self.rounds >= 1, "rounds", "at least 1", self.rounds)
        check(0 <= self.temperature < float("inf"), "temperature", "a number from 0", self.temperature)
        check(self.context_size >= 0, "context_size", "at least 0", self.context_size)

    def _steps(self, problem: Problem) -> int:
        return self.rounds

    def _step(self, run: Run, step: int) -> None:
        everything: list[tuple[Blocks, Blocks]] = [(run.problem.blocks, [])]
        for blocks, others in halves(run.problem.blocks, run.rng) if self.context_size else everything:
            labels = list(run.state.labels)
            shown = demos_of([run.demonstrations(others, self.context_size)], labels)
            blocks = [block for block in blocks if any(i not in run.problem.clamped for i in block)]
            with run.predictor.open().extended([shown]) as shared:
                for first in range(0, len(blocks), _ROWS):
                    self._round(run, shared, blocks[first : first + _ROWS], labels)
            run.take(labels, step)

    def _round(self, run: Run, shared: Context, blocks: Sequence[Sequence[int]], labels: list[int | None]) -> None:
        """Statements and verdict of some blocks, side by side; `labels` is changed in place."""
        problem, rng = run.problem, run.rng
        free = [[i for i in block if i not in problem.clamped] for block in blocks]
        orders = [rng.sample(items, len(items)) for items in free]
        scores = torch.zeros(problem.n_items, problem.n_labels)
        for turn in range(max(map(len, orders))):
            speaking = [(order[turn], items) for order, items in zip(orders, free, strict=True) if turn < len(order)]
            heard = [demos_of([[i for i in items if i != item]], labels) for item, items in speaking]
            with shared.extended(heard, [0] * len(speaking)) as context:
                said = context.score([[item] for item, _ in speaking])
            for (item, _), row in zip(speaking, said, strict=True):
                scores[item] = row
                labels[item] = self._statement(row.double(), rng)
        for block in blocks:
            verdict = draw(scores[list(block)], problem, block, self.temperature, rng)
            for item, label in zip(block, verdict, strict=True):
                labels[item] = label

    def _statement(self, row: torch.Tensor, rng: Random) -> int:
        if self.temperature == 0:
            return int(row.argmax())
        weights = ((row - row.max()) / self.temperature).exp().tolist()
        return rng.choices(range(len(weights)), weights)[0]
