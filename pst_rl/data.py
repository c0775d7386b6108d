"""Questions to train and measure on, and the labels kept apart from them.

How files are read, and what of them becomes a question or a gold, is in `pst_rl.questions`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from pst_rl.questions.columns import ANSWER_COLUMNS, QUESTION_COLUMNS, conversations, pick_column, read_rows
from pst_rl.questions.golds import Answer, read_gold
from pst_rl.questions.prompts import check_form, with_plain_prompts
from pst_rl.questions.sources import FILE_FORMATS, PRESETS, Preset, find_on_hub, is_file, load_file, load_hub
from pst_rl.questions.splits import SPLIT_SHARES, divided, hash_split, one_space, pick_split
from pst_rl.questions.table import place

if TYPE_CHECKING:
    from datasets import Dataset

    from pst_rl.questions.table import Rows
    from pst_rl.tiny.questions import Split

__all__ = [
    "ANSWER_COLUMNS",
    "DEFAULT_LABEL_COLUMNS",
    "FILE_FORMATS",
    "PRESETS",
    "QUESTION_COLUMNS",
    "SPLIT_SHARES",
    "TINY_SIZES",
    "Answer",
    "Gold",
    "Preset",
    "find_on_hub",
    "hash_split",
    "is_file",
    "load_file",
    "load_hub",
    "load_questions",
    "pick_column",
    "pick_split",
    "read_gold",
    "split_evaluation",
    "split_labels",
    "split_sizes",
]  # fmt: skip

logger = logging.getLogger(__name__)

DEFAULT_LABEL_COLUMNS = (
    "answer", "answers", "solution", "final_ans", "gold", "label", "labels", "target", "ground_truth", "answerKey",
    "output", "verdicts", "responses",
)  # fmt: skip
# Recorded material about other models' answers: split off like a label, but no gold to score against.
_EVIDENCE_COLUMNS = ("verdicts", "responses")

TINY_SIZES = {"train": 1280, "validation": 300, "test": 900}
"""Questions generated for `source="tiny"` when no `limit` is given."""


@dataclass(frozen=True)
class Gold:
    """The answers split off a dataset, looked up by `question_id`.

    `gold[question_id]` is the answer (`None` where the row has none) and `bool(gold)` says whether any is known.
    """

    column: str | None = None
    answers: tuple[Any, ...] = ()

    def __getitem__(self, question_id: int) -> Any:
        return self.answers[question_id]

    def __len__(self) -> int:
        return len(self.answers)

    def __bool__(self) -> bool:
        return any(answer is not None for answer in self.answers)


def load_questions(
    source: str,
    *,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    prompt_template: str = "{question}",
) -> Dataset:
    """Load questions as a TRL prompt-only dataset.

    A source with one split only (a local file, MATH-500) is divided by `hash_split` into train / validation / test
    with `SPLIT_SHARES`. Duplicated questions are dropped and counted in a warning. Choices are shown below their
    question with letters, and the gold is then a letter (docs/data.md).

    Args:
        source: `"tiny"` (the embedded generator), a name in `PRESETS`, a Hub id (`owner/name` or
            `owner/name:config`), or a local `.jsonl`, `.json`, `.csv` or `.parquet` file.
        split: by default `"train"`, or every row of a source with one split only.
        question_column: by default the preset's, or the first of `QUESTION_COLUMNS` that is there, behind the text of
            a column `instruction` if there is one.
        answer_column: by default the preset's, or the first of `ANSWER_COLUMNS` that is there; none is fine.
        limit: keep so many questions, drawn by `seed`, in their order. For `"tiny"`, how many to generate.
        seed: of the draw.
        prompt_template: the user message; `{question}` in it is replaced, other braces stay. Of a conversation
            (messages with roles in the question's column) it is the last message.

    Returns:
        A dataset with `prompt` (`[{"role": "user", "content": ...}]`), `question` and, if any gold is known, `answer`:
        text, or lists of text if a row of the source lists several solutions.

    Raises:
        FileNotFoundError: if the file does not exist, or the Hub does not give the dataset out.
        ValueError: for a format, column, split or template that does not fit, for a row with what cannot be a question
            or a gold, or if no question is left.
    """
    if "{question}" not in prompt_template:
        raise ValueError(f"prompt_template must contain {{question}}, got {prompt_template!r}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")

    rows: Rows
    if source == "tiny":
        rows = _tiny_rows(split, limit, seed)
        question_column, answer_column = "question", "answer"
    else:
        splits, preset = _splits(source)
        if preset:
            question_column, answer_column = question_column or preset.question, answer_column or preset.answer
        rows = pick_split(splits, source, split, question_column)

    if not len(rows):
        raise ValueError(f"{source} has no questions in the split asked for.")
    questions, answers = read_rows(rows, source, question_column, answer_column)
    held = conversations(rows, source, question_column)
    return _build(source, *_thin_out(source, questions, answers, limit, seed), prompt_template, held)


def split_sizes(source: str, question_column: str | None = None) -> dict[str, int]:
    """Into how many different questions each split a source with a single one is divided; empty for all others.

    Args:
        source, question_column: As in `load_questions`.
    """
    if source == "tiny":
        return {}
    splits, preset = _splits(source)
    if len(splits) > 1:
        return {}
    column = question_column or (preset.question if preset else None)
    return divided(next(iter(splits.values())), source, column)


def _splits(source: str) -> tuple[Mapping[str, Rows], Preset | None]:
    """The splits that a file or a data set of the Hub has, and what is known of its columns."""
    if source not in PRESETS and is_file(source):
        return {"train": load_file(Path(source).expanduser())}, None
    preset, hub_id, config = find_on_hub(source)
    return load_hub(hub_id, config), preset


def split_labels(
    dataset: Dataset, label_columns: Sequence[str] | None = None, name: str = "The data set"
) -> tuple[Dataset, Gold]:
    """Split the labels off a dataset, so that they cannot travel with a batch.

    Args:
        dataset: any map-style dataset.
        label_columns: the columns to remove, the first that is present being the gold. By default, those of
            `DEFAULT_LABEL_COLUMNS` that are there. An empty list removes none.
        name: what messages call the dataset.

    Returns:
        The dataset without these columns, with `question_id`, the index of the row, and with the content of prompts as
        text where it is in parts; and the `Gold`.

    Raises:
        TypeError, ValueError: if it is no map-style dataset, a column asked for is not there, or `question_id` already
            is; or for a row whose prompt cannot be read as text, or whose gold is no answer.
    """
    check_form(dataset, name)
    if label_columns is None:
        present = [name for name in DEFAULT_LABEL_COLUMNS if name in dataset.column_names]
        golds = [name for name in present if name not in _EVIDENCE_COLUMNS]
    else:
        present = golds = list(dict.fromkeys(label_columns))
        missing = [name for name in present if name not in dataset.column_names]
        if missing:
            raise ValueError(
                f"label_columns names {', '.join(missing)}, but the dataset has {', '.join(dataset.column_names)}."
            )
    if "question_id" in dataset.column_names:
        raise ValueError("The dataset has a column question_id, which numbers the rows here: rename or remove yours.")
    gold = Gold(golds[0], _golds(dataset, golds[0], name)) if golds else Gold()
    dataset = with_plain_prompts(dataset.remove_columns(present), name)
    return dataset.add_column("question_id", list(range(len(dataset)))), gold


def split_evaluation(
    dataset: Dataset | Mapping[str, Dataset], label_columns: Sequence[str] | None = None
) -> tuple[Dataset | dict[str, Dataset], Gold | dict[str, Gold]]:
    """`split_labels` of an evaluation set, or of each of several by name."""
    if not isinstance(dataset, Mapping):
        return split_labels(dataset, label_columns, "The evaluation set")
    parts = {name: split_labels(rows, label_columns, f"The evaluation set {name!r}") for name, rows in dataset.items()}
    return {name: rows for name, (rows, _) in parts.items()}, {name: gold for name, (_, gold) in parts.items()}


def _golds(dataset: Dataset, column: str, name: str) -> tuple[Any, ...]:
    """The values of a column as they are, but for objects, of which it is the answer (`read_gold`)."""
    golds = []
    for index, value in enumerate(dataset[column][:]):
        try:
            read = read_gold(value)
        except ValueError as error:
            raise ValueError(
                f"{place(dataset, index, name)} has in {column!r} {error}. Fix it, or set label_columns to the "
                "columns that have labels, the gold first."
            ) from error
        golds.append(read if isinstance(value, Mapping) else value)
    return tuple(golds)


def _tiny_rows(split: str | None, limit: int | None, seed: int) -> Dataset:
    from datasets import Dataset

    from pst_rl.tiny.questions import tiny_questions

    split = split or "train"
    if split not in TINY_SIZES:
        raise ValueError(f"tiny has no split {split!r}; choose one of {', '.join(TINY_SIZES)}.")
    return Dataset.from_list(tiny_questions(cast("Split", split), limit or TINY_SIZES[split], seed))


def _thin_out(
    source: str, questions: list[str], answers: list[Answer | None], limit: int | None, seed: int
) -> tuple[list[str], list[Answer | None]]:
    """Drop repeated questions, then keep `limit` of the rest."""
    first: dict[str, int] = {}
    for index, question in enumerate(questions):
        first.setdefault(one_space(question), index)
    kept = list(first.values())
    if len(kept) < len(questions):
        logger.warning(
            "%s: dropped %d duplicated questions of %d.", source, len(questions) - len(kept), len(questions)
        )
    if limit is not None and limit < len(kept):
        kept = sorted(Random(seed).sample(kept, limit))
    return [questions[index] for index in kept], [answers[index] for index in kept]


def _build(
    source: str,
    questions: list[str],
    answers: list[Answer | None],
    prompt_template: str,
    held: Mapping[str, list[dict[str, str]]],
) -> Dataset:
    from datasets import Dataset

    if not questions:
        raise ValueError(f"{source} has no questions in the split asked for.")
    prompts = []
    for question in questions:
        *before, last = held.get(question, [{"role": "user", "content": question}])
        prompts.append([*before, last | {"content": prompt_template.replace("{question}", last["content"])}])
    columns: dict[str, list[Any]] = {
        "prompt": prompts,
        "question": questions,
    }
    if any(isinstance(answer, list) for answer in answers):
        answers = [[answer] if isinstance(answer, str) else answer for answer in answers]
    if any(answer is not None for answer in answers):
        columns["answer"] = answers
    return Dataset.from_dict(columns)
