"""Claims to label: what is read, the rules between them, and gold labels kept apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.answers import canonical_key
from pst_rl.coherence.columns import Columns
from pst_rl.coherence.constraints import Constraint
from pst_rl.coherence.gold import give_away, read_labels
from pst_rl.coherence.groups import (
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
    FILE_FORMATS,
    find_on_hub,
    is_file,
    load_file,
    load_hub,
    pick_split,
)
from pst_rl.questions.table import Table

if TYPE_CHECKING:
    from datasets import Dataset

    from pst_rl.questions.table import Rows

logger = logging.getLogger(__name__)


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
    """Loads claims, one a row, and keeps gold labels apart (`Columns` says which columns these are).

    Args:
        source: A Hub id (`owner/name` or `owner/name:config`), a file in one of `FILE_FORMATS`, a data set, or rows.
        split: By default "train", or every row of a source with one split, which is else divided by question.
        question_column, claim_column: By default the first of the usual names that is there.
        group_column: Column whose equal values make a group, by default the question's; rows without one are in none.
        gold_column: Column with gold labels: names, indices, or nothing (`None`, "", -1) where unknown. By default
            the first of `GOLD_COLUMNS` that is there.
        answer_column: Column with the final answer that a claim makes, for `one_answer` (`pst_rl.answers.equivalent`);
            rows without one are in no rule. By default claims are compared as text, but for case and white space.
        key: A function from a row to the name of its group, instead of `group_column`. It cannot see label columns.
        group_rule: What holds between the labels of a group (`pst_rl.coherence.groups`); `None` for nothing.
        template: A name in `TEMPLATES`, or a format string with columns in braces; see `Template`.
        label_names, label_words: Replace those of the template.
        true_label: The name of the label that says that a claim holds.
        clamp: Gold labels to give away: so many, drawn by `seed`; or those of these items, by number (as `limit`
            leaves them); or a column that has labels in some rows (also the gold column itself).
        limit, seed: At most so many items, in whole groups drawn by `seed`.

    Raises:
        FileNotFoundError: If the source does not exist.
        ValueError: For an empty source; a column, split, template, label or rule that does not fit; a row with nothing
            in a column that is shown; a label column used as an input; clamped labels that contradict each other.
    """
    template = find_template(template, label_names, label_words)
    _refuse(group_rule, key, group_column, limit)
    name = source if isinstance(source, str) else "The data"
    data = load_rows(source, name, split, question_column)
    clamp_column = clamp if isinstance(clamp, str) else None
    asked = (question_column, claim_column, group_column, answer_column, gold_column, clamp_column)
    columns = Columns.of(data, name, template.placeholders, *asked)
    items = _read_items(data, name, columns, template, key)
    if limit is not None and limit < len(items):
        items = [items[i] for i in whole_groups([item.group for item in items], limit, seed)]
    return _claims(items, name, columns, template, group_rule, true_label, clamp, seed)


def load_rows(
    source: str | Dataset | Sequence[Mapping[str, Any]], name: str, split: str | None, question_column: str | None
) -> Rows:
    """The rows of a source, as `load_claims` takes it, unchanged; `name` is what messages call it.

    Raises:
        FileNotFoundError, ValueError: As in `load_claims`, for a source that does not exist, or has no rows.
    """
    from datasets import Dataset, DatasetDict

    splits: Mapping[str, Rows]
    if isinstance(source, Dataset):
        splits = {"train": source}
    elif isinstance(source, DatasetDict):
        splits = source
    elif not isinstance(source, str):
        splits = {"train": Table(source)}
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


@dataclass(frozen=True)
class _Item:
    """A row without its labels, the name of its group, its gold label, and what the `clamp` column says."""

    row: dict[str, Any]
    group: str
    gold: int | None
    given: int | None


def _refuse(group_rule: str | None, key: Callable | None, group_column: str | None, limit: int | None) -> None:
    if group_rule is not None and group_rule not in RULES:
        raise ValueError(f"Unknown group_rule {group_rule!r}: choose one of {', '.join(RULES)}.")
    if key is not None and group_column is not None:
        raise ValueError("Groups are named by group_column or by key, not by both.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")


def _read_items(
    data: Rows,
    name: str,
    columns: Columns,
    template: Template,
    key: Callable[[Mapping[str, Any]], Any] | None,
) -> list[_Item]:
    golds = read_labels(data, name, columns.gold, template.label_names)
    given = read_labels(data, name, columns.clamp, template.label_names)
    rows = data.remove_columns(sorted(columns.apart)).to_list()
    named = (("question", columns.question), ("claim", columns.claim))
    template.check([*(shown for shown, column in named if column), *rows[0]])
    key = key or partial(_group_name, column=columns.group or columns.question)
    groups = [key(InputRow(row, columns.apart)) for row in rows]
    return [
        _Item(row, f"row {i}" if group is None else str(group), *labels)
        for i, (row, group, *labels) in enumerate(zip(rows, groups, golds, given, strict=True))
    ]


def _claims(
    items: Sequence[_Item],
    name: str,
    columns: Columns,
    template: Template,
    group_rule: GroupRule | None,
    true_label: str,
    clamp: int | Sequence[int] | str,
    seed: int,
) -> Claims:
    """The items with their prompts, and the rules between them."""
    names = template.label_names
    golds, groups = tuple(item.gold for item in items), tuple(item.group for item in items)
    present = [label for label in golds if label is not None]
    if len(present) > 1 and len(set(present)) == 1:
        logger.warning("%s: every gold label is %s; accuracy will say nothing.", name, names[present[0]])
    if isinstance(clamp, str):
        clamped = {i: item.given for i, item in enumerate(items) if item.given is not None}
    else:
        clamped = give_away(clamp, golds, seed)
    prompts = tuple(_prompt(template, item.row, i, name, columns) for i, item in enumerate(items))
    true = names.index(true_label) if true_label in names else None
    constraints: dict[str, Constraint] = {}
    if group_rule is not None:
        answers = [_answer(item.row, columns) for item in items]
        constraints = constraints_of_groups(group_rule, groups, answers, true)
    refuse_contradictions(constraints, clamped, len(items), names)
    return Claims(
        prompts=prompts,
        rows=tuple(item.row for item in items),
        template=template,
        problem=Problem(len(items), len(names), tuple(constraints.values()), clamped),
        groups=groups,
        gold=golds,
        true_label=true,
        question_column=columns.question,
        claim_column=columns.claim,
        source=name,
    )


def _group_name(row: Mapping[str, Any], column: str | None) -> str | None:
    value = row[column] if column else None
    return None if value is None or value == "" else " ".join(str(value).split())


def _prompt(template: Template, row: Mapping[str, Any], i: int, name: str, columns: Columns) -> str:
    values = dict(row)
    if columns.question:
        values["question"] = row[columns.question]
    if columns.claim:
        values["claim"] = row[columns.claim]
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


def _answer(row: Mapping[str, Any], columns: Columns) -> str | None:
    """What `one_answer` compares; `None` if there is no answer."""
    if columns.answer is not None:
        value = row[columns.answer]
        return None if value is None or str(value).strip() == "" else canonical_key(str(value))
    return " ".join(str(row[columns.claim]).casefold().split()) if columns.claim else None
