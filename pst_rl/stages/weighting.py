"""Stage 5: the factor of each sample's advantage. `pst_rl.WEIGHTINGS` lists the ways by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from pst_rl.records import Group, LocalRows, Rewards, Rollout, Weights

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peers.peer_trainer import PeerTrainer


@dataclass(frozen=True)
class WeightRequest:
    """What a weighting may look at.

    Attributes:
        engines: The peers.
        group: The complete group with targets.
        rewards: Every provider's rewards, by name.
        rollouts: This process's rollouts, one per peer.
        local: Which questions and chains this process's rows are.
        active: Samples whose advantage can differ from zero, bool (P, Q, G), equal on every process; what weight the
            others get changes nothing.
        build_prompt: Hook `(prompt, previous_texts) -> prompt`, to show a peer what others said.
        answer_template: How an answer is stated; `{answer}` is filled.
        batch_size: Rows of one forward pass.
    """

    engines: list[PeerTrainer]
    group: Group
    rewards: dict[str, Rewards]
    rollouts: list[Rollout]
    local: LocalRows
    active: torch.Tensor
    build_prompt: Callable
    answer_template: str
    batch_size: int


class Weighting(Protocol):
    """Any callable from a request to weights, equal on every process.

    It may have attributes: `name` for logs and cards, `min_peers` (refuses smaller runs), and `needs_caches`: the keys
    and values that sampling the first answers has left stay in `engine.live` until it has been called (needs
    `shared_prefill`). With `state_dict` and `load_state_dict` its memory is saved in and restored from every
    checkpoint.
    """

    def __call__(self, request: WeightRequest) -> Weights: ...


class Unweighted:
    """w_pqg = 1: every advantage stays as the rewards make it. No PMI is scored (NaN)."""

    name = "none"

    def __call__(self, request: WeightRequest) -> Weights:
        ones = torch.ones(request.group.shape)
        return Weights(ones, torch.full_like(ones, float("nan")))


@contextmanager
def kept_caches(engines: list[PeerTrainer], wanted: bool) -> Iterator[None]:
    """What is sampled meanwhile leaves its keys and values in `engine.live`, if wanted (a weighting's `needs_caches`).

    For the first answers of a generation batch alone, by the very weights that will read them: views, discussions and
    measurements sample too, some with other weights.
    """
    for engine in engines:
        engine.keeps_caches = wanted and engine.can_keep_caches
    try:
        yield
    finally:
        for engine in engines:
            engine.keeps_caches = False


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
