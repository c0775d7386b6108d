"""Stage 6: which completion rows, and which advantages, reach TRL's loss.

At ratio 1 the gradient of TRL's loss on a row with advantage A is -A grad log p(row), so one path serves all:

    grpo           own completions,             A = w * (group-relative advantage of the reward), re-centred
    weighted_sft   own completions,             A = w where parsed and the group has a target, else 0
    aggregate_sft  the aggregate's response,    A = w where the group has a target, else 0
    discussion_sft the same, but the response follows the peer's own discussion instead of the bare question

Rows with later turns reach the loss whole under `grpo`, with an advantage for each token
(`pst_rl.stages.turn_credit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pst_rl.records import Group, LocalRows, PeerUpdate, Rewards, Rollout, Target, TurnCredit, Weights
from pst_rl.stages.turn_credit import credit_turns, later_advantages

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peers.peer_trainer import PeerTrainer


@dataclass(frozen=True)
class UpdateRequest:
    """One peer's share of the joint results.

    Attributes:
        engine: The peer.
        index: Its index in the group.
        group, rewards, weights: Complete, over all processes; `rewards` by provider name, without monitors.
        mix: Weight of each of these rewards in this generation batch, by provider name.
        rollout: The peer's rollout on this process.
        local: Which questions and chains the rows of this process are.
    """

    engine: PeerTrainer
    index: int
    group: Group
    rewards: Mapping[str, Rewards]
    mix: Mapping[str, float]
    weights: Weights
    rollout: Rollout
    local: LocalRows


def make_update(request: UpdateRequest, config: PSTConfig) -> PeerUpdate:
    """The local rows of one peer, as its `GRPOTrainer` will see them."""
    rollout, p, local = request.rollout, request.index, request.local
    weights = local.pick(request.weights.values[p])
    updated = torch.ones(len(weights), dtype=torch.bool)
    if not config.update_last_peer:
        updated = torch.tensor([request.group.order[q][-1] != p for q, _ in local.cells])
        weights = torch.where(updated, weights, 0.0)
    rewards = {
        name: local.pick(torch.where(r.abstain[p], float("nan"), r.values[p])).tolist()
        for name, r in request.rewards.items()
    }
    prompt_ids, completion_ids, advantages, credit = rollout.prompt_ids, rollout.completion_ids, None, None
    if config.objective == "discussion_sft":
        histories = discussed(request)
        prompt_ids = [[*prompt, *history] for prompt, history in zip(prompt_ids, histories, strict=True)]
        completion_ids = [ids[len(history) :] for ids, history in zip(completion_ids, histories, strict=True)]
    if config.objective != "grpo":
        targets = local.take(request.group.the_targets[p])
        usable = [t is not None for t in targets]
        if config.objective == "weighted_sft":
            usable = [u and a is not None for u, a in zip(usable, rollout.answers, strict=True)]
        else:
            taught = [target_ids(request.engine, target) for target in targets]
            usable = [ids is not None for ids in taught]
            completion_ids = [ids or own for ids, own in zip(taught, completion_ids, strict=True)]
        advantages = torch.where(torch.tensor(usable), weights, 0.0)
    else:
        credit = turn_credit(request, config, updated)
    return PeerUpdate(
        inputs=[{"prompt": prompt} for prompt in rollout.prompts],
        prompt_ids=prompt_ids,
        completion_ids=completion_ids,
        logprobs=rollout.logprobs if config.objective == "grpo" else None,
        rewards=rewards,
        weights=weights,
        advantages=advantages,
        on_policy=config.objective != "grpo",
        credit=credit,
    )


def turn_credit(request: UpdateRequest, config: PSTConfig, updated: torch.Tensor) -> TurnCredit | None:
    """The credit of later turns, where there are any; rows that are not `updated` get none."""
    rollout = request.rollout
    if rollout.turns is None or not any(rollout.turns):
        return None
    mix = [request.mix[name] for name in request.rewards]
    advantages = later_advantages(list(request.rewards.values()), mix, config.scale_rewards)
    if advantages is not None:
        advantages = request.local.pick(advantages[request.index]) * updated[:, None]
    return credit_turns(rollout, first_answers(request), advantages)


def discussed(request: UpdateRequest) -> list[list[int]]:
    """The history that each row's target text is to follow: - sum over t of log p(y | x, history_t), one t a sample.

    Chain g takes its row up to the remark of turn 1 + g mod n, where n turns were held in it, so that all turns are
    taught equally often; a row without later turns has no history. Which turns the paper sums over is not published;
    one turn for each sample is our choice: it keeps the number of target tokens that of training without discussion.
    """
    rollout = request.rollout
    histories = []
    for i, (ids, (_, g)) in enumerate(zip(rollout.completion_ids, request.local.cells, strict=True)):
        turns = rollout.turns[i] if rollout.turns is not None else ()
        histories.append(ids[: turns[g % len(turns)].start] if turns else [])
    return histories


def first_answers(request: UpdateRequest) -> list[int]:
    """How many tokens the first answer of each local row has."""
    return [response.length for response in request.local.take(request.group.responses[request.index])]


def target_ids(engine: PeerTrainer, target: Target | None) -> list[int] | None:
    """Another peer's response in this peer's tokens, ended by its end-of-turn token.

    `None` where there is no text, or it does not fit: a response cut off would teach the peer to stop early.
    """
    if target is None or not target.text:
        return None
    ids = [*engine.text_ids(target.text), engine.end_of_turn]
    longest = engine.max_completion_length
    return ids if longest is None or len(ids) <= longest else None
