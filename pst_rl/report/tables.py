"""The results of a run as a table: printed, or in Markdown."""

from collections.abc import Iterable
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
    lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *_rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{title(results)}. {caption(results)}"


def _rows(results: RunResults) -> list[tuple[str, ...]]:
    rows = [_row(name, result) for name, result in results.measured.items()]
    peers = results.peers.values()
    mean = PeerResult(
        *(_mean(getattr(peer, name) for peer in peers) for name in ("before", "after")),
        None,
        *(_mean(getattr(peer, name) for peer in peers) for name in ("parsed_before", "parsed_after")),
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
    return fmean(values) if values and None not in values else None


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
