"""Claims to label: what is read, the rules between them, and gold labels kept apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.answers import canonical_key
from pst_rl.coherence.constraints import Constraint
from pst_rl.coherence.gold import give_away, read_labels
from pst_rl.coherence.groups import (
    INPUTS_ONLY,
    RULES,
    GroupRule,
    InputRow,
    constraints_of_groups,
    refuse_contradictions,
    whole_groups,
)
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.templates import LETTERS, Template, choices_of, find_template
from pst_rl.data import (
    DEFAULT_LABEL_COLUMNS,
    FILE_FORMATS,
    QUESTION_COLUMNS,
    find_on_hub,
    is_file,
    load_file,
    load_hub,
    pick_column,
    pick_split,
)

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

CLAIM_COLUMNS = ("claim", "choice", "choices", "statement", "response")
GOLD_COLUMNS = ("label", "labels", "gold", "is_correct", "answerKey")


@dataclass(frozen=True)
class Claims:
    """Items to label.

    Attributes:
        prompts: What is read of each item, up to its label word.
        rows: The input columns of each item. No column of labels is among them.
        template: How prompts were made, with the label names and words.
        problem: Number of items and labels, the rules between items, and the clamped labels.
        groups: The name of the group of each item; items that have none are named by their row.
        gold: The gold label of each item where it is known. Only metrics read it.
        true_label: The label that says that a claim holds, if there is one.
        question_column, claim_column: Where in `rows` the question and the claim are, if anywhere.
        source: What was loaded.
        compares: The columns of the two responses that a comparison compares.
    """

    prompts: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    template: Template
    problem: Problem
    groups: tuple[str, ...]
    gold: tuple[int | None, ...] = field(repr=False)
    true_label: int | None = 1
    question_column: str | None = "question"
    claim_column: str | None = "claim"
    source: str = "rows"
    compares: tuple[str, str] | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.template.label_names

    @property
    def label_words(self) -> tuple[tuple[str, ...], ...]:
        return self.template.label_words

    def __len__(self) -> int:
        return len(self.prompts)


def load_claims(
    source: str | Dataset | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    question_column: str | None = None,
    claim_column: str | None = None,
    group_column: str | None = None,
    gold_column: str | None = None,
    answer_column: str | None = None,
    key: Callable[[Mapping[str, Any]], Any] | None = None,
    group_rule: GroupRule | None = None,
    template: str | Template = "correctness",
    label_names: Sequence[str] | None = None,
    label_words: Sequence[str | Sequence[str]] | None = None,
    true_label: str = "True",
    clamp: int | Sequence[int] | str = 0,
    limit: int | None = None,
    seed: int = 0,
) -> Claims:
    """Loads claims, one a row, and keeps gold labels apart.

    Columns that hold labels (`gold_column`, a `clamp` column, and those of `pst_rl.data.DEFAULT_LABEL_COLUMNS` and
    `GOLD_COLUMNS` that are not used as an input) are taken away before anything else is computed, so neither prompts
    nor groups nor rules can depend on them. Permuting the gold labels changes nothing but `Claims.gold`.

    Rules, by group:

    | rule | labels of a group |
    |---|---|
    | `one_answer` | equal answers have equal labels, different ones are not both true |
    | `at_most_one`, `exactly_one` | so many are true |
    | `all_equal` | all the same |
    | `antisymmetric` | the two of a pair differ |

    Source: the rules are ICM's (arXiv 2506.10139), but for `exactly_one`. That groups are the question's by default,
    and how claims are normalised, is our choice.

    Args:
        source: A Hub id (`owner/name` or `owner/name:config`), a `.jsonl`, `.json`, `.csv` or `.parquet` file, a
            data set, or rows.
        split: By default "train", or every row of a source with one split, which is else divided by question.
        question_column, claim_column: By default the first of the usual names that is there.
        group_column: Column whose equal values make a group; by default equal questions do. Rows without a value
            are in no group.
        gold_column: Column with gold labels: names, indices, or nothing (`None`, "", -1) where unknown. By default
            the first of `GOLD_COLUMNS` that is there.
        answer_column: Column with the final answer that a claim makes, for `one_answer`; answers are equal if
            `pst_rl.answers.equivalent` says so, and rows without one are in no rule. By default claims are compared
            as text, but for case and white space.
        key: A function from a row to the name of its group, instead of `group_column`. It cannot see label columns.
        group_rule: What holds between the labels of a group; `None` for nothing. A group of one has no rule.
        template: A name in `TEMPLATES`, or a format string with columns in braces; see `Template`.
        label_names, label_words: Replace those of the template.
        true_label: The name of the label that says that a claim holds.
        clamp: Gold labels to give away: so many, drawn by `seed`; or those of these items, by number (as `limit`
            leaves them); or a column that has labels in some rows (also the gold column itself). They are counted in
            `Claims.problem.clamped`.
        limit: At most so many items, in whole groups drawn by `seed`.
        seed: Of the two draws.

    Raises:
        FileNotFoundError: If the source does not exist.
        ValueError: For an empty source; a column, split, template, label or rule that does not fit; a row with
            nothing in a column that the template shows; a label column used as an input; clamped labels of a group
            that contradict each other.
    """
    template = find_template(template, label_names, label_words)
    names = template.label_names
    if group_rule is not None and group_rule not in RULES:
        raise ValueError(f"Unknown group_rule {group_rule!r}: choose one of {', '.join(RULES)}.")
    if key is not None and group_column is not None:
        raise ValueError("Groups are named by group_column or by key, not by both.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    name = source if isinstance(source, str) else "The data"
    data = load_rows(source, name, split, question_column)

    # ---- columns: inputs, and what is kept apart -----------------------------------------------------------------
    shown = template.placeholders
    pick = partial(pick_column, data, name)
    question_column = pick(question_column, QUESTION_COLUMNS, "question_column", required="question" in shown)
    claim_column = pick(claim_column, CLAIM_COLUMNS, "claim_column", required="claim" in shown)
    group_column = pick(group_column, (), "group_column", required=False)
    answer_column = pick(answer_column, (), "answer_column", required=False)
    inputs = {question_column, claim_column, group_column, answer_column, *shown} - {None}
    gold_column = pick(gold_column, GOLD_COLUMNS, "gold_column", required=False)
    clamp_column = pick(clamp, (), "clamp", required=False) if isinstance(clamp, str) else None
    apart = {gold_column, clamp_column} - {None}
    apart |= {c for c in (*GOLD_COLUMNS, *DEFAULT_LABEL_COLUMNS) if c in data.column_names and c not in inputs}
    leaked = ({gold_column, clamp_column} & inputs) | ({group_column} & {*GOLD_COLUMNS, *DEFAULT_LABEL_COLUMNS})
    if leaked:
        raise ValueError(
            f"The column {sorted(leaked)[0]!r} is taken to have gold labels, and refused as an input: {INPUTS_ONLY} "
            "If another column has them, set gold_column to it; else rename this one."
        )
    golds = read_labels(data, name, gold_column, names)
    known = read_labels(data, name, clamp_column, names) if clamp_column else None
    rows = data.remove_columns(sorted(apart)).to_list()
    template.check([*(c for c, used in (("question", question_column), ("claim", claim_column)) if used), *rows[0]])

    # ---- groups, and the items that are kept ---------------------------------------------------------------------
    key = key or partial(_group_name, group_column=group_column, question_column=question_column)
    groups = [f"row {i}" if (g := key(InputRow(row, apart))) is None else str(g) for i, row in enumerate(rows)]
    if limit is not None and limit < len(rows):
        keep = whole_groups(groups, limit, seed)
        rows, groups, golds = ([values[i] for i in keep] for values in (rows, groups, golds))
        known = known and [known[i] for i in keep]
    present = {label for label in golds if label is not None}
    if len(present) == 1 and sum(label is not None for label in golds) > 1:
        logger.warning("%s: every gold label is %s; accuracy will say nothing.", name, names[present.pop()])
    clamped = give_away(clamp, golds, seed) if known is None else {i: k for i, k in enumerate(known) if k is not None}

    # ---- prompts and rules ---------------------------------------------------------------------------------------
    prompts = tuple(_prompt(template, row, i, name, question_column, claim_column) for i, row in enumerate(rows))
    true = names.index(true_label) if true_label in names else None
    constraints: dict[str, Constraint] = {}
    if group_rule is not None:
        answers = [_answer(row, answer_column, claim_column) for row in rows]
        constraints = constraints_of_groups(group_rule, groups, answers, true)
    refuse_contradictions(constraints, clamped, len(rows), names)
    problem = Problem(len(rows), len(names), tuple(constraints.values()), clamped)
    return Claims(
        prompts=prompts,
        rows=tuple(rows),
        template=template,
        problem=problem,
        groups=tuple(groups),
        gold=tuple(golds),
        true_label=true,
        question_column=question_column,
        claim_column=claim_column,
        source=name,
    )


def load_rows(
    source: str | Dataset | Sequence[Mapping[str, Any]], name: str, split: str | None, question_column: str | None
) -> Dataset:
    """The rows of a source, as `load_claims` takes it; `name` is what messages call it.

    Raises:
        FileNotFoundError, ValueError: As in `load_claims`, for a source that does not exist, or has no rows.
    """
    from datasets import Dataset, DatasetDict

    if isinstance(source, Dataset):
        splits = {"train": source}
    elif isinstance(source, DatasetDict):
        splits = source
    elif not isinstance(source, str):
        splits = {"train": Dataset.from_list([dict(row) for row in source])}
    elif is_file(source):
        splits = {"train": load_file(Path(source).expanduser())}
    elif "/" not in source:
        formats = ", ".join(FILE_FORMATS)
        raise ValueError(f"Unknown data {source!r}: give a Hub id (owner/name) or a {formats} file.")
    else:
        splits = load_hub(*find_on_hub(source)[1:])
    data = next(iter(splits.values()))
    if len(data) and (split or len(splits) > 1):
        data = pick_split(splits, name, split, question_column)
    if not len(data):
        raise ValueError(f"{name} has no claims{f' in the split {split!r}' if split else ''}.")
    return data


def _group_name(row: Mapping[str, Any], group_column: str | None, question_column: str | None) -> str | None:
    value = row[group_column or question_column] if group_column or question_column else None
    return None if value is None or value == "" else " ".join(str(value).split())


def _prompt(template: Template, row: Mapping, i: int, name: str, question: str | None, claim: str | None) -> str:
    values = dict(row) | ({"question": row[question]} if question else {}) | ({"claim": row[claim]} if claim else {})
    choices = choices_of(values.get("claim"))
    if choices is not None and not len(choices) == len(template.label_names) <= len(LETTERS):
        raise ValueError(
            f"Row {i} of {name} has {len(choices)} choices, but there are {len(template.label_names)} labels "
            f"({', '.join(template.label_names)}): set label_names, a letter for each choice."
        )
    try:
        return template.render(values)
    except ValueError as error:
        raise ValueError(f"Row {i} of {name}: {error}. Remove or fill the row, or choose another column.") from error


def _answer(row: Mapping[str, Any], answer_column: str | None, claim_column: str | None) -> str | None:
    """What `one_answer` compares; `None` if there is no answer."""
    if answer_column is not None:
        value = row[answer_column]
        return None if value is None or str(value).strip() == "" else canonical_key(str(value))
    return " ".join(str(row[claim_column]).casefold().split()) if claim_column else None
