"""Questions to train and measure on, and the labels kept apart from them."""

import csv
import difflib
import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, cast, overload

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from pst_rl.tiny.questions import Split

logger = logging.getLogger(__name__)

Answer = str | list[str]

QUESTION_COLUMNS = ("question", "problem", "input", "prompt")
ANSWER_COLUMNS = ("answer", "final_ans", "answers", "solution", "answerKey")
DEFAULT_LABEL_COLUMNS = (
    "answer", "answers", "solution", "final_ans", "gold", "label", "labels", "target", "ground_truth", "answerKey",
    "verdicts", "responses",
)  # fmt: skip
# Recorded material about other models' answers: split off like a label, but no gold to score against.
_EVIDENCE_COLUMNS = ("verdicts", "responses")

FILE_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}

SPLIT_SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}
"""How `hash_split` divides a source that has one split only (a local file, MATH-500)."""

TINY_SIZES = {"train": 1280, "validation": 300, "test": 900}
"""Questions generated for `source="tiny"` when no `limit` is given."""


@dataclass(frozen=True)
class Preset:
    """Where a benchmark lies on the Hub and what its columns are called."""

    hub_id: str
    question: str
    answer: str
    config: str | None = None


PRESETS = {
    "multiarith": Preset("ChilleD/MultiArith", question="question", answer="final_ans"),
    "simuleq": Preset("allenai/lila", question="input", answer="output_answer", config="simuleq"),
    "math500": Preset("HuggingFaceH4/MATH-500", question="problem", answer="answer"),
    "gsm8k": Preset("openai/gsm8k", question="question", answer="answer", config="main"),
}


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


def hash_split(text: str, shares: dict[str, float] = SPLIT_SHARES) -> str:
    """Return the split a text belongs to, decided by the text alone.

    The first 8 bytes of the SHA-256 of the text (runs of white space count as one space), read as a number in
    [0, 1), fall into one of the intervals that the shares cut out, in their order. So the split is the same on every
    machine, whatever the order or the other rows of the file, and a repeated question never is in two splits.

    Raises:
        ValueError: if the shares do not add up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"The shares of the splits must be positive and add up to 1, got {shares}.")
    digest = hashlib.sha256(_collapse(text).encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return next(reversed(shares))  # what rounding leaves over at the upper end


def read_gold(value: Any) -> Answer | None:
    """Return a gold answer as text, or as a list of texts where the row lists several solutions.

    GSM8K's worked solutions give what follows the last `####`, without thousands commas. Whole floats lose their
    `.0`; text is stripped. `None`, empty text and an empty list give `None`.
    """
    if isinstance(value, (list, tuple)):
        golds = [gold for gold in map(read_gold, value) if isinstance(gold, str)]
        return golds or None
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if "####" in text:
        text = text.rpartition("####")[2].replace(",", "")
    return text.strip() or None


def load_questions(
    source: str,
    *,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    prompt_template: str = "{question}",
) -> "Dataset":
    """Load questions as a TRL prompt-only dataset.

    A source with one split only (a local file, MATH-500) is divided by `hash_split` into train / validation / test
    with `SPLIT_SHARES`. Duplicated questions are dropped and counted in a warning.

    Args:
        source: `"tiny"` (the embedded generator), a name in `PRESETS`, a Hub id (`owner/name` or
            `owner/name:config`), or a local `.jsonl`, `.json`, `.csv` or `.parquet` file.
        split: by default `"train"`, or every row of a source with one split only.
        question_column: by default the preset's, or the first of `QUESTION_COLUMNS` that is there.
        answer_column: by default the preset's, or the first of `ANSWER_COLUMNS` that is there; none is fine.
        limit: keep so many questions, drawn by `seed`, in their order. For `"tiny"`, how many to generate.
        seed: of the draw.
        prompt_template: the user message; `{question}` in it is replaced, other braces stay.

    Returns:
        A dataset with `prompt` (`[{"role": "user", "content": ...}]`), `question` and, if any gold is known, `answer`:
        text, or lists of text if a row of the source lists several solutions.

    Raises:
        FileNotFoundError: if the file does not exist, or the Hub does not give the dataset out.
        ValueError: for a format, column, split or template that does not fit, or if no question is left.
    """
    if "{question}" not in prompt_template:
        raise ValueError(f"prompt_template must contain {{question}}, got {prompt_template!r}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")

    if source == "tiny":
        rows = _tiny_rows(split, limit, seed)
        question_column, answer_column = "question", "answer"
    elif source not in PRESETS and is_file(source):
        rows = pick_split({"train": load_file(Path(source).expanduser())}, source, split)
    else:
        preset, hub_id, config = find_on_hub(source)
        rows = load_hub(hub_id, config)
        if preset:
            question_column, answer_column = question_column or preset.question, answer_column or preset.answer
        rows = pick_split(rows, source, split, question_column)

    question_column = pick_column(rows, source, question_column, QUESTION_COLUMNS, "question_column")
    answer_column = pick_column(rows, source, answer_column, ANSWER_COLUMNS, "answer_column", required=False)
    questions = _read_questions(rows, source, question_column)
    golds = rows[answer_column] if answer_column else [None] * len(questions)
    answers = [read_gold(value) for value in golds]
    return _build(source, *_thin_out(source, questions, answers, limit, seed), prompt_template)


def split_labels(dataset: "Dataset", label_columns: Sequence[str] | None = None) -> "tuple[Dataset, Gold]":
    """Split the labels off a dataset, so that they cannot travel with a batch.

    Args:
        dataset: any map-style dataset.
        label_columns: the columns to remove, the first that is present being the gold. By default, those of
            `DEFAULT_LABEL_COLUMNS` that are there. An empty list removes none.

    Returns:
        The dataset without these columns and with `question_id`, the index of the row; and the `Gold`.

    Raises:
        ValueError: if a column asked for is not there, or `question_id` already is.
    """
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
    gold = Gold(golds[0], tuple(dataset[golds[0]])) if golds else Gold()
    return dataset.remove_columns(present).add_column("question_id", list(range(len(dataset)))), gold


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _tiny_rows(split: str | None, limit: int | None, seed: int) -> "Dataset":
    from datasets import Dataset

    from pst_rl.tiny.questions import tiny_questions

    split = split or "train"
    if split not in TINY_SIZES:
        raise ValueError(f"tiny has no split {split!r}; choose one of {', '.join(TINY_SIZES)}.")
    return Dataset.from_list(tiny_questions(cast("Split", split), limit or TINY_SIZES[split], seed))


def is_file(source: str) -> bool:
    """Whether a source is meant as a file: it exists, has a known ending, or cannot be a Hub id."""
    path = Path(source).expanduser()
    hub_like = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+)?", source)
    return path.exists() or path.suffix.lower() in FILE_FORMATS or not hub_like


def load_file(path: Path) -> "Dataset":
    """The rows of a file in one of `FILE_FORMATS`; of CSV as text, unchanged.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another format, is empty or cannot be read.
    """
    from datasets import Features, Value, load_dataset
    from datasets.exceptions import DatasetGenerationError

    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give an existing file or a Hub id such as openai/gsm8k.")
    if path.is_dir() or path.suffix.lower() not in FILE_FORMATS:
        raise ValueError(f"{path} is not a {', '.join(FILE_FORMATS)} file; convert it, or give one of these.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: it has no questions.")
    options = {}
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file))
        # Left to itself, the reader turns "007" into 7 and "NA" into nothing: answers stay the text they are.
        options = {"features": Features({name: Value("string") for name in header}), "keep_default_na": False}
    try:
        return load_dataset(FILE_FORMATS[path.suffix.lower()], data_files=str(path), split="train", **options)
    except (DatasetGenerationError, ValueError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"{path} has no questions that can be read as {path.suffix[1:]}: {cause}") from error


def find_on_hub(source: str) -> tuple[Preset | None, str, str | None]:
    """Return the preset of a source, if it has one, its Hub id and its config.

    Raises:
        ValueError: if it is no preset and no Hub id.
    """
    if source in PRESETS:
        return PRESETS[source], PRESETS[source].hub_id, PRESETS[source].config
    hub_id, _, config = source.partition(":")
    if "/" not in hub_id:
        names = ["tiny", *PRESETS]
        nearest = difflib.get_close_matches(source.lower(), names, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(names)},"
        raise ValueError(f"Unknown dataset {source!r}: {hint} Or give a Hub id (owner/name) or a file.")
    for preset in PRESETS.values():
        if preset.hub_id.lower() == hub_id.lower() and config in ("", preset.config):
            return preset, preset.hub_id, preset.config
    return None, hub_id, config or None


def load_hub(hub_id: str, config: str | None) -> "DatasetDict":
    """All splits of a dataset on the Hub.

    Raises:
        FileNotFoundError: if it is not there, is gated, or the Hub cannot be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        try:
            return load_dataset(hub_id, config)
        except RuntimeError as error:
            # `datasets` no longer runs a repository's loading script; the Hub keeps a Parquet copy of such sets.
            if "scripts are no longer supported" not in str(error):
                raise
            return load_dataset(hub_id, data_dir=config or "default", revision="refs/convert/parquet")
    except DatasetNotFoundError as error:
        page = f"https://huggingface.co/datasets/{hub_id}"
        if "gated" in str(error):
            message = f"{hub_id} is gated: accept its terms at {page}, then log in with `hf auth login`."
        else:
            message = f"{hub_id} is not on the Hub, or is private: check {page}, or log in with `hf auth login`."
        raise FileNotFoundError(message) from error
    except ConnectionError as error:
        raise FileNotFoundError(
            f"The Hub cannot be reached to load {hub_id}: check the connection (and HF_HUB_OFFLINE), or give a local "
            f"{', '.join(FILE_FORMATS)} file."
        ) from error


def pick_split(
    splits: "dict[str, Dataset]", source: str, split: str | None, question_column: str | None = None
) -> "Dataset":
    """One of several splits, "train" by default; a source with one split is divided by question (`hash_split`).

    Raises:
        ValueError: if there is no such split.
    """
    if len(splits) > 1:
        split = split or "train"
        if split not in splits:
            raise ValueError(f"{source} has no split {split!r}; choose one of {', '.join(splits)}.")
        return splits[split]
    rows = next(iter(splits.values()))
    if split is None:
        return rows
    if split not in SPLIT_SHARES:
        raise ValueError(f"{source} has no split {split!r}; choose one of {', '.join(SPLIT_SHARES)}.")
    column = pick_column(rows, source, question_column, QUESTION_COLUMNS, "question_column")
    questions = _read_questions(rows, source, column)
    return rows.select([index for index, text in enumerate(questions) if hash_split(text) == split])


@overload
def pick_column(
    rows: "Dataset", source: str, asked: str | None, known: Sequence[str], option: str, required: Literal[True] = True
) -> str: ...
@overload
def pick_column(
    rows: "Dataset", source: str, asked: str | None, known: Sequence[str], option: str, required: bool
) -> str | None: ...
def pick_column(
    rows: "Dataset", source: str, asked: str | None, known: Sequence[str], option: str, required: bool = True
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


def _read_questions(rows: "Dataset", source: str, column: str) -> list[str]:
    questions = list(rows[column])
    for index, question in enumerate(questions):
        if not isinstance(question, str) or not question.strip():
            raise ValueError(
                f"Row {index} of {source} has no text in {column!r} but {question!r}. "
                "Remove or fix the row, or set question_column to a column of text."
            )
    return [question.strip() for question in questions]


def _thin_out(
    source: str, questions: list[str], answers: list[Answer | None], limit: int | None, seed: int
) -> tuple[list[str], list[Answer | None]]:
    """Drop repeated questions, then keep `limit` of the rest."""
    first: dict[str, int] = {}
    for index, question in enumerate(questions):
        first.setdefault(_collapse(question), index)
    kept = list(first.values())
    if len(kept) < len(questions):
        logger.warning(
            "%s: dropped %d duplicated questions of %d.", source, len(questions) - len(kept), len(questions)
        )
    if limit is not None and limit < len(kept):
        kept = sorted(Random(seed).sample(kept, limit))
    return [questions[index] for index in kept], [answers[index] for index in kept]


def _build(source: str, questions: list[str], answers: list[Answer | None], prompt_template: str) -> "Dataset":
    from datasets import Dataset

    if not questions:
        raise ValueError(f"{source} has no questions in the split asked for.")
    contents = [prompt_template.replace("{question}", question) for question in questions]
    columns: dict[str, list[Any]] = {
        "prompt": [[{"role": "user", "content": content}] for content in contents],
        "question": questions,
    }
    if any(isinstance(answer, list) for answer in answers):
        answers = [[answer] if isinstance(answer, str) else answer for answer in answers]
    if any(answer is not None for answer in answers):
        columns["answer"] = answers
    return Dataset.from_dict(columns)
