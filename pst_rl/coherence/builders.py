"""Claims made from other data: from recorded answers of models, and from pairs of responses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.answers import Answer, find_answer, is_correct
from pst_rl.answers.extract import Style
from pst_rl.answers.score import Metric
from pst_rl.coherence.claims import Claims, load_claims, load_rows
from pst_rl.coherence.templates import as_text, find_template
from pst_rl.data import ANSWER_COLUMNS, QUESTION_COLUMNS, pick_column, read_gold
from pst_rl.peers.foreign_text import COMMON, Guard, one_line

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def claims_from_responses(
    source: str | Dataset | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    question_column: str | None = None,
    responses_column: str = "responses",
    gold_column: str | None = None,
    claim: Literal["answer", "response"] = "answer",
    style: Style = "auto",
    metric: Metric = "whole",
    guard: Guard = COMMON,
    **options: Any,
) -> Claims:
    """Claims "this answer is right" from several models' recorded answers to each question.

    Two answers to a question with equal canonical keys have equal labels, and different ones are not both true (the
    rule `one_answer`, ICM, arXiv 2506.10139). Gold is whether the final answer matches (`pst_rl.answers.is_correct`),
    and is read by metrics only. Control tokens and words of the template in a response are broken
    (`pst_rl.peers.foreign_text`).

    Args:
        source, split, question_column: As in `load_claims`. A source with one split is divided by question.
        responses_column: Column with `{model: text}`, or a list of texts.
        gold_column: Column with the right answer; by default the first usual one that is there.
        claim: "answer": one claim for each *different* final answer; responses without one are dropped. "response":
            one claim for each response, its whole text; those without a final answer are in no rule.
        style: Where final answers are looked for (`pst_rl.answers.find_answer`).
        metric: How they are compared with gold.
        guard: Of the model that will read the claims; by default of the common families.
        options: Further options of `load_claims`.

    Returns:
        Claims with the columns `question`, `claim`, `final_answer` and `models`.

    Raises:
        FileNotFoundError, ValueError: As in `load_claims`, and if no response has a final answer.
    """
    name = source if isinstance(source, str) else "The data"
    data = load_rows(source, name, split, question_column)
    pick = partial(pick_column, data, name)
    question_column = pick(question_column, QUESTION_COLUMNS, "question_column")
    gold_column = pick(gold_column, ANSWER_COLUMNS, "gold_column", required=False)
    pick(responses_column, (), "responses_column")
    template = find_template(options.get("template", "correctness"))
    rows: list[dict[str, Any]] = []
    unanswered = 0
    for source_row in data:
        gold = read_gold(source_row[gold_column]) if gold_column else None
        texts = _by_model(source_row[responses_column])
        answers = {model: find_answer(text, style) for model, text in texts.items()}
        unanswered += sum(answer is None for answer in answers.values())
        for said in _said(texts, answers, claim):
            row = _row(source_row[question_column], said, gold, metric)
            rows.append(template.guarded(row, ("claim", "final_answer"), guard))
    if unanswered:
        logger.warning("%s: %d responses have no final answer.", name, unanswered)
    if not any(row["final_answer"] for row in rows):
        raise ValueError(f"No response of {name} has a final answer in the style {style!r}.")
    defaults = {"answer_column": "final_answer", "group_rule": "one_answer", "gold_column": "label"}
    return replace(load_claims(rows, **defaults | options), source=name)


def claims_from_comparisons(
    source: str | Dataset | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    question_column: str | None = None,
    response_columns: tuple[str, str] = ("response_a", "response_b"),
    preferred: str | None = None,
    seed: int = 0,
    guard: Guard = COMMON,
    **options: Any,
) -> Claims:
    """Claims "Response A is better than Response B" from pairs of responses, two for each pair: either way round.

    The two are an antisymmetric pair: one is true, the other false (ICM, arXiv 2506.10139). They say the same words
    with the responses exchanged, so that a liking for one position cannot decide (our choice). Which of the two comes
    first is drawn by `seed`, so that the order of the columns, which is gold in `chosen` and `rejected`, says nothing.

    Args:
        source, split, question_column: As in `load_claims`.
        response_columns: The columns with the two responses, as text.
        preferred: Where gold is, for metrics: one of the two columns, if it has the better response in every row; or
            a column that names one of the two, or says A or B (or 0 or 1) for the first or the second; or nothing.
        seed: Of the order, and as in `load_claims`.
        guard: Of the model that will read the claims; by default of the common families.
        options: Further options of `load_claims`.

    Returns:
        Claims with the columns `question`, `response_a`, `response_b` and `pair`, the row of the source.

    Raises:
        FileNotFoundError, ValueError: As in `load_claims`, and if `preferred` says something else.
    """
    name = source if isinstance(source, str) else "The data"
    data = load_rows(source, name, split, question_column)
    question_column = pick_column(data, name, question_column, QUESTION_COLUMNS, "question_column")
    first, second = (pick_column(data, name, column, (), "response_columns") for column in response_columns)
    if preferred not in (first, second):
        pick_column(data, name, preferred, (), "preferred", required=False)
    template = find_template(options.get("template", "comparison"))
    rng, rows = Random(seed), []
    for i, row in enumerate(data):
        try:
            texts = {column: as_text(row[column]) for column in (question_column, first, second)}
            better = _better(row, preferred, first, second)
        except ValueError as error:
            raise ValueError(f"Row {i} of {name}: {error}.") from error
        both = [(first, second), (second, first)]
        rng.shuffle(both)
        for a, b in both:
            row = {
                "question": texts[question_column],
                "response_a": texts[a],
                "response_b": texts[b],
                "pair": i,
                "label": None if better is None else better == a,
            }
            rows.append(template.guarded(row, ("response_a", "response_b"), guard))
    defaults = {"template": "comparison", "group_column": "pair", "group_rule": "antisymmetric"}
    claims = load_claims(rows, seed=seed, **defaults | {"gold_column": "label"} | options)
    return replace(claims, compares=("response_a", "response_b"), source=name)


@dataclass(frozen=True)
class _Said:
    """A claim about a question, the final answer in it, and the models that say so."""

    claim: str
    answer: Answer | None
    models: list[str]


def _said(
    texts: Mapping[str, str], answers: Mapping[str, Answer | None], claim: Literal["answer", "response"]
) -> list[_Said]:
    """One for each response, or for each different answer."""
    if claim == "response":
        return [_Said(text, answers[model], [model]) for model, text in texts.items()]
    found: dict[str, _Said] = {}
    for model, answer in answers.items():
        if answer is not None:
            first = found.setdefault(answer.key, _Said(f"The answer is {one_line(answer.text)}.", answer, []))
            first.models.append(model)
    return list(found.values())


def _row(question: Any, said: _Said, gold: Any, metric: Metric) -> dict[str, Any]:
    return {
        "question": question,
        "claim": said.claim,
        "final_answer": None if said.answer is None else said.answer.text,
        "models": said.models,
        "label": None if gold is None else said.answer is not None and is_correct(said.answer, gold, metric=metric),
    }


def _by_model(responses: Any) -> dict[str, str]:
    """Texts by model; Arrow gives every row all models, `None` where one did not answer."""
    named = responses if isinstance(responses, Mapping) else {str(i): text for i, text in enumerate(responses)}
    return {model: text for model, text in named.items() if text}


def _better(row: Mapping[str, Any], preferred: str | None, first: str, second: str) -> str | None:
    if preferred in (None, first, second):
        return preferred
    value = row[preferred]
    if value is None or value == "":
        return None
    names = {"a": first, "0": first, first.casefold(): first, "b": second, "1": second, second.casefold(): second}
    if (said := str(value).strip().casefold()) not in names:
        raise ValueError(f"{preferred} says {value!r}; it must say A, B, {first} or {second}")
    return names[said]
