"""What a scheme may ask the peers' models, and what they answer. `pst_rl.scoring.scorer` does the asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Query:
    """Asks for log p(target | question, shown, given) under one judge.

    Attributes:
        question: Index of the question in the group.
        target: The text that is scored.
        shown: Other peers' texts, which the `build_prompt` hook puts into the prompt.
        given: The beginning of the judge's own turn, before the target.
        whole: The target is a whole response: the token that ends the turn is scored with it.
    """

    question: int
    target: str
    shown: tuple[str, ...] = ()
    given: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Score:
    """log p in nats, summed over `tokens` target tokens of the judge's tokenizer."""

    logprob: float
    tokens: int

    @property
    def mean(self) -> float:
        """log p per token, in nats."""
        return self.logprob / self.tokens


@dataclass(frozen=True)
class TokenStatistics:
    """Means over each response's own tokens, under its responder's current policy at temperature 1; each (P, Q, G).

    Attributes:
        logprob: Mean log p(token), nats.
        entropy: Mean entropy of the next-token distribution, nats.
        self_certainty: Mean KL(U || p) between the uniform distribution and p, nats.
    """

    logprob: torch.Tensor
    entropy: torch.Tensor
    self_certainty: torch.Tensor
