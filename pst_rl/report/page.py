"""The page of `pst-rl report`: one HTML file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pst_rl.files import write_atomically
from pst_rl.report.panels import ACCURACY, COST, TRAINING, Chart, accuracy_interval, draw_charts, questions
from pst_rl.report.questions import Limits, left_out, question_rows
from pst_rl.report.results import gain
from pst_rl.report.run import Run
from pst_rl.report.tables import interval, percent, signed, title
from pst_rl.report.text import escaped, visible

_HERE = Path(__file__).parent


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
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    rows = question_rows(runs, limits)
    data = {"runs": [visible(run.name) for run in runs], "peers": _table_peers(rows), "rows": rows}
    named = ", ".join(run.name for run in runs)
    sections = [
        _section("accuracy", "Accuracy", _charts(runs, accuracy), _accuracy_table(runs)),
        _section("alarms", "Alarms of collapse", *map(_alarms, runs)),
        _section("training", "Training", _charts(runs, training), _not_logged(training)),
        _section("cost", "Cost", _charts(runs, cost), _cost_table(runs)),
        _section("questions", "Questions", *_questions(runs, data, limits)),
        _section("options", "Options", _options(runs)),
    ]
    places = ("accuracy", "alarms", "training", "cost", "questions", "options")
    links = " ".join(f'<a href="#{place}">{place.capitalize()}</a>' for place in places)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escaped(named)} · pst_rl report</title>
<style>
{(_HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>Report of {_bdi(named)}</h1>
{_summaries(runs)}
<nav aria-label="Sections">{links}</nav>
{_missing(runs)}
</header>
<main>
{"".join(sections)}</main>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def _json(data: Any) -> str:
    """JSON in ASCII in which no tag can begin or end."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _bdi(text: object) -> str:
    """Text that may run in either direction, kept apart from what stands around it."""
    return f"<bdi>{escaped(text)}</bdi>"


def _section(place: str, heading: str, *content: str) -> str:
    return f'<section id="{place}">\n<h2>{heading}</h2>\n{"".join(content)}</section>\n'


def _summaries(runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        parts = []
        if run.results is not None:
            known = run.results.mean_gain
            parts.append(title(run.results))
            parts.append("no gold answers" if known is None else f"mean gain of the peers {signed(known)} points")
            parts.append("training read labels" if run.results.supervised else "training read no label")
        if run.history:
            parts.append(f"{max(entry['step'] for entry in run.history)} steps logged")
        parts.append(str(run.folder))
        name = f"<strong>{_bdi(run.name)}</strong>: " if len(runs) > 1 else ""
        lines.append(f'<p class="soft">{name}{escaped("; ".join(parts))}.</p>\n')
    return "".join(lines)


def _missing(runs: Sequence[Run]) -> str:
    items = [f"<li>{_bdi(run.name)}: {escaped(part)}</li>" for run in runs for part in run.missing]
    return f'<div class="note" id="missing"><strong>Missing</strong><ul>{"".join(items)}</ul></div>' if items else ""


# ---- charts ----


def _charts(runs: Sequence[Run], charts: Sequence[Chart]) -> str:
    several = len(runs) > 1
    panels = []
    for chart in charts:
        figures = "".join(
            _figure(chart, run, picture, several) for run, picture in zip(runs, chart.pictures, strict=True)
        )
        panels.append(
            f'<div class="panel{" wide" if several else ""}" id="panel-{chart.panel.name}">'
            f"<h3>{escaped(chart.panel.title)}</h3>"
            f'<div class="{"runs" if several else ""}">{figures}</div>'
            f'<p class="soft">{escaped(chart.panel.caption)}</p></div>\n'
        )
    return f'<div class="panels">\n{"".join(panels)}</div>\n' if panels else ""


def _figure(chart: Chart, run: Run, picture: bytes | None, several: bool) -> str:
    name = f"<figcaption>{_bdi(run.name)}</figcaption>" if several else ""
    if picture is None:
        return f'<figure>{name}<div class="absent">not in this run</div></figure>'
    source = base64.b64encode(picture).decode()
    described = escaped(f"{chart.panel.title}, {run.name}")
    return f'<figure>{name}<img alt="{described}" src="data:image/svg+xml;base64,{source}"></figure>'


def _not_logged(charts: Sequence[Chart]) -> str:
    drawn = {chart.panel.name for chart in charts}
    absent = [panel.title for panel in TRAINING if panel.name not in drawn]
    return f'<p class="soft" id="not-logged">Not logged: {escaped(", ".join(absent))}.</p>\n' if absent else ""


# ---- tables ----


def _run_table(runs: Sequence[Run], header: Sequence[str], rows: Iterable[tuple[Run, Sequence[str]]]) -> str:
    """A table of numbers by run and by what they are of; one run needs no column for its name."""
    several = len(runs) > 1
    heads = ("Run", *header) if several else tuple(header)
    numbers_from = 2 if several else 1
    made = [_row(heads, (_bdi(run.name), *cells) if several else cells, numbers_from) for run, cells in rows]
    return _table(heads, made, numbers_from) if made else "<p>Not known: there is no results.json.</p>\n"


def _table(header: Sequence[str], rows: Iterable[str], numbers_from: int) -> str:
    heads = "".join(
        f'<th scope="col"{" class=number" if i >= numbers_from else ""}>{escaped(h)}</th>'
        for i, h in enumerate(header)
    )
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="scroll"><table class="cards">{head}<tbody>{"".join(rows)}</tbody></table></div>\n'


def _row(header: Sequence[str], cells: Sequence[str], numbers_from: int, classes: str = "") -> str:
    """Cells are HTML already."""
    made = "".join(
        f'<td data-label="{escaped(label)}"{" class=number" if i >= numbers_from else ""}>{cell}</td>'
        for i, (label, cell) in enumerate(zip(header, cells, strict=True))
    )
    return f"<tr{f' class={classes}' if classes else ''}>{made}</tr>"


def _accuracy_table(runs: Sequence[Run]) -> str:
    header = ("Who", "Before, %", "After, %", "Gain, points", "95 % of gain", "Parsed before, %", "Parsed after, %")
    rows = []
    for run in runs:
        for name, result in run.results.measured.items() if run.results else ():
            count = questions(run.results, name)
            points = gain(result)
            colour = "" if not result.ci95 else "up" if result.ci95[0] > 0 else "down" if result.ci95[1] < 0 else ""
            cells = (
                _bdi(name),
                *(_with_interval(value, count) for value in (result.before, result.after)),
                f'<span class="{colour}">{signed(points)}</span>',
                interval(result),
                percent(getattr(result, "parsed_before", None)),
                percent(getattr(result, "parsed_after", None)),
            )
            rows.append((run, cells))
    return _run_table(runs, header, rows)


def _with_interval(value: float | None, count: int) -> str:
    if value is None:
        return percent(value)
    low, high = accuracy_interval(value, count)
    return f'{percent(value)} <span class="soft">[{percent(low)}, {percent(high)}]</span>'


def _alarms(run: Run) -> str:
    name = _bdi(run.name)
    if run.alarms is None:
        return f"<p>{name}: not known.</p>\n"
    if not run.alarms:
        return f"<p>{name}: none.</p>\n"
    items = "".join(f"<li>{escaped(alarm)}</li>" for alarm in run.alarms)
    return f'<div class="note alarm">{name}<ul>{items}</ul></div>\n'


def _cost_table(runs: Sequence[Run]) -> str:
    header = ("Phase", "Seconds", "Share, %")
    rows = []
    for run in runs:
        seconds = run.results.seconds if run.results else {}
        total = sum(seconds.values())
        for phase, spent in seconds.items():
            share = percent(spent / total) if total else percent(None)
            rows.append((run, (escaped(phase), f"{spent:.1f}", share)))
        if run.results and run.results.peak_memory_mib is not None:
            memory = f"{run.results.peak_memory_mib:.0f} MiB"
            rows.append((run, ("peak memory", memory, "")))
    return _run_table(runs, header, rows)


def _options(runs: Sequence[Run]) -> str:
    configs = [run.results.config if run.results else {} for run in runs]
    names = sorted({str(name) for config in configs for name in config})
    if not names:
        return "<p>Not known: there is no results.json.</p>\n"
    header = ("Option", *(run.name for run in runs))
    differing, same = [], []
    for name in names:
        values = [json.dumps(config[name]) if name in config else "–" for config in configs]
        differs = len(set(values)) > 1
        cells = (f"<code>{escaped(name)}</code>", *map(_bdi, values))
        (differing if differs else same).append(_row(header, cells, len(header), "differs" if differs else ""))
    text = f"<h3>Options that differ</h3>\n{_table(header, differing, len(header))}" if differing else ""
    summary = f"{len(same)} options{' in common' if differing else ''}"
    return f"{text}<details><summary>{summary}</summary>{_table(header, same, len(header))}</details>\n"


# ---- the table of questions: its controls; the script fills it ----


def _table_peers(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["peers"]))


def _questions(runs: Sequence[Run], data: dict[str, Any], limits: Limits) -> list[str]:
    rows = data["rows"]
    if not rows:
        return ["<p>Not known: there is no completions table, or none of the steps asked for.</p>\n"]
    providers = dict.fromkeys(p for row in rows for peer in row["peers"].values() for p in peer["rewards"])
    figures = {f"reward:{p}": "reward" if len(providers) == 1 else f"reward {p}" for p in providers}
    figures |= {"weight": "weight", "pmi": "PMI", "agreeing": "share equal to the aggregate"}
    kinds = {
        "all": "all",
        "differ": "several answers",
        "agree": "one answer",
        "abstained": "no aggregate",
        "lacking": "a sample without an answer",
    }
    steps = {str(step): f"step {step}" for step in sorted({row["step"] for row in rows})}
    names = {str(index): name for index, name in enumerate(data["runs"])}
    ticks = "".join(
        f'<label class="tick"><input type="checkbox" id="peer-{i}" checked>{_bdi(name)}</label>'
        for i, name in enumerate(data["peers"])
    )
    said = "".join(f"<li>{escaped(sentence)}</li>" for sentence in left_out(runs, limits))
    return [
        "<p>What each peer answered at the recorded steps. A tick marks answers that equal the aggregate; figures are "
        "means over a peer's samples.</p>\n",
        f'<ul class="soft" id="left-out">{said}</ul>\n' if said else "",
        '<noscript><p class="note">This table needs JavaScript.</p></noscript>\n',
        '<div class="filters" role="group" aria-label="Filters">'
        '<label>Search<input type="search" id="search" placeholder="words in question or completions"></label>'
        f"{_select('run', 'Run', {'': 'all'} | names, hidden=len(runs) == 1)}"
        f"{_select('step', 'Step', {'': 'all'} | steps)}"
        f"{_select('kind', 'Questions with', kinds)}"
        f"{_select('figure', 'A peer sorts by', figures)}"
        f"{_select('sort', 'Sort by', {})}{ticks}</div>\n",
        '<p class="soft" id="count" aria-live="polite"></p>\n',
        '<div class="scroll"><table id="questions-table" class="cards">'
        "<thead><tr></tr></thead><tbody></tbody></table></div>\n",
        '<button type="button" id="more" hidden>Show more</button>\n',
    ]


def _select(place: str, label: str, options: dict[str, str], hidden: bool = False) -> str:
    made = "".join(f'<option value="{escaped(value)}">{escaped(text)}</option>' for value, text in options.items())
    return f'<label{" hidden" if hidden else ""}>{label}<select id="{place}">{made}</select></label>'
