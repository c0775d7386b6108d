"""Bars and lines that the pictures of a run have in common."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.report.results import RunResults, gain
from pst_rl.report.tables import interval, signed
from pst_rl.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which stay apart for colour-blind readers.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
VOTE_COLOUR = "#555555"


def peer_colours(peers: Iterable[str]) -> dict[str, str]:
    """One colour for each peer."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(peers)}


def draw_accuracy(panel: "Axes", results: RunResults) -> None:
    """Two bars for each peer and vote; the whisker on the second is the 95 % interval of the gain."""
    from matplotlib.colors import to_rgb

    clean(panel, "Accuracy (%), light before and solid after", grid="x")
    measured = {name: result for name, result in results.measured.items() if gain(result) is not None}
    if not measured:
        note(panel, "no gold answers:\nthe accuracy is unknown")
        return
    # Right of the bars, their gains as text: a gain is small beside an accuracy.
    beside: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "center", "fontsize": 9}
    panel.text(1.03, -0.72, "gain, pts [95 %]", color="#777777", **beside)
    for y, (name, result) in enumerate(measured.items()):
        colour = to_rgb(COLOURS[y % len(COLOURS)] if name in results.peers else VOTE_COLOUR)
        assert result.before is not None and result.after is not None  # it has a gain
        before, after = 100 * result.before, 100 * result.after
        low, high = (before + 100 * end for end in result.ci95) if result.ci95 else (after, after)
        panel.barh(y - 0.19, before, 0.36, color=[0.4 * part + 0.6 for part in colour])
        panel.barh(y + 0.19, after, 0.36, color=colour)
        if result.ci95:
            panel.hlines(y + 0.19, low, high, color="white", linewidth=4)  # sets the whisker off from a dark bar
            panel.hlines(y + 0.19, low, high, color="black", linewidth=1.4)
        for position, value, end in ((y - 0.19, before, before), (y + 0.19, after, max(after, high))):
            panel.text(end + 1, position, f"{value:.1f}", va="center", fontsize=9)
        panel.text(1.03, y - 0.19, signed(gain(result)), fontweight="bold", **beside)
        if result.ci95:
            panel.text(1.03, y + 0.19, interval(result), **beside)
    panel.set_yticks(range(len(measured)), map(plain, measured))
    panel.tick_params(axis="y", length=0, labelsize=10)
    panel.set_ylim(len(measured) - 0.5, -0.9)
    panel.set_xlim(0, panel.get_xlim()[1] * 1.08)


def draw_series(
    panel: "Axes", log_history: list[dict[str, Any]], title: str, key: str, colours: dict[str, str]
) -> None:
    """One line for each name in `colours`, labelled at its end."""
    clean(panel, title)
    series = {name: read_series(log_history, key.format(name)) for name in colours}
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        note(panel, "not logged in this run")
        return
    draw_lines(panel, drawn, colours)
    if len(colours) > 1:
        label_ends(panel, drawn, colours)
        if missing := [plain(name) for name in colours if name not in drawn]:
            panel.set_title(f"not logged: {', '.join(missing)}", loc="right", fontsize=8, color="#777777")


def draw_lines(
    panel: "Axes", series: Mapping[str, list[tuple[int, float]]], colours: Mapping[str, str], style: str = "-"
) -> None:
    """One line over the steps for each name."""
    for name, points in series.items():
        panel.plot(*zip(*points, strict=True), color=colours[name], linestyle=style, lw=1.8, marker="o", ms=3)
    panel.margins(y=0.15)
    panel.set_xlabel("step", fontsize=9)
    panel.locator_params(axis="x", integer=True, min_n_ticks=1)


def label_ends(panel: "Axes", series: Mapping[str, list[tuple[int, float]]], colours: Mapping[str, str]) -> None:
    """Each line's name beside its end."""
    ends = {name: points[-1][1] for name, points in series.items()}
    for name, height in spread(ends, panel.get_ylim()).items():
        text = plain(name)
        panel.text(1.02, height, text, color=colours[name], transform=panel.transAxes, va="center", fontsize=9)


def read_series(log_history: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """Step and value of each log that has a finite one."""
    points = [(entry["step"], entry[key]) for entry in log_history if entry.get(key) is not None]
    return [(step, value) for step, value in points if math.isfinite(value)]


def spread(ends: dict[str, float], limits: tuple[float, float], gap: float = 0.11) -> dict[str, float]:
    """Return the height of each label as a fraction of the panel: at the end of its line, at least `gap` apart."""
    bottom, top = limits
    names = sorted(ends, key=lambda name: ends[name])
    heights = [(ends[name] - bottom) / (top - bottom) for name in names]
    for _ in range(100):  # neighbours that are too close move apart by equal parts
        for lower in range(len(names) - 1):
            overlap = gap - (heights[lower + 1] - heights[lower])
            if overlap > 0:
                heights[lower] -= overlap / 2
                heights[lower + 1] += overlap / 2
    return dict(zip(names, heights, strict=True))


def clean(panel: "Axes", title: str, grid: Literal["x", "y"] = "y") -> None:
    """A title at the left, and little else around the data."""
    panel.set_title(title, loc="left", fontsize=11)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=9)
    panel.grid(axis=grid, color="#E5E5E5", linewidth=0.8)
    panel.set_axisbelow(True)


def note(panel: "Axes", text: str) -> None:
    """Words in place of what cannot be drawn."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color="#777777", fontsize=10)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
