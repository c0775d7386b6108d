"""The generator-verifier gap, as an `evaluate` module."""

from dataclasses import asdict
from typing import Any, Literal

import datasets
import evaluate

from pst_rl.measure.verification import Threshold, verification_gap

_DESCRIPTION = """
How much better the samples are that a verifier keeps than all of them (arXiv 2412.02674): mean accuracy of the kept
samples minus that of all samples of a question, averaged over questions.
"""

_INPUTS = """
Args:
    predictions: for each question the verifier's scores of its n samples.
    references: for each question whether its samples are right, in the same order.
    threshold: keep samples that score at least so much; or
    quantile: keep those that score at least as much as this quantile (0.8 by default: about the best fifth),
    scope: of the samples of a "question", or of "all" questions.

Returns:
    generation, verified, gap, relative_gap, balanced_accuracy, kept, always_right, kept_none: see
    `pst_rl.measure.verification.Gap`; `ci95` has the bootstrap interval over questions of each.

Example:
    >>> load_gv_gap().compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[1, 0], [1, 0]])["gap"]
    0.0
"""


class GVGap(evaluate.Metric):
    """gap = mean over questions of (mean of c over the kept samples - mean of c)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("bool")),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[bool]],
        threshold: float | None = None,
        quantile: float | None = None,
        scope: Literal["question", "all"] = "question",
    ) -> dict[str, Any]:
        if threshold is None and quantile is None:
            quantile = 0.8
        found = asdict(verification_gap(references, predictions, Threshold(threshold, quantile, scope)))
        del found["by_question"]
        intervals = {name: value for name, value in found.items() if isinstance(value, dict)}
        return (
            found
            | {name: value["gain"] for name, value in intervals.items()}
            | {"ci95": {name: (value["low"], value["high"]) for name, value in intervals.items()}}
        )
