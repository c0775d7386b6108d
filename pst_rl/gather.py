"""From the rollouts of all processes to one complete group, identical on every process."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from pst_rl.records import Group, Response, Rollout


@dataclass(frozen=True)
class GatherRequest:
    """Attributes:
    peers: Names of the peers.
    rows: This process's dataset rows, each question repeated `chains` times over all processes' rows.
    rollouts: This process's rollouts, one per peer.
    orders: Speaking order of each question of the complete batch.
    chains: Generations per question.
    confidences: Per peer and local row, or `None`.
    keep_token_ids: Whether responses carry their token ids.
    seed, block: What `group.rng` is derived from.
    step: Optimizer steps done so far.
    """

    peers: tuple[str, ...]
    rows: list[dict[str, Any]]
    rollouts: list[Rollout]
    orders: list[tuple[int, ...]]
    chains: int
    confidences: list[list[float]] | None
    keep_token_ids: bool
    seed: int
    block: int
    step: int


def gather_group(request: GatherRequest) -> Group:
    """Collects every process's rows in global order; groups that straddle processes become whole.

    Raises:
        RuntimeError: The rows do not form complete groups of one question each.
    """
    local = []
    for i, row in enumerate(request.rows):
        responses = [
            Response(
                text=rollout.texts[i],
                answer=rollout.answers[i],
                finished=rollout.finished[i],
                length=len(rollout.completion_ids[i]),
                confidence=None if request.confidences is None else request.confidences[p][i],
                token_ids=tuple(rollout.completion_ids[i]) if request.keep_token_ids else (),
            )
            for p, rollout in enumerate(request.rollouts)
        ]
        local.append((row, responses))
    rows = gather_object(local)
    groups = [rows[i : i + request.chains] for i in range(0, len(rows), request.chains)]
    for members in groups:
        if len(members) != request.chains or any(row["prompt"] != members[0][0]["prompt"] for row, _ in members):
            raise RuntimeError(
                "A gathered group mixes questions: the data loader no longer repeats each prompt `num_generations` "
                "times in a row. Use the trainer's own data loader."
            )
    return Group(
        peers=request.peers,
        prompts=tuple(members[0][0]["prompt"] for members in groups),
        columns=tuple({k: v for k, v in members[0][0].items() if k != "prompt"} for members in groups),
        order=tuple(request.orders),
        responses=tuple(
            tuple(tuple(responses[p] for _, responses in members) for members in groups)
            for p in range(len(request.peers))
        ),
        rng=random.Random(f"group/{request.seed}/{request.block}"),
        block=request.block,
        step=request.step,
    )
