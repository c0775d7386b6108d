"""What an evaluation leaves behind: scores with intervals, the table, and the comparison with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pst_rl.benchmarks.scores import Scores
from pst_rl.measure.statistics import bootstrap_mean, paired_p_value
from pst_rl.report.tables import percent
from pst_rl.report.text_table import WIDTH, text_table

GAP_COLUMNS = ("verified", "gap", "relative_gap", "balanced_accuracy", "kept")

ENDINGS = ("finished", "no answer")
"""Shares of greedy responses beside the scores: that ended by themselves, and in which no answer was found."""


def summarise(scores: Scores) -> dict[str, Any]:
    """Every score as `{"value", "ci95", "by_question"}`, as fractions."""

    def summary(values: list[float]) -> dict[str, Any]:
        found = bootstrap_mean(values)
        return {"value": found.gain, "ci95": [found.low, found.high], "by_question": values}

    return _map(scores, lambda scoring, system, metric, values: summary(values))


def compare(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The gain of every score that both results have, questions paired.

    Args:
        before, after: Results as they are in the files.
        path: Where `before` is from, for messages.

    Raises:
        ValueError: For other questions or golds, or results without a score in common.
    """
    if before.get("questions") != after["questions"]:
        raise ValueError(
            f"{path} is of other questions ({before.get('benchmark')}, {len(before.get('questions') or ())} of them): "
            "compare results of the same benchmark, split, limit and seed."
        )
    earlier = _renamed(before, after)

    def change(scoring: str, system: str, metric: str, new: dict[str, Any]) -> dict[str, Any] | None:
        old = earlier.get(scoring, {}).get(system, {}).get(metric)
        if old is None or "by_question" not in new:
            return None
        difference = [b - a for a, b in zip(old["by_question"], new["by_question"], strict=True)]
        found = bootstrap_mean(difference)
        p = paired_p_value(old["by_question"], new["by_question"])
        return {"before": old["value"], "after": new["value"], "gain": found.gain} | {
            "ci95": [found.low, found.high],
            "p": p,
        }

    found = _map(after["scores"], change)
    if not any(metrics for systems in found.values() for metrics in systems.values()):
        raise ValueError(f"{path} has no peer in common with these: its peers are {', '.join(before['peers'])}.")
    return found


def _renamed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The earlier scores; a single peer is compared with a single peer, whatever their names."""
    if len(before["peers"]) == len(after["peers"]) == 1:
        (old,), (new,) = before["peers"], after["peers"]
        return {scoring: {new: systems[old]} for scoring, systems in before["scores"].items()}
    return before["scores"]


def _map(scores: Mapping[str, Any], make) -> dict[str, Any]:
    return {
        scoring: {
            system: {m: made for m, value in metrics.items() if (made := make(scoring, system, m, value)) is not None}
            for system, metrics in systems.items()
        }
        for scoring, systems in scores.items()
    }


def table(results: Mapping[str, Any], width: int = WIDTH) -> list[str]:
    """The scores in percent, with how the greedy responses ended, as lines; one table for each way to score."""
    lines = []
    for scoring, systems in results["scores"].items():
        first, *others = dict.fromkeys(metric for own in systems.values() for metric in own)
        rows = [
            [system, _percent(own.get(first)), *endings(results, scoring, system)]
            + [_percent(own.get(metric)) for metric in others]
            for system, own in systems.items()
        ]
        lines += [f"{scoring}, {len(results['questions'])} questions, in percent [95 %]", ""]
        lines += [*text_table(["", first, *ENDINGS, *others], rows, width=width), ""]
    return lines + change_table(results.get("comparison", {}), width)


def endings(results: Mapping[str, Any], scoring: str, system: str) -> list[str]:
    """The `ENDINGS` of a system's greedy responses in percent; a dash for what is not known, and for a vote."""
    read = results.get("parsed", {}).get(scoring, {}).get(system)
    return [percent(results.get("finished", {}).get(system)), percent(None if read is None else 1 - read)]


def change_table(comparison: Mapping[str, Any], width: int = WIDTH) -> list[str]:
    """What `compare` found, as lines."""
    lines = []
    for scoring, systems in comparison.items():
        rows = [
            [f"{system} {metric}", f"{100 * c['before']:.1f}", f"{100 * c['after']:.1f}", _gain(c), _p(c["p"])]
            for system, own in systems.items()
            for metric, c in own.items()
        ]
        head = [scoring, "before", "after", "gain [95 %]", "p"]
        lines += [*text_table(head, rows, width=width), ""]
    return lines


def gap_table(results: Mapping[str, Any], width: int = WIDTH) -> list[str]:
    """The peers' samples, and their gap by each verifier, in percent and points with intervals, as lines."""
    size, scores = results["settings"]["samples"], results["scores"]
    drawn = {peer: own for by_peer in scores.values() for peer, own in by_peer.items()}
    lines = _gaps(
        f"samples, {size} of each of {len(results['questions'])} questions",
        drawn,
        width,
        ("generation", f"pass@{size}", f"majority@{size}", "finished", "unparsed"),
    )
    for verifier, by_peer in scores.items():
        lines += _gaps(verifier, by_peer, width, GAP_COLUMNS)
    return lines


def _gaps(title: str, by_peer: Mapping[str, Any], width: int, columns: Sequence[str]) -> list[str]:
    known = [column for column in columns if any(own.get(column) for own in by_peer.values())]
    rows = [[peer, *(_percent(own.get(column)) for column in known)] for peer, own in by_peer.items()]
    return [f"{title}, in percent [95 %]", "", *text_table(["", *known], rows, width=width), ""]


def _percent(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "-"
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _gain(change: Mapping[str, Any]) -> str:
    low, high = change["ci95"]
    return f"{100 * change['gain']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
