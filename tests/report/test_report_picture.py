"""`report.png`: its axes, its labels and its bars, whatever a run measured."""

import warnings
from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.text import Text

from pst_rl.report import JointResult, PeerResult, RunResults, VoteResult
from pst_rl.report.drawing import COLOURS, spread
from pst_rl.report.plot import draw_report

TINY = ("gemma2", "llama", "qwen2")
NINE = tuple(f"peer{k}" for k in range(9))
LONG = tuple(
    f"{name}-1.1B-Instruct-GRPO-with-a-long-name-{k}" for k, name in enumerate(("Qwen2.5", "SmolLM2", "Llama"))
)
NOTHING = VoteResult()
UNLABELLED = PeerResult(
    parsed_before=0.8, parsed_after=0.9, finished_before=0.9, finished_after=1.0, length_before=30, length_after=28,
    changed=0.2,
)  # fmt: skip


def same(names, before, after, ci95, vote=None):
    found = VoteResult(before, after, ci95)
    return RunResults({name: PeerResult(before, after, ci95) for name in names}, vote or found, found, "tiny", 900, 0)


def unlabelled(names):
    joint = JointResult(0.5, 0.6, 2.0, 1.8, 24)
    return RunResults(dict.fromkeys(names, UNLABELLED), NOTHING, NOTHING, "mine.jsonl", 900, 0, joint=joint)


def logs(names, value=None):
    keys = [f"{name}/{key}" for name in names for key in ("reward", "pmi/mean")]
    keys += ["peers/agreement", "peers/distinct_answers"]
    return [
        {"step": s} | {k: 0.1 * i + 0.01 * s if value is None else value for i, k in enumerate(keys)} for s in (1, 9)
    ]


CASES = {
    "all 0": (same(TINY, 0.0, 0.0, (0.0, 0.0)), logs(TINY, 0.0)),
    "all 100": (same(TINY, 1.0, 1.0, (0.0, 0.0)), logs(TINY, 1.0)),
    "near 0": (same(TINY, 0.001, 0.003, (-0.002, 0.006)), logs(TINY)),
    "a collapse": (same(TINY, 0.9, 0.01, (-0.92, -0.88)), logs(TINY)),
    "one peer": (replace(same(("gemma2",), 0.4, 0.5, (0.06, 0.14)), pooled_vote=NOTHING), logs(("gemma2",))),
    "nine peers": (same(NINE, 0.4, 0.5, (0.06, 0.14)), logs(NINE)),
    "nine peers at 0": (same(NINE, 0.0, 0.0, (0.0, 0.0)), logs(NINE, 0.0)),
    "long names": (replace(same(LONG, 0.4, 0.5, (0.06, 0.14)), dataset="owner/" + 20 * "long-name"), logs(LONG)),
    "no labels": (unlabelled(TINY), logs(TINY)),
    "nine peers without labels": (unlabelled(NINE), logs(NINE)),
    "long names without labels": (unlabelled(LONG), logs(LONG)),
    "nothing known": (RunResults({n: PeerResult() for n in TINY}, NOTHING, NOTHING, "tiny", 9, 0), []),
}


@pytest.fixture(scope="module")
def drawn():
    """Every case drawn once, its layout settled; a warning of matplotlib is an error."""
    figures = {name: draw_report(*case) for name, case in CASES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a layout is not possible
        for figure in figures.values():
            figure.draw_without_rendering()
    return figures


def panels(figure):
    left, right = figure.subfigs
    return left.axes[0], right.axes


def texts(figure):
    """Every text that is shown, with its box in pixels."""
    found = list(figure.findobj(Text))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:  # it is not drawn
                    found = [text for text in found if text not in (tick.label1, tick.label2)]
    shown = [text for text in found if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in shown]


@pytest.mark.parametrize("case", CASES)
def test_no_panel_collapses(drawn, case):
    bars, others = panels(drawn[case])
    for axes in (bars, *others):
        box = axes.get_window_extent()
        assert box.width > 150 and box.height > 150, axes.get_title(loc="left")


@pytest.mark.parametrize("case", CASES)
def test_every_text_is_inside_the_picture_and_on_no_other(drawn, case):
    figure = drawn[case]
    shown = texts(figure)
    for text, box in shown:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in combinations(shown, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 1 or high < 1, f"{one!r} lies on {other!r}"


@pytest.mark.parametrize("case", [name for name in CASES if name != "nothing known"])
def test_bars_values_and_whiskers_are_inside_their_axes(drawn, case):
    bars, _ = panels(drawn[case])
    low, high = bars.get_xlim()
    assert low == 0 and 10 <= high <= 130 and all(0 <= tick <= 100 for tick in bars.get_xticks())
    frame = bars.get_window_extent()
    values = [text for text in bars.texts if text.get_text().replace(".", "").isdecimal()]
    assert len(values) == len(bars.patches)
    assert all(frame.x0 <= text.get_window_extent().x0 for text in values)
    assert all(text.get_window_extent().x1 <= frame.x1 for text in values)
    for whisker in bars.collections:
        assert whisker.get_datalim(bars.transData).x0 >= 0 and whisker.get_datalim(bars.transData).x1 <= 100


def test_every_peer_and_vote_has_two_bars_with_their_values(drawn):
    bars, _ = panels(drawn["a collapse"])
    assert [label.get_text() for label in bars.get_yticklabels()] == [*TINY, "greedy vote", "pooled vote"]
    assert [round(bar.get_width(), 6) for bar in bars.patches] == 5 * [90.0, 1.0]


def test_without_labels_agreement_and_answers_are_shown(drawn):
    bars, _ = panels(drawn["no labels"])
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names[:3] == ["agreement", "gemma2 parsed", "gemma2 finished"] and len(names) == 7
    assert "accuracy is unknown" in bars.get_xlabel() and bars.patches[1].get_width() == pytest.approx(60)
    nine, _ = panels(drawn["nine peers without labels"])
    assert [label.get_text() for label in nine.get_yticklabels()] == ["agreement", *(f"{n} parsed" for n in NINE)]


def test_a_line_is_dashed_where_the_colours_begin_again(drawn):
    _, (reward, *_) = panels(drawn["nine peers"])
    assert len({(line.get_color(), line.get_linestyle()) for line in reward.lines}) == len(NINE) > len(COLOURS)


@pytest.mark.parametrize("count", [1, 2, 9, 30])
def test_labels_of_many_lines_stay_beside_their_panel_and_in_order(count):
    heights = list(spread({str(k): 0.99 for k in range(count)}, (0.0, 1.0)).values())
    assert min(heights) >= 0 and max(heights) <= 1 + 1e-9
    gap = min(0.11, 1 / max(1, count - 1))
    assert all(upper - lower > gap - 1e-6 for lower, upper in zip(heights, heights[1:], strict=False))
