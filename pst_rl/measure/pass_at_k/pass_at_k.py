"""pass@k of a final answer, as an `evaluate` module."""

from typing import Any

import evaluate

from pst_rl.answers.extract import Style
from pst_rl.answers.score import Metric
from pst_rl.measure.module_info import answers_info
from pst_rl.measure.samples import judge, pass_at_k

_DESCRIPTION = """
The chance that at least one of k samples has the right final answer, estimated without bias from n >= k samples of
each question (arXiv 2107.03374). Answers are read and compared as in `exact_match`.
"""

_INPUTS = """
Args:
    predictions: for each question the texts of its n samples.
    references: the gold of each question, as text or as a list of texts where a question has several solutions.
    k: how many samples; one number, or several.
    metric: "whole" compares the whole answer, "first" the first quantity asked for, "set" asks for all solutions.
    style: how the answer is written in a response; "auto" tries every style.

Returns:
    pass@k, for each k.

Example:
    >>> load_pass_at_k().compute(predictions=[["#### 9", "#### 8"]], references=["9"], k=[1, 2])
    {'pass@1': 0.5, 'pass@2': 1.0}
"""


class PassAtK(evaluate.Metric):
    """pass@k = mean over questions of 1 - C(n - c, k) / C(n, k)."""

    def _info(self) -> evaluate.MetricInfo:
        return answers_info(_DESCRIPTION, _INPUTS, samples=True)

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[str] | list[list[str]],
        k: int | list[int] = 1,
        metric: Metric = "whole",
        style: Style = "auto",
    ) -> dict[str, Any]:
        right = [
            sum(judge(text, gold, style=style, metric=metric).correct for text in texts)
            for texts, gold in zip(predictions, references, strict=True)
        ]
        sizes = [len(texts) for texts in predictions]
        return {
            f"pass@{n}": sum(pass_at_k(c, size, n) for c, size in zip(right, sizes, strict=True)) / len(right)
            for n in ([k] if isinstance(k, int) else k)
        }
