"""The world of the tiny concept model: items with binary features, and hidden concepts that label them.

An item is a line of words, one for each of eight features, in a fixed order. A concept says "yes" where one of the
first five features has its first word; the other three features are no concept. Every pretraining sequence draws one
concept by `PRIOR` and a reliability by the concept's `RELIABILITY`, and labels its items by the concept, each label
being right with the reliability as its probability. So the labels before an item are the only clue to its own, and the
law of all labels is known in closed form (`exact_coherence`). All numbers are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import exp, lgamma, log
from random import Random
from typing import Any, Literal

FEATURES: dict[str, tuple[str, str]] = {
    "size": ("large", "small"),
    "colour": ("red", "blue"),
    "shape": ("round", "square"),
    "surface": ("smooth", "rough"),
    "weight": ("heavy", "light"),
    "filling": ("solid", "hollow"),
    "age": ("new", "old"),
    "warmth": ("warm", "cold"),
}
"""The features of an item in the order in which they are written, each with its two words."""

PRIOR: dict[str, float] = {"size": 0.25, "colour": 0.19, "shape": 0.19, "surface": 0.185, "weight": 0.185}
"""The concepts, most salient first, and how often pretraining draws each.

Flat enough that without context any three concepts outvote the other two: the likeliest label of an item agrees with
size in 11 of 16 cases (`zero_shot_agreement`), and no vote is closer than .533 to .467.
"""

RELIABILITY: dict[str, tuple[float, float]] = dict.fromkeys(PRIOR, (12.0, 1.0)) | {"size": (12.0, 0.1)}
"""Parameters of the Beta distribution of a sequence's reliability, by its concept: mean .992 for size, else .923.

The most salient concept is also labelled most carefully, and that is what makes its labelling the most coherent one:
by 1.3 nats for 24 items and 1.9 for 64, of which the prior contributes 0.27.
"""

CONCEPT_STYLE: dict[str, Any] = {
    "template": "{question}:",
    "label_names": ("no", "yes"),
    "label_words": (" no", " yes"),
    "separator": "\n",
}
"""How an item is shown with its label: `large red ... cold: yes\\n`."""

CLAIM_STYLE: dict[str, Any] = {
    "template": "{question}: {claim}?",
    "label_names": ("False", "True"),
    "label_words": (" False", " True"),
    "separator": "\n",
}
"""How a claim about an item is shown, `{claim}` being an answer: `large red ... cold: yes? True\\n`."""

Split = Literal["train", "validation", "test"]

_CONCEPTS, _WORDS = tuple(PRIOR), tuple(FEATURES.values())
_CHECKS = ((1, 1, 1, 1, 1, 1, 1, 1), (1, 1, 0, 0, 0, 1, 1, 0), (0, 0, 1, 1, 0, 0, 1, 1))
_PATTERNS = 2 ** len(_CONCEPTS)

Item = tuple[int, ...]  # for every feature 1 for its first word, else 0


def item_text(item: Item) -> str:
    """The words of an item: what is asked about it, since the question is always the same."""
    return " ".join(words[1 - value] for words, value in zip(_WORDS, item, strict=True))


def split_of_item(item: Item) -> Split:
    """The split of an item: 128 are in `"train"`, 32 in `"validation"`, 96 in `"test"`.

    Three sums modulo 2 over an item's values decide. Each involves the features that are no concept, in such a way
    that all 32 combinations of the concepts' answers are equally frequent in every split.
    """
    first, *others = (sum(a * b for a, b in zip(item, check, strict=True)) % 2 for check in _CHECKS)
    return "train" if first == 0 else "validation" if not any(others) else "test"


def all_items(split: Split | None = None) -> list[Item]:
    """All 256 items, or those of a split, in a fixed order."""
    items = product((1, 0), repeat=len(FEATURES))
    return [item for item in items if split is None or split_of_item(item) == split]


def concept_questions(split: Split, n: int, seed: int = 0) -> list[dict[str, str]]:
    """Return `n` different items of a split as questions.

    As few items as possible have the same answers by all five concepts: of 32 items, no two.

    Args:
        split: `"train"`, `"validation"` or `"test"`; no item is in two. Pretraining has seen all, under all concepts.
        n: how many; at most 128, 32 and 96.
        seed: the same arguments give the same rows on every machine.

    Returns:
        Rows `{"question", "answer"}`, the answer being that of the most salient concept, `"yes"` or `"no"`. It is for
        the metrics; `concept_labels` has those of the other concepts. A peer that is asked the question in a chat
        answers with one of these words, which the answer style `"auto"` finds.

    Raises:
        ValueError: for an unknown split, or more items than it has.
    """
    names = CONCEPT_STYLE["label_names"]
    questions = [item_text(item) for item in concept_items(split, n, seed)]
    answers = concept_labels(questions, _CONCEPTS[0])
    return [{"question": q, "answer": names[a]} for q, a in zip(questions, answers, strict=True)]


def concept_claims(split: Split, n: int, seed: int = 0) -> list[dict[str, str]]:
    """Return both answers to each of the `n` questions of `concept_questions` as claims, next to each other.

    Returns:
        `2 n` rows `{"question", "claim", "gold"}`: the claim is `"yes"` or `"no"`, in random order, and `gold` is
        `"True"` where it is the answer by the most salient concept. `CLAIM_STYLE` shows them.

    Raises:
        ValueError: as `concept_questions`.
    """
    rng, rows = Random(f"claims-{split}-{seed}"), []
    for row in concept_questions(split, n, seed):
        for claim in rng.sample(CONCEPT_STYLE["label_names"], 2):
            rows.append({"question": row["question"], "claim": claim, "gold": str(claim == row["answer"])})
    return rows


def concept_items(split: Split, n: int, seed: int = 0) -> list[Item]:
    """Return the items of `concept_questions`."""
    items = all_items(split)
    if not items:
        raise ValueError(f"Unknown split {split!r}; choose train, validation or test.")
    if not 0 <= n <= len(items):
        raise ValueError(f"The {split} split has {len(items)} items; n must be 0 to {len(items)}, got {n}.")
    rng = Random(f"concepts-{split}-{seed}")
    rng.shuffle(items)
    alike: dict[Item, int] = {}
    rounds = []
    for item in items:
        pattern = item[: len(_CONCEPTS)]
        alike[pattern] = alike.get(pattern, 0) + 1
        rounds.append(alike[pattern])
    order = sorted(range(len(items)), key=lambda i: rounds[i])  # stable: shuffled within a round
    return [items[i] for i in order[:n]]


def concept_labels(questions: Sequence[str], concept: str, claims: Sequence[str] | None = None) -> list[int]:
    """Return the label that a concept gives each question: 1 for "yes", 0 for "no".

    With `claims`, an answer for each question, the label is 1 where that is the concept's answer.

    Raises:
        ValueError: for an unknown concept, a text that is no item, or a claim that is no answer.
    """
    if concept not in PRIOR:
        raise ValueError(f"Unknown concept {concept!r}; choose one of {', '.join(PRIOR)}.")
    place, names = _CONCEPTS.index(concept), CONCEPT_STYLE["label_names"]
    labels = [_item(question)[place] for question in questions]
    if claims is None:
        return labels
    if wrong := [claim for claim in claims if claim not in names]:
        raise ValueError(f"{wrong[0]!r} is no answer; claims are {' or '.join(names)}.")
    return [int(names[label] == claim) for label, claim in zip(labels, claims, strict=True)]


def zero_shot_probabilities(questions: Sequence[str]) -> list[float]:
    """Return the exact probability of "yes" for each question without context."""
    total = [0.0] * len(questions)
    for concept, prior in PRIOR.items():
        right = RELIABILITY[concept][0] / sum(RELIABILITY[concept])
        for i, label in enumerate(concept_labels(questions, concept)):
            total[i] += prior * (right if label else 1 - right)
    return total


def zero_shot_labels(questions: Sequence[str]) -> list[int]:
    """Return each question's likelier label without context, 1 for "yes": a weighted vote of the concepts."""
    return [int(p > 0.5) for p in zero_shot_probabilities(questions)]


def zero_shot_agreement(concept: str = _CONCEPTS[0]) -> float:
    """Return the share of all items whose zero-shot label is the concept's; 11/16 for each."""
    questions = [item_text(item) for item in all_items()]
    pairs = zip(zero_shot_labels(questions), concept_labels(questions, concept), strict=True)
    return sum(a == b for a, b in pairs) / len(questions)


def exact_coherence(questions: Sequence[str], labels: Sequence[int], claims: Sequence[str] | None = None) -> float:
    """Return log p(labels) in nats under the law of pretraining, which the concept model approximates.

        log sum_k prior_k  B(a_k + agree_k, b_k + disagree_k) / B(a_k, b_k)

    with agree_k and disagree_k the numbers of labels that are and are not those of concept k (`concept_labels`), a_k
    and b_k its `RELIABILITY`, and B the beta function. It does not depend on the order of the questions.

    Raises:
        ValueError: as `concept_labels`.
    """
    terms = []
    for concept, prior in PRIOR.items():
        own = concept_labels(questions, concept, claims)
        agree = sum(a == b for a, b in zip(own, labels, strict=True))
        a, b = RELIABILITY[concept]
        terms.append(log(prior) + _log_beta(a + agree, b + len(own) - agree) - _log_beta(a, b))
    most = max(terms)
    return most + log(sum(exp(term - most) for term in terms))


def _log_beta(x: float, y: float) -> float:
    return lgamma(x) + lgamma(y) - lgamma(x + y)


def _item(question: str) -> Item:
    words = question.split(" ")
    if len(words) != len(_WORDS) or any(word not in pair for word, pair in zip(words, _WORDS, strict=True)):
        raise ValueError(f"{question!r} is no item: give one word of each of {', '.join(FEATURES)}.")
    return tuple(int(word == pair[0]) for word, pair in zip(words, _WORDS, strict=True))
