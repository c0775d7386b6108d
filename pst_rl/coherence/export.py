"""Labels as files: with the rows, to fine-tune on, and to train a reward model on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from pst_rl.coherence.claims import Claims
from pst_rl.coherence.labelling import Labelling, agreement
from pst_rl.files import write_atomically

logger = logging.getLogger(__name__)

FORMATS = ("jsonl", "parquet", "sft", "preference")
FILES = {"jsonl": "labels.jsonl", "parquet": "labels.parquet", "sft": "sft.jsonl", "preference": "preference.jsonl"}


def most_coherent(labellings: Sequence[Labelling]) -> Labelling:
    """The labelling with the fewest violations and, among those, the highest coherence; the first of equal ones."""
    return max(labellings, key=lambda labelling: (-labelling.violations, labelling.coherence))


def label_rows(claims: Claims, labelling: Labelling, others: Sequence[Labelling] = ()) -> list[dict[str, Any]]:
    """The rows of the data with their labels.

    Added are `label` (its name), `probability` (of that label), `changed_at` (the step at which it was taken),
    `agreement` (the share of all labellings that give the item its most common label; `None` if there is only one)
    and `clamped` (whether the label was given). An input column of such a name becomes `input_<name>`.

    Args:
        others: The labellings of other seeds.
    """
    agreed = agreement([labelling, *others]) if others else [None] * len(claims)
    columns = zip(claims.rows, labelling.labels, labelling.confidences, labelling.changed_at, agreed, strict=True)
    rows = []
    for i, (row, label, probability, step, agrees) in enumerate(columns):
        added = {
            "label": claims.label_names[label],
            "probability": probability,
            "changed_at": step,
            "agreement": agrees,
            "clamped": i in claims.problem.clamped,
        }
        rows.append({f"input_{name}" if name in added else name: value for name, value in row.items()} | added)
    return rows


def sft_rows(claims: Claims, labelling: Labelling) -> list[dict[str, str]]:
    """TRL's prompt-completion form: what was read of each item, and the word of its label."""
    words = [variants[0] for variants in claims.label_words]
    return [
        {"prompt": prompt, "completion": words[label]}
        for prompt, label in zip(claims.prompts, labelling.labels, strict=True)
    ]


def preference_rows(claims: Claims, labelling: Labelling) -> list[dict[str, str]]:
    """TRL's preference form with an explicit prompt: the question, a chosen and a rejected text.

    Of comparisons, the two responses of each pair, in the order that its true claim says. Of other claims, every
    claim of a group that is labelled true against every one that is labelled otherwise. Equal texts make no pair.

    Raises:
        ValueError: As `check_formats` does.
    """
    check_formats(claims, ["preference"])
    assert claims.question_column is not None  # `check_formats`
    members: dict[str, list[int]] = {}
    for i, group in enumerate(claims.groups):
        members.setdefault(group, []).append(i)
    rows: list[dict[str, str]] = []
    for items in members.values():
        true = [i for i in items if labelling.labels[i] == claims.true_label]
        rest = [i for i in items if labelling.labels[i] != claims.true_label]
        if claims.compares is not None:
            better, worse = claims.compares
            texts = [(claims.rows[i][better], claims.rows[i][worse]) for i in true] if len(true) == 1 else []
        else:
            assert claims.claim_column is not None  # `check_formats`
            text = [row[claims.claim_column] for row in claims.rows]
            texts = [(text[i], text[j]) for i, j in product(true, rest)]
        question = claims.rows[items[0]][claims.question_column]
        rows += [{"prompt": question, "chosen": a, "rejected": b} for a, b in dict.fromkeys(texts) if a != b]
    return rows


def check_formats(claims: Claims, formats: Sequence[str]) -> None:
    """Refuses formats that these claims cannot be written in, before anything is searched.

    Raises:
        ValueError: An unknown format, or "preference" for claims without a question, a text or a label for true.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"Unknown format {unknown[0]!r}: choose from {', '.join(FORMATS)}.")
    if "preference" not in formats:
        return
    texts = claims.compares or (claims.claim_column,)
    lists = any(not isinstance(claims.rows[0].get(column), str) for column in (claims.question_column, *texts))
    if claims.true_label is None or lists:
        raise ValueError(
            "A preference data set is made of questions and claims that are text, some true and some not: set "
            "question_column, claim_column and true_label, or leave the format out."
        )


def write_labels(
    claims: Claims, labellings: Sequence[Labelling], folder: str | Path, formats: Sequence[str] = FORMATS
) -> dict[str, Path]:
    """Writes the most coherent of the labellings; each file appears whole or not at all.

    Args:
        labellings: One for each seed.
        formats: "jsonl" and "parquet": the labelled rows. "sft", "preference": data sets to train on, as JSON lines.
            JSON lines are written whatever is asked for: a search's labels are always kept.

    Returns:
        The files by format. A preference data set without a pair is left out, with a warning.

    Raises:
        ValueError: As `check_formats` does, before anything is written.
    """
    check_formats(claims, formats)
    best = most_coherent(labellings)
    others = [labelling for labelling in labellings if labelling is not best]
    rows = label_rows(claims, best, others)
    contents = {"jsonl": lambda: rows, "sft": lambda: sft_rows(claims, best), "parquet": lambda: rows}
    contents["preference"] = lambda: preference_rows(claims, best)
    files: dict[str, Path] = {}
    for name in dict.fromkeys(["jsonl", *formats]):
        content, path = contents[name](), Path(folder) / FILES[name]
        if not content:
            logger.warning("No group has both a true claim and another: there is no preference pair to write.")
            continue
        if name == "parquet":
            _write_parquet(path, content)
        else:
            write_atomically(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in content))
        files[name] = path
    return files


def save_labelling(labelling: Labelling, path: Path) -> None:
    """Writes the labelling of one seed as JSON."""
    write_atomically(path, json.dumps(asdict(labelling)) + "\n")


def load_labelling(path: Path) -> Labelling:
    """Reads what `save_labelling` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["probabilities"] = tuple(map(tuple, fields["probabilities"]))
    return Labelling(**fields | {name: tuple(fields[name]) for name in ("labels", "changed_at")})


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from datasets import Dataset

    columns = {name: _of_one_type([row[name] for row in rows]) for name in rows[0]}
    write_atomically(path, lambda beside: Dataset.from_dict(columns).to_parquet(str(beside)))


def _of_one_type(values: list[Any]) -> list[Any]:
    """The values of a column, or what JSON makes of them, where Parquet has no type for all of them."""
    from datasets import Dataset

    try:
        Dataset.from_dict({"values": values})
    except (TypeError, ValueError, OverflowError):
        texts = (str, type(None))
        return [value if isinstance(value, texts) else json.dumps(value, default=str) for value in values]
    return values
