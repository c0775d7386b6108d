"""Leaves rows out of the update that cannot change it: same gradient in expectation, fewer tokens.

A row whose advantage is zero contributes nothing to TRL's policy loss, and k equal rows contribute what one row with
the sum of their advantages does. The normaliser is kept: losses that average over rows have their advantages scaled by
kept / total, losses that divide by a token count are given the count of all rows. Every process keeps as many rows as
the one that needs most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pst_rl.config import PSTConfig
from pst_rl.records import PeerUpdate

ROW_MEAN = ("grpo", "dr_grpo")
TOKEN_COUNT = ("dapo", "cispo")


def alone(value: Any) -> list[Any]:
    """What one process gathers."""
    return [value]


def check_compaction(config: PSTConfig) -> None:
    """Refuses settings under which a row with zero advantage still has a gradient, or changes others' advantages."""
    local = config.per_device_train_batch_size * config.steps_per_generation
    faults = {
        f"loss_type={config.loss_type!r} (use one of {', '.join(ROW_MEAN + TOKEN_COUNT)})": config.loss_type
        not in ROW_MEAN + TOKEN_COUNT,
        "beta must be 0": config.beta != 0.0,
        "entropy_coef must be 0": config.entropy_coef != 0.0 or config.use_adaptive_entropy,
        "top_entropy_quantile must be 1": config.top_entropy_quantile < 1.0,
        "scale_rewards must be 'group' or 'none'": config.scale_rewards == "batch",
        "multi_objective_aggregation must be 'sum_then_normalize'": config.multi_objective_aggregation
        != "sum_then_normalize",
        f"num_generations={config.num_generations} must divide the rows of a process, {local}, so that no group "
        "straddles two": config.world_size > 1 and local % config.num_generations != 0,
    }
    if wrong := [fault for fault, present in faults.items() if present]:
        raise ValueError(f"skip_zero_advantage cannot be used here: {'; '.join(wrong)}.")


def compact(
    update: PeerUpdate, active: torch.Tensor, config: PSTConfig, gather: Callable[[Any], list[Any]] = alone
) -> PeerUpdate:
    """The same update with fewer rows.

    Args:
        update: This process's rows.
        active: Which of them can have a non-zero advantage, bool (rows,). Used where TRL computes the advantages:
            whole groups are then kept or left out, so that it still sees complete groups. Rows with an advantage in a
            later turn are kept whatever it says.
        gather: Collects a value from every process.
    """
    total = len(update.inputs)
    credit = update.credit
    if update.advantages is None:
        if credit is not None:
            active = active | credit.active
        groups = active.view(-1, config.num_generations).any(1)
        wanted = groups.repeat_interleave(config.num_generations)
        assert update.weights is not None  # `make_update` gives them to rows whose advantages TRL computes
        factors = update.weights
    else:
        wanted, factors = _merge_equal_rows(update, update.advantages)
    tokens = sum(map(len, update.completion_ids)) if credit is None else credit.tokens
    shares = gather((int(wanted.sum()), tokens))
    multiple = math.lcm(config.num_generations, config.steps_per_generation)
    rows = _padded(wanted, multiple * max(1, math.ceil(max(needed for needed, _ in shares) / multiple)))
    if config.loss_type in ROW_MEAN:
        factors = factors * (len(rows) / total)
        if credit is not None:
            credit = credit.scaled(len(rows) / total)
    pick = lambda values: [values[i] for i in rows]  # noqa: E731
    return replace(
        update,
        inputs=pick(update.inputs),
        prompt_ids=pick(update.prompt_ids),
        completion_ids=pick(update.completion_ids),
        logprobs=None if update.logprobs is None else pick(update.logprobs),
        rewards={name: pick(values) for name, values in update.rewards.items()},
        weights=factors[rows],
        advantages=None if update.advantages is None else factors[rows],
        token_count=sum(count for _, count in shares),
        credit=None if credit is None else credit.pick(rows),
    )


def _merge_equal_rows(update: PeerUpdate, advantages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which rows to keep, and advantages in which the first of equal rows carries the sum of them."""
    first: dict[tuple, int] = {}
    merged = torch.zeros_like(advantages)
    for i, pair in enumerate(zip(update.prompt_ids, update.completion_ids, strict=True)):
        merged[first.setdefault((tuple(pair[0]), tuple(pair[1])), i)] += advantages[i]
    return merged != 0.0, merged


def _padded(wanted: torch.Tensor, count: int) -> list[int]:
    """Indices of the wanted rows and of as many others as make `count`.

    The others come in whole blocks from the front, so that groups stay complete where `wanted` is made of groups.
    """
    spare = (~wanted).nonzero().flatten()[: count - int(wanted.sum())]
    return sorted([*wanted.nonzero().flatten().tolist(), *spare.tolist()])
