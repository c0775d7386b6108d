"""The tables of the page as plain data: cells and rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What stands in a cell of a table.

    Attributes:
        text: What it says.
        style: `"name"` for text that may run in either direction, `"code"`, `"up"`, `"down"`, or nothing.
        soft: What is said less loudly behind it.
    """

    text: str
    style: str = ""
    soft: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table, and whether it is marked because its cells differ."""

    cells: tuple[Cell, ...]
    differs: bool = False
