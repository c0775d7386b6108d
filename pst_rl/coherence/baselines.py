"""Labels without a search: what a search has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch

from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import coherence, score_given
from pst_rl.coherence.search.base import orders_of
from pst_rl.coherence.search.choose import project
from pst_rl.progress.phases import phase

ORDERS = 2  # as many as searches measure coherence over by default


def zero_shot(predictor: Predictor, problem: Problem, *, seed: int = 0, consistent: bool = False) -> Labelling:
    """argmax over l of log p(l | x_i), nothing shown; n units.

    Args:
        seed: Noted in the labelling; there is nothing to draw.
        consistent: Project every block on its constraints. Without it labels may violate them, as in the papers.
    """
    return few_shot(predictor, problem, {}, seed=seed, consistent=consistent, method="zero_shot")


def random_few_shot(
    predictor: Predictor, problem: Problem, *, shots: int = 8, seed: int = 0, consistent: bool = False
) -> Labelling:
    """Labels given `shots` random items with random labels: how much of a gain is the format alone.

    The labels of a block are drawn from those that its constraints allow; clamped items keep theirs, and are shown if
    they are drawn.
    """
    rng = Random(seed)
    shown = rng.sample(range(problem.n_items), _enough(shots, problem.n_items))
    drawn: dict[int, int] = {}
    for block in {problem.block_of[i]: problem.blocks[problem.block_of[i]] for i in shown}.values():
        drawn |= zip(block, rng.choice(problem.assignments(block).tolist()), strict=True)
    demos = {i: drawn[i] for i in shown}
    return few_shot(predictor, problem, demos, seed=seed, consistent=consistent, method="random_few_shot")


def supervised_gold_few_shot(
    predictor: Predictor,
    problem: Problem,
    gold: Sequence[int | None],
    *,
    shots: int = 8,
    seed: int = 0,
    consistent: bool = False,
) -> Labelling:
    """Labels given `shots` random items with their gold labels. Supervised: a ceiling, not a rival.

    No item is labelled with its own gold label, or one of its block, in view, so accuracy over all items is fair.

    Raises:
        ValueError: If fewer gold labels are known.
    """
    known = {i: label for i, label in enumerate(gold) if label is not None}
    drawn = Random(seed).sample(list(known), _enough(shots, len(known), "with a gold label "))
    demos = {i: known[i] for i in drawn}
    return few_shot(predictor, problem, demos, seed=seed, consistent=consistent, method="supervised_gold_few_shot")


def few_shot(
    predictor: Predictor, problem: Problem, demos: dict[int, int], *, seed: int, consistent: bool, method: str
) -> Labelling:
    """Labels of all items given these demonstrations, in their order, but for those of the item's own block.

    All items outside the demonstrations' blocks are one batch; each of these blocks is read with the others only.
    The cost is what was read to label. Coherence is measured afterwards, as searches do, and is not part of it.

    Args:
        demos: Label by item, in the order in which they are read.
    """
    labels = [demos.get(i) for i in range(problem.n_items)]
    units, tokens = predictor.units, predictor.tokens
    scores = torch.zeros(problem.n_items, problem.n_labels)
    own = {problem.block_of[i] for i in demos}
    outside = [i for i in range(problem.n_items) if problem.block_of[i] not in own]
    with phase(method, problem.n_items, "claims") as labelling:
        if outside:
            scores[outside] = score_given(predictor, labels, list(demos), outside)
            labelling.advance(len(outside))
        for b in sorted(own):
            block = list(problem.blocks[b])
            scores[block] = score_given(predictor, labels, [i for i in demos if problem.block_of[i] != b], block)
            labelling.advance(len(block))
    units, tokens = predictor.units - units, predictor.tokens - tokens
    found = scores.argmax(1).tolist()
    for block in problem.blocks if consistent else ():
        for item, label in zip(block, project(scores[list(block)], problem, block), strict=True):
            found[item] = label
    found = [problem.clamped.get(i, label) for i, label in enumerate(found)]
    with phase("coherence", note=lambda: f"{predictor.tokens:,} tokens read"):
        nats = coherence(predictor, found, orders_of(problem.n_items, ORDERS)).nats
    return Labelling(
        labels=tuple(found),
        probabilities=tuple(map(tuple, scores.exp().tolist())),
        changed_at=(0,) * problem.n_items,
        coherence=nats,
        violations=len(problem.violations(found)),
        units=units,
        tokens=tokens,
        seed=seed,
        method=method,
    )


def _enough(shots: int, there: int, what: str = "") -> int:
    if not 1 <= shots <= there:
        raise ValueError(f"shots must lie between 1 and the {there} items {what}that there are, got {shots}.")
    return shots
