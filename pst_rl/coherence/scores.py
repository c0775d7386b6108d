"""How well labels predict each other: leave-one-out, chain-rule and block scores, by any `Predictor`.

Items are conditioned on *labelled* items only; `None` is an item without a label, which is scored and never shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pst_rl.coherence.predictor import Context, Demo, Predictor

Labels = Sequence[int | None]
Blocks = Sequence[Sequence[int]]


def demos_of(blocks: Blocks, labels: Labels) -> list[Demo]:
    """The labelled items of these blocks with their labels, in order."""
    return [(item, label) for block in blocks for item in block if (label := labels[item]) is not None]


def leave_one_out(predictor: Predictor, labels: Labels, blocks: Blocks, *, leaf_batch: int = 16) -> torch.Tensor:
    """log p(l | x_i, all labelled items outside i's block) for every i, in divide-and-conquer order; (n, L), nats.

        score(S, context):  S one block:  score its items
                            else:         S = A + B;  score(A, context + B);  score(B, context + A)

    Every item sees all the others, read in the order in which the recursion adds them (`contexts_of`). It reads
    n (log2 n + 1) units where scoring one item at a time reads n^2, and keeps one path of contexts alive, beside the
    rows of `leaf_batch` blocks, which are read side by side.

    Args:
        blocks: Every item once, in the order in which they are divided. Blocks of one item: leave one out; constraint
            groups: leave the whole group out. Shuffle them: the order of the demonstrations follows from it.
        leaf_batch: Blocks whose last levels are read as rows of one batch.

    Returns:
        Rows of items that are in no block stay NaN.
    """
    scores = torch.full((predictor.n_items, predictor.n_labels), math.nan)

    def depth_first(context: Context, part: Blocks) -> None:
        if len(part) <= leaf_batch:
            breadth_first(context, [part])
            return
        for kept, shown in _halves(part):
            with context.extended([demos_of(shown, labels)]) as deeper:
                depth_first(deeper, kept)

    def breadth_first(context: Context, parts: Sequence[Blocks]) -> None:
        if all(len(part) == 1 for part in parts):
            items = [list(part[0]) for part in parts]
            scores[[i for row in items for i in row]] = context.score(items)
            return
        children = [
            (row, kept, demos_of(shown, labels))
            for row, part in enumerate(parts)
            for kept, shown in (_halves(part) if len(part) > 1 else [(part, [])])
        ]
        rows, kept, demos = zip(*children, strict=True)
        with context.extended(demos, rows) as deeper:
            breadth_first(deeper, kept)

    if blocks:
        depth_first(predictor.open(), blocks)
    return scores


def sweep(
    predictor: Predictor,
    labels: list[int | None],
    blocks: Blocks,
    visit: Callable[[Sequence[int], torch.Tensor], Sequence[int | None]],
) -> None:
    """Visits every block in turn, with the scores of its items given the *current* labels of all other blocks.

    The recursion of `leave_one_out`, depth first: a block's new labels are what later blocks read. One sweep of a
    systematic-scan Gibbs sampler thus costs n (log2 n + 1) units instead of n^2.

    Args:
        labels: Changed in place.
        visit: `(block, scores)` to the block's new labels, scores being (len(block), L).
    """

    def depth_first(context: Context, part: Blocks) -> None:
        if len(part) == 1:
            block = part[0]
            for item, label in zip(block, visit(block, context.score([list(block)])), strict=True):
                labels[item] = label
            return
        for kept, shown in _halves(part):
            with context.extended([demos_of(shown, labels)]) as deeper:
                depth_first(deeper, kept)

    if blocks:
        depth_first(predictor.open(), blocks)


def contexts_of(blocks: Blocks, labels: Labels) -> dict[int, list[Demo]]:
    """The demonstrations that `leave_one_out` shows each item, in order: its specification, and what tests compare."""
    if len(blocks) == 1:
        return {item: [] for item in blocks[0]}
    return {
        item: demos_of(shown, labels) + rest
        for kept, shown in _halves(blocks)
        for item, rest in contexts_of(kept, labels).items()
    }


def leave_one_out_naive(predictor: Predictor, labels: Labels, blocks: Blocks) -> torch.Tensor:
    """`leave_one_out` item by item, every context read from its beginning: n^2 units. To compare with."""
    scores = torch.full((predictor.n_items, predictor.n_labels), math.nan)
    for item, demos in contexts_of(blocks, labels).items():
        with predictor.open().extended([demos]) as context:
            scores[item] = context.score([[item]])[0]
    return scores


def score_given(predictor: Predictor, labels: Labels, shown: Sequence[int], items: Sequence[int]) -> torch.Tensor:
    """log p(l | x_i, the labelled items among `shown`, in that order) for `items`; (len(items), L), nats.

    One shared context, all items in one batch: what block updates and zero-shot labels (`shown` empty) use.
    """
    with predictor.open().extended([demos_of([shown], labels)]) as context:
        return context.score([list(items)])


@dataclass(frozen=True)
class Coherence:
    """C = mean over orders of sum_k log p(label_k | item_k, the items before it), in nats, and its parts by order."""

    by_order: tuple[float, ...]

    @property
    def nats(self) -> float:
        """The mean over orders."""
        return sum(self.by_order) / len(self.by_order)

    @property
    def bits(self) -> float:
        """Description length of the labels: - C / ln 2."""
        return -self.nats / math.log(2)


def coherence(predictor: Predictor, labels: Labels, orders: Sequence[Sequence[int]]) -> Coherence:
    """Chain-rule coherence of the labelled items over the given orders; R n units.

    For an exchangeable predictor every order gives the same; the spread shows how far the model is from that.
    Source: arXiv 2601.13566; the mean over sampled orders is our reading.
    """
    found = []
    for order in orders:
        demos = demos_of([order], labels)
        scores = predictor.open().chain(demos)
        found.append(float(scores[torch.arange(len(demos)), [label for _, label in demos]].sum()))
    return Coherence(tuple(found))


def _halves(blocks: Blocks) -> list[tuple[Blocks, Blocks]]:
    """(kept, shown) for both halves."""
    middle = len(blocks) // 2
    return [(blocks[:middle], blocks[middle:]), (blocks[middle:], blocks[:middle])]
