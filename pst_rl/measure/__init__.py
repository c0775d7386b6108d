"""Exact match as an `evaluate` module, and the statistics around it."""

from pathlib import Path
from typing import TYPE_CHECKING

from pst_rl.measure.statistics import Interval, mean_interval, paired_bootstrap

if TYPE_CHECKING:
    from evaluate import Metric

__all__ = ["Interval", "load_exact_match", "mean_interval", "paired_bootstrap"]


def load_exact_match() -> "Metric":
    """Load the exact-match module that ships here; it needs no network.

    `load_exact_match().compute(predictions=texts, references=golds)` returns `exact_match`, `parsed` and `correct`.
    """
    import evaluate

    path = Path(__file__).parent / "exact_match" / "exact_match.py"
    return evaluate.load(str(path), keep_in_memory=True)
