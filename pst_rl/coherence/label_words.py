"""The words that stand for the labels, and their probabilities at one position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pst_rl.coherence.templates import Spare
from pst_rl.peers.reader import plain_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LabelWords:
    """Label l as one of several words, each known by its first token.

        log p(l) = logsumexp over the variants v of l of  log p(first token of v)

    Only the first token is read, so that one position is enough. A word of several tokens is therefore known by the
    first one, which is exact as long as no other label can begin like it. Variants of one label that begin alike
    count once. The lower-case variants that a template adds by itself (`Spare`) are left out if they begin like a word
    of another label; variants that were given are refused.

    Args:
        tokenizer: The model's.
        words: For each of the L labels its variants, e.g. `((" False", " false"), (" True", " true"))`. The first one
            is what demonstrations are written with.
        after: A text that the words follow: some tokenizers split a word differently at the start of a text.

    Attributes:
        ids: For each label the token ids of its first variant, all of them.
        first: For each label the distinct first tokens of its variants.

    Raises:
        ValueError: Fewer than two labels, a label without a word, an empty word, or two labels whose words begin with
            the same token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, words: Sequence[Sequence[str]], after: str):
        if any(isinstance(variants, str) for variants in words):
            raise ValueError(
                f"Give the words of each label as a list, as in ((' False',), (' True',)); got {words!r}."
            )
        if len(words) < 2:
            raise ValueError(f"A labelling needs words for at least two labels, got {words!r}.")
        every = [[(word, continuation(tokenizer, after, word)) for word in variants] for variants in words]
        begun = [{ids[0] for _, ids in variants if ids} for variants in every]
        for label, variants in enumerate(every):
            others = set().union(*begun[:label], *begun[label + 1 :])
            every[label] = [
                (word, ids) for word, ids in variants if not (isinstance(word, Spare) and ids[0] in others)
            ]
        self.words = tuple(tuple(word for word, _ in variants) for variants in every)
        self.ids: list[list[int]] = []
        self.first: list[list[int]] = []
        owner: dict[int, tuple[int, str]] = {}
        for label, variants in enumerate(every):
            if not variants or not all(ids for _, ids in variants):
                raise ValueError(
                    f"Label {label} needs at least one word, and none may be empty; got {list(words[label])}."
                )
            for word, ids in variants:
                other, other_word = owner.setdefault(ids[0], (label, word))
                if other != label:
                    raise ValueError(
                        f"{other_word!r} and {word!r} begin with the same token, {tokenizer.decode([ids[0]])!r}, so "
                        f"that one position cannot tell labels {other} and {label} apart. Choose words that the "
                        "tokenizer does not split, or move what they share (a space?) to the end of the prompts."
                    )
            self.ids.append(variants[0][1])
            self.first.append(list(dict.fromkeys(ids[0] for _, ids in variants)))

    def __len__(self) -> int:
        return len(self.words)

    def log_probs(self, logits: torch.Tensor) -> torch.Tensor:
        """log p(l) in nats, float32, from next-token logits; (..., V) to (..., L)."""
        log_probs = logits.float().log_softmax(-1)
        return torch.stack([log_probs[..., first].logsumexp(-1) for first in self.first], -1)


def continuation(tokenizer: PreTrainedTokenizerBase, text: str, more: str) -> list[int]:
    """Token ids of `more` as it follows `text`; by itself where the two would share a token."""
    head, whole, alone = plain_ids(tokenizer, [text, text + more, more])
    return whole[len(head) :] if whole[: len(head)] == head else alone
