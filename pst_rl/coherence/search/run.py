"""A search on its way, and the moves that several searches share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import torch

from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import Blocks, score_given
from pst_rl.coherence.search.choose import keeping, project
from pst_rl.coherence.search.state import State


@dataclass
class Run:
    """One search on its way: what it reads from, and where it stands."""

    predictor: Predictor
    problem: Problem
    state: State
    rng: Random

    def take(self, labels: Sequence[int | None], step: int) -> None:
        """Makes these the current labels, and notes the step for those that changed."""
        for item, label in enumerate(labels):
            if label != self.state.labels[item]:
                self.state.labels[item], self.state.changed_at[item] = label, step

    def relabelled(self, shown: Sequence[int], blocks: Blocks, fill: bool = False) -> list[int | None]:
        """The labels after every block is projected on the scores of its items given `shown`, all in one batch.

        Args:
            fill: Only items without a label take one, as far as the constraints allow.
        """
        labels, problem = list(self.state.labels), self.problem
        open_items = [i for block in blocks for i in block if i not in problem.clamped]
        asked = [i for i in open_items if not (fill and labels[i] is not None)]
        scores = torch.zeros(problem.n_items, problem.n_labels)
        if asked:
            scores[asked] = score_given(self.predictor, labels, shown, asked)
        for block in blocks:
            options = keeping(problem, block, labels) if fill else None
            chosen = project(scores[list(block)], problem, block, options)
            for item, label in zip(block, chosen, strict=True):
                labels[item] = label
        return labels

    def demonstrations(self, blocks: Blocks, size: int, balanced: bool = True) -> list[int]:
        """Items to show in random order: all clamped ones, and labelled ones of these blocks, `size` in all.

        Args:
            balanced: At most size / L (at least one) per label value, as far as they exist; clamped ones count.
        """
        labels, clamped = self.state.labels, self.problem.clamped
        pool = [(i, label) for block in blocks for i in block if (label := labels[i]) is not None and i not in clamped]
        self.rng.shuffle(pool)
        if balanced:
            left = [max(1, size // self.problem.n_labels)] * self.problem.n_labels
            for label in clamped.values():
                left[label] -= 1
            chosen = []
            for item, label in pool:
                left[label] -= 1
                if left[label] >= 0:
                    chosen.append(item)
        else:
            chosen = [item for item, _ in pool[: max(0, size - len(clamped))]]
        shown = [*sorted(clamped), *chosen]
        self.rng.shuffle(shown)
        return shown

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Adds what is read inside to the state's cost."""
        units, tokens = self.predictor.units, self.predictor.tokens
        yield
        self.state.units += self.predictor.units - units
        self.state.tokens += self.predictor.tokens - tokens
