"""Stage 5: pointwise mutual information between each response and the aggregate, and the weight made from it.

    PMI = log p(aggregate | question, response) - log p(aggregate | question)         [nats]
    w   = 2 sigmoid(-PMI / tau)                                                       stop-gradient, in (0, 2)

A response that already predicts the aggregate (high PMI) is updated less, a misaligned one more (arXiv 2604.13356).
The sigmoid is reported in a reading note on the paper; scorer, scored text, conditioning, marginal, normalisation and
tau are switches of ours, because the paper's abstract states none of them. So is the other direction, `"more"`, which
changes the sign inside the sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from pst_rl.peers.generation import LiveCache
from pst_rl.peers.prompts import foreign_prompt
from pst_rl.records import Group, Rewards, Rollout, Target, Weights
from pst_rl.scoring.cached_logprobs import CachedPair, sum_logprobs_from_cache
from pst_rl.scoring.logprobs import Pair, sum_logprobs

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peers.peer_trainer import PeerTrainer

WeightFunction = Callable[[torch.Tensor], torch.Tensor]


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
class PMIRequest:
    """What the PMI stage needs.

    Attributes:
        group: The complete group with targets.
        rollouts: This process's rollouts, one per peer.
        offset: Index of this process's first row in the complete batch.
        active: Which samples to score, bool (P, Q, G), equal on every process; others get weight 1.
        build_prompt: Hook `(prompt, previous_texts) -> prompt`, for `pmi_conditioning="in_prompt"`.
    """

    group: Group
    rollouts: list[Rollout]
    offset: int
    active: torch.Tensor
    build_prompt: Callable


def active_samples(rewards: list[Rewards], reward_weights: list[float], config: PSTConfig) -> torch.Tensor:
    """Samples whose advantage can differ from zero, bool (P, Q, G): those of groups whose rewards vary.

    Where the advantage does not come from the group alone (`normalize_then_sum`, the cross-entropy objectives), every
    sample that some provider scored is active.
    """
    scored = torch.stack([~r.abstain for r in rewards]).any(0)
    if config.objective != "grpo" or config.multi_objective_aggregation == "normalize_then_sum":
        return scored
    total = sum(w * torch.where(r.abstain, 0.0, r.values) for w, r in zip(reward_weights, rewards, strict=True))
    high = torch.where(scored, total, -torch.inf).amax(2, keepdim=True)
    low = torch.where(scored, total, torch.inf).amin(2, keepdim=True)
    return scored & (high > low)


class PMIWeights:
    """Computes `Weights` from a `PMIRequest`; holds the running scale between batches."""

    def __init__(self, config: PSTConfig, engines: list[PeerTrainer], function: WeightFunction = sigmoid_weight):
        self.config = config
        self.engines = engines
        self.function = function
        self.scale = RunningScale()

    def __call__(self, request: PMIRequest) -> Weights:
        pmi = self.pmi(request)
        values = torch.ones_like(pmi)
        metrics: dict[str, float] = {}
        for p, name in enumerate(request.group.peers):
            targets = [[t is not None for t in chain] for chain in request.group.targets[p]]
            wanted = request.active[p] & torch.tensor(targets)  # without a target there is nothing to compare with
            finite = torch.isfinite(pmi[p]) & wanted
            scored = pmi[p][finite]
            tau = self.config.pmi_tau or self.scale.update(name, scored)
            sign = -1.0 if self.config.pmi_direction == "more" else 1.0
            values[p][finite] = self.function(sign * scored / tau).to(values)
            # A response whose probability is not a number gives no usable direction: no update from it.
            values[p][wanted & ~finite] = 0.0
            metrics[f"{name}/pmi/nonfinite"] = float((wanted & ~finite).sum())
            metrics[f"{name}/pmi/tau"] = tau
            if scored.numel():
                metrics |= _describe(name, request.group, p, pmi[p], finite, values[p])
        return Weights(values.detach(), pmi, metrics)

    def pmi(self, request: PMIRequest) -> torch.Tensor:
        """PMI in nats, (P, Q, G), the same on every process; NaN where not active, without target, or not finite."""
        local = [self._score_peer(request, p) for p in range(len(self.engines))]
        rows = gather_object([list(row) for row in zip(*local, strict=True)])  # [row][peer], all processes in order
        peers, questions, chains = request.group.shape
        pmi = torch.full((peers, questions, chains), float("nan"))
        for p, q, g, _ in request.group.cells():
            target = request.group.targets[p][q][g]
            if target is None or not request.active[p, q, g]:
                continue
            statement = self._statement(target)
            first = q * chains
            scores = rows[first + g][p].get(statement)
            if scores is None:  # nothing to score: the target is no text at all
                continue
            conditional, marginal = scores
            if self.config.pmi_marginal == "own_samples":
                marginal = _log_mean_exp([rows[first + h][p][statement][0] for h in range(chains)])
            pmi[p, q, g] = conditional - marginal
        return pmi

    def _score_peer(self, request: PMIRequest, p: int) -> list[dict[str, tuple[float, float]]]:
        """For each of this process's rows: (conditional, unconditional) log-probability of each statement it needs.

        With `own_samples` these are all targets of its question, so that each chain's target can be compared under
        every response; else only its own.
        """
        jobs: dict[int, list[tuple[int, str, Pair | CachedPair, Pair | None]]] = {}
        count = len(request.rollouts[p].texts)
        for row in range(count):
            q, g = divmod(request.offset + row, request.group.shape[2])
            own_samples = self.config.pmi_marginal == "own_samples"
            wanted = (
                request.active[p, q]
                if own_samples
                else request.active[p, q] & (torch.arange(len(request.active[p, q])) == g)
            )
            statements = {
                self._statement(target): None
                for target, active in zip(request.group.targets[p][q], wanted.tolist(), strict=True)
                if active and target is not None
            }
            for scorer in self._scorers(request.group, p, q) if statements else []:
                context = self._context(request, scorer, p, row)
                cell = self._cell(request, scorer, p, row)
                for statement in statements:
                    if ids := self.engines[scorer].text_ids(statement):
                        prior = None if own_samples else (self._question_ids(request, scorer, p, row), ids)
                        pair = (context, ids) if cell is None else CachedPair(*cell, context, ids)
                        jobs.setdefault(scorer, []).append((row, statement, pair, prior))
        return self._run(jobs, count)

    def _cell(self, request: PMIRequest, scorer: int, p: int, row: int) -> tuple[LiveCache, int] | None:
        """Where the keys and values of this row's own response are, if its sampling has left them."""
        if not self.config.pmi_from_cache or scorer != p:
            return None
        rollout = request.rollouts[p]
        return self.engines[p].live.get((tuple(rollout.prompt_ids[row]), tuple(rollout.completion_ids[row])))

    def _run(self, jobs: dict, count: int) -> list[dict[str, tuple[float, float]]]:
        """Scores the jobs of each scorer in one go; means over several scorers."""
        found: list[dict[str, list[tuple[float, float]]]] = [{} for _ in range(count)]
        for scorer, entries in jobs.items():
            engine, size = self.engines[scorer], self.config.per_device_train_batch_size
            priors = [prior for *_, prior in entries if prior is not None]
            pairs = [pair for _, _, pair, _ in entries]
            if self.config.pmi_from_cache:
                scores = sum_logprobs_from_cache(engine, pairs, size) + sum_logprobs(engine, priors, size)
            else:
                scores = sum_logprobs(engine, pairs + priors, size)
            for i, (row, statement, pair, _) in enumerate(entries):
                length = len(pair[-1]) if self.config.pmi_reduction == "per_token" else 1
                prior = scores[len(entries) + i] / length if priors else float("nan")
                found[row].setdefault(statement, []).append((scores[i] / length, prior))
        mean = lambda pairs: tuple(sum(column) / len(pairs) for column in zip(*pairs, strict=True))  # noqa: E731
        return [{statement: mean(pairs) for statement, pairs in row.items()} for row in found]

    def _statement(self, target: Target) -> str:
        """The text whose probability is asked for."""
        if self.config.pmi_target == "response":
            return target.text or ""
        statement = self.config.answer_template.replace("{answer}", target.answer.text).strip()
        return f" {statement}" if self.config.pmi_conditioning == "own_reasoning" else statement

    def _scorers(self, group: Group, p: int, q: int) -> list[int]:
        if self.config.pmi_scorer == "responder":
            return [p]
        if self.config.pmi_scorer == "last_peer":
            return [group.order[q][-1]]
        return [j for j in range(len(self.engines)) if j != p]

    def _question_ids(self, request: PMIRequest, scorer: int, p: int, row: int) -> list[int]:
        """The question as the scorer sees it: the prompt it responded to itself, else the plain question."""
        if scorer == p and self.config.pmi_conditioning == "own_reasoning":
            return request.rollouts[p].prompt_ids[row]
        engine = self.engines[scorer]
        return engine.prompt_ids(engine.format.adapt(self._plain_prompt(request, row)))

    def _plain_prompt(self, request: PMIRequest, row: int):
        chains = request.group.shape[2]
        return request.group.prompts[(request.offset + row) // chains]

    def _context(self, request: PMIRequest, scorer: int, p: int, row: int) -> list[int]:
        rollout, engine = request.rollouts[p], self.engines[scorer]
        if self.config.pmi_conditioning == "in_prompt":
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
                for r, t in zip(group.responses[p][q], group.targets[p][q], strict=True)
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
