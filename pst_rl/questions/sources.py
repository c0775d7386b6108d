"""Where questions come from: files, and benchmarks and other data sets on the Hub."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pst_rl.hub.places import check_place
from pst_rl.questions.csv_rows import read_csv
from pst_rl.questions.json_rows import read_json

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from pst_rl.questions.table import Rows

FILE_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


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


def is_file(source: str) -> bool:
    """Whether a source is meant as a file: it exists, has a known ending, or cannot be a Hub id."""
    path = Path(source).expanduser()
    hub_like = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+)?", source)
    return path.exists() or path.suffix.lower() in FILE_FORMATS or not hub_like


def load_file(path: Path) -> Rows:
    """The rows of a file in one of `FILE_FORMATS`: of CSV as text, of JSON with its values unchanged.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another format, is empty or cannot be read; of CSV and JSON the message names the line.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give an existing file or a Hub id such as openai/gsm8k.")
    if path.is_dir() or path.suffix.lower() not in FILE_FORMATS:
        raise ValueError(f"{path} is not a {', '.join(FILE_FORMATS)} file; convert it, or give one of these.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: it has no questions.")
    readers = {"json": read_json, "csv": read_csv, "parquet": _read_parquet}
    try:
        rows = readers[FILE_FORMATS[path.suffix.lower()]](path)
    except ValueError as error:
        cause = "it is not in UTF-8." if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValueError(f"{path} has no questions that can be read as {path.suffix[1:]}: {cause}") from error
    if not len(rows):
        raise ValueError(f"{path} has no questions: it has no rows.")
    return rows


def _read_parquet(path: Path) -> Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return load_dataset("parquet", data_files=str(path), split="train")
    except DatasetGenerationError as error:
        raise ValueError(str(error.__cause__ or error).splitlines()[0]) from error


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


def load_hub(hub_id: str, config: str | None) -> DatasetDict:
    """All splits of a dataset on the Hub.

    Raises:
        FileNotFoundError: if it is not there, is gated, or the Hub cannot be reached.
        ValueError: if it can only be a path, and nothing is there.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    check_place(hub_id, kind="dataset")
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
