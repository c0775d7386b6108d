"""Labels of one block from the scores of its items: the most probable consistent ones, or a draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import torch

from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import Labels


def project(
    scores: torch.Tensor, problem: Problem, block: Sequence[int], options: torch.Tensor | None = None
) -> list[int]:
    """argmax over consistent labels of sum_i log p(label_i | x_i): an exact projection on the block's constraints.

    Args:
        scores: (len(block), L), nats.
        options: (A, len(block)), long: the labels to choose from; without it, `problem.assignments(block)`.

    Returns:
        Labels in the order of the block; the first of equally good ones.
    """
    options = problem.assignments(block) if options is None else options
    totals = _totals(scores, options)
    return options[totals.index(max(totals))].tolist()


def draw(
    scores: torch.Tensor, problem: Problem, block: Sequence[int], temperature: float, generator: Random
) -> list[int]:
    """A draw from p(labels) ~ exp(sum_i log p(label_i | x_i) / temperature) over consistent labels of a block.

    At temperature 0 it is `project`. It is exact for a block of one item; in a larger one the items do not see each
    other, so that the product of their conditionals stands for their joint law.
    """
    if temperature == 0:
        return project(scores, problem, block)
    options = problem.assignments(block)
    totals = _totals(scores, options)
    best = max(totals)
    weights = [math.exp((total - best) / temperature) for total in totals]
    return options[generator.choices(range(len(totals)), weights)[0]].tolist()


def keeping(problem: Problem, block: Sequence[int], labels: Labels) -> torch.Tensor:
    """The consistent labels of a block that keep those that its items have; all of them if none does; (A, len)."""
    options = problem.assignments(block)
    given = [(place, labels[item]) for place, item in enumerate(block) if labels[item] is not None]
    fits = torch.ones(len(options), dtype=torch.bool)
    for place, label in given:
        fits &= options[:, place] == label
    return options[fits] if fits.any() else options


def _totals(scores: torch.Tensor, options: torch.Tensor) -> list[float]:
    return scores.double()[torch.arange(options.shape[1]), options].sum(1).tolist()
