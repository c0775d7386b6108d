"""Gibbs sampling over labellings, and annealing it to a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import Labels, score_given, sweep
from pst_rl.coherence.search.base import Searcher, check
from pst_rl.coherence.search.choose import draw
from pst_rl.coherence.search.run import Run


@dataclass(frozen=True, kw_only=True)
class Gibbs(Searcher):
    """Redraws every block in turn from its labels' probabilities given all others'.

        labels of block B ~ prod_{i in B} p(l_i | x_i, all labels outside B)^(1/T), over B's consistent labels

    A step is a systematic scan over all blocks in a fresh random order; in divide-and-conquer order it reads
    n (log2 n + 1) units. For an exchangeable predictor and blocks of one item its stationary law at T = 1 is
    p(labels) ~ exp(coherence). In larger blocks the items do not see each other, and the product of their
    conditionals stands for their joint law: an approximation, for the sake of one score per item.

    T goes from `temperature` to `anneal_to` in equal steps: sampling at T = 1, a search when annealed to 0, where a
    block takes its most probable labels.

    Source: arXiv 2601.13566 (Gibbs over contexts has softmax over coherence as its law). Scan, blocks and schedule
    are our choice.

    Attributes:
        sweeps: Number of steps.
        temperature: T of the first sweep, at least 0.
        anneal_to: T of the last one; without it T stays.
    """

    name: ClassVar[str] = "gibbs"

    sweeps: int = 20
    temperature: float = 1.0
    anneal_to: float | None = None

    def __post_init__(self):
        super().__post_init__()
        check(self.sweeps >= 1, "sweeps", "at least 1", self.sweeps)
        for option in ("temperature", "anneal_to"):
            value = getattr(self, option)
            check(value is None or 0 <= value < float("inf"), option, "a number from 0", value)

    def temperature_at(self, step: int) -> float:
        """T of step 1 .. `sweeps`."""
        if self.anneal_to is None or self.sweeps == 1:
            return self.temperature
        return self.temperature + (self.anneal_to - self.temperature) * (step - 1) / (self.sweeps - 1)

    def _steps(self, problem: Problem) -> int:
        return self.sweeps

    def _step(self, run: Run, step: int) -> None:
        labels = gibbs_sweep(run.predictor, run.problem, run.state.labels, run.rng, self.temperature_at(step))
        run.take(labels, step)


def gibbs_sweep(
    predictor: Predictor, problem: Problem, labels: Labels, generator: Random, temperature: float = 1.0
) -> list[int | None]:
    """The labels after every block is redrawn once, in random order: a systematic scan.

    Args:
        labels: Of all items; `None` without one, which is not shown before it is drawn. Not changed.
    """
    blocks, now = list(problem.blocks), list(labels)
    generator.shuffle(blocks)
    sweep(
        predictor,
        now,
        blocks,
        lambda block, scores: draw(scores, problem, block, temperature, generator),
    )
    return now


def gibbs_step(
    predictor: Predictor, problem: Problem, labels: Labels, generator: Random, temperature: float = 1.0
) -> list[int | None]:
    """The labels after one random block is redrawn given all others, shown in random order: a random scan.

    It reads as many units as there are items. `labels` is not changed.
    """
    block: Sequence[int] = generator.choice(problem.blocks)
    shown = [item for item in range(problem.n_items) if item not in block]
    generator.shuffle(shown)
    scores = score_given(predictor, labels, shown, block)
    now = list(labels)
    for item, label in zip(block, draw(scores, problem, block, temperature, generator), strict=True):
        now[item] = label
    return now
