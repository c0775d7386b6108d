"""Contexts of a language model: rows that share one line of keys and values, and differ in which of them they see."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import torch

from pst_rl.coherence.predictor import Context, Demo, Predictor
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from transformers import DynamicCache


class ContextReader(Predictor):
    """A predictor that has what a `CachedContext` needs (`LanguageModelPredictor` documents each).

    Attributes:
        batch_size: Targets of a row per forward pass at most.
        start_ids: What every context begins with.
        prompt_ids: For every item its tokens.
    """

    batch_size: int
    start_ids: list[int]
    prompt_ids: list[list[int]]

    @abstractmethod
    def demo_ids(self, item: int, label: int) -> list[int]:
        """Tokens of a demonstration."""

    @abstractmethod
    def fitting(self, demos: Sequence[Demo], length: int) -> list[bool]:
        """Which of these demonstrations are read after a context of `length` tokens."""

    @abstractmethod
    def label_log_probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores from next-token logits; (rows, V) to (rows, L), on the CPU."""

    @abstractmethod
    def read(
        self,
        cache: DynamicCache,
        seen: torch.Tensor,
        starts: Sequence[int],
        segments: Sequence[tuple[int, list[int]]],
        keep: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feeds new tokens to the model, and the cache with them; logits (K, V), and `seen` with the new columns."""


class CachedContext(Context):
    """Rows of demonstrations in a `transformers.DynamicCache` of batch size one.

    All rows of a context, its parents and its extensions live in the same cache: what is read is appended, and what an
    extension has read is cropped on leaving it. Rows side by side are told apart by the attention mask, in which every
    token sees its own row only, and by positions that count along the row. So branching copies no keys and values,
    rows of different lengths need no padding, and a context never takes more memory than the tokens that it holds.

    Demonstrations are read as late as possible: at the next extension, or in one pass with the targets where every row
    has a single one.

    Args:
        cache: Keys and values of what was read.
        seen: (rows, columns) bool, on the model's device: which columns of the cache each row sees.
        lengths: Tokens of each row, the unread ones included.
        unread: For each row the token ids that come next.
    """

    predictor: ContextReader

    def __init__(
        self,
        predictor: ContextReader,
        cache: DynamicCache,
        seen: torch.Tensor,
        lengths: Sequence[int],
        unread: Sequence[list[int]],
    ):
        self.predictor, self.cache, self.seen = predictor, cache, seen
        self.lengths, self.unread, self.rows = list(lengths), list(unread), len(lengths)

    @contextmanager
    def _extended(self, demos, parents):
        self._catch_up()
        lengths = [self.lengths[parent] for parent in parents]
        new = [self._after(length, self._fitting(more, length)) for more, length in zip(demos, lengths, strict=True)]
        longer = [length + len(tokens) for length, tokens in zip(lengths, new, strict=True)]
        yield CachedContext(self.predictor, self.cache, self.seen[parents], longer, new)
        self._crop()

    def _score(self, items):
        if all(len(row) == 1 for row in items):
            return self._score_one_each([item for (item,) in items])
        self._catch_up()
        asked = [(row, item) for row, several in enumerate(items) for item in several]
        scores = [torch.empty(0, self.predictor.n_labels)]
        with phase("scoring", len(asked), "claims", brief=True) as scoring:
            for start in range(0, len(asked), self.predictor.batch_size):
                rows, targets = zip(*asked[start : start + self.predictor.batch_size], strict=True)
                with self._extended([[]] * len(rows), list(rows)) as expanded:
                    scores.append(expanded._score_one_each(targets))
                scoring.advance(len(rows))
        return torch.cat(scores)

    def _score_one_each(self, items: Sequence[int]) -> torch.Tensor:
        """Scores of one item per row, read together with what is unread, which stays in the cache; (rows, L)."""
        prompts = [self.predictor.prompt_ids[item] for item in items]
        targets = [self._after(length, ids) for length, ids in zip(self.lengths, prompts, strict=True)]
        read = sum(map(len, self.unread))
        ends = torch.tensor([len(ids) for ids in targets]).cumsum(0) - 1 + read
        logits = self._read([*enumerate(self.unread), *enumerate(targets)], ends)
        self.seen, self.unread = self.seen[:, : -sum(map(len, targets))], [[]] * self.rows
        self._crop()
        return self.predictor.label_log_probs(logits)

    def _chain(self, demos):
        """A demonstration that does not fit is scored after those before it, and not shown to those behind it."""
        self._catch_up()
        fits = self.predictor.fitting(demos, self.lengths[0])
        scores = [torch.empty(0, self.predictor.n_labels)]
        grown = CachedContext(self.predictor, self.cache, self.seen, self.lengths, [[]])
        for kept, run in groupby(zip(demos, fits, strict=True), key=itemgetter(1)):
            run = [demo for demo, _ in run]
            scores.append(grown._append(run) if kept else grown._score([[item for item, _ in run]]))
        self._crop()
        return torch.cat(scores)

    def _append(self, demos: Sequence[Demo]) -> torch.Tensor:
        """Reads demonstrations into the only row, and returns the scores at their labels; (len(demos), L)."""
        tokens = [] if self.lengths[0] else list(self.predictor.start_ids)
        ends = []
        for item, label in demos:
            ends.append(len(tokens) + len(self.predictor.prompt_ids[item]) - 1)
            tokens += self.predictor.demo_ids(item, label)
        logits = self._read([(0, tokens)], torch.tensor(ends))
        self.lengths[0] += len(tokens)
        return self.predictor.label_log_probs(logits)

    def _catch_up(self) -> None:
        if any(self.unread):
            self._read([*enumerate(self.unread)], torch.tensor([-1]))
            self.unread = [[]] * self.rows

    def _read(self, segments: Sequence[tuple[int, list[int]]], keep: torch.Tensor) -> torch.Tensor:
        if self.cache.get_seq_length() != self.seen.shape[1]:
            raise RuntimeError("A context was used while an extension of it is open.")
        starts = [length - len(ids) for length, ids in zip(self.lengths, self.unread, strict=True)]
        logits, self.seen = self.predictor.read(self.cache, self.seen, starts, segments, keep)
        return logits

    def _fitting(self, demos: Sequence[Demo], length: int) -> list[int]:
        fits = self.predictor.fitting(demos, length)
        return [t for demo, fit in zip(demos, fits, strict=True) if fit for t in self.predictor.demo_ids(*demo)]

    def _after(self, length: int, tokens: list[int]) -> list[int]:
        return tokens if length or not tokens else self.predictor.start_ids + tokens

    def _crop(self) -> None:
        """Takes from the cache what came after this context."""
        if extra := self.cache.get_seq_length() - self.seen.shape[1]:
            self.cache.crop(-extra)
