"""The page of `pst-rl report`: one HTML file that asks for nothing from outside.

This module says what is shown, as plain data; `page.html.jinja` says how, and escapes all of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pst_rl.files import write_atomically
from pst_rl.report.panels import ACCURACY, COST, TRAINING, Chart, accuracy_interval, draw_charts, questions
from pst_rl.report.questions import Limits, left_out, question_rows
from pst_rl.report.results import PeerResult, VoteResult, gain
from pst_rl.report.run import Run
from pst_rl.report.tables import interval, percent, signed, title
from pst_rl.report.text import visible

_HERE = Path(__file__).parent


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


def write_page(runs: Sequence[Run], folder: str | Path, limits: Limits = Limits()) -> Path:  # noqa: B008
    """Writes `report.html` and a PNG of each panel into the folder, and returns the page's path.

    The page appears whole or not at all. All text of models and data is escaped; besides, its content security policy
    lets only its own script run, and nothing be loaded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = make_page(
        runs,
        accuracy=draw_charts(runs, [ACCURACY], folder),
        training=draw_charts(runs, TRAINING, folder),
        cost=draw_charts(runs, COST, folder),
        limits=limits,
    )
    return write_atomically(folder / "report.html", page)


def make_page(
    runs: Sequence[Run], accuracy: Sequence[Chart], training: Sequence[Chart], cost: Sequence[Chart], limits: Limits
) -> str:
    """The HTML of the page."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = question_rows(runs, limits)
    peers = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    drawn = {chart.panel.name for chart in training}
    return environment().get_template("page.html.jinja").render(
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        data=_json({"runs": [visible(run.name) for run in runs], "peers": peers, "rows": rows}),
        named=", ".join(run.name for run in runs),
        several=len(runs) > 1,
        summaries=[(run.name, _summary(run)) for run in runs],
        missing=[(run.name, part) for run in runs for part in run.missing],
        accuracy={"panels": _panels(runs, accuracy), "table": _accuracy_table(runs)},
        alarms=[(run.name, run.alarms) for run in runs],
        training={
            "panels": _panels(runs, training),
            "absent": [panel.title for panel in TRAINING if panel.name not in drawn],
        },
        cost={"panels": _panels(runs, cost), "table": _cost_table(runs)},
        questions=_questions(runs, rows, peers, limits),
        options=_options(runs),
    )  # fmt: skip


def environment() -> Environment:
    """Templates in which every value is made `visible` and escaped, in elements and in quoted attributes.

    A name that is not known is an error, not an empty place.
    """
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else visible(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _json(data: Any) -> str:
    """JSON in ASCII in which no tag can begin or end."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(run: Run) -> str:
    parts = []
    if run.results is not None:
        known = run.results.mean_gain
        parts.append(title(run.results))
        parts.append("no gold answers" if known is None else f"mean gain of the peers {signed(known)} points")
        parts.append("training read labels" if run.results.supervised else "training read no label")
    if run.history:
        parts.append(f"{max(entry['step'] for entry in run.history)} steps logged")
    return f"{'; '.join([*parts, str(run.folder)])}."


def _panels(runs: Sequence[Run], charts: Sequence[Chart]) -> list[dict[str, Any]]:
    """Each chart with its pictures, in base 64; `None` where a run does not have it."""
    return [
        {
            "name": chart.panel.name,
            "title": chart.panel.title,
            "caption": chart.panel.caption,
            "figures": [
                {"run": run.name, "svg": None if picture is None else base64.b64encode(picture).decode()}
                for run, picture in zip(runs, chart.pictures, strict=True)
            ],
        }
        for chart in charts
    ]


# ---- tables ----


def _run_table(
    runs: Sequence[Run], header: Sequence[str], rows: Iterable[tuple[Run, Sequence[Cell]]]
) -> dict[str, Any]:
    """A table of numbers by run and by what they are of; one run needs no column for its name."""
    several = len(runs) > 1
    return {
        "header": ["Run", *header] if several else list(header),
        "numbers_from": 2 if several else 1,
        "rows": [Row((Cell(run.name, "name"), *cells) if several else tuple(cells)) for run, cells in rows],
    }


def _accuracy_table(runs: Sequence[Run]) -> dict[str, Any]:
    header = ("Who", "Before, %", "After, %", "Gain, points", "95 % of gain", "Parsed before, %", "Parsed after, %")
    rows = []
    for run in runs:
        if run.results is None:
            continue
        for name, result in run.results.measured.items():
            count = questions(run.results, name)
            cells = (
                Cell(name, "name"),
                *(_with_interval(value, count) for value in (result.before, result.after)),
                Cell(signed(gain(result)), _direction(result)),
                Cell(interval(result)),
                *(Cell(percent(getattr(result, f"parsed_{when}", None))) for when in ("before", "after")),
            )
            rows.append((run, cells))
    return _run_table(runs, header, rows)


def _with_interval(value: float | None, count: int) -> Cell:
    if value is None:
        return Cell(percent(value))
    low, high = accuracy_interval(value, count)
    return Cell(percent(value), soft=f"[{percent(low)}, {percent(high)}]")


def _direction(result: PeerResult | VoteResult) -> str:
    """Where the whole interval of the gain lies on one side of 0."""
    low, high = result.ci95 or (0.0, 0.0)
    return "up" if low > 0 else "down" if high < 0 else ""


def _cost_table(runs: Sequence[Run]) -> dict[str, Any]:
    rows = []
    for run in runs:
        seconds = run.results.seconds if run.results else {}
        total = sum(seconds.values())
        for phase, spent in seconds.items():
            share = percent(spent / total) if total else percent(None)
            rows.append((run, (Cell(phase), Cell(f"{spent:.1f}"), Cell(share))))
        if run.results and run.results.peak_memory_mib is not None:
            memory = f"{run.results.peak_memory_mib:.0f} MiB"
            rows.append((run, (Cell("peak memory"), Cell(memory), Cell(""))))
    return _run_table(runs, ("Phase", "Seconds", "Share, %"), rows)


def _options(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The options by name, those that differ between runs apart; `None` if there are none."""
    configs = [run.results.config if run.results else {} for run in runs]
    names = sorted({str(name) for config in configs for name in config})
    if not names:
        return None
    rows = []
    for name in names:
        values = [json.dumps(config[name]) if name in config else "–" for config in configs]
        rows.append(
            Row((Cell(name, "code"), *(Cell(value, "name") for value in values)), differs=len(set(values)) > 1)
        )
    header = ["Option", *(run.name for run in runs)]
    return {
        "header": header,
        "numbers_from": len(header),
        "differing": [row for row in rows if row.differs],
        "same": [row for row in rows if not row.differs],
    }


def _questions(
    runs: Sequence[Run], rows: Sequence[dict[str, Any]], peers: Sequence[str], limits: Limits
) -> dict[str, Any] | None:
    """What the controls of the table of questions offer; the script fills the table. `None` without a question."""
    if not rows:
        return None
    providers = dict.fromkeys(p for row in rows for peer in row["peers"].values() for p in peer["rewards"])
    figures = {f"reward:{p}": "reward" if len(providers) == 1 else f"reward {p}" for p in providers}
    return {
        "left_out": left_out(runs, limits),
        "runs": {"": "all"} | {str(index): run.name for index, run in enumerate(runs)},
        "steps": {"": "all"} | {str(step): f"step {step}" for step in sorted({row["step"] for row in rows})},
        "figures": figures | {"weight": "weight", "pmi": "PMI", "agreeing": "share equal to the aggregate"},
        "peers": peers,
    }
