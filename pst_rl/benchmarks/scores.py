"""From responses to scores for each question, for every peer and for the peers together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pst_rl.answers import find_answer
from pst_rl.benchmarks.benchmark import Benchmark, Scoring
from pst_rl.benchmarks.items import Item
from pst_rl.benchmarks.model import Completion
from pst_rl.measure.samples import Judged, judge, majority_at_k, pass_at_k, vote

VOTE, COLLABORATIVE = "vote", "collaborative"
Scores = dict[str, dict[str, dict[str, list[float]]]]


@dataclass(frozen=True)
class Responses:
    """Attributes:
    greedy: For each peer a response to each question.
    sampled: For each peer n samples of each question; empty without samples.
    collaborative: For each peer, in speaking order, its response after those before it; empty for a single peer.
    """

    greedy: dict[str, list[Completion]]
    sampled: dict[str, list[list[Completion]]]
    collaborative: dict[str, list[Completion]]


def score(
    benchmark: Benchmark, items: Sequence[Item], responses: Responses, ks: Sequence[int], parse_truncated: bool = False
) -> Scores:
    """`scores[scoring][system][metric][question]`, from 0 to 1.

    A system is a peer, `"vote"` (of all peers: of their greedy responses, and of the first k samples of each for
    `majority@k`) or `"collaborative"` (the last peer's response, which has read the others').
    """
    found: Scores = {}
    for name, scoring in benchmark.scorings.items():
        reader = _Reader(items, scoring, parse_truncated)
        greedy = {peer: reader.judged(rows) for peer, rows in responses.greedy.items()}
        sampled = {
            peer: [[reader.judge(row, q) for row in rows] for q, rows in enumerate(own)]
            for peer, own in responses.sampled.items()
        }
        systems = {peer: {"greedy": [float(j.correct) for j in rows]} for peer, rows in greedy.items()}
        for peer, own in sampled.items():
            systems[peer] |= _of_samples(own, ks)
        if len(greedy) > 1:
            systems[VOTE] = {"greedy": [float(vote(rows)) for rows in zip(*greedy.values(), strict=True)]}
            systems[VOTE] |= {
                f"majority@{k}": [
                    float(vote([sample for rows in own for sample in rows[:k]]))
                    for own in zip(*sampled.values(), strict=True)
                ]
                for k in (ks if sampled else ())
            }
        if responses.collaborative:
            last = list(responses.collaborative.values())[-1]
            systems[COLLABORATIVE] = {"greedy": [float(j.correct) for j in reader.judged(last)]}
        found[name] = systems
    return found


def endings(benchmark: Benchmark, responses: Responses, parse_truncated: bool = False) -> dict[str, Any]:
    """How the greedy responses end: `finished[system]`, the share that ended by themselves, and
    `parsed[scoring][system]`, the share in which an answer was found. Systems are as in `score`, but for the vote."""
    systems = dict(responses.greedy)
    if responses.collaborative:
        systems[COLLABORATIVE] = list(responses.collaborative.values())[-1]

    def parsed(rows: Sequence[Completion], scoring: Scoring) -> float:
        read = [row.text for row in rows if row.finished or parse_truncated]
        return sum(find_answer(text, scoring.style) is not None for text in read) / len(rows)

    return {
        "finished": {name: fmean(row.finished for row in rows) for name, rows in systems.items()},
        "parsed": {
            name: {system: parsed(rows, scoring) for system, rows in systems.items()}
            for name, scoring in benchmark.scorings.items()
        },
    }


def _of_samples(samples: Sequence[Sequence[Judged]], ks: Sequence[int]) -> dict[str, list[float]]:
    size = len(samples[0])
    right = [sum(sample.correct for sample in own) for own in samples]
    return (
        {f"mean@{size}": [count / size for count in right]}
        | {f"pass@{k}": [pass_at_k(count, size, k) for count in right] for k in ks}
        | {f"majority@{k}": [majority_at_k(own, k) for own in samples] for k in ks}
    )


@dataclass(frozen=True)
class _Reader:
    items: Sequence[Item]
    scoring: Scoring
    parse_truncated: bool

    def judge(self, response: Completion, question: int) -> Judged:
        return judge(
            response.text,
            self.items[question].gold,
            style=self.scoring.style,
            metric=self.scoring.metric,
            finished=response.finished or self.parse_truncated,
        )

    def judged(self, responses: Sequence[Completion]) -> list[Judged]:
        return [self.judge(row, q) for q, row in enumerate(responses)]
