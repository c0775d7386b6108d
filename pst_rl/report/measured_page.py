"""Charts and tables of evaluations and gaps, as data for the page of `pst-rl report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pst_rl.report.cells import Cell, Row
from pst_rl.report.drawing import VOTE_COLOUR
from pst_rl.report.measured import Measured
from pst_rl.report.panels import Colours, Lines, Panel
from pst_rl.report.tables import percent, signed
from pst_rl.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP_METRICS = ("generation", "verified", "gap", "relative_gap", "balanced_accuracy", "kept")
_Row = tuple[str, str, Mapping[str, Any]]  # what is drawn, the peer whose colour it has, value with interval


# ---- charts ----


def score_rows(one: Measured) -> list[_Row]:
    """The first metric of every system, by each way to score."""
    several = len(one.results["scores"]) > 1
    return [
        (f"{scoring}: {system}" if several else system, system, next(iter(own.values())))
        for scoring, systems in one.results["scores"].items()
        for system, own in systems.items()
        if own
    ]


def gap_rows(one: Measured) -> list[_Row]:
    """The gap of every peer by every verifier."""
    return [
        (f"{verifier}: {peer}", peer, own["gap"])
        for verifier, by_peer in one.results["scores"].items()
        for peer, own in by_peer.items()
        if own.get("gap")
    ]


def _draw_rows(axes: Axes, rows: Sequence[_Row], colours: Colours, label: str) -> Lines | None:
    """A mark and its interval for each row."""
    if not rows:
        return None
    for y, (_, peer, score) in enumerate(rows):
        colour = colours.get(peer, VOTE_COLOUR)
        if score.get("ci95"):
            axes.hlines(y, *(100 * end for end in score["ci95"]), color=colour, lw=1.6, alpha=0.7)
        axes.plot(100 * score["value"], y, "o", color=colour, ms=6)
    axes.set_yticks(range(len(rows)), [plain(name, 34) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_xlabel(label, fontsize=9)
    return {}


def _draw_scores(axes: Axes, one: Measured, colours: Colours) -> Lines | None:
    return _draw_rows(axes, score_rows(one), colours, "greedy responses right, %")


def _draw_gaps(axes: Axes, one: Measured, colours: Colours) -> Lines | None:
    axes.axvline(0, color="#999999", lw=1)
    return _draw_rows(axes, gap_rows(one), colours, "gap, points")


SCORES = Panel(
    "scores",
    "Scores",
    "With the 95 % interval of each (bootstrap over the questions).",
    _draw_scores,
    rows=lambda one: len(score_rows(one)),
)
GAPS = Panel(
    "gaps",
    "Generator-verifier gap",
    "How much better the samples are that a verifier keeps, with the 95 % interval. Below 0 it keeps worse ones.",
    _draw_gaps,
    rows=lambda one: len(gap_rows(one)),
)


# ---- tables ----


def measured_table(measured: Sequence[Measured], kind: str) -> dict[str, Any]:
    """Scores of evaluations, or gaps, one row for each thing that was measured."""
    rows = [
        (one, *row) for one in measured for row in (_score_cells(one) if kind == "evaluation" else _gap_cells(one))
    ]
    columns = list(dict.fromkeys(column for _, _, own in rows for column in own))
    if kind == "evaluation":  # how responses end belongs beside the first score
        columns = [*columns[:1], *_ENDINGS, *(column for column in columns[1:] if column not in _ENDINGS)]
    header = ["Scoring", "Who"] if kind == "evaluation" else ["Verifier", "Peer"]
    cells = [(one, [*names, *(own.get(column, Cell("-")) for column in columns)]) for one, names, own in rows]
    units = [f"{column}, {'points' if column == 'gap' else '%'}" for column in columns]
    return _table(measured, [*header, *units], cells, 2)


_ENDINGS = ("finished", "no answer")


def _score_cells(one: Measured) -> Iterator[tuple[list[Cell], dict[str, Cell]]]:
    for scoring, systems in one.results["scores"].items():
        read = one.results.get("parsed", {}).get(scoring, {})
        for system, own in systems.items():
            endings = {
                "finished": Cell(percent(one.results.get("finished", {}).get(system))),
                "no answer": Cell(percent(1 - read[system] if system in read else None)),
            }
            yield [Cell(scoring), Cell(system, "name")], {name: _score(score) for name, score in own.items()} | endings


def _gap_cells(one: Measured) -> Iterator[tuple[list[Cell], dict[str, Cell]]]:
    size = one.results.get("settings", {}).get("samples")
    names = {name: name.replace("_", " ") for name in GAP_METRICS} | {
        "finished": "finished",
        "unparsed": "no answer",
        f"pass@{size}": f"pass@{size}",
        f"majority@{size}": f"majority@{size}",
    }
    for verifier, by_peer in one.results["scores"].items():
        for peer, own in by_peer.items():
            cells = {title: _score(own[name]) for name, title in names.items() if own.get(name)}
            yield [Cell(verifier), Cell(peer, "name")], cells


def _score(score: Mapping[str, Any]) -> Cell:
    if not score.get("ci95"):
        return Cell(percent(score["value"]))
    low, high = score["ci95"]
    return Cell(percent(score["value"]), soft=f"[{percent(low)}, {percent(high)}]")


def change_table(measured: Sequence[Measured]) -> dict[str, Any]:
    """What `--compare` found."""
    rows = []
    for one in measured:
        for scoring, systems in one.results.get("comparison", {}).items():
            for system, own in systems.items():
                for metric, change in own.items():
                    low, high = change["ci95"]
                    style = "up" if low > 0 else "down" if high < 0 else ""
                    cells = [
                        Cell(scoring),
                        Cell(system, "name"),
                        Cell(metric),
                        *(Cell(percent(change[when])) for when in ("before", "after")),
                        Cell(signed(100 * change["gain"]), style, f"[{signed(100 * low)}, {signed(100 * high)}]"),
                        Cell(f"{change['p']:.3f}" if change["p"] >= 0.001 else "< 0.001"),
                    ]
                    rows.append((one, cells))
    return _table(measured, ["Scoring", "Who", "Score", "Before, %", "After, %", "Gain, points", "p"], rows, 3)


def _table(
    measured: Sequence[Measured], header: Sequence[str], rows: Sequence[tuple[Measured, list[Cell]]], texts: int
) -> dict[str, Any]:
    several = len(measured) > 1
    return {
        "header": ["Of", *header] if several else list(header),
        "numbers_from": texts + several,
        "rows": [Row((Cell(one.name, "name"), *cells) if several else tuple(cells)) for one, cells in rows],
    }


def measured_summary(one: Measured) -> str:
    """What was measured, on what, how, and where it lies."""
    results, settings = one.results, one.results.get("settings", {})
    what = "generator-verifier gaps" if one.kind == "gap" else "an evaluation"
    parts = [f"{what} on {len(results['questions'])} questions of {results.get('benchmark', 'an unnamed set')}"]
    if prompt := results.get("prompt"):
        parts.append(f"prompt {prompt['name']}")
    if settings.get("max_new_tokens"):
        parts.append(f"at most {settings['max_new_tokens']} tokens a response")
    if settings.get("samples"):
        parts.append(f"{settings['samples']} samples of each question, seed {settings.get('seed')}")
    return f"{'; '.join([*parts, str(one.folder)])}."
