"""Splits: those that a source has, or made of the questions themselves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pst_rl.questions.columns import read_questions

if TYPE_CHECKING:
    from pst_rl.questions.table import Rows

SPLIT_SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}
"""How `hash_split` divides a source that has one split only (a local file, MATH-500)."""


def one_space(text: str) -> str:
    """The text with runs of white space as one space: questions that differ in no more are the same."""
    return " ".join(text.split())


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
    digest = hashlib.sha256(one_space(text).encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return next(reversed(shares))  # what rounding leaves over at the upper end


def pick_split(splits: Mapping[str, Rows], source: str, split: str | None, question_column: str | None = None) -> Rows:
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
    questions = read_questions(rows, source, question_column)
    return rows.select([index for index, text in enumerate(questions) if hash_split(text) == split])


def divided(rows: Rows, source: str, question_column: str | None = None) -> dict[str, int]:
    """How many different questions `hash_split` puts into each split.

    Raises:
        ValueError: As `read_questions`.
    """
    questions = {one_space(text) for text in read_questions(rows, source, question_column)}
    counts = Counter(map(hash_split, questions))
    return {split: counts[split] for split in SPLIT_SHARES}
