"""Bars and lines that the pictures of a run have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.report.results import RunResults, gain
from pst_rl.report.tables import interval, signed
from pst_rl.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which stay apart for colour-blind readers. Where there are more peers, lines are dashed.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
VOTE_COLOUR = "#555555"
_FEW = 4  # peers, each with several rows
_BESIDE = 1.03  # where the texts right of the bars begin: a fraction of the panel


def peer_colours(peers: Iterable[str]) -> dict[str, str]:
    """One colour for each peer."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(peers)}


@dataclass(frozen=True)
class Pair:
    """Two bars of a row: fractions before and after, the ends of the second one's whisker, and texts beside them."""

    name: str
    colour: str
    before: float
    after: float
    ends: tuple[float, float] | None = None
    beside: tuple[str, str] = ("", "")


def draw_before_after(panel: "Axes", results: RunResults) -> None:
    """Two bars for each row, in percent: accuracies if gold is known, else what the answers are like.

    The axis begins at 0, ends at 100 at most, and is at least 10 wide, so that noise near 0 looks like noise.
    """
    pairs = _accuracies(results)
    if pairs:
        clean(panel, "Accuracy (%), light before and solid after", grid="x")
        draw_pairs(panel, pairs, "gain, pts [95 %]")
        return
    clean(panel, "Answers (%), light before and solid after", grid="x")
    if pairs := _answers(results):
        draw_pairs(panel, pairs, "change, pts")
        panel.set_xlabel("no gold answers: the accuracy is unknown", fontsize=9, color="#777777")
    else:
        note(panel, "no gold answers:\nthe accuracy is unknown")


def _accuracies(results: RunResults) -> list[Pair]:
    """Peers and votes; the whisker on the second bar is the 95 % interval of the gain, at the accuracy before."""
    colours, pairs = peer_colours(results.peers), []
    for name, result in results.measured.items():
        if result.before is None or result.after is None:
            continue
        ends = None
        if result.ci95 is not None:
            low, high = (min(max(result.before + end, 0.0), 1.0) for end in result.ci95)
            ends = (low, high)
        texts = (signed(gain(result)), interval(result) if result.ci95 else "")
        pairs.append(Pair(name, colours.get(name, VOTE_COLOUR), result.before, result.after, ends, texts))
    return pairs


def _answers(results: RunResults) -> list[Pair]:
    """Agreement of the peers, and for each peer the share of parsed responses; of few also of finished ones."""
    joint, colours = results.joint, peer_colours(results.peers)
    rows = [("agreement", VOTE_COLOUR, joint.agreement_before, joint.agreement_after)]
    for name, peer in results.peers.items():
        short = name if len(name) <= 12 else f"{name[:11]}…"
        rows.append((f"{short} parsed", colours[name], peer.parsed_before, peer.parsed_after))
        if len(results.peers) <= _FEW:
            rows.append((f"{short} finished", colours[name], peer.finished_before, peer.finished_after))
    return [
        Pair(name, colour, before, after, beside=(signed(100 * (after - before)), ""))
        for name, colour, before, after in rows
        if before is not None and after is not None
    ]


def draw_pairs(panel: "Axes", pairs: Sequence[Pair], head: str) -> None:
    """The bars, each with its value behind it, and right of the panel what stands `beside` them, under `head`."""
    from matplotlib.colors import to_rgb

    # Right of the bars, their gains as text: a gain is small beside an accuracy.
    beside: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "center", "fontsize": 9}
    panel.text(_BESIDE, -0.72, head, color="#777777", **beside)
    top = 100 * max(0.1, *(end for pair in pairs for end in (pair.before, pair.after, *(pair.ends or ()))))
    for y, pair in enumerate(pairs):
        colour = to_rgb(pair.colour)
        light = [0.4 * part + 0.6 for part in colour]
        for at, value, fill in ((y - 0.19, pair.before, light), (y + 0.19, pair.after, colour)):
            panel.barh(at, 100 * value, 0.36, color=fill)
            end = 100 * (max(value, pair.ends[1]) if pair.ends and at > y else value)
            panel.annotate(
                f"{100 * value:.1f}", (end, at), (4, 0), textcoords="offset points", va="center", fontsize=9
            )
        if pair.ends:
            low, high = (100 * end for end in pair.ends)
            panel.hlines(y + 0.19, low, high, color="white", linewidth=4)  # sets the whisker off from a dark bar
            panel.hlines(y + 0.19, low, high, color="black", linewidth=1.4)
        panel.text(_BESIDE, y - 0.19, pair.beside[0], fontweight="bold", **beside)
        panel.text(_BESIDE, y + 0.19, pair.beside[1], **beside)
    panel.set_yticks(range(len(pairs)), [plain(pair.name) for pair in pairs])
    panel.tick_params(axis="y", length=0, labelsize=10)
    panel.set_ylim(len(pairs) - 0.5, -0.9)
    panel.set_xlim(0, 1.24 * top)  # room for the value behind the longest bar
    panel.locator_params(axis="x", nbins=6)
    panel.set_xticks([tick for tick in panel.get_xticks() if 0 <= tick <= 100])


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


def draw_lines(panel: "Axes", series: Mapping[str, list[tuple[int, float]]], colours: Mapping[str, str]) -> None:
    """One line over the steps for each name; dashed ones where the colours begin again."""
    begun = list(colours)
    for name, points in series.items():
        style = "-" if begun.index(name) < len(COLOURS) else "--"
        panel.plot(*zip(*points, strict=True), color=colours[name], linestyle=style, lw=1.8, marker="o", ms=3)
    panel.margins(y=0.15)
    panel.set_xlabel("step", fontsize=9)
    panel.locator_params(axis="x", integer=True, min_n_ticks=1)


def label_ends(panel: "Axes", series: Mapping[str, list[tuple[int, float]]], colours: Mapping[str, str]) -> None:
    """Each line's name beside its end."""
    ends = {name: points[-1][1] for name, points in series.items()}
    for name, height in spread(ends, panel.get_ylim()).items():
        text = plain(name, 17)
        panel.text(1.02, height, text, color=colours[name], transform=panel.transAxes, va="center", fontsize=9)


def read_series(log_history: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """Step and value of each log that has a finite one."""
    points = [(entry["step"], entry[key]) for entry in log_history if entry.get(key) is not None]
    return [(step, value) for step, value in points if math.isfinite(value)]


def spread(ends: dict[str, float], limits: tuple[float, float], gap: float = 0.11) -> dict[str, float]:
    """Return the height of each label as a fraction of the panel, from 0 to 1.

    That is at the end of its line, at least `gap` from its neighbours; if there are too many labels for that, as far
    from each other as the panel allows.
    """
    bottom, top = limits
    names = sorted(ends, key=lambda name: ends[name])
    gap = min(gap, 1 / max(1, len(names) - 1))
    heights = [(ends[name] - bottom) / (top - bottom) for name in names]
    for _ in range(100):  # neighbours that are too close move apart by equal parts
        for lower in range(len(names) - 1):
            overlap = gap - (heights[lower + 1] - heights[lower])
            if overlap > 0:
                heights[lower] -= overlap / 2
                heights[lower + 1] += overlap / 2
    for k in range(len(names)):  # none below or above the panel, and none pushed into its neighbour by that
        heights[k] = max(heights[k], 0.0 if k == 0 else heights[k - 1] + gap)
    for k in reversed(range(len(names))):
        heights[k] = min(heights[k], 1.0 if k == len(names) - 1 else heights[k + 1] - gap)
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
