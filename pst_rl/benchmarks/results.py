"""What an evaluation leaves behind: scores with intervals, the table, and the comparison with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pst_rl.benchmarks.scores import Scores
from pst_rl.measure.statistics import bootstrap_mean, paired_p_value
from pst_rl.monitors.start import MEASURE, advice
from pst_rl.progress.words import WIDTH, folded
from pst_rl.report.tables import percent
from pst_rl.report.text_table import text_table

GAP_COLUMNS = ("verified", "gap", "relative_gap", "balanced_accuracy", "kept")

ENDINGS = ("finished", "no answer")
"""Shares of greedy responses beside the scores: that ended by themselves, and in which no answer was found."""


def summarise(scores: Scores) -> dict[str, Any]:
    """Every score as `{"value", "ci95", "by_question"}`, as fractions."""

    def summary(values: list[float]) -> dict[str, Any]:
        found = bootstrap_mean(values)
        return {"value": found.gain, "ci95": [found.low, found.high], "by_question": values}

    return _map(scores, lambda scoring, system, metric, values: summary(values))


def check_alike(before: Mapping[str, Any], now: Mapping[str, Any], path: str, anyway: bool = False) -> list[str]:
    """What was asked or read differently, a phrase each: a difference between the scores might be that of asking.

    Compared is what both results say: questions; the prompt; where answers stand and how they are compared with gold;
    decoding, by its settings; and for each peer the tokens of its prompts, stop strings and precision. Seeds may
    differ, and the settings of samples where one of the two has none.

    Args:
        before, now: Results as they are in the files, `now` also before there are scores.
        path: Where `before` is from, for messages.
        anyway: Return the phrases instead of raising an error.

    Raises:
        ValueError: Something differs; other questions or golds can never be compared.
    """
    if before.get("questions") != now["questions"]:
        raise ValueError(
            f"{path} is of other questions ({before.get('benchmark')}, {len(before.get('questions') or ())} of them): "
            "compare results of the same benchmark, split, limit and seed."
        )
    old, new = before["peers"], now.get("peers", before["peers"])
    if not set(old) & set(new) and not len(old) == len(new) == 1:
        raise ValueError(f"{path} has no peer in common with these: its peers are {', '.join(before['peers'])}.")
    found = [*_named_differently(before, now), *_set_differently(before, now), *_rendered_differently(before, now)]
    if found and not anyway:
        raise ValueError(
            f"{path} was asked differently: {'; '.join(found)}. Ask both alike, or compare them with --compare-anyway."
        )
    return found


def _named_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Prompts, and how answers are found and compared."""
    found = []
    for what in ("prompt", "judge_prompt"):
        old, new = before.get(what) or {}, now.get(what) or {}
        if old and new and old["digest"] != new["digest"]:
            found.append(f"the {what.replace('_', ' ')} was {old['name']} and is {new['name']}")
    old, new = before.get("scorings") or {}, now.get("scorings") or {}
    for name in [name for name in old if name in new]:
        found += _changes(f"{name} ", old[name], new[name])
    return found


def _set_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Decoding and reading. The metrics' names say how many samples there were, but for the gap."""
    old, new = before.get("settings") or {}, now.get("settings") or {}
    free = {"seed"} if "scope" in new else {"seed", "samples"}
    if not (old.get("samples") and new.get("samples")):
        free |= {"temperature", "top_p"}
    if None in (old.get("peer_template"), new.get("peer_template")):
        free |= {"peer_template"}
    return _changes("", *({k: v for k, v in one.items() if k not in free} for one in (old, new)))


def _rendered_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What each model read, where it stopped and how it computed; a single peer is held against a single peer."""
    found = []
    for which in ("asked", "judges_asked"):
        old, new = before.get(which) or {}, now.get(which) or {}
        if len(old) == len(new) == 1:
            old = dict(zip(new, old.values(), strict=True))
        for name in [name for name in new if name in old]:
            one, other = old[name], new[name]
            keys = dict.fromkeys([*one, *other])  # what is usual is left out of either
            found += _changes(f"{name}'s ", *({key: how.get(key) for key in keys} for how in (one, other)))
    return found


def _changes(whose: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The values that differ, of the names that both have."""
    both = [name for name in old if name in new]
    return [f"{whose}{name} was {old[name]!r} and is {new[name]!r}" for name in both if old[name] != new[name]]


def compare(before: Mapping[str, Any], after: Mapping[str, Any], path: str, anyway: bool = False) -> dict[str, Any]:
    """The gain of every score that both results have, questions paired.

    Args:
        before, after: Results as they are in the files.
        path: Where `before` is from, for messages.
        anyway: Also where something was asked differently (`check_alike`).

    Raises:
        ValueError: For other questions or golds, what was asked differently, or results without a score in common.
    """
    check_alike(before, after, path, anyway)
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
    lines += [folded(line, width) for line in unread_lines(results)]
    return [*lines, *different_lines(results), *change_table(results.get("comparison", {}), width)]


def unread_lines(results: Mapping[str, Any]) -> list[str]:
    """A line for each peer of whose greedy responses (of a gap: samples) most have no answer: what to change."""
    shares = {name: share for name, share in _endings_of_peers(results).items() if share[1] < 0.5}
    room = results["settings"]["max_new_tokens"] if shares else 0
    found = [f"{name}: {advice(finished, read, room, MEASURE)}" for name, (finished, read) in shares.items()]
    return [*found, ""] if found else []


def _endings_of_peers(results: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """For each peer the shares that ended and in which an answer was found, by the scoring that finds most.

    Nothing of a peer of which they were not counted, as in results of an earlier version.
    """
    if "parsed" in results:
        ended = results.get("finished", {})
        return {name: (ended[name], max(own[name] for own in results["parsed"].values())) for name in ended}
    drawn = {peer: own for by_peer in results["scores"].values() for peer, own in by_peer.items() if "unparsed" in own}
    return {name: (own["finished"]["value"], 1 - own["unparsed"]["value"]) for name, own in drawn.items()}


def different_lines(results: Mapping[str, Any]) -> list[str]:
    """What was asked differently from what these results are compared with, if it was."""
    return [f"Compared although: {'; '.join(results['differently'])}.", ""] if results.get("differently") else []


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
    return [*lines, *(folded(line, width) for line in unread_lines(results))]


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
