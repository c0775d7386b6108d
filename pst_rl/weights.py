"""Stage 5: pointwise mutual information between each response and the aggregate, and the weight made from it.

    PMI = log p(aggregate | question, response) - log p(aggregate | question)         [nats]
    w   = 2 sigmoid(-PMI / tau)                                                       stop-gradient, in (0, 2)

A response that already predicts the aggregate (high PMI) is updated less, a misaligned one more (arXiv 2604.13356).
The sigmoid is reported in a reading note on the paper; scorer, scored text, conditioning, marginal, normalisation and
tau are switches of ours, because the paper's abstract states none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from pst_rl.records import Group, Rewards, Rollout, Target, Weights
from pst_rl.scoring import Pair, sum_logprobs

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peer_trainer import PeerTrainer

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


def active_samples(rewards: list[Rewards], config: PSTConfig) -> torch.Tensor:
    """Samples whose advantage can differ from zero, bool (P, Q, G): those of groups whose rewards vary.

    Where the advantage does not come from the group alone (`normalize_then_sum`, the cross-entropy objectives), every
    sample that some provider scored is active.
    """
    scored = torch.stack([~r.abstain for r in rewards]).any(0)
    if config.objective != "grpo" or config.multi_objective_aggregation == "normalize_then_sum":
        return scored
    total = sum(w * torch.where(r.abstain, 0.0, r.values) for w, r in zip(config.reward_weights, rewards, strict=True))
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
            wanted = request.active[p]
            finite = torch.isfinite(pmi[p]) & wanted
            scored = pmi[p][finite]
            tau = self.config.pmi_tau or self.scale.update(name, scored)
            values[p][finite] = self.function(scored / tau).to(values)
            # A response whose probability is not a number gives no usable direction: no update from it.
            values[p][wanted & ~finite] = 0.0
            metrics[f"{name}/pmi/nonfinite"] = float((wanted & ~finite).sum())
            metrics[f"{name}/pmi/tau"] = tau
            if scored.numel():
                metrics |= _describe(name, request.group, p, pmi[p], finite, values[p])
        return Weights(values.detach(), pmi, metrics)

    def pmi(self, request: PMIRequest) -> torch.Tensor:
        """PMI in nats, (P, Q, G), the same on every process; NaN where not active or not finite."""
        local_rows = len(request.rollouts[0].texts)
        peers, questions, chains = request.group.shape
        local = torch.full((peers, 2, local_rows), float("nan"))  # conditional and unconditional terms
        for p in range(peers):
            self._fill(request, p, local[p])
        gathered = gather_object(local.permute(2, 0, 1).tolist())  # [row][peer][term], rows of all processes in order
        terms = torch.tensor(gathered).permute(1, 2, 0).view(peers, 2, questions, chains)
        conditional, marginal = terms[:, 0], terms[:, 1]
        if self.config.pmi_marginal == "own_samples":
            # log of the mean over the peer's own samples that could be scored
            known = torch.isfinite(conditional)
            filled = torch.where(known, conditional, -torch.inf)
            marginal = torch.logsumexp(filled, 2, keepdim=True) - known.sum(2, keepdim=True).log()
        return torch.where(request.active, conditional - marginal, float("nan"))

    def _fill(self, request: PMIRequest, p: int, terms: torch.Tensor) -> None:
        """Scores this process's rows of peer `p` into `terms`, (2, rows)."""
        chains = request.group.shape[2]
        unconditional = self.config.pmi_marginal == "unconditional"
        jobs: dict[int, list[tuple[int, Pair, Pair | None]]] = {}
        for row in range(terms.size(1)):
            q, g = divmod(request.offset + row, chains)
            target = request.group.targets[p][q][g]
            if target is None or not request.active[p, q, g]:
                continue
            for scorer in self._scorers(request.group, p, q):
                context = self._context(request, scorer, p, row)
                wanted = self._target_ids(scorer, target)
                if not wanted:
                    continue
                prior = (self._question_ids(request, scorer, p, row), wanted) if unconditional else None
                jobs.setdefault(scorer, []).append((row, (context, wanted), prior))
        sums = torch.zeros_like(terms)
        counts = torch.zeros(terms.size(1))
        for scorer, entries in jobs.items():
            pairs = [pair for _, pair, _ in entries] + [prior for _, _, prior in entries if prior is not None]
            scores = sum_logprobs(self.engines[scorer], pairs, self.config.per_device_train_batch_size)
            for i, (row, pair, _) in enumerate(entries):
                length = len(pair[1]) if self.config.pmi_reduction == "per_token" else 1
                sums[0, row] += scores[i] / length
                if unconditional:
                    sums[1, row] += scores[len(entries) + i] / length
                counts[row] += 1
        done = counts > 0
        terms[:, done] = sums[:, done] / counts[done]

    def _scorers(self, group: Group, p: int, q: int) -> list[int]:
        if self.config.pmi_scorer == "responder":
            return [p]
        if self.config.pmi_scorer == "last_peer":
            return [group.order[q][-1]]
        return [j for j in range(len(self.engines)) if j != p]

    def _question_ids(self, request: PMIRequest, scorer: int, p: int, row: int) -> list[int]:
        """The question as the scorer sees it: its own conditioned prompt if it responded, else the plain question."""
        if scorer == p:
            return request.rollouts[p].prompt_ids[row]
        engine = self.engines[scorer]
        return engine.prompt_ids(engine.format.adapt(self._plain_prompt(request, row)))

    def _plain_prompt(self, request: PMIRequest, row: int):
        chains = request.group.shape[2]
        return request.group.prompts[(request.offset + row) // chains]

    def _context(self, request: PMIRequest, scorer: int, p: int, row: int) -> list[int]:
        rollout, engine = request.rollouts[p], self.engines[scorer]
        if self.config.pmi_conditioning == "in_prompt":
            shown = request.build_prompt(self._plain_prompt(request, row), [rollout.texts[row].strip()])
            return engine.prompt_ids(engine.format.adapt(shown))
        text, answer = rollout.texts[row], rollout.answers[row]
        reasoning = text if answer is None else text[: answer.start]
        if scorer == p:  # the very tokens it sampled
            kept = engine.prefix_tokens(rollout.completion_ids[row], len(reasoning.rstrip()))
            ids = [t for t in rollout.completion_ids[row][:kept] if t not in engine.eos_token_ids]
            return rollout.prompt_ids[row] + ids
        return self._question_ids(request, scorer, p, row) + engine.text_ids(reasoning.rstrip())

    def _target_ids(self, scorer: int, target: Target) -> list[int]:
        engine = self.engines[scorer]
        if self.config.pmi_target == "response":
            return engine.text_ids(target.text or "")
        statement = self.config.answer_template.replace("{answer}", target.answer.text).strip()
        own_reasoning = self.config.pmi_conditioning == "own_reasoning"
        return engine.text_ids(f" {statement}" if own_reasoning else statement)


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
