"""Rows as they stand in a file: Python values, where Arrow would make one type of a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from datasets import Dataset

    Rows: TypeAlias = "Dataset | Table"


class Written(float):
    """A number with a point or an exponent that knows how it was written: as text, 1.50 is not 1.5.

    >>> Written("1.50"), str(Written("1.50"))
    (1.5, '1.50')
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = str(text)
        return number

    def __str__(self) -> str:
        return self.text


class Table:
    """Rows of any Python values, with as much of a `datasets.Dataset` as readers of questions and claims need.

    A column that a row lacks is `None` there.

    Args:
        rows: One mapping a row.
        lines: The line of the file that each row begins in, for messages.

    Attributes:
        column_names: Of all rows, in the order in which they are first met.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], lines: Sequence[int] = ()):
        self._rows, self.lines = list(rows), lines
        self.column_names = list(dict.fromkeys(chain.from_iterable(self._rows)))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, column: str) -> list[Any]:
        return [row.get(column) for row in self._rows]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({name: row.get(name) for name in self.column_names} for row in self._rows)

    def to_list(self) -> list[dict[str, Any]]:
        """Every row with all columns."""
        return list(self)

    def select(self, indices: Iterable[int]) -> Table:
        """The rows with these numbers."""
        indices = list(indices)
        lines = [self.lines[index] for index in indices] if self.lines else ()
        return Table((self._rows[index] for index in indices), lines)

    def remove_columns(self, names: Iterable[str]) -> Table:
        """The rows without these columns."""
        kept = [name for name in self.column_names if name not in set(names)]
        return Table(({name: row.get(name) for name in kept} for row in self._rows), self.lines)


def place(rows: Rows, index: int, source: str) -> str:
    """Where a row is, for messages.

    >>> place(Table([{"a": 1}], lines=[2]), 0, "my.csv")
    'Row 0 of my.csv (line 2)'
    """
    line = f" (line {rows.lines[index]})" if isinstance(rows, Table) and rows.lines else ""
    return f"Row {index} of {source}{line}"
