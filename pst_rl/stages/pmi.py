"""The weighting `"pmi"`: pointwise mutual information between each response and the aggregate, and its weight."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from accelerate.utils import gather_object

from pst_rl.options import check_choices
from pst_rl.peers.generation import LiveCache
from pst_rl.peers.prompts import foreign_prompt
from pst_rl.records import Group, Target, Weights
from pst_rl.scoring.cached_logprobs import CachedPair, sum_logprobs_from_cache
from pst_rl.scoring.logprobs import Pair, sum_logprobs
from pst_rl.stages.weighting import WeightRequest

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig

WeightFunction = Callable[[torch.Tensor], torch.Tensor]
Judge = Literal["responder", "last_peer", "other_peers"]
Text = Literal["answer", "response"]
Conditioning = Literal["own_reasoning", "in_prompt"]
Marginal = Literal["own_samples", "unconditional"]
Reduction = Literal["sum", "per_token"]
Direction = Literal["less", "more"]
Scored = tuple[
    float, float, int
]  # log p(text | question, response), log p(text | question) or NaN, tokens of the text
logger = logging.getLogger(__name__)
NOTHING = 1e-4  # nats; a mean of equal probabilities is rounded
BLIND = "Peer %r: PMI is 0 for every response that was scored, so its weights change nothing: %s."
WHY = {
    "own_reasoning": "responses state an answer and nothing before it. To condition on the answer too, set "
    "weighting_options={'conditioning': 'in_prompt', 'marginal': 'unconditional'}",
    "in_prompt": "all responses to a question are the same",
}


def sigmoid_weight(z: torch.Tensor) -> torch.Tensor:
    """w = 2 sigmoid(-z) for z = PMI / tau: 1 at z = 0, falling from 2 to 0."""
    return 2.0 * torch.sigmoid(-z)


@dataclass
class RunningScale:
    """Running standard deviation of each peer's PMI: v <- decay v + (1 - decay) var, started at the first variance."""

    decay: float = 0.9
    variance: dict[str, float] = field(default_factory=dict)

    def update(self, peer: str, pmi: torch.Tensor) -> float:
        """Takes in a batch of finite PMI values and returns tau in nats (1 while nothing varies)."""
        if pmi.numel() > 1 and (new := pmi.var(unbiased=False).item()) > 0.0:
            old = self.variance.get(peer)
            self.variance[peer] = new if old is None else self.decay * old + (1 - self.decay) * new
        return math.sqrt(self.variance.get(peer, 1.0))

    def state_dict(self) -> dict[str, Any]:
        return {"variance": dict(self.variance)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.variance = dict(state["variance"])


@dataclass(frozen=True)
class PMIWeights:
    """A response that already predicts the aggregate is updated less, a misaligned one more.

        PMI = log p(aggregate | question, response) - log p(aggregate | question)         [nats], (P, Q, G)
        w   = 2 sigmoid(-PMI / tau)                                                       stop-gradient, in (0, 2)

    As it is computed, with S the scorers of the responder, c_s(h) = log p_s(aggregate | question, response h) summed
    over the aggregate's n_s tokens, and H the responder's own samples of the question:

        PMI   = mean over s in S of (c_s - m_s) / n_s            n_s = 1 with reduction="sum"
        m_s   = log mean over h in H of exp c_s(h)               marginal="own_samples", over the h where c_s is finite
              = log p_s(aggregate | question)                    marginal="unconditional"

    Each scorer has its own marginal, and lengths divide what is left: the exponential needs whole log-probabilities.

    Source: PST (arXiv 2604.13356). Stated: the mutual information between a response and the aggregate scales its
    update. The sigmoid is reported in a reading note on the paper. Our choice: every option, because the paper's
    abstract states none of them. The mean that w gives to a group's advantages is taken off again unless
    `PSTConfig.recentre_weighted` is `False`. On the tiny peers no form gained anything (docs/findings.md), so
    `weighting="none"` is the default.

    Args:
        scorer: Whose probabilities: the `"responder"`, the `"last_peer"`, or the mean of the PMI over the
            `"other_peers"`.
        target: What is scored: the aggregate's final `"answer"` or its whole `"response"`.
        conditioning: How the response conditions: `"own_reasoning"` (the target follows the response with its own
            final answer cut off; of a response that is nothing but its answer nothing is left, and its PMI is 0) or
            `"in_prompt"` (the response is shown in the prompt, as another peer's would be).
        marginal: log p(aggregate | question): `"unconditional"` (one pass per question) or `"own_samples"` (log of the
            mean of the conditional over the peer's own samples; no extra pass).
        reduction: `"sum"` over the target's tokens, or that divided by their number, `"per_token"`.
        direction: A sample of high PMI is updated `"less"` (the paper), or `"more"` (w = 2 sigmoid(PMI / tau), trust
            in samples that lead to the aggregate).
        tau: Temperature in nats. Unset: a running standard deviation of each peer's PMI.
        from_cache: Read only the targets, after the keys and values that sampling has left, which stay in memory until
            then. Needs `shared_prefill=True` and the responder's own reasoning.
        function: Maps +-PMI / tau to weights, element-wise; by default 2 sigmoid(-z).

    Raises:
        ValueError: An option that does not exist, a tau that is not positive, or `from_cache` where the scored context
            is not what was sampled.
    """

    scorer: Judge = "responder"
    target: Text = "answer"
    conditioning: Conditioning = "own_reasoning"
    marginal: Marginal = "own_samples"
    reduction: Reduction = "sum"
    direction: Direction = "less"
    tau: float | None = None
    from_cache: bool = False
    function: WeightFunction = sigmoid_weight
    scale: RunningScale = field(default_factory=RunningScale, init=False)  # its memory
    blind: set[str] = field(default_factory=set, init=False, compare=False)  # peers that were warned about

    name: ClassVar[str] = "pmi"

    def __post_init__(self):
        check_choices(
            scorer=(self.scorer, Judge),
            target=(self.target, Text),
            conditioning=(self.conditioning, Conditioning),
            marginal=(self.marginal, Marginal),
            reduction=(self.reduction, Reduction),
            direction=(self.direction, Direction),
        )
        if self.tau is not None and not self.tau > 0:
            raise ValueError(f"tau must be positive (nats), got {self.tau}; leave it unset to estimate it.")
        if self.from_cache and not (self.scorer == "responder" and self.conditioning == "own_reasoning"):
            raise ValueError(
                "from_cache=True needs scorer='responder' and conditioning='own_reasoning': only then is the scored "
                "context what was sampled."
            )

    @classmethod
    def of(cls, config: PSTConfig) -> PMIWeights | None:
        """The one that a configuration names, or `None` if it names another weighting."""
        return cls(**config.weighting_options or {}) if config.weighting == cls.name else None

    @property
    def min_peers(self) -> int:
        """The smallest number of peers it makes sense for."""
        return 2 if self.scorer == "other_peers" else 1

    @property
    def needs_caches(self) -> bool:
        """Whether the keys and values that sampling has left must stay until PMI is known."""
        return self.from_cache

    def state_dict(self) -> dict[str, Any]:
        """The running deviation of each peer's PMI, so that a resumed run goes on with it."""
        return self.scale.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale.load_state_dict(state)

    def __call__(self, request: WeightRequest) -> Weights:
        pmi = self.pmi(request)
        values = torch.ones_like(pmi)
        metrics: dict[str, float] = {}
        for p, name in enumerate(request.group.peers):
            targets = [[t is not None for t in chain] for chain in request.group.the_targets[p]]
            wanted = request.active[p] & torch.tensor(targets)  # without a target there is nothing to compare with
            finite = torch.isfinite(pmi[p]) & wanted
            scored = pmi[p][finite]
            if scored.numel() and scored.abs().max() < NOTHING and name not in self.blind:
                self.blind.add(name)
                logger.warning(BLIND, name, WHY[self.conditioning])
            tau = self.tau or self.scale.update(name, scored)
            sign = -1.0 if self.direction == "more" else 1.0
            values[p][finite] = self.function(sign * scored / tau).to(values)
            # A response whose probability is not a number gives no usable direction: no update from it.
            values[p][wanted & ~finite] = 0.0
            metrics[f"{name}/pmi/nonfinite"] = float((wanted & ~finite).sum())
            metrics[f"{name}/pmi/tau"] = tau
            if scored.numel():
                metrics |= _describe(name, request.group, p, pmi[p], finite, values[p])
        return Weights(values.detach(), pmi, metrics)

    def pmi(self, request: WeightRequest) -> torch.Tensor:
        """PMI in nats, (P, Q, G), the same on every process; NaN where not active, without target, or not finite."""
        local = [self._score_peer(request, p) for p in range(len(request.engines))]
        rows = gather_object([list(row) for row in zip(*local, strict=True)])  # [row][peer], all processes in order
        peers, questions, chains = request.group.shape
        pmi = torch.full((peers, questions, chains), float("nan"))
        for p, q, g, _ in request.group.cells():
            target = request.group.the_targets[p][q][g]
            if target is None or not request.active[p, q, g]:
                continue
            statement = self._statement(request, target)
            first = q * chains
            if statement not in rows[first + g][p]:  # nothing to score: the target is no text at all
                continue
            pmi[p, q, g] = self._pmi([rows[first + h][p].get(statement, {}) for h in range(chains)], g)
        return pmi

    def _pmi(self, scores: list[dict[int, Scored]], g: int) -> float:
        """PMI of response g in nats, from what each scorer found under each of the question's responses."""
        values = []
        for scorer, (conditional, unconditional, tokens) in scores[g].items():
            own_samples = self.marginal == "own_samples"
            marginal = _log_mean_exp([found[scorer][0] for found in scores]) if own_samples else unconditional
            values.append((conditional - marginal) / (tokens if self.reduction == "per_token" else 1))
        return sum(values) / len(values)

    def _score_peer(self, request: WeightRequest, p: int) -> list[dict[str, dict[int, Scored]]]:
        """For each of this process's rows and each statement it needs: what its scorers say.

        With `own_samples` these are all targets of its question, so that each chain's target can be compared under
        every response; else only its own.
        """
        jobs: dict[int, list[tuple[int, str, Pair | CachedPair, Pair | None]]] = {}
        count = len(request.rollouts[p].texts)
        for row, (q, g) in enumerate(request.local.cells):
            own_samples = self.marginal == "own_samples"
            wanted = (
                request.active[p, q]
                if own_samples
                else request.active[p, q] & (torch.arange(len(request.active[p, q])) == g)
            )
            statements = {
                self._statement(request, target): None
                for target, active in zip(request.group.the_targets[p][q], wanted.tolist(), strict=True)
                if active and target is not None
            }
            for scorer in self._scorers(request, p, q) if statements else []:
                context = self._context(request, scorer, p, row)
                cell = self._cell(request, scorer, p, row)
                for statement in statements:
                    if ids := request.engines[scorer].text_ids(statement):
                        prior = None if own_samples else (self._question_ids(request, scorer, p, row), ids)
                        pair = (context, ids) if cell is None else CachedPair(*cell, context, ids)
                        jobs.setdefault(scorer, []).append((row, statement, pair, prior))
        return self._run(request, jobs, count)

    def _cell(self, request: WeightRequest, scorer: int, p: int, row: int) -> tuple[LiveCache, int] | None:
        """Where the keys and values of this row's own response are, if its sampling has left them."""
        if not self.from_cache or scorer != p:
            return None
        rollout = request.rollouts[p]
        return request.engines[p].live.get((tuple(rollout.prompt_ids[row]), tuple(rollout.completion_ids[row])))

    def _run(self, request: WeightRequest, jobs: dict, count: int) -> list[dict[str, dict[int, Scored]]]:
        """Scores the jobs of each scorer in one go."""
        found: list[dict[str, dict[int, Scored]]] = [{} for _ in range(count)]
        for scorer, entries in jobs.items():
            engine, size = request.engines[scorer], request.batch_size
            priors = [prior for *_, prior in entries if prior is not None]
            pairs = [pair for _, _, pair, _ in entries]
            if self.from_cache:
                scores = sum_logprobs_from_cache(engine, pairs, size) + sum_logprobs(engine, priors, size)
            else:
                scores = sum_logprobs(engine, pairs + priors, size)
            for i, (row, statement, pair, _) in enumerate(entries):
                prior = scores[len(entries) + i] if priors else float("nan")
                found[row].setdefault(statement, {})[scorer] = (scores[i], prior, len(pair[-1]))
        return found

    def _statement(self, request: WeightRequest, target: Target) -> str:
        """The text whose probability is asked for."""
        if self.target == "response":
            return target.text or ""
        statement = request.answer_template.replace("{answer}", target.answer.text).strip()
        return f" {statement}" if self.conditioning == "own_reasoning" else statement

    def _scorers(self, request: WeightRequest, p: int, q: int) -> list[int]:
        if self.scorer == "responder":
            return [p]
        if self.scorer == "last_peer":
            return [request.group.order[q][-1]]
        return [j for j in range(len(request.engines)) if j != p]

    def _question_ids(self, request: WeightRequest, scorer: int, p: int, row: int) -> list[int]:
        """The question as the scorer sees it: the prompt it responded to itself, else the plain question."""
        if scorer == p and self.conditioning == "own_reasoning":
            return request.rollouts[p].prompt_ids[row]
        engine = request.engines[scorer]
        return engine.prompt_ids(engine.format.adapt(self._plain_prompt(request, row)))

    def _plain_prompt(self, request: WeightRequest, row: int):
        question, _ = request.local.cells[row]
        return request.group.prompts[question]

    def _context(self, request: WeightRequest, scorer: int, p: int, row: int) -> list[int]:
        rollout, engine = request.rollouts[p], request.engines[scorer]
        if self.conditioning == "in_prompt":
            texts = [rollout.texts[row].strip()]
            prompt = self._plain_prompt(request, row)
            return engine.prompt_ids(foreign_prompt(engine.format, request.build_prompt, prompt, texts))
        text, answer = rollout.texts[row], rollout.answers[row]
        reasoning = text if answer is None else text[: answer.start]
        if scorer == p:  # the very tokens it sampled
            kept = engine.prefix_tokens(rollout.completion_ids[row], len(reasoning.rstrip()))
            ids = [t for t in rollout.completion_ids[row][:kept] if t not in engine.eos_token_ids]
            return rollout.prompt_ids[row] + ids
        return self._question_ids(request, scorer, p, row) + engine.text_ids(reasoning.rstrip())


def _log_mean_exp(values: list[float]) -> float:
    """log of the mean of exp(values), over those that are finite; NaN if none is."""
    known = torch.tensor([value for value in values if math.isfinite(value)])
    return torch.logsumexp(known, 0).item() - math.log(len(known)) if len(known) else float("nan")


def _describe(name: str, group: Group, p: int, pmi, finite, weights) -> dict[str, float]:
    """Mean PMI and weight, and PMI apart for responses that agree with their target and those that do not."""
    _, questions, chains = group.shape
    agrees = torch.tensor(
        [
            [
                t is not None and r.key == t.answer.key
                for r, t in zip(group.responses[p][q], group.the_targets[p][q], strict=True)
            ]
            for q in range(questions)
        ]
    )
    metrics = {
        f"{name}/pmi/mean": pmi[finite].mean().item(),
        f"{name}/weight/mean": weights[finite].mean().item(),
        f"{name}/weight/min": weights[finite].min().item(),
        f"{name}/weight/max": weights[finite].max().item(),
    }
    for label, mask in (("aligned", finite & agrees), ("misaligned", finite & ~agrees)):
        if mask.any():
            metrics[f"{name}/pmi/{label}"] = pmi[mask].mean().item()
    return metrics
