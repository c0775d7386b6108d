"""What a trainer logs, in one readable line; docs/metrics.md explains every name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pst_rl.progress.words import clock

WHOLE = {"loss": "loss", "agreement": "peers/agreement", "abstained": "peers/abstained"}
"""What is shown of all peers together: word -> metric."""
EACH = {
    "reward": ("reward", "{:5.2f}"),
    "length": ("completions/mean_length", "{:4.0f}"),
    "entropy": ("entropy", "{:4.2f}"),
    "pmi": ("pmi/mean", "{:6.2f}"),
}
"""What is shown of each peer, in the peers' order, between slashes: word -> metric behind `<peer>/`, and its form."""
ALWAYS = ("reward", "length", "entropy")
"""Words of `EACH` that every line has."""
RIGHT = "aggregate/accuracy"
"""Shown as `accuracy`, where there are labels."""


def log_line(logs: Mapping[str, Any], step: int, steps: int, peers: Sequence[str], width: int | None = None) -> str:
    """The line of what is logged at a step: of training, of an evaluation, or of training's end.

    Lines of a run are aligned. What is not known is `-`, as between two generation batches. With a `width`, a line
    that is longer goes on below, indented, between two of its words; each begins with its step.

    >>> logs = {"loss": 0.0123, "peers/agreement": 0.5, "peers/abstained": 0.0, "a/reward": 0.25, "b/reward": 1.0}
    >>> log_line(logs, 4, 24, ["a", "b"])
    'step  4/24  loss  0.0123  agreement 0.50  abstained 0.00  reward  0.25/ 1.00  length    -/   -  entropy    -/   -'
    """
    words = _words(logs, f"step {step:{len(str(steps))}}/{steps}", peers)
    lines = words[:1]
    for word in words[1:]:
        longer = f"{lines[-1]}  {word}"
        if width is None or len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(f"  {word}")
    return "\n".join(lines)


def _words(logs: Mapping[str, Any], front: str, peers: Sequence[str]) -> list[str]:
    """What a line says: the step, and behind it each word with its values."""
    if "train_runtime" in logs:
        mean = _in("{:.4f}", logs, "train_loss")
        return [front, f"trained in {clock(float(logs['train_runtime']))}, mean loss {mean}"]
    if "loss" not in logs:
        return [front, *_evaluation(logs, peers)]
    words = [f"{word} {_in('{:7.4f}' if word == 'loss' else '{:.2f}', logs, name)}" for word, name in WHOLE.items()]
    for word, (name, form) in EACH.items():
        if word in ALWAYS or any(f"{peer}/{name}" in logs for peer in peers):
            words.append(f"{word} " + "/".join(_in(form, logs, f"{peer}/{name}") for peer in peers))
    if RIGHT in logs:
        words.append(f"accuracy {_in('{:.2f}', logs, RIGHT)}")
    return [front, *words]


def peers_line(peers: Sequence[str]) -> str:
    """What the first line of a run's log says of those after it.

    >>> peers_line(["a", "b"])
    'log lines: reward, length and entropy of a/b, in this order; docs/metrics.md explains every name'
    """
    names = "/".join(peers)
    return f"log lines: reward, length and entropy of {names}, in this order; docs/metrics.md explains every name"


def _evaluation(logs: Mapping[str, Any], peers: Sequence[str]) -> list[str]:
    """Accuracies of one evaluation set, or without labels shares of answers that could be read; else all there is."""
    what = "accuracy" if any(name.endswith("/accuracy") for name in logs) else "parsed"
    end = f"{peers[0]}/{what}"
    prefix = min((name.removesuffix(end) for name in logs if name.endswith(f"_{end}")), key=len, default=None)
    if prefix is None:
        return [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in logs.items()]
    shown = [f"{what} " + "/".join(_in("{:.3f}", logs, f"{prefix}{peer}/{what}") for peer in peers)]
    for word, name in (("vote", "vote/accuracy"), ("agreement", "peers/pairwise_agreement")):
        if f"{prefix}{name}" in logs:
            shown.append(f"{word} {_in('{:.3f}', logs, prefix + name)}")
    return [prefix.rstrip("_"), *shown]


def _in(form: str, logs: Mapping[str, Any], name: str) -> str:
    value = logs.get(name)
    return "-".rjust(len(form.format(0.0))) if value is None else form.format(float(value))
