"""Answers: find them in text, decide exactly which are equivalent, and score them against gold."""

from pst_rl.answers.canonical import canonical_key, equivalent
from pst_rl.answers.extract import Answer, extract_answer, extract_answers, find_answer
from pst_rl.answers.score import is_correct

__all__ = [
    "Answer",
    "canonical_key",
    "equivalent",
    "extract_answer",
    "extract_answers",
    "find_answer",
    "is_correct",
]
