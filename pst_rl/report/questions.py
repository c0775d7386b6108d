"""The table of questions: at chosen steps, what each peer answered, the aggregate, and what it earned and weighed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pst_rl.report.run import Run
from pst_rl.report.text import visible

REWARD = "reward/"


@dataclass(frozen=True)
class Limits:
    """How much of the completions goes onto the page.

    Attributes:
        steps: These steps; `None`: at most `most_steps`, evenly spaced, the first and the last among them.
        most_steps: How many steps are chosen.
        questions: How many questions of a generation batch, from the first.
        measured: How many questions of an evaluation, from the first.
        characters: Of a completion or prompt; the rest is cut off, and counted.
    """

    steps: tuple[int, ...] | None = None
    most_steps: int = 6
    questions: int = 64
    measured: int = 200
    characters: int = 4000


def chosen_steps(run: Run, limits: Limits) -> list[int]:
    """The steps to show: those wanted that the run recorded, or an even choice."""
    recorded = sorted(run.tables)
    if limits.steps is not None:
        return [step for step in recorded if step in limits.steps]
    if len(recorded) <= limits.most_steps:
        return recorded
    gaps = max(1, limits.most_steps - 1)
    return sorted({recorded[round(i * (len(recorded) - 1) / gaps)] for i in range(limits.most_steps)})


def question_rows(runs: Sequence[Run], limits: Limits) -> list[dict[str, Any]]:
    """One record per run, step and question, of JSON's types only, every text `visible`.

    `peers[name]` has `answers` (text or null, count, whether it is the target), the mean `rewards` of each provider,
    mean `weight` and `pmi`, and the `samples` behind them.
    """
    rows = []
    for index, run in enumerate(runs):
        frame = run.completions(chosen_steps(run, limits))
        if frame.empty:
            continue
        batches = frame.assign(block=frame["block"] if "block" in frame else 0)
        for (step, _, question), samples in batches.groupby(["step", "block", "question"], sort=True):
            if question < limits.questions:
                rows.append({"run": index, "step": int(step), **_question(samples.to_dict("records"), limits)})
    return rows


def left_out(runs: Iterable[Run], limits: Limits) -> list[str]:
    """What the page does not show of the completions, one sentence for each run."""
    sentences = []
    for run in runs:
        steps = chosen_steps(run, limits)
        if len(steps) < len(run.tables):
            shown = ", ".join(map(str, steps)) or "none"
            sentences.append(
                f"{run.name}: steps {shown} of {len(run.tables)} recorded ones; choose others with --steps."
            )
        largest = max((int(run.completions([step], ["question"])["question"].max()) + 1 for step in steps), default=0)
        if largest > limits.questions:
            sentences.append(f"{run.name}: {limits.questions} of {largest} questions a step; more with --questions.")
    return sentences


def _question(samples: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    targets = Counter(target for s in samples if (target := _text(s.get("target"))) is not None)
    shares = [share for s in samples if (share := _number(s.get("target_share"))) is not None]
    peers: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        peers.setdefault(visible(sample["peer"]), []).append(sample)
    return {
        "prompt": cut(samples[0].get("prompt", ""), limits.characters),
        "targets": [[visible(text), count] for text, count in targets.most_common()],
        "share": _mean(shares),
        "distinct": len({text for s in samples if (text := _text(s.get("answer"))) is not None}),
        "peers": {name: _peer(rows, limits) for name, rows in peers.items()},
    }


def _peer(samples: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    answers = Counter((_text(s.get("answer")), _agrees(s)) for s in samples)
    providers = [column for column in samples[0] if column.startswith(REWARD)]
    rewards = {visible(p.removeprefix(REWARD)): [_number(s.get(p)) for s in samples] for p in providers}
    return {
        "answers": [
            [None if text is None else visible(text), count, agrees] for (text, agrees), count in answers.most_common()
        ],
        "rewards": {name: _mean(values) for name, values in rewards.items()},
        "weight": _mean(_number(s.get("weight")) for s in samples),
        "pmi": _mean(_number(s.get("pmi")) for s in samples),
        "samples": [
            {
                "completion": cut(s["completion"], limits.characters),
                "later": [cut(turn, limits.characters) for turn in _later(s)],
                "answer": None if (text := _text(s.get("answer"))) is None else visible(text),
                "target": None if (text := _text(s.get("target"))) is None else visible(text),
                "agrees": _agrees(s),
                "cut": _number(s.get("finished")) == 0.0,
                "rewards": {name: values[i] for name, values in rewards.items()},
                "weight": _number(s.get("weight")),
                "pmi": _number(s.get("pmi")),
            }
            for i, s in enumerate(samples)
        ],
    }


def _agrees(sample: dict[str, Any]) -> bool:
    """Whether the answer is the target; older tables do not say, and their texts are compared."""
    if (said := sample.get("agrees")) is not None and said == said:
        return bool(said)
    answer = _text(sample.get("answer"))
    return answer is not None and answer == _text(sample.get("target"))


def _later(sample: dict[str, Any]) -> list[str]:
    """What the peer was told afterwards, and what it answered, in turns."""
    turns = sample.get("turns")
    if turns is None or isinstance(turns, float):
        return []
    return [f"[told] {turn['remark']}\n[answered] {turn['text']}" for turn in turns]


def _text(value: Any) -> str | None:
    """Missing text is None or NaN, depending on what else the column holds."""
    return None if value is None or value != value else str(value)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def cut(text: Any, characters: int) -> str:
    """The text, `visible`, and if it is longer than so many characters how many are left out."""
    text = str(text)
    rest = len(text) - characters
    return visible(text if rest <= 0 else f"{text[:characters]}… ({rest} more characters)")
