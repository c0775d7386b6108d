"""Questions for the tiny peers, split by a hash of their text, and the text format the peers were pretrained on."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from pst_rl.tiny.problems import FAMILIES, Problem, sample_problem

Split = Literal["pretrain", "train", "validation", "test"]

SPLIT_SHARES: dict[str, float] = {"pretrain": 0.70, "train": 0.15, "validation": 0.05, "test": 0.10}
"""The share of all possible questions in each split; `"train"` is the unlabelled pool."""

_MAX_REPEATS = 500  # in a row; by then about 1 % of the draws at most can still be new
_STATED = re.compile(r"\s*(-?\d+)\s*")


def split_of(question: str) -> str:
    """Return the split a question belongs to, decided by the SHA-256 of its text alone."""
    position = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLIT_SHARES.items():
        if position < share:
            return split
        position -= share
    return "test"


def sample_from(split: Split, family: str, rng: Random) -> Problem:
    """Draw a problem of a family whose question belongs to the split."""
    while True:
        problem = sample_problem(rng, family)
        if split_of(problem.question) == split:
            return problem


def tiny_questions(split: Split, n: int, seed: int = 0) -> list[dict[str, str]]:
    """Return `n` different questions of a split, the three families in equal parts and in random order.

    Args:
        split: `"pretrain"`, `"train"` (the unlabelled pool), `"validation"` or `"test"`. No question is in two.
        n: how many rows.
        seed: the same split, `n` and seed give the same rows on every machine.

    Returns:
        Rows `{"question", "answer", "family"}`; the answer is an integer as text.

    Raises:
        ValueError: for an unknown split, a negative `n`, or more questions than a family of the split has.
    """
    problems = tiny_problems(split, n, seed)
    return [{"question": p.question, "answer": p.answer, "family": p.family} for p in problems]


def tiny_problems(split: Split, n: int, seed: int = 0) -> list[Problem]:
    """Return the same questions as `tiny_questions`, with their worked solutions."""
    if split not in SPLIT_SHARES:
        raise ValueError(f"Unknown split {split!r}; choose one of {', '.join(SPLIT_SHARES)}.")
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}.")
    rng = Random(f"{split}-{seed}")
    problems: list[Problem] = []
    for index, family in enumerate(FAMILIES):
        share = n // len(FAMILIES) + (index < n % len(FAMILIES))
        problems += _different(split, family, share, rng)
    rng.shuffle(problems)
    return problems


def _different(split: Split, family: str, n: int, rng: Random) -> Iterator[Problem]:
    seen: set[str] = set()
    repeats = 0
    while len(seen) < n:
        problem = sample_from(split, family, rng)
        if problem.question not in seen:
            seen.add(problem.question)
            repeats = 0
            yield problem
        elif (repeats := repeats + 1) > _MAX_REPEATS:
            raise ValueError(f"The {split} split has only about {len(seen)} {family} questions; ask for fewer.")


def user_content(question: str, responses: Sequence[str] = ()) -> str:
    """Return the chat message for a question, with the responses of other peers below it if any are shown."""
    return "".join([question, *(f"\nP: {response}" for response in responses)])


def plain_prompt(question: str, responses: Sequence[str] = ()) -> str:
    """Return the prompt the peers were pretrained on (without `bos`): `"Q: {question}\\nP: {response}\\nA:"`."""
    return f"Q: {user_content(question, responses)}\nA:"


def stated_answer(response: str) -> str | None:
    """Return the integer after the last `####` if nothing follows it, else `None`."""
    _, mark, tail = response.rpartition("####")
    match = _STATED.fullmatch(tail) if mark else None
    return match.group(1) if match else None
