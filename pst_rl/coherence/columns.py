"""Which column of a data set of claims is what, and which ones are kept apart because they may hold gold labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pst_rl.coherence.groups import INPUTS_ONLY
from pst_rl.data import DEFAULT_LABEL_COLUMNS, QUESTION_COLUMNS, pick_column

if TYPE_CHECKING:
    from pst_rl.questions.table import Rows

CLAIM_COLUMNS = ("claim", "choice", "choices", "statement", "response")
GOLD_COLUMNS = ("label", "labels", "gold", "is_correct", "answerKey")


@dataclass(frozen=True)
class Columns:
    """Columns by what they are for; `None` where there is none.

    Those that hold labels (`gold`, `clamp`, and those of `pst_rl.data.DEFAULT_LABEL_COLUMNS` and `GOLD_COLUMNS` that
    are not used as an input) are taken away before anything else is computed, so neither prompts nor groups nor rules
    can depend on them. Permuting the gold labels changes nothing but `Claims.gold`.

    Attributes:
        question, claim, group, answer: Inputs.
        gold: The gold labels, for metrics.
        clamp: Labels that are given away.
        apart: All columns that may hold labels.
    """

    question: str | None
    claim: str | None
    group: str | None
    answer: str | None
    gold: str | None
    clamp: str | None
    apart: frozenset[str]

    @classmethod
    def of(
        cls,
        data: Rows,
        name: str,
        shown: Collection[str],
        question: str | None,
        claim: str | None,
        group: str | None,
        answer: str | None,
        gold: str | None,
        clamp: str | None,
    ) -> Columns:
        """The columns asked for, or the usual ones that are there.

        Args:
            name: What messages call the data.
            shown: What the template shows.

        Raises:
            ValueError: For a column that is not there, or one that is taken to have labels and used as an input.
        """
        pick = partial(pick_column, data, name)
        question = pick(question, QUESTION_COLUMNS, "question_column", required="question" in shown)
        claim = pick(claim, CLAIM_COLUMNS, "claim_column", required="claim" in shown)
        group = pick(group, (), "group_column", required=False)
        answer = pick(answer, (), "answer_column", required=False)
        inputs = {column for column in (question, claim, group, answer, *shown) if column is not None}
        gold = pick(gold, GOLD_COLUMNS, "gold_column", required=False)
        clamp = pick(clamp, (), "clamp", required=False)
        labels = {column for column in (gold, clamp) if column is not None}
        usual = {*GOLD_COLUMNS, *DEFAULT_LABEL_COLUMNS}
        if leaked := (labels & inputs) | ({group} & usual):
            raise ValueError(
                f"The column {sorted(map(str, leaked))[0]!r} is taken to have gold labels, and refused as an input: "
                f"{INPUTS_ONLY} If another column has them, set gold_column to it; else rename this one."
            )
        apart = labels | {column for column in usual & set(data.column_names) if column not in inputs}
        return cls(question, claim, group, answer, gold, clamp, frozenset(apart))
