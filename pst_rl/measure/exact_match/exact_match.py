"""Exact match of the final answer, as an `evaluate` module."""

from typing import Any

import evaluate

from pst_rl.answers import find_answer, is_correct
from pst_rl.answers.extract import Style
from pst_rl.answers.score import Metric
from pst_rl.measure.module_info import answers_info

_DESCRIPTION = """
The share of responses whose final answer equals the gold answer. The answer is read out of the response (boxed, after
"####", after "the answer is", or the last number) and compared numerically or symbolically, not as text.
"""

_INPUTS = """
Args:
    predictions: the whole text of each response.
    references: the gold of each question, as text or as a list of texts where a question has several solutions.
    metric: "whole" compares the whole answer, "first" the first quantity asked for, "set" asks for all solutions.
    style: how the answer is written in a response; "auto" tries every style.

Returns:
    exact_match: the share of right responses.
    parsed: the share of responses in which an answer was found.
    correct: for each response, whether it is right.

Example:
    >>> load_exact_match().compute(predictions=["4 + 5 = 9. The answer is 9."], references=["9"])
    {'exact_match': 1.0, 'parsed': 1.0, 'correct': [True]}
"""


class ExactMatch(evaluate.Metric):
    """exact_match = (1/n) sum_i is_correct(prediction_i, reference_i), parsed = (1/n) sum_i [answer found in i]."""

    def _info(self) -> evaluate.MetricInfo:
        return answers_info(_DESCRIPTION, _INPUTS, samples=False)

    def _compute(
        self,
        predictions: list[str],
        references: list[str] | list[list[str]],
        metric: Metric = "whole",
        style: Style = "auto",
    ) -> dict[str, Any]:
        answers = [find_answer(text, style) for text in predictions]
        correct = [
            answer is not None and is_correct(answer, gold, metric=metric)
            for answer, gold in zip(answers, references, strict=True)
        ]
        parsed = [answer is not None for answer in answers]
        return {
            "exact_match": sum(correct) / len(correct),
            "parsed": sum(parsed) / len(parsed),
            "correct": correct,
        }
