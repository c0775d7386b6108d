"""The gap between generating and verifying, from the scores that a verifier gives to n samples of each question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pst_rl.measure.statistics import Interval

SCOPES = ("question", "all")


@dataclass(frozen=True)
class Threshold:
    """Which samples a verifier keeps: those that score at least as high as a value, or as a quantile.

    Attributes:
        value: The score itself.
        quantile: In [0, 1): 0.8 keeps about the best fifth ("top 0.8"), linearly interpolated. One of the two is set.
        scope: Of a quantile: among the samples of a question, or of all questions.

    Raises:
        ValueError: For both, neither, or a quantile outside [0, 1).
    """

    value: float | None = None
    quantile: float | None = None
    scope: Literal["question", "all"] = "question"

    def __post_init__(self):
        if (self.value is None) == (self.quantile is None):
            raise ValueError("Set a threshold or a quantile, one of the two.")
        if self.quantile is not None and not 0 <= self.quantile < 1:
            raise ValueError(f"quantile must be at least 0 and below 1, got {self.quantile}.")
        if self.scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {self.scope!r}.")

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """Which of the scores (Q, n) are kept, (Q, n)."""
        if self.quantile is None:
            return scores >= self.value
        if self.scope == "all":
            return scores >= np.quantile(scores, self.quantile)
        return scores >= np.quantile(scores, self.quantile, axis=1, keepdims=True)


@dataclass(frozen=True)
class Gap:
    """Each with its 95 % bootstrap interval over questions, as fractions; `gain` is the value.

    Attributes:
        generation: Mean over questions of mean c: the accuracy of a sample.
        verified: The same with the kept samples only; a question that keeps none counts with all of its samples.
        gap: verified - generation.
        relative_gap: Mean over questions of g / (1 - mean c), questions that are always right left out; `None` if all
            are.
        balanced_accuracy: Of "kept" as a verdict on a sample: (share of right ones kept + share of wrong ones not
            kept) / 2. `None` if all samples are right, or all wrong.
        kept: The share of samples kept.
        always_right, kept_none: Shares of questions, without an interval.
        by_question: `generation`, `verified` and `gap` of each question.
    """

    generation: Interval
    verified: Interval
    gap: Interval
    relative_gap: Interval | None
    balanced_accuracy: Interval | None
    kept: Interval
    always_right: float
    kept_none: float
    by_question: dict[str, list[float]] = field(repr=False)


def verification_gap(
    correct: Sequence[Sequence[bool]],
    scores: Sequence[Sequence[float]],
    threshold: Threshold,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> Gap:
    """The generator-verifier gap. Per question, with correctness c_j, score s_j and K = {j : s_j >= threshold}:

        g = mean over K of c - mean of c (0 if K is empty),   gap = mean over questions of g
        relative gap = mean over questions of g / (1 - mean of c)

    Args:
        correct, scores: (Q, n), in the same order. Questions are what is resampled; a quantile over all questions is
            not taken anew in a resample.

    Raises:
        ValueError: For shapes that differ or are not (Q, n), or a score that is not finite.

    Source: Song et al. (2024), Mind the Gap, arXiv 2412.02674. What an empty K counts as, and to leave out questions
    that are always right, are our choices.
    """
    c, s = _checked(correct, scores)
    kept = threshold.keep(s)
    number = kept.sum(1)
    plain = c.mean(1)
    verified = np.where(number > 0, (c * kept).sum(1) / np.maximum(number, 1), plain)
    room = plain < 1
    counts = np.stack([(c * kept).sum(1), c.sum(1), ((1 - c) * ~kept).sum(1), (1 - c).sum(1)], 1)  # (Q, 4)
    columns = np.column_stack(
        [plain, verified, verified - plain, kept.mean(1), room, np.where(room, verified - plain, 0), counts]
    )
    columns[:, 5] /= np.where(room, 1 - plain, 1)
    means = _resampled_means(columns, resamples, seed)
    value = columns.mean(0, keepdims=True)
    return Gap(
        generation=_interval(value[0, 0], means[:, 0]),
        verified=_interval(value[0, 1], means[:, 1]),
        gap=_interval(value[0, 2], means[:, 2]),
        relative_gap=_defined(lambda m: m[:, 5] / m[:, 4], value, means),
        balanced_accuracy=_defined(lambda m: (m[:, 6] / m[:, 7] + m[:, 8] / m[:, 9]) / 2, value, means),
        kept=_interval(value[0, 3], means[:, 3]),
        always_right=float(np.mean(~room)),
        kept_none=float(np.mean(number == 0)),
        by_question={
            "generation": plain.tolist(),
            "verified": verified.tolist(),
            "gap": (verified - plain).tolist(),
        },
    )


def _checked(correct: Sequence[Sequence[bool]], scores: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Both as floats, (Q, n)."""
    if len({len(row) for row in (*correct, *scores)}) != 1 or len(correct) != len(scores) or not len(correct[0]):
        raise ValueError("correct and scores must both have a row for each question, and n samples in each row.")
    c, s = np.asarray(correct, dtype=float), np.asarray(scores, dtype=float)
    if not np.isfinite(s).all():
        raise ValueError(f"{int((~np.isfinite(s)).sum())} scores of the verifier are not finite numbers.")
    return c, s


def _defined(statistic: Callable[[np.ndarray], np.ndarray], value: np.ndarray, means: np.ndarray) -> Interval | None:
    """A statistic of column means (B, C), if it is defined; resamples in which it is not are left out."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found, drawn = statistic(value)[0], statistic(means)
    return _interval(found, drawn[np.isfinite(drawn)]) if np.isfinite(found) else None


def _interval(found: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(found), float(low), float(high))


def _resampled_means(columns: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(B, C) means of the columns (Q, C) over questions drawn with replacement."""
    questions = len(columns)
    draw = np.random.default_rng(seed)
    weights = (draw.multinomial(questions, np.full(questions, 1 / questions)) for _ in range(resamples))
    return np.stack([w @ columns for w in weights]) / questions
