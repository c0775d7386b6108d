"""Stage 6: which completion rows, and which advantages, reach TRL's loss.

At ratio 1 the gradient of TRL's loss on a row with advantage A is -A grad log p(row), so one path serves all:

    grpo           own completions,             A = w * (group-relative advantage of the reward)
    weighted_sft   own completions,             A = w where parsed and the group has a target, else 0
    aggregate_sft  the aggregate's response,    A = w where the group has a target, else 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pst_rl.peer_trainer import PeerUpdate
from pst_rl.records import Group, Rewards, Rollout, Target, Weights

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peer_trainer import PeerTrainer


@dataclass(frozen=True)
class UpdateRequest:
    """One peer's share of the joint results.

    Attributes:
        engine: The peer.
        index: Its index in the group.
        group, rewards, weights: Complete, over all processes; `rewards` by provider name, without monitors.
        rollout: The peer's rollout on this process.
        offset: Index of this process's first row in the complete batch.
    """

    engine: PeerTrainer
    index: int
    group: Group
    rewards: dict[str, Rewards]
    weights: Weights
    rollout: Rollout
    offset: int


def make_update(request: UpdateRequest, config: PSTConfig) -> PeerUpdate:
    """The local rows of one peer, as its `GRPOTrainer` will see them."""
    rollout, p = request.rollout, request.index
    rows = slice(request.offset, request.offset + len(rollout.texts))
    weights = request.weights.values[p].flatten()[rows]
    if not config.update_last_peer:
        chains = request.group.shape[2]
        speaks_last = [request.group.order[row // chains][-1] == p for row in range(rows.start, rows.stop)]
        weights = torch.where(torch.tensor(speaks_last), 0.0, weights)
    rewards = {
        name: torch.where(r.abstain[p], float("nan"), r.values[p]).flatten()[rows].tolist()
        for name, r in request.rewards.items()
    }
    completion_ids, advantages = rollout.completion_ids, None
    if config.objective != "grpo":
        targets = [t for chains in request.group.targets[p] for t in chains][rows]
        usable = [t is not None for t in targets]
        if config.objective == "weighted_sft":
            usable = [u and a is not None for u, a in zip(usable, rollout.answers, strict=True)]
        else:
            taught = [target_ids(request.engine, target) for target in targets]
            usable = [ids is not None for ids in taught]
            completion_ids = [ids or own for ids, own in zip(taught, rollout.completion_ids, strict=True)]
        advantages = torch.where(torch.tensor(usable), weights, 0.0)
    return PeerUpdate(
        inputs=[{"prompt": prompt} for prompt in rollout.prompts],
        prompt_ids=rollout.prompt_ids,
        completion_ids=completion_ids,
        logprobs=rollout.logprobs if config.objective == "grpo" else None,
        rewards=rewards,
        weights=weights,
        advantages=advantages,
        on_policy=config.objective != "grpo",
    )


def target_ids(engine: PeerTrainer, target: Target | None) -> list[int] | None:
    """Another peer's response in this peer's tokens, ended by its end-of-turn token.

    `None` where there is no text, or it does not fit: a response cut off would teach the peer to stop early.
    """
    if target is None or not target.text:
        return None
    ids = [*engine.text_ids(target.text), engine.end_of_turn]
    return ids if len(ids) <= engine.max_completion_length else None
