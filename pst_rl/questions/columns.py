"""Which column is the question and which one the answer, and what a question is made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from pst_rl.questions.choices import CHOICE_COLUMNS, read_choices
from pst_rl.questions.golds import Answer, checked_text, has_other_forms, read_gold
from pst_rl.questions.prompts import plain_prompt
from pst_rl.questions.table import place

if TYPE_CHECKING:
    from pst_rl.questions.table import Rows

logger = logging.getLogger(__name__)

QUESTION_COLUMNS = ("question", "problem", "input", "prompt")
ANSWER_COLUMNS = ("answer", "final_ans", "answers", "solution", "answerKey", "output")
INSTRUCTION_COLUMN = "instruction"
_NOT_SHOWN = ("context", "passage", "article", "story", "premise", "hypothesis", "image", "images")


@overload
def pick_column(
    rows: Rows, source: str, asked: str | None, known: Sequence[str], option: str, required: Literal[True] = True
) -> str: ...
@overload
def pick_column(
    rows: Rows, source: str, asked: str | None, known: Sequence[str], option: str, required: bool
) -> str | None: ...
def pick_column(
    rows: Rows, source: str, asked: str | None, known: Sequence[str], option: str, required: bool = True
) -> str | None:
    """The column asked for, or else the first known one that is there; `None` if there is none and none is required.

    Raises:
        ValueError: if it is not there; the message names `option`, by which it can be set.
    """
    present = rows.column_names
    column = asked or next((name for name in known if name in present), None)
    if (column is None and required) or (column is not None and column not in present):
        missing = f"column {asked!r}" if asked else f"column named {' or '.join(known)}"
        raise ValueError(f"{source} has no {missing}; it has {', '.join(present)}. Set {option} to one of these.")
    return column


def question_columns(rows: Rows, source: str, asked: str | None = None) -> list[str]:
    """The columns whose texts make a question.

    That is the one asked for. By default it is the first of `QUESTION_COLUMNS` that is there, behind
    `INSTRUCTION_COLUMN` where there is one: Alpaca's instruction and input.

    Raises:
        ValueError: if there is none.
    """
    instructed = asked is None and INSTRUCTION_COLUMN in rows.column_names
    column = pick_column(rows, source, asked, QUESTION_COLUMNS, "question_column", required=not instructed)
    return [INSTRUCTION_COLUMN] * instructed + ([column] if column else [])


def conversations(rows: Rows, source: str, asked: str | None = None) -> dict[str, list[dict[str, str]]]:
    """The messages of questions that are conversations, by the question's text (`read_questions`).

    Raises:
        ValueError: for one that no user has the last word in.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for name in question_columns(rows, source, asked):
        for index, value in enumerate(rows[name][:]):
            if _is_conversation(value):
                messages = _messages(rows, source, index, value)
                found[_said(messages)] = messages
    return found


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _messages(rows: Rows, source: str, index: int, value: Any) -> list[dict[str, str]]:
    try:
        messages = plain_prompt(value)
        if messages[-1]["role"] != "user":
            raise ValueError(f"a conversation that ends with the {messages[-1]['role']}; the user must come last")
    except ValueError as error:
        raise ValueError(f"{place(rows, index, source)} has {error}. Remove or fix the row.") from error
    return [{"role": m["role"], "content": m["content"].strip()} for m in messages]


def _said(messages: list[dict[str, str]]) -> str:
    """The text that a conversation is known by."""
    return "\n\n".join(m["content"] for m in messages if m["content"])


def read_questions(rows: Rows, source: str, asked: str | None = None) -> list[str]:
    """The text of each question, without choices; of a conversation that of all its messages.

    Raises:
        ValueError: if there is no such column, or for a row without a question.
    """
    columns = question_columns(rows, source, asked)
    questions = []
    for index, values in enumerate(zip(*(rows[name][:] for name in columns), strict=True)):
        values = tuple(_said(_messages(rows, source, index, v)) if _is_conversation(v) else v for v in values)
        given = [value for value in values if value is not None and value != ""]
        texts = [value.strip() for value in given if isinstance(value, str)]
        if len(texts) < len(given) or not any(texts):
            raise ValueError(
                f"{place(rows, index, source)} has no text in {' and '.join(map(repr, columns))} but "
                f"{' and '.join(map(repr, values))}. Remove or fix the row, or set question_column to a column of "
                "text."
            )
        questions.append("\n\n".join(text for text in texts if text))
    return questions


def read_rows(
    rows: Rows, source: str, question_column: str | None = None, answer_column: str | None = None
) -> tuple[list[str], list[Answer | None]]:
    """Questions as they are shown, and the golds where there are any.

    Choices (in one of `CHOICE_COLUMNS`) are shown below the question with their letters, and the gold is the letter.

    Raises:
        ValueError: for a column that is not there, or a row with what is no question, no choices or no gold.
    """
    questions = read_questions(rows, source, question_column)
    answer_column = pick_column(rows, source, answer_column, ANSWER_COLUMNS, "answer_column", required=False)
    choice_column = next((name for name in CHOICE_COLUMNS if name in rows.column_names), None)
    golds = rows[answer_column][:] if answer_column else [None] * len(rows)
    choices = rows[choice_column][:] if choice_column else [None] * len(rows)
    shown: list[str] = []
    answers: list[Answer | None] = []
    for index, (question, offered, gold) in enumerate(zip(questions, choices, golds, strict=True)):
        column, remedy = choice_column, "or rename the column if it has no choices"
        try:
            found = read_choices(offered)
            column, remedy = answer_column, "or set answer_column to another column"
            answers.append(found.label_of(gold) if found else read_gold(gold))
            shown.append(checked_text(f"{question}\n\n{found.lines}" if found else question))
        except ValueError as error:
            raise ValueError(
                f"{place(rows, index, source)} has in {column!r} {error}. Remove or fix the row, {remedy}."
            ) from error
    _warn(rows, source, golds, {*question_columns(rows, source, question_column), choice_column})
    return shown, answers


def _warn(rows: Rows, source: str, golds: list[Any], used: set[str | None]) -> None:
    """Says what is left out, where a question or a score may suffer by it."""
    if others := sum(map(has_other_forms, golds)):
        logger.warning("%s: %d golds have other accepted forms (aliases), which do not count.", source, others)
    if unseen := [name for name in _NOT_SHOWN if name in rows.column_names and name not in used]:
        logger.warning("%s: the column %s is not shown. What a question needs must be in it.", source, unseen[0])
