"""The one style of every table that a command prints: nothing wraps or is cut, however narrow the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pst_rl.progress.words import WIDTH
from pst_rl.report.text import visible

_GAP = "  "


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    width: int = WIDTH,
    texts: Iterable[int] = (0,),
    rules: Iterable[int] = (),
) -> list[str]:
    """A table as lines of at most `width` columns.

    What is too wide is not squeezed: the columns that do not fit follow below, with the first one again; and a name
    that leaves no room for a number beside it stands on a line of its own, above its numbers. Only a single cell that
    is wider than everything is longer than a line. Control characters are shown, line breaks are spaces.

    Args:
        header, rows: Texts, one for each column.
        width: In columns of the terminal.
        texts: Columns that stand at the left; the others, numbers, at the right.
        rules: Rows before which there is a line.

    >>> print("\\n".join(text_table(("peer", "right"), [("a", "9.5"), ("b", "10.0")])))
    peer  right
    ───────────
    a       9.5
    b      10.0

    Raises:
        ValueError: A row has more or fewer cells than the header.
    """
    cells = [[" ".join(visible(cell).split()) for cell in line] for line in (header, *rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(_wide, column)) for column in columns]
    left, breaks = frozenset(texts), frozenset(rules)
    widths[0] = _names_width([line[0] for line in cells], width - sum(widths[1:]) - len(_GAP) * len(widths[1:]), width)
    lines: list[str] = []
    for block in _blocks(widths, width):
        lines += [""] if lines else []
        lines += _block(cells, block, widths, left, breaks)
    return lines


def _names_width(names: Sequence[str], beside: int, width: int) -> int:
    """The width of the first column: what is left beside all others, or a third of all; longer names stand alone."""
    room = max(beside, width // 3, _wide(names[0]))
    return max(_wide(name) for name in names if _wide(name) <= room)


def _blocks(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """The columns that stand side by side, the first one in each block."""
    block, used = [0], widths[0]
    for column in range(1, len(widths)):
        if len(block) > 1 and used + len(_GAP) + widths[column] > width:
            yield block
            block, used = [0], widths[0]
        block.append(column)
        used += len(_GAP) + widths[column]
    yield block


def _block(
    cells: Sequence[Sequence[str]],
    block: Sequence[int],
    widths: Sequence[int],
    left: frozenset[int],
    breaks: frozenset[int],
) -> Iterator[str]:
    for number, line in enumerate(cells):
        if number == 1 or number - 1 in breaks:
            yield "─" * (sum(widths[column] for column in block) + len(_GAP) * (len(block) - 1))
        first = line[0]
        if _wide(first) > widths[0]:
            yield first
            first = ""
        shown = [first, *(line[column] for column in block[1:])]
        padded = [_pad(cell, widths[column], column in left) for cell, column in zip(shown, block, strict=True)]
        yield _GAP.join(padded).rstrip()


def _pad(cell: str, width: int, left: bool) -> str:
    room = " " * (width - _wide(cell))
    return cell + room if left else room + cell


def _wide(text: str) -> int:
    """Columns in a terminal: a Chinese character takes two."""
    from rich.cells import cell_len

    return cell_len(text)
