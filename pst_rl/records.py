"""The records that travel between the stages.

questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates

Shapes: P peers, Q questions in the generation batch, G generations (chains) per question. A `Group` is complete: it
holds every peer, question and chain of every process, and it is identical on every process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from pst_rl.answers import Answer, is_correct
from pst_rl.answers.score import Metric


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
        texts: Decoded responses without the tokens that begin, end or pad them (`PromptReader.response_text`).
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


class GroupScorer(Protocol):
    """What `Group.scorer` answers; `pst_rl.scoring.scorer.Scorer` does the asking.

    Attributes:
        engines: The peers, as they are now.
    """

    engines: Sequence[Any]

    def logprobs(self, judge: Any, queries: Sequence[Query]) -> list[Score]:
        """Scores of the queries, in order, under a peer (by index) or an outside `Juror`."""
        ...

    def statistics(self) -> TokenStatistics:
        """Statistics of every sample's own tokens."""
        ...


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
        answer_metric: How an answer is compared with gold (`pst_rl.answers.is_correct`).
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
    scorer: GroupScorer | None = None
    answer_metric: Metric = "whole"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(P, Q, G): peers, questions, chains."""
        return len(self.peers), len(self.prompts), len(self.responses[0][0])

    @property
    def the_targets(self) -> Targets:
        """The targets.

        Raises:
            RuntimeError: The aggregator has not spoken yet.
        """
        if self.targets is None:
            raise RuntimeError("This group has no targets yet: the aggregator has not spoken.")
        return self.targets

    @property
    def the_scorer(self) -> GroupScorer:
        """What asks the peers' policies.

        Raises:
            RuntimeError: The group was made without one.
        """
        if self.scorer is None:
            raise RuntimeError("This group has no scorer: it was not made by a trainer.")
        return self.scorer

    def pooled(self, question: int) -> list[tuple[int, int, Response]]:
        """All (peer, chain, response) of one question, over all peers and chains."""
        return [(p, g, r) for p, rows in enumerate(self.responses) for g, r in enumerate(rows[question])]

    def cells(self) -> Iterator[tuple[int, int, int, Response]]:
        """All (peer, question, chain, response)."""
        for p, questions in enumerate(self.responses):
            for q, chains in enumerate(questions):
                for g, response in enumerate(chains):
                    yield p, q, g, response

    def is_right(self, answer: Answer | None, gold: Any) -> bool:
        """Whether an answer is right by a gold answer, compared as the run's `answer_metric` says."""
        return answer is not None and is_correct(answer, gold, metric=self.answer_metric)

    @property
    def the_gold(self) -> tuple[Any, ...]:
        """The gold answers.

        Raises:
            RuntimeError: The run is not declared `supervised=True`.
        """
        if self.gold is None:
            raise RuntimeError("This group has no gold answers: the run is not declared supervised=True.")
        return self.gold


@dataclass(frozen=True)
class LocalRows:
    """This process's rows of a generation batch, against the questions and chains of the complete one.

        row i is chain g of question q:    (q, g) = divmod(offset + i, G)

    Attributes:
        offset: Index of the first row in the complete batch: all rows of process 0, then those of process 1, ...
        count: Rows of this process.
        chains: G.
    """

    offset: int
    count: int
    chains: int

    @property
    def places(self) -> range:
        """Index of each row in the complete batch."""
        return range(self.offset, self.offset + self.count)

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(question, chain) of each row."""
        return [divmod(place, self.chains) for place in self.places]

    def pick(self, values: torch.Tensor) -> torch.Tensor:
        """The rows' own entries, (rows, ...), of one peer's values, (Q, G, ...)."""
        return values.flatten(0, 1)[self.offset : self.offset + self.count]

    def take(self, nested: Sequence[Sequence[Any]]) -> list[Any]:
        """The rows' own entries of `nested[q][g]`."""
        return [nested[q][g] for q, g in self.cells]


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


@dataclass(frozen=True)
class TurnCredit:
    """Per-token credit of one peer's rows.

    Attributes:
        own: For every row, 1 for each token the peer generated and 0 for each foreign one.
        first: How many tokens the first answer of each row has.
        later: For every row and token, the advantage of the later turn it belongs to; 0 in first answers and foreign
            text.
    """

    own: list[list[int]]
    first: list[int]
    later: list[list[float]]

    def per_token(self, advantages: torch.Tensor, width: int) -> torch.Tensor:
        """Advantages of all tokens, (B, width), from those of the first answers, (B,); 0 in the padding."""
        later = torch.zeros(len(self.later), width).to(advantages)
        for row, values in enumerate(self.later):
            later[row, : len(values)] = torch.tensor(values).to(advantages)
        is_first = torch.arange(width) < torch.tensor(self.first)[:, None]
        return torch.where(is_first.to(advantages.device), advantages[:, None], later)

    @property
    def active(self) -> torch.Tensor:
        """Rows in which some later turn has an advantage, bool (B,)."""
        return torch.tensor([any(values) for values in self.later], dtype=torch.bool)

    @property
    def tokens(self) -> int:
        """The peer's own tokens in all rows."""
        return sum(map(sum, self.own))

    def scaled(self, factor: float) -> TurnCredit:
        """The same rows with the advantages of later turns multiplied."""
        return TurnCredit(self.own, self.first, [[factor * value for value in values] for values in self.later])

    def pick(self, rows: list[int]) -> TurnCredit:
        """The credit of some of the rows."""
        return TurnCredit([self.own[i] for i in rows], [self.first[i] for i in rows], [self.later[i] for i in rows])


@dataclass(frozen=True)
class PeerUpdate:
    """What the joint stages hand to one peer for one generation batch (local rows of this process).

    Attributes:
        inputs: One row per sample: `{"prompt": ...}`.
        prompt_ids, completion_ids, logprobs: The rows that reach the loss.
        rewards: Per provider, one float per row; NaN abstains.
        weights: Factors of TRL's advantages, (rows,); `None` leaves TRL's output untouched.
        advantages: Replaces TRL's advantages, (rows,); `None` keeps them.
        on_policy: Drop the old log-probabilities, so that every ratio is 1 (the cross-entropy objectives).
        token_count: Completion tokens of all rows of all processes, where some were left out; `None`: none were.
        credit: Which tokens of each row are the peer's own, and the advantages of those of later turns; `None`: every
            row is one answer.
    """

    inputs: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    logprobs: list[list[float]] | None
    rewards: dict[str, list[float]]
    weights: torch.Tensor | None = None
    advantages: torch.Tensor | None = None
    on_policy: bool = False
    token_count: int | None = None
    credit: TurnCredit | None = None
