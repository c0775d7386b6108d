"""majority@k of a final answer, as an `evaluate` module."""

from typing import Any

import evaluate

from pst_rl.answers.extract import Style
from pst_rl.answers.score import Metric
from pst_rl.measure.module_info import answers_info
from pst_rl.measure.samples import judge, majority_at_k

_DESCRIPTION = """
The share of questions whose most common final answer of k samples is right. Of n > k samples, each k in turn vote, and
their verdicts are averaged. Answers are read and compared as in `exact_match`; samples without an answer do not vote.
"""

_INPUTS = """
Args:
    predictions: for each question the texts of its n samples.
    references: the gold of each question, as text or as a list of texts where a question has several solutions.
    k: how many samples vote; one number, or several. By default all.
    metric: "whole" compares the whole answer, "first" the first quantity asked for, "set" asks for all solutions.
    style: how the answer is written in a response; "auto" tries every style.

Returns:
    majority@k, for each k.

Example:
    >>> load_majority_at_k().compute(predictions=[["#### 9", "#### 8", "#### 9"]], references=["9"])
    {'majority@3': 1.0}
"""


class MajorityAtK(evaluate.Metric):
    """majority@k = mean over questions of [the most common key of k samples is right]."""

    def _info(self) -> evaluate.MetricInfo:
        return answers_info(_DESCRIPTION, _INPUTS, samples=True)

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[str] | list[list[str]],
        k: int | list[int] | None = None,
        metric: Metric = "whole",
        style: Style = "auto",
    ) -> dict[str, Any]:
        judged = [
            [judge(text, gold, style=style, metric=metric) for text in texts]
            for texts, gold in zip(predictions, references, strict=True)
        ]
        k = min(map(len, judged)) if k is None else k
        return {
            f"majority@{n}": sum(majority_at_k(samples, n) for samples in judged) / len(judged)
            for n in ([k] if isinstance(k, int) else k)
        }
