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
from pst_rl.report.cells import Cell, Row
from pst_rl.report.measured import Measured, not_shown, response_rows
from pst_rl.report.measured_page import GAPS, SCORES, change_table, measured_summary, measured_table
from pst_rl.report.panels import ACCURACY, COST, TRAINING, Chart, Shown, accuracy_interval, draw_charts, questions
from pst_rl.report.questions import Limits, left_out, question_rows
from pst_rl.report.results import PeerResult, VoteResult, gain
from pst_rl.report.run import Run
from pst_rl.report.tables import answer_cells, answers, interval, percent, signed, title
from pst_rl.report.text import visible

_HERE = Path(__file__).parent


def write_page(
    runs: Sequence[Run],
    folder: str | Path,
    limits: Limits = Limits(),  # noqa: B008
    measured: Sequence[Measured] = (),
) -> Path:
    """Writes `report.html` and a PNG of each panel into the folder, and returns the page's path.

    The page appears whole or not at all. All text of models and data is escaped; besides, its content security policy
    lets only its own script run, and nothing be loaded.

    Args:
        runs, measured: Training runs; evaluations and gaps. What there is none of has no section.
        folder: Of the page.
        limits: How much of questions and responses is shown.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = make_page(
        runs,
        accuracy=draw_charts(runs, [ACCURACY], folder),
        training=draw_charts(runs, TRAINING, folder),
        cost=draw_charts(runs, COST, folder),
        limits=limits,
        measured=[_section(measured, kind, folder) for kind in SECTIONS if any(one.kind == kind for one in measured)],
    )
    return write_atomically(folder / "report.html", page)


SECTIONS = {"evaluation": ("evaluations", "Evaluations", SCORES), "gap": ("gaps", "Gaps", GAPS)}


def _section(measured: Sequence[Measured], kind: str, folder: Path) -> Section:
    these = [one for one in measured if one.kind == kind]
    place, title, panel = SECTIONS[kind]
    return Section(place, title, these, draw_charts(these, [panel], folder))


@dataclass(frozen=True)
class Section:
    """Evaluations, or gaps: their place on the page, its title, what they are, and their charts."""

    place: str
    title: str
    measured: Sequence[Measured]
    charts: Sequence[Chart]

    @property
    def kind(self) -> str:
        """As in `results.json`."""
        return self.measured[0].kind


def make_page(
    runs: Sequence[Run],
    accuracy: Sequence[Chart],
    training: Sequence[Chart],
    cost: Sequence[Chart],
    limits: Limits,
    measured: Sequence[Section] = (),
) -> str:
    """The HTML of the page."""
    script = "".join((_HERE / name).read_text(encoding="utf-8") for name in ("page.js", "responses.js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = question_rows(runs, limits)
    peers = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    drawn = {chart.panel.name for chart in training}
    shown: list[Run | Measured] = [*runs, *(one for section in measured for one in section.measured)]
    evaluations = [one for one in shown if isinstance(one, Measured) and one.kind == "evaluation"]
    said = response_rows(evaluations, limits)
    titles = {
        place: place.capitalize() for place in ("accuracy", "alarms", "training", "cost", "questions", "options")
    }
    if runs and not accuracy:
        titles["accuracy"] = "Answers"
    data = {"runs": [visible(run.name) for run in runs], "peers": peers, "rows": rows}
    data |= {"measured": [visible(one.name) for one in evaluations], "said": said}
    return environment().get_template("page.html.jinja").render(
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        data=_json(data),
        named=", ".join(one.name for one in shown),
        runs=bool(runs),
        several=len(shown) > 1,
        summaries=[(one.name, _summary(one)) for one in shown],
        missing=[(one.name, part) for one in shown for part in one.missing],
        sections=[*(titles.items() if runs else ()), *((one.place, one.title) for one in measured)],
        titles=titles,
        accuracy={"panels": _panels(runs, accuracy), "table": _accuracy_table(runs), "joint": _joint(runs)},
        alarms=[(run.name, run.alarms) for run in runs],
        training={
            "panels": _panels(runs, training),
            "absent": [panel.title for panel in TRAINING if panel.name not in drawn],
        },
        cost={"panels": _panels(runs, cost), "table": _cost_table(runs)},
        questions=_questions(runs, rows, peers, limits),
        options=_options(runs),
        measured=[
            {
                "place": section.place,
                "title": section.title,
                "panels": _panels(section.measured, section.charts),
                "table": measured_table(section.measured, section.kind),
                "changes": change_table(section.measured),
            }
            for section in measured
        ],
        said=_said(evaluations, said, limits),
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


def _summary(run: Run | Measured) -> str:
    if isinstance(run, Measured):
        return measured_summary(run)
    parts = []
    if run.results is not None:
        known = run.results.mean_gain
        parts.append(title(run.results))
        parts.append("no gold answers" if known is None else f"mean gain of the peers {signed(known)} points")
        parts.append("training read labels" if run.results.supervised else "training read no label")
    if run.history:
        parts.append(f"{max(entry['step'] for entry in run.history)} steps logged")
    return f"{'; '.join([*parts, str(run.folder)])}."


def _panels(runs: Sequence[Shown], charts: Sequence[Chart]) -> list[dict[str, Any]]:
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
    """Accuracies if gold is known, and how responses end; a column that nobody has is left out."""
    header = ["Who", "Before, %", "After, %", "Gain, points", "95 % of gain"]
    header += ["Parsed, %", "Finished, %", "Tokens", "Changed, %"]
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
                *(Cell(text) for text in answer_cells(result)),
            )
            rows.append((run, cells))
    rows = [(run, cells) for run, cells in rows if any(cell.text != "-" for cell in cells[1:])]
    kept = [c for c in range(len(header)) if c == 0 or any(cells[c].text != "-" for _, cells in rows)]
    return _run_table(runs, [header[c] for c in kept], [(run, [cells[c] for c in kept]) for run, cells in rows])


def _joint(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """What the peers' answers have in common, in sentences, for each run that knows."""
    return [(run.name, said) for run in runs if run.results is not None and (said := answers(run.results))]


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


def _said(measured: Sequence[Measured], rows: Sequence[dict[str, Any]], limits: Limits) -> dict[str, Any] | None:
    """What the controls of the table of responses offer; the script fills the table. `None` without a response."""
    if not rows:
        return None
    said = [one for row in rows for one in row["said"]]
    peers = dict.fromkeys(one["peer"] for one in said)
    kinds = dict.fromkeys(one["kind"] for one in said)
    return {
        "left_out": not_shown(measured, limits),
        "measured": {"": "all"} | {str(index): one.name for index, one in enumerate(measured)},
        "several": len(measured) > 1,
        "peers": {"": "all"} | {name: name for name in peers},
        "kinds": {"greedy": "greedy"} | {name: name for name in kinds} | {"": "all"},
    }
