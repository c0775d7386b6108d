"""What coherence is computed with: something that predicts an item's label from labelled items before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Demo = tuple[int, int]
"""A demonstration: an item and its label, both as indices."""


class Predictor(ABC):
    """p(label | item, demonstrations) over a fixed set of items.

    Attributes:
        n_items: Number of items; they are named by their index.
        n_labels: L, the number of label values.
        units: Demonstrations and targets read so far: the cost that does not depend on their lengths.
        tokens: Tokens read so far; equal to `units` where there are no tokens.
    """

    n_items: int
    n_labels: int
    units: int = 0
    tokens: int = 0

    @abstractmethod
    def open(self) -> Context:
        """One context without demonstrations."""

    def identity(self) -> dict[str, Any]:
        """What its scores depend on, as JSON: a search that was begun with another predictor does not go on with it.

        A subclass adds what tells its instances apart, with names that are not fields of a search.
        """
        return {"predictor": type(self).__name__}


class Context(ABC):
    """One or more sequences of demonstrations, read side by side.

    Extensions are nested as `with` blocks: while one is open, its parent must not be used. That is what lets a
    language model keep a single cache, grown on entering and cropped on leaving.

    Attributes:
        predictor: Whose context it is.
        rows: Number of sequences.
    """

    predictor: Predictor
    rows: int

    @contextmanager
    def extended(self, demos: Sequence[Sequence[Demo]], parents: Sequence[int] | None = None) -> Iterator[Context]:
        """The context after reading more: new row r continues row `parents[r]` with `demos[r]`.

        Args:
            demos: Demonstrations for each new row, in the order in which they are read; may be empty.
            parents: A row of this context for each new row; without it, row r continues row r.
        """
        self.predictor.units += sum(map(len, demos))
        with self._extended(demos, list(range(self.rows)) if parents is None else list(parents)) as context:
            yield context

    def score(self, items: Sequence[Sequence[int]]) -> torch.Tensor:
        """log p(label | item, row's demonstrations) in nats, for several items of each row, one after the other.

        Returns:
            A float32 tensor (sum of the numbers of items, L), on the CPU; every row of it sums to 1 as probabilities.
        """
        self.predictor.units += sum(map(len, items))
        return self._score(items)

    def chain(self, demos: Sequence[Demo]) -> torch.Tensor:
        """log p(label | item, the demonstrations before it) at each of `demos`, read in one pass; (len(demos), L).

        Of a single-row context only.
        """
        self.predictor.units += len(demos)
        return self._chain(demos)

    @abstractmethod
    def _extended(self, demos: Sequence[Sequence[Demo]], parents: list[int]):
        """`extended`, as a context manager."""

    @abstractmethod
    def _score(self, items: Sequence[Sequence[int]]) -> torch.Tensor: ...

    @abstractmethod
    def _chain(self, demos: Sequence[Demo]) -> torch.Tensor: ...
