"""Exact match, pass@k, majority@k and the generator-verifier gap as `evaluate` modules, and statistics around them."""

from pathlib import Path
from typing import TYPE_CHECKING

from pst_rl.measure.statistics import Interval, bootstrap_mean, mean_interval, paired_bootstrap, paired_p_value

if TYPE_CHECKING:
    from evaluate import Metric

__all__ = [
    "Interval",
    "bootstrap_mean",
    "load_exact_match",
    "load_gv_gap",
    "load_majority_at_k",
    "load_pass_at_k",
    "mean_interval",
    "paired_bootstrap",
    "paired_p_value",
]


def load_exact_match() -> "Metric":
    """Load the exact-match module that ships here; it needs no network.

    `load_exact_match().compute(predictions=texts, references=golds)` returns `exact_match`, `parsed` and `correct`.
    """
    return _load("exact_match")


def load_pass_at_k() -> "Metric":
    """Load the pass@k module: `compute(predictions=texts_of_each_question, references=golds, k=[1, 8])`."""
    return _load("pass_at_k")


def load_majority_at_k() -> "Metric":
    """Load the majority@k module: `compute(predictions=texts_of_each_question, references=golds)`."""
    return _load("majority_at_k")


def load_gv_gap() -> "Metric":
    """Load the module of the generator-verifier gap: `compute(predictions=scores, references=correct, quantile=0.8)`.

    Both are lists of n values for each question.
    """
    return _load("gv_gap")


def _load(name: str) -> "Metric":
    import evaluate

    return evaluate.load(str(Path(__file__).parent / name / f"{name}.py"), keep_in_memory=True)
