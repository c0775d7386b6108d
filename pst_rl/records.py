"""The records that travel between the stages.

questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates

Shapes: P peers, Q questions in the generation batch, G generations (chains) per question. A `Group` is complete: it
holds every peer, question and chain of every process, and it is identical on every process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pst_rl.answers import Answer
    from pst_rl.scoring.scorer import Scorer


@dataclass(frozen=True)
class Turn:
    """One later turn of a multi-turn sample: what the peer was told, and what it then answered.

    Attributes:
        remark: Foreign text shown before this turn.
        stance: What the remark was asked to do: `"support"`, `"attack"`, or `""`.
        text, answer, finished: As in `Response`.
        start, stop: The turn's own tokens are `completion_ids[start:stop]` of its row.
    """

    remark: str
    stance: str
    text: str
    answer: Answer | None
    finished: bool
    start: int
    stop: int

    @property
    def key(self) -> str | None:
        """Canonical key of the answer, or `None`."""
        return None if self.answer is None else self.answer.key


@dataclass(frozen=True)
class Rollout:
    """What one peer was asked and what it answered, on this process only (one entry per row).

    Attributes:
        prompts: The prompt each row was shown: messages, or text for a model without a chat template.
        prompt_ids, completion_ids: Token ids of this peer's own tokenizer.
        logprobs: Sampling log-probabilities per token (nats), if the generation back end returns them.
        texts: Decoded responses without special tokens.
        answers: Parsed final answers, `None` where there is none.
        finished: Whether the response ended by itself (end-of-sequence token or stop string).
        turns: Later turns of each row, if there was a discussion: `completion_ids` then hold the first answer, foreign
            text and later answers in one row, while `texts`, `answers` and `finished` stay those of the first answer.
    """

    prompts: list
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    logprobs: list[list[float]] | None
    texts: list[str]
    answers: list[Answer | None]
    finished: list[bool]
    turns: list[tuple[Turn, ...]] | None = None


@dataclass(frozen=True)
class Response:
    """One peer's response in one chain, as every process sees it: its first answer, and later turns if there are any.

    `token_ids` are there only if a reward provider asked for them.
    """

    text: str
    answer: Answer | None
    finished: bool
    length: int
    token_ids: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def key(self) -> str | None:
        """Canonical key of the answer: two responses agree exactly if their keys are equal and not `None`."""
        return None if self.answer is None else self.answer.key


@dataclass(frozen=True)
class Target:
    """The aggregate's answer for one (peer, question, chain).

    Attributes:
        answer: The aggregate answer.
        text: A response that ends in this answer, to learn from or to score; `None` if there is none.
        share: Share of the votes behind it, in (0, 1].
    """

    answer: Answer
    text: str | None
    share: float


Responses = tuple[tuple[tuple[Response, ...], ...], ...]  # [peer][question][chain]
Targets = tuple[tuple[tuple[Target | None, ...], ...], ...]  # [peer][question][chain]; None: abstained


@dataclass(frozen=True)
class Group:
    """The complete gathered generation batch: all peers, questions, chains and processes.

    Attributes:
        peers: Names of the P peers.
        prompts: The Q dataset prompts, as they came.
        columns: The unlabelled dataset columns of each question.
        order: For each question, peer indices in the order in which they spoke; the last entry is the last peer.
        responses: `responses[p][q][g]`.
        rng: The only source of randomness a provider or an aggregator may use; equal on every process.
        step: Optimizer steps done so far.
        block: Index of this generation batch.
        targets: `targets[p][q][g]`, once the aggregator has spoken.
        gold: Gold answers per question; always `None` unless the run is declared `supervised=True`.
        views: Further rollouts by name, where the aggregator declared some: `views[name][p][q][g]`.
        scorer: Asks the peers' current policies for log-probabilities, lazily and batched.
    """

    peers: tuple[str, ...]
    prompts: tuple[Any, ...]
    columns: tuple[dict[str, Any], ...]
    order: tuple[tuple[int, ...], ...]
    responses: Responses
    rng: random.Random
    step: int = 0
    block: int = 0
    targets: Targets | None = None
    gold: tuple[Any, ...] | None = None
    views: Mapping[str, Responses] = field(default_factory=dict)
    scorer: Scorer | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(P, Q, G): peers, questions, chains."""
        return len(self.peers), len(self.prompts), len(self.responses[0][0])

    def pooled(self, question: int) -> list[tuple[int, int, Response]]:
        """All (peer, chain, response) of one question, over all peers and chains."""
        return [(p, g, r) for p, rows in enumerate(self.responses) for g, r in enumerate(rows[question])]

    def cells(self) -> Iterator[tuple[int, int, int, Response]]:
        """All (peer, question, chain, response)."""
        for p, questions in enumerate(self.responses):
            for q, chains in enumerate(questions):
                for g, response in enumerate(chains):
                    yield p, q, g, response


@dataclass(frozen=True)
class Rewards:
    """What a reward provider returns.

    Attributes:
        values: Rewards, float tensor of shape (P, Q, G).
        abstain: Bool tensor of shape (P, Q, G); True where the provider has nothing to say (no update from it).
        metrics: Extra scalars to log under the provider's name.
        later: Rewards of later turns, float tensor of shape (P, Q, G, T), NaN where there is none; `None` from a
            provider that has nothing to say about them.
    """

    values: torch.Tensor
    abstain: torch.Tensor
    metrics: dict[str, float] = field(default_factory=dict)
    later: torch.Tensor | None = None


@dataclass(frozen=True)
class Weights:
    """Advantage weights of every sample.

    Attributes:
        values: Stop-gradient factors of the advantages, float tensor of shape (P, Q, G); 1 leaves a sample as it is.
        pmi: Pointwise mutual information in nats, same shape; NaN where it was not scored.
        metrics: Scalars to log.
    """

    values: torch.Tensor
    pmi: torch.Tensor
    metrics: dict[str, float] = field(default_factory=dict)
