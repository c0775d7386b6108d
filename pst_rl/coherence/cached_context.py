"""Contexts of a language model: rows of a key-value cache that is grown, cropped, copied and never read twice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import torch

from pst_rl.coherence.predictor import Context, Demo

if TYPE_CHECKING:
    from transformers import DynamicCache

    from pst_rl.coherence.language_model import LanguageModelPredictor


class CachedContext(Context):
    """Rows of one `transformers.DynamicCache`.

    An extension that keeps the rows grows their cache and crops it on leaving; one that branches works on a copy of
    the rows it needs. New tokens are read as late as possible: at the next extension, or in one pass with the target
    where every row has a single one. Rows of different lengths are padded on the left of what is new, so a cache may
    have columns without a token anywhere but at its right edge.

    Args:
        cache: Keys and values of what was read, shared with the parent unless it is a copy.
        mask: (rows, columns) bool: the columns of the cache that hold a token of the row.
        lengths: Tokens of each row, the unread ones included.
        unread: For each row the token ids to read together with whatever comes next.
    """

    def __init__(
        self,
        predictor: LanguageModelPredictor,
        cache: DynamicCache,
        mask: torch.Tensor,
        lengths: Sequence[int],
        unread: Sequence[list[int]],
    ):
        self.predictor, self.cache, self.mask = predictor, cache, mask
        self.lengths, self.unread, self.rows = list(lengths), list(unread), len(lengths)

    @contextmanager
    def _extended(self, demos, parents):
        self._catch_up()
        lengths = [self.lengths[parent] for parent in parents]
        new = [self._after(length, self._fitting(more, length)) for more, length in zip(demos, lengths, strict=True)]
        branches = parents != list(range(self.rows))
        cache = _branch(self.cache, parents) if branches else self.cache
        longer = [length + len(tokens) for length, tokens in zip(lengths, new, strict=True)]
        yield CachedContext(self.predictor, cache, self.mask[parents], longer, new)
        if not branches:
            self._crop()

    def _score(self, items):
        if all(len(row) == 1 for row in items):
            targets = [self._target(row, item) for row, (item,) in enumerate(items)]
            logits = self._read([self.unread, targets])
            self.mask, self.unread = self.mask[:, : -max(map(len, targets))], [[]] * self.rows
            self._crop()
            return self.predictor.label_log_probs(logits[:, -1])
        self._catch_up()
        asked = [(row, item) for row, several in enumerate(items) for item in several]
        order = sorted(range(len(asked)), key=lambda k: len(self.predictor.prompt_ids[asked[k][1]]))
        scores = torch.empty(len(asked), self.predictor.n_labels)
        for start in range(0, len(order), self.predictor.batch_size):
            chunk = order[start : start + self.predictor.batch_size]
            rows = [asked[k][0] for k in chunk]
            expanded = CachedContext(
                self.predictor,
                _branch(self.cache, rows),
                self.mask[rows],
                [self.lengths[row] for row in rows],
                [[]] * len(rows),
            )
            scores[chunk] = expanded._score([[asked[k][1]] for k in chunk])
        return scores

    def _chain(self, demos):
        """A demonstration that does not fit is scored after those before it, and not shown to those behind it."""
        self._catch_up()
        grown = CachedContext(self.predictor, self.cache, self.mask, self.lengths, [[]])
        fits = self.predictor.fitting(demos, self.lengths[0])
        parts = [torch.empty(0, self.predictor.n_labels)]
        for kept, run in groupby(zip(demos, fits, strict=True), key=itemgetter(1)):
            run = [demo for demo, _ in run]
            parts.append(grown._append(run) if kept else grown._score([[item for item, _ in run]]))
        self._crop()
        return torch.cat(parts)

    def _append(self, demos: Sequence[Demo]) -> torch.Tensor:
        """Reads demonstrations into the only row, and returns the scores at their labels; (len(demos), L)."""
        tokens: list[int] = [] if self.lengths[0] else list(self.predictor.start_ids)
        ends = []
        for item, label in demos:
            ends.append(len(tokens) + len(self.predictor.prompt_ids[item]) - 1)
            tokens += self.predictor.demo_ids(item, label)
        logits = self._read([[tokens]], torch.tensor(ends))
        self.lengths[0] += len(tokens)
        return self.predictor.label_log_probs(logits[0])

    def _catch_up(self) -> None:
        if any(self.unread):
            self._read([self.unread])
            self.unread = [[]] * self.rows

    def _read(self, blocks: Sequence[Sequence[list[int]]], keep: int | torch.Tensor = 1) -> torch.Tensor:
        if self.cache.get_seq_length() != self.mask.shape[1]:
            raise RuntimeError("A context was used while an extension of it is open.")
        logits, self.mask = self.predictor.read(self.cache, self.mask, blocks, keep)
        return logits

    def _fitting(self, demos: Sequence[Demo], length: int) -> list[int]:
        fits = self.predictor.fitting(demos, length)
        return [t for demo, fit in zip(demos, fits, strict=True) if fit for t in self.predictor.demo_ids(*demo)]

    def _target(self, row: int, item: int) -> list[int]:
        return self._after(self.lengths[row], self.predictor.prompt_ids[item])

    def _after(self, length: int, tokens: list[int]) -> list[int]:
        return tokens if length or not tokens else self.predictor.start_ids + tokens

    def _crop(self) -> None:
        """Takes from the cache what is not in the mask."""
        if extra := self.cache.get_seq_length() - self.mask.shape[1]:
            self.cache.crop(-extra)


def _branch(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A cache of copies of these rows. The layers never write into their tensors, so only the selection is copied."""
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    branch.batch_select_indices(torch.tensor(rows))
    return branch
