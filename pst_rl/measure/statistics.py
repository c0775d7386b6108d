"""Intervals for a measured gain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A gain and its confidence interval, in the unit of what was compared."""

    gain: float
    low: float
    high: float


def paired_bootstrap(
    before: Sequence[bool],
    after: Sequence[bool],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the gain in accuracy on the same questions and its percentile bootstrap interval.

    With d_i = after_i - before_i for question i of n,

        gain = (1/n) sum_i d_i,   gain*_b = (1/n) sum_i d_{r(b, i)},   r(b, i) uniform in 1..n, b = 1..resamples,

    and the interval reaches from the (1 - confidence)/2 to the (1 + confidence)/2 quantile of gain*. Questions are
    resampled as pairs, because a peer that was right before tends to be right after. As d is -1, 0 or 1, a resample
    is a multinomial draw of the three counts, which is what is drawn here.

    Args:
        before: whether each question was right before, in a fixed order of the questions.
        after: the same after.
        resamples: how many resamples.
        confidence: of the interval, between 0 and 1.
        seed: of the resampling.

    Returns:
        The gain with low and high, as fractions.

    Raises:
        ValueError: if the two differ in length or are empty, or for a confidence outside (0, 1).

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    if len(before) != len(after):
        raise ValueError(f"Before has {len(before)} questions and after {len(after)}: compare the same questions.")
    if not len(before):
        raise ValueError("There are no questions to compare.")
    _check_confidence(confidence)
    n = len(before)
    difference = np.asarray(after, dtype=bool).astype(int) - np.asarray(before, dtype=bool).astype(int)  # (n,)
    shares = [float(np.mean(difference == value)) for value in (-1, 0, 1)]
    counts = np.random.default_rng(seed).multinomial(n, shares, size=resamples)  # (resamples, 3)
    gains = (counts[:, 2] - counts[:, 0]) / n  # (resamples,)
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(difference.mean()), float(low), float(high))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds and its Student t interval.

        mean +- t sd / sqrt(n),   t the (1 + confidence)/2 quantile of Student's t with n - 1 degrees of freedom.

    The values are the gains of runs that differ in the seed only; a single run gives no interval.

    Raises:
        ValueError: for fewer than two values, or a confidence outside (0, 1).
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"An interval over seeds needs at least 2 runs, got {len(values)}.")
    _check_confidence(confidence)
    half = t.ppf((1 + confidence) / 2, df=len(values) - 1) * stdev(values) / math.sqrt(len(values))
    mean = fmean(values)
    return Interval(mean, float(mean - half), float(mean + half))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")


def bootstrap_mean(
    values: Sequence[float], *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean over questions and its percentile bootstrap interval.

        mean*_b = (1/n) sum_i values_{r(b, i)},   r(b, i) uniform in 1..n, b = 1..resamples

    Of differences of the same questions it is the paired interval. Where all values are equal the interval has no
    width; that says nothing about other questions.

    Raises:
        ValueError: without values, or for a confidence outside (0, 1).

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    found = np.asarray(values, dtype=float)
    if not len(found):
        raise ValueError("There are no values to take the mean of.")
    _check_confidence(confidence)
    levels, counts = np.unique(found, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(found), counts / len(found), size=resamples)  # (resamples, L)
    low, high = np.quantile(drawn @ levels / len(found), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(found.mean()), float(low), float(high))


def paired_p_value(
    before: Sequence[float], after: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value of "no change", questions paired.

    With d_i = after_i - before_i, every sign of d is as likely under no change:

        p = P(|sum_i s_i d_i| >= |sum_i d_i|),   s_i = -1 or 1 with equal chance.

    Exact where every d is -1, 0 or 1 (then it is McNemar's exact test, 1947); else from `resamples` random signs,
    with (hits + 1) / (resamples + 1).

    Raises:
        ValueError: if the two differ in length or are empty.
    """
    from scipy.stats import binomtest

    if len(before) != len(after) or not len(before):
        raise ValueError(f"Compare the same questions, at least one: got {len(before)} and {len(after)}.")
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    changed = difference[difference != 0]
    if not len(changed):
        return 1.0
    if np.all(np.abs(changed) == 1):
        return float(binomtest(int((changed > 0).sum()), len(changed)).pvalue)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(changed)))
    sums, seen = np.abs(signs @ changed), abs(changed.sum())
    return float((np.sum(sums >= seen * (1 - 1e-12)) + 1) / (resamples + 1))
