"""What n samples of a question are worth: pass@k, majority@k."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pst_rl.aggregation.base import break_tie
from pst_rl.answers import find_answer, is_correct
from pst_rl.answers.extract import Style
from pst_rl.answers.score import Metric


@dataclass(frozen=True)
class Judged:
    """A response that was read: the key of its answer (`None`: no answer was found) and whether it is right."""

    key: str | None
    correct: bool


def judge(text: str, gold: Any, *, style: Style = "auto", metric: Metric = "whole", finished: bool = True) -> Judged:
    """Reads and scores a response as `pst_rl.answers.is_correct` does; one that was cut off has no answer."""
    answer = find_answer(text, style) if finished else None
    if answer is None:
        return Judged(None, False)
    return Judged(answer.key, is_correct(answer, gold, metric=metric))


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The chance that at least one of k samples is right, estimated without bias from n >= k samples.

        pass@k = 1 - C(n - c, k) / C(n, k),   c of n samples right

    Source: Chen et al. (2021), arXiv 2107.03374, equation 1.

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 2), pass_at_k(3, 4, 2)
    (0.25, 0.5, 1.0)

    Raises:
        ValueError: for fewer than k samples, or k below 1.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs k between 1 and the {samples} samples of a question.")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def majority_at_k(samples: Sequence[Judged], k: int) -> float:
    """The share of right votes of k samples each: of the first k, the next k, and so on; a rest is left out.

    A vote is the most common answer; ties are broken by a hash of the answer; samples without an answer do not vote.
    Disjoint groups keep the estimate free of bias, which is our choice.

    Raises:
        ValueError: for fewer than k samples, or k below 1.
    """
    if not 1 <= k <= len(samples):
        raise ValueError(f"majority@{k} needs k between 1 and the {len(samples)} samples of a question.")
    groups = [samples[i : i + k] for i in range(0, len(samples) - k + 1, k)]
    return float(np.mean([vote(group) for group in groups]))


def vote(samples: Sequence[Judged]) -> bool:
    """Whether the most common answer is right; without any answer it is not."""
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.key is not None:
            counts[sample.key] = counts.get(sample.key, 0) + 1
    if not counts:
        return False
    winner = break_tie(key for key, count in counts.items() if count == max(counts.values()))
    return next(sample.correct for sample in samples if sample.key == winner)
