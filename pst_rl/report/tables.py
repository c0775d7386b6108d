"""The results of a run as a table: printed, or in Markdown."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pst_rl.data import FILE_FORMATS
from pst_rl.progress.words import WIDTH, terminal_width
from pst_rl.report.results import PeerResult, RunResults, VoteResult, gain
from pst_rl.report.text import visible
from pst_rl.report.text_table import text_table

if TYPE_CHECKING:
    from rich.console import Console

_ACCURACY = ("", "Before", "After", "Gain", "95 % interval")
_ANSWERS = ("", "Parsed", "Finished", "Tokens", "Changed")
_UNKNOWN = "-"


def print_table(results: RunResults, console: "Console | None" = None) -> None:
    """Print what a run changed: accuracies with the gain of each, if gold is known, and answers in any case."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(width=terminal_width())
    console.print(Text("\n".join(table_lines(results, console.width))), soft_wrap=True)


def table_lines(results: RunResults, width: int = WIDTH) -> list[str]:
    """What `print_table` prints, as lines of at most `width` columns."""
    lines = [*wrap(title(results), width), ""]
    for header, rows, rules in _tables(results):
        lines += [*text_table(header, rows, width=width, rules=rules), ""]
    return lines + [line for text in (*answers(results), caption(results)) for line in wrap(text, width)]


def markdown_table(results: RunResults) -> str:
    """Return the tables in Markdown, for a model card or a README."""
    tables = ["\n".join(pipe_table(header, rows, numbers_from=1)) for header, rows, _ in _tables(results)]
    return "\n\n".join([*tables, f"{title(results)}. {' '.join([*answers(results), caption(results)])}"])


Table = tuple[Sequence[str], list[tuple[str, ...]], list[int]]  # header, rows, rows before which there is a line


def _tables(results: RunResults) -> list[Table]:
    """The tables of a run that have a number in them, without the rows and columns that have none."""
    peers = len(results.peers)
    rules = [peers, peers + 1] if peers > 1 else [peers]
    accuracies = [_accuracy_row(name, one) for name, one in _with_mean(results, results.measured)]
    found = [
        _known(_ANSWERS, [(name, *answer_cells(one)) for name, one in _with_mean(results, results.peers)], [peers])
    ]
    if results.mean_gain is not None:
        found.insert(0, _known(_ACCURACY, accuracies, rules))
    return [table for table in found if len(table[0]) > 1]


def _with_mean(
    results: RunResults, rows: Mapping[str, PeerResult | VoteResult]
) -> list[tuple[str, PeerResult | VoteResult]]:
    """The rows with the mean of the peers behind the peers, if there are several."""
    found = list(rows.items())
    peers = results.peers.values()
    if len(peers) > 1:
        names = [one.name for one in fields(PeerResult) if one.name != "ci95"]
        means: dict[str, Any] = {name: _mean(getattr(peer, name) for peer in peers) for name in names}
        mean = PeerResult(**means)
        found.insert(len(peers), ("mean of the peers", mean))
    return found


def _known(header: Sequence[str], rows: Sequence[tuple[str, ...]], rules: Sequence[int]) -> Table:
    kept = [k for k, row in enumerate(rows) if set(row[1:]) != {_UNKNOWN}]
    columns = [c for c in range(len(header)) if c == 0 or any(rows[k][c] != _UNKNOWN for k in kept)]
    lines = [sum(k < rule for k in kept) for rule in rules]
    cells = [tuple(rows[k][c] for c in columns) for k in kept]
    return [header[c] for c in columns], cells, [line for line in lines if 0 < line < len(kept)]


def _accuracy_row(name: str, result: PeerResult | VoteResult) -> tuple[str, ...]:
    return name, percent(result.before), percent(result.after), signed(gain(result)), interval(result)


def answer_cells(result: PeerResult | VoteResult) -> tuple[str, ...]:
    """Parsed, finished, tokens, changed: before and after, as far as they are known."""
    if isinstance(result, VoteResult):
        return (*3 * (_UNKNOWN,), percent(result.changed))
    return (
        turned(result.parsed_before, result.parsed_after, percent),
        turned(result.finished_before, result.finished_after, percent),
        turned(result.length_before, result.length_after, lambda tokens: f"{tokens:.1f}"),
        percent(result.changed),
    )


def turned(before: float | None, after: float | None, shown: Callable[[float], str]) -> str:
    """Two values as "before → after"; a dash if neither is known."""
    if before is None and after is None:
        return _UNKNOWN
    return " → ".join(_UNKNOWN if value is None else shown(value) for value in (before, after))


def answers(results: RunResults) -> list[str]:
    """What can be said without gold, a sentence each: peers that are not read, agreement, distinct answers, votes."""
    joint, sentences = results.joint, list(results.unread.values())
    if (agreement := turned(joint.agreement_before, joint.agreement_after, percent)) != _UNKNOWN:
        sentences.append(f"Agreement of the peers {agreement} %.")
    if (distinct := turned(joint.distinct_before, joint.distinct_after, lambda x: f"{x:.2f}")) != _UNKNOWN:
        sentences.append(f"Distinct answers to a question {distinct}, of {joint.responses} responses.")
    votes = {"of greedy answers": results.vote.changed, "of newly drawn samples": results.pooled_vote.changed}
    if known := [f"{percent(share)} % {whose}" for whose, share in votes.items() if share is not None]:
        sentences.append(f"Votes that changed: {', '.join(known)}.")
    return sentences


def wrap(text: str, width: int = WIDTH) -> list[str]:
    """Sentences as lines of at most `width` columns; a word that is longer keeps its line."""
    return textwrap.wrap(visible(text), width, break_long_words=False, break_on_hyphens=False)


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
    what = "Answers to" if results.mean_gain is None else "Exact match on"
    return f"{what} {results.n_test} held-out questions of {dataset}, seed {results.seed}"


def caption(results: RunResults) -> str:
    """Units, labels read, time and memory."""
    known = results.mean_gain is not None
    parts = ["In percent, gains in points." if known else "In percent. No gold answers: the accuracy is unknown."]
    parts.append("Training read labels." if results.supervised else "Training read no label.")
    if results.seconds:
        phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in results.seconds.items())
        parts.append(f"Time: {phases}.")
    if results.peak_memory_mib is not None:
        parts.append(f"Peak memory {results.peak_memory_mib:.0f} MiB.")
    return " ".join(parts)
