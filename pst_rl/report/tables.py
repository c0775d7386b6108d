"""The results of a run as a table: printed, or in Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pst_rl.data import FILE_FORMATS
from pst_rl.report.results import PeerResult, RunResults, VoteResult, gain

if TYPE_CHECKING:
    from rich.console import Console

_HEADER = ("", "Before", "After", "Gain", "95 % interval", "Parsed")
_UNKNOWN = "-"


def print_table(results: RunResults, console: "Console | None" = None) -> None:
    """Print accuracy before and after per peer, their mean and the votes, with the gain and its interval."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title(results), caption=caption(results), box=box.SIMPLE_HEAD)
    for index, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for index, row in enumerate(_rows(results), start=1):
        table.add_row(*map(Text, row), end_section=index in (len(results.peers), len(results.peers) + 1))
    (console or Console()).print(table)


def markdown_table(results: RunResults) -> str:
    """Return the table in Markdown, for a model card or a README."""
    table = "\n".join(pipe_table(_HEADER, _rows(results), numbers_from=1))
    return f"{table}\n\n{title(results)}. {caption(results)}"


def pipe_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None, even: bool = False
) -> list[str]:
    """The lines of a table in Markdown; a bar in a cell is escaped, and a line break is a space.

    Args:
        header, rows: Texts, one for each column.
        numbers_from: Columns from this one on are aligned at the right.
        even: Pad the columns to even widths, to be read in a terminal too.

    Raises:
        ValueError: A row has more or fewer cells than the header.
    """
    cells = [[" ".join(cell.splitlines()).replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) if even else 3 for column in zip(*cells, strict=True)]
    right = [numbers_from is not None and i >= numbers_from for i in range(len(widths))]
    rule = ["-" * max(1, width) + ":" * number for width, number in zip(widths, right, strict=True)]
    if even:
        cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    return [f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:])]


def _rows(results: RunResults) -> list[tuple[str, ...]]:
    rows = [_row(name, result) for name, result in results.measured.items()]
    peers = results.peers.values()
    mean = PeerResult(
        before=_mean(peer.before for peer in peers),
        after=_mean(peer.after for peer in peers),
        parsed_before=_mean(peer.parsed_before for peer in peers),
        parsed_after=_mean(peer.parsed_after for peer in peers),
    )
    rows.insert(len(results.peers), _row("mean of the peers", mean))
    return rows


def _row(name: str, result: PeerResult | VoteResult) -> tuple[str, ...]:
    parsed = _UNKNOWN
    if isinstance(result, PeerResult) and (result.parsed_before is not None or result.parsed_after is not None):
        parsed = f"{percent(result.parsed_before)} → {percent(result.parsed_after)}"
    return name, percent(result.before), percent(result.after), signed(gain(result)), interval(result), parsed


def _mean(values: Iterable[float | None]) -> float | None:
    values = list(values)
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def percent(fraction: float | None) -> str:
    """A fraction in percent."""
    return _UNKNOWN if fraction is None else f"{100 * fraction:.1f}"


def signed(points: float | None) -> str:
    """Points with their sign."""
    return _UNKNOWN if points is None else f"{points:+.1f}"


def interval(result: PeerResult | VoteResult) -> str:
    """The 95 % interval of the gain, in points."""
    if result.ci95 is None:
        return _UNKNOWN
    low, high = result.ci95
    return f"[{signed(100 * low)}, {signed(100 * high)}]"


def title(results: RunResults) -> str:
    """What was measured, on what, with which seed."""
    path = Path(results.dataset)
    dataset = path.name if path.suffix in FILE_FORMATS else results.dataset
    return f"Exact match on {results.n_test} held-out questions of {dataset}, seed {results.seed}"


def caption(results: RunResults) -> str:
    """Units, labels read, time and memory."""
    known = results.mean_gain is not None
    parts = ["In percent, gains in points." if known else "No gold answers: the accuracy is unknown."]
    parts.append("Training read labels." if results.supervised else "Training read no label.")
    if results.seconds:
        phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in results.seconds.items())
        parts.append(f"Time: {phases}.")
    if results.peak_memory_mib is not None:
        parts.append(f"Peak memory {results.peak_memory_mib:.0f} MiB.")
    return " ".join(parts)
