"""The gains of several runs over seeds and settings: one table, one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pst_rl.files import write_atomically
from pst_rl.measure.statistics import Interval, mean_interval
from pst_rl.progress.words import terminal_width
from pst_rl.report.results import RunResults, gain, read_results
from pst_rl.report.tables import pipe_table, signed
from pst_rl.report.text_table import text_table

HEAD = ("setting", "seeds", "gain (95 %)", "minus the first, paired", "greedy vote", "pooled vote")


def write_sweep(folder: Path, runs: Sequence[tuple[str, int, Path]]) -> str:
    """Writes sweep.md, sweep.json and, where there are gains, sweep.png into the folder; returns the table to print.

    The gain of a run is the mean over its peers, in points of greedy exact match. Intervals are Student's t over
    seeds (`pst_rl.measure.mean_interval`); the difference to the first setting pairs runs of one seed.

    Args:
        runs: (setting, seed, folder) of finished runs.
    """
    results: dict[str, dict[int, RunResults]] = {}
    for setting, seed, place in runs:
        results.setdefault(setting, {})[seed] = read_results(place)
    rows = [_row(setting, found, next(iter(results.values()))) for setting, found in results.items()]
    known = [row for row in rows if row["gains"]]
    cells = [_cells(row) for row in rows]
    note = "" if known else "\n\nNo gold answers: gains are unknown. `pst-rl report` shows each run's agreement."
    table = "\n".join(pipe_table(HEAD, cells, numbers_from=1, even=True)) + note
    write_atomically(folder / "sweep.md", f"# {folder.name}\n\n{table}\n")
    write_atomically(folder / "sweep.json", json.dumps({"rows": rows}, indent=1) + "\n")
    if known:
        _draw(known, folder / "sweep.png")
    shown = "\n".join(text_table(HEAD, cells, width=terminal_width())) + note
    return f"{shown}\n\nTable and picture are in {folder}: sweep.md, sweep.json{', sweep.png' if known else ''}"


def _row(setting: str, found: dict[int, RunResults], first: dict[int, RunResults]) -> dict[str, Any]:
    gains = {seed: run.mean_gain for seed, run in found.items() if run.mean_gain is not None}
    base = {seed: run.mean_gain for seed, run in first.items() if run.mean_gain is not None}
    paired = [own - base[seed] for seed, own in gains.items() if seed in base]
    votes = {name: _mean([gain(getattr(run, name)) for run in found.values()]) for name in ("vote", "pooled_vote")}
    return {
        "setting": setting,
        "seeds": sorted(found),
        "gains": {str(seed): value for seed, value in sorted(gains.items())},
        "gain": _interval(list(gains.values())),
        "minus_first": None if found is first else _interval(paired),
        **votes,
    }


def _mean(values: list[float | None]) -> float | None:
    """`None` unless every run has one."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _interval(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    if len(values) == 1:
        return {"gain": values[0]}
    found: Interval = mean_interval(values)
    return {"gain": found.gain, "low": found.low, "high": found.high}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["setting"],
        str(len(row["seeds"])),
        _shown(row["gain"]),
        _shown(row["minus_first"]),
        signed(row["vote"]),
        signed(row["pooled_vote"]),
    )


def _shown(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    ends = f" ({signed(found['low'])} to {signed(found['high'])})" if "low" in found else ""
    return signed(found["gain"]) + ends


def _draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """A dot for each run, and the mean with its interval, a line for each setting."""
    from matplotlib.figure import Figure

    from pst_rl.report.drawing import COLOURS, clean

    figure = Figure(figsize=(8, 1.2 + 0.55 * len(rows)), layout="constrained")
    panel = figure.subplots()
    clean(panel, "Gain of the peers over seeds, in points, with its 95 % interval", grid="x")
    panel.axvline(0, color="#999999", linewidth=1)
    for y, row in enumerate(rows):
        colour, found = COLOURS[y % len(COLOURS)], row["gain"]
        panel.plot(list(row["gains"].values()), [y] * len(row["gains"]), "o", color=colour, alpha=0.45, markersize=6)
        if "low" in found:
            panel.hlines(y, found["low"], found["high"], color=colour, linewidth=2.5)
        panel.plot([found["gain"]], [y], "D", color=colour, markersize=8)
    panel.set_yticks(range(len(rows)), [row["setting"] for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    figure.savefig(file, dpi=150)
