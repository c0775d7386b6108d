"""The charts of the page: one panel a measure, one picture for each run with common axes, and a PNG of all runs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pst_rl.report.drawing import VOTE_COLOUR, clean, draw_lines, label_ends, note, peer_colours, read_series
from pst_rl.report.results import RunResults
from pst_rl.report.run import Run
from pst_rl.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Colours = Mapping[str, str]
Lines = Mapping[str, list[tuple[int, float]]]  # step and value by name, to be labelled at their ends
Draw = Callable[["Axes", Any, Colours], "Lines | None"]
SIZE = (4.9, 2.9)  # inches of one picture: its text is readable where a page is 400 pixels wide
_ROW, _AROUND = 0.28, 0.9  # inches of a named row, and of what is above and below the rows


class Shown(Protocol):
    """What has a picture: a run, an evaluation, gaps."""

    @property
    def name(self) -> str: ...
    @property
    def peers(self) -> list[str]: ...


@dataclass(frozen=True)
class Panel:
    """One measure.

    Attributes:
        name: Of its files.
        title, caption: What is drawn, with its unit, and how to read it.
        draw: `draw(axes, run, colours)` returns the lines that need a label, or `None`, having drawn nothing, if the
            run does not have it.
        rows: Of a panel whose vertical axis has names, which each run has its own of, how many; else the axis has a
            scale, which is common.
    """

    name: str
    title: str
    caption: str
    draw: Draw
    rows: Callable[[Any], int] | None = None


@dataclass(frozen=True)
class Chart:
    """A panel drawn: one SVG for each run, `None` where the run does not have it."""

    panel: Panel
    pictures: tuple[bytes | None, ...]


def draw_charts(runs: Sequence[Shown], panels: Sequence[Panel], folder: Path) -> list[Chart]:
    """Draws every panel that some run has, and writes `<panel>.png` with all runs side by side into the folder."""
    if not runs:
        return []
    colours = peer_colours(dict.fromkeys(name for run in runs for name in run.peers))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
        charts = [_draw(panel, runs, colours, folder) for panel in panels]
    return [chart for chart in charts if any(chart.pictures)]


def _draw(panel: Panel, runs: Sequence[Shown], colours: Colours, folder: Path) -> Chart:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = SIZE[0], _height(panel, runs)
    together = Figure(figsize=(width * len(runs), height + 0.3), dpi=150, layout="constrained")
    FigureCanvasAgg(together)
    together.suptitle(plain(panel.title, 90), x=0.01, ha="left", fontsize=11, fontweight="bold")
    all_axes = together.subplots(1, len(runs), sharex=True, sharey=panel.rows is None, squeeze=False)[0]
    drawn = []
    for axes, run in zip(all_axes, runs, strict=True):
        clean(axes, plain(run.name, 40) if len(runs) > 1 else "")
        drawn.append(panel.draw(axes, run, colours))
    if all(lines is None for lines in drawn):
        return Chart(panel, (None,) * len(runs))
    # The axes are common, so labels find their height only when all runs are drawn.
    pictures: list[bytes | None] = []
    for axes, run, lines in zip(all_axes, runs, drawn, strict=True):
        if lines is None:
            note(axes, "not in this run")
            pictures.append(None)
            continue
        _label(axes, lines, colours)
        pictures.append(_alone(panel, run, colours, axes))
    together.savefig(folder / f"{panel.name}.png")
    return Chart(panel, tuple(pictures))


def _height(panel: Panel, runs: Iterable[Shown]) -> float:
    """Inches: a panel of named rows is as high as the most of them need."""
    return SIZE[1] if panel.rows is None else max(SIZE[1], _AROUND + _ROW * max(map(panel.rows, runs)))


def _alone(panel: Panel, run: Shown, colours: Colours, like: Axes) -> bytes:
    """The SVG of one run, on the axes that it shares with the others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], _height(panel, [run])), layout="constrained")
    axes = figure.subplots()
    clean(axes, "")
    lines = panel.draw(axes, run, colours)
    axes.set_xlim(like.get_xlim())
    if panel.rows is None:
        axes.set_ylim(like.get_ylim())
    _label(axes, lines or {}, colours)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def _label(axes: Axes, lines: Lines, colours: Colours) -> None:
    if lines:
        label_ends(axes, lines, {name: colours.get(name, VOTE_COLOUR) for name in lines})


# ---- what a panel draws ----


def lines(key: str, names: Sequence[str] | None = None) -> Draw:
    """One line over the steps for each peer (or for these names) from the logs; `key` has braces for the name."""

    def draw(axes: Axes, run: Run, colours: Colours) -> Lines | None:
        shown = list(colours) if names is None else names
        series = {name: points for name in shown if (points := read_series(run.history, key.format(name)))}
        if not series:
            return None
        draw_lines(axes, series, {name: colours.get(name, VOTE_COLOUR) for name in series})
        return series if len(shown) > 1 else {}

    return draw


def distribution(column: str, logged: str) -> Draw:
    """Each peer's median and the range from the 10th to the 90th percentile; without a table, the logged mean."""

    def draw(axes: Axes, run: Run, colours: Colours) -> Lines | None:
        frame = run.completions(columns=("step", "peer", column))
        if column not in frame or frame[column].notna().sum() == 0:
            return lines(logged)(axes, run, colours)
        frame = frame.dropna(subset=[column])
        medians = {}
        for name, rows in frame.groupby("peer", sort=False):
            parts = rows.groupby("step")[column].quantile([0.1, 0.5, 0.9]).unstack().sort_index()
            colour = colours.get(name, VOTE_COLOUR)
            axes.fill_between(parts.index, parts[0.1], parts[0.9], color=colour, alpha=0.15, lw=0)
            medians[name] = [(int(step), float(value)) for step, value in parts[0.5].items()]
        draw_lines(axes, medians, {name: colours.get(name, VOTE_COLOUR) for name in medians})
        return medians

    return draw


def draw_accuracies(axes: Axes, run: Run, colours: Colours) -> Lines | None:
    """A hollow mark before, a full one after, each with its own interval."""
    if run.results is None:
        return None
    rows = [(name, result) for name, result in run.results.measured.items() if result.after is not None]
    if not rows:
        return None
    for y, (name, result) in enumerate(rows):
        colour = colours.get(name, VOTE_COLOUR)
        for shift, value, full in ((-0.16, result.before, False), (0.16, result.after, True)):
            if value is None:
                continue
            low, high = accuracy_interval(value, questions(run.results, name))
            axes.hlines(y + shift, 100 * low, 100 * high, color=colour, lw=1.6, alpha=0.7)
            axes.plot(100 * value, y + shift, "o", color=colour, mfc=colour if full else "white", ms=6)
    axes.set_yticks(range(len(rows)), [plain(name) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_xlabel("exact match, % (hollow before, full after)", fontsize=9)
    return {}


def draw_seconds(axes: Axes, run: Run, colours: Colours) -> Lines | None:
    """Wall-clock seconds of each phase."""
    if run.results is None or not run.results.seconds:
        return None
    phases = dict(reversed(run.results.seconds.items()))
    bars = axes.barh([plain(name, 30) for name in phases], list(phases.values()), color=VOTE_COLOUR)
    axes.bar_label(bars, [f"{value:.1f} s" for value in phases.values()], fontsize=9, padding=3)
    axes.margins(x=0.18)
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_xlabel("seconds", fontsize=9)
    return {}


def accuracy_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of one accuracy on `count` questions (Wilson, 1927); the share itself if there are none."""
    from scipy.stats import binomtest

    if count <= 0:
        return share, share
    found = binomtest(round(share * count), count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def questions(results: RunResults, name: str) -> int:
    """How many questions an accuracy is of: the pooled vote may be measured on fewer."""
    pooled = results.config.get("pooled_questions")
    return min(pooled, results.n_test) if name == "pooled vote" and pooled else results.n_test


_PEERS = ("peers",)
ACCURACY = Panel(
    "accuracy",
    "Accuracy before and after",
    "On held-out questions, with the 95 % interval of each (Wilson). The interval of the gain is in the table: it "
    "pairs the questions and is narrower.",
    draw_accuracies,
    rows=lambda run: len(run.results.measured) if run.results else 0,
)
TRAINING = (
    Panel("reward", "Reward", "Mean of the samples that were scored.", lines("{}/reward")),
    Panel(
        "agreement",
        "Agreement between peers",
        "Share of a question's most common answer. It rises in a collapse, too.",
        lines("{}/agreement", _PEERS),
    ),
    Panel(
        "distinct_answers",
        "Distinct answers per question",
        "Of all peers' samples.",
        lines("{}/distinct_answers", _PEERS),
    ),
    Panel(
        "distinct_targets",
        "Distinct targets, share",
        "Falls when all questions get one answer: a collapse.",
        lines("{}/distinct_targets", _PEERS),
    ),
    Panel(
        "payoff",
        "Payoff of agreement",
        "Correlation of a sample's reward with the share of others that agree with it, within questions. Near 0: the "
        "reward pays for something else.",
        lines("{}/payoff", _PEERS),
    ),
    Panel(
        "probe_agreement",
        "Agreement with the first vote, share",
        "Greedy answers to the probe's questions (`collapse_probe`). A fall is an early sign of a collapse.",
        lines("{}/probe_agreement", _PEERS),
    ),
    Panel(
        "abstained",
        "Questions without a target, share",
        "Left out of the update: too few agreed.",
        lines("{}/abstained", _PEERS),
    ),
    Panel(
        "pmi",
        "PMI (nats)",
        "Median and 10th to 90th percentile of the recorded samples; without them, the mean.",
        distribution("pmi", "{}/pmi/mean"),
    ),
    Panel(
        "weight",
        "Weight of a sample",
        "Factor of the advantage: median and 10th to 90th percentile of the recorded samples; without them, the mean.",
        distribution("weight", "{}/weight/mean"),
    ),
    Panel("entropy", "Entropy (nats per token)", "Of the sampled tokens, mean.", lines("{}/entropy")),
    Panel("length", "Length of a completion (tokens)", "Mean, cut-off ones too.", lines("{}/completions/mean_length")),
    Panel("parsed", "Samples with an answer, share", "An answer was found in them.", lines("{}/parsed")),
    Panel("finished", "Samples that ended by themselves, share", "The others were cut off.", lines("{}/finished")),
    Panel("update_norm", "Update norm", "Norm of the gradient before it is clipped.", lines("{}/grad_norm")),
    Panel("kl", "KL from the reference (nats)", "As TRL logs it.", lines("{}/kl")),
    Panel(
        "sample_accuracy",
        "Accuracy of the samples",
        "On training questions that have labels; nothing trained reads it.",
        lines("{}/sample_accuracy"),
    ),
    Panel(
        "target_accuracy",
        "Accuracy of the targets",
        "On training questions that have labels; nothing trained reads it.",
        lines("{}/accuracy", ("aggregate",)),
    ),
    Panel("eval_accuracy", "Held-out accuracy", "From evaluations during training.", lines("eval_{}/accuracy")),
)
COST = (
    Panel(
        "seconds",
        "Time by phase",
        "Wall clock of the whole run, evaluations included.",
        draw_seconds,
        rows=lambda run: len(run.results.seconds) if run.results else 0,
    ),
    Panel(
        "tokens_generated",
        "Tokens generated per generation batch",
        "On one process.",
        lines("{}/tokens/generated"),
    ),
    Panel(
        "tokens_scored",
        "Tokens scored per generation batch",
        "Forward passes without a gradient, on one process.",
        lines("{}/tokens/scored"),
    ),
)
