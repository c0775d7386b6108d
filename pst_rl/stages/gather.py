"""From the rollouts of all processes to one complete group, identical on every process."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from accelerate.utils import gather_object

from pst_rl.records import Group, Response, Responses, Rollout


@dataclass(frozen=True)
class GatherRequest:
    """Attributes:
    peers: Names of the peers.
    rows: This process's dataset rows, each question repeated `chains` times over all processes' rows.
    rollouts: This process's rollouts, one per peer.
    orders: Speaking order of each question of the complete batch.
    chains: Generations per question.
    keep_token_ids: Whether responses carry their token ids.
    seed, block: What `group.rng` is derived from.
    step: Optimizer steps done so far.
    """

    peers: tuple[str, ...]
    rows: list[dict[str, Any]]
    rollouts: list[Rollout]
    orders: list[tuple[int, ...]]
    chains: int
    keep_token_ids: bool
    seed: int
    block: int
    step: int


def gather_group(request: GatherRequest) -> Group:
    """Collects every process's rows in global order; groups that straddle processes become whole.

    Raises:
        RuntimeError: The rows do not form complete groups of one question each.
    """
    rows = gather_object(request.rows)
    questions = by_question(rows, request.chains)
    for copies in questions:
        if len(copies) != request.chains or any(row["prompt"] != copies[0]["prompt"] for row in copies):
            raise RuntimeError(
                "A gathered group mixes questions: the data loader no longer repeats each prompt `num_generations` "
                "times in a row. Use the trainer's own data loader."
            )
    return Group(
        peers=request.peers,
        prompts=tuple(copies[0]["prompt"] for copies in questions),
        columns=tuple({k: v for k, v in copies[0].items() if k != "prompt"} for copies in questions),
        order=tuple(request.orders),
        responses=gather_responses(request.rollouts, request.chains, request.keep_token_ids),
        rng=random.Random(f"group/{request.seed}/{request.block}"),
        block=request.block,
        step=request.step,
    )


def gather_responses(rollouts: list[Rollout], chains: int, keep_token_ids: bool = False) -> Responses:
    """The responses of all processes, `[peer][question][chain]`, from this process's rollouts, one per peer."""
    local = [[_response(rollout, i, keep_token_ids) for rollout in rollouts] for i in range(len(rollouts[0].texts))]
    rows = gather_object(local)
    return tuple(
        tuple(tuple(row[p] for row in copies) for copies in by_question(rows, chains)) for p in range(len(rollouts))
    )


def by_question(rows: list[Any], chains: int) -> list[list[Any]]:
    """The rows of the complete batch, `[question][chain]`."""
    return [rows[i : i + chains] for i in range(0, len(rows), chains)]


def with_turns(group: Group, responses: Responses) -> Group:
    """The group with the later turns of `responses`; the first answers stay what they were."""
    merged = tuple(
        tuple(
            tuple(replace(old, turns=new.turns) for old, new in zip(*chains, strict=True))
            for chains in zip(*questions, strict=True)
        )
        for questions in zip(group.responses, responses, strict=True)
    )
    return replace(group, responses=merged)


def _response(rollout: Rollout, row: int, keep_token_ids: bool) -> Response:
    ids = rollout.completion_ids[row]
    return Response(
        text=rollout.texts[row],
        answer=rollout.answers[row],
        finished=rollout.finished[row],
        length=len(ids),
        token_ids=tuple(ids) if keep_token_ids else (),
        turns=() if rollout.turns is None else rollout.turns[row],
    )
