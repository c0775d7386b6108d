"""What weights do to the mean of the advantages, and how it is put right.

TRL's advantages have mean 0 in every group, w A has not: a weighting that is larger where A < 0 pushes a peer away
from its own samples at every step, whatever they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pst_rl.records import PeerUpdate

if TYPE_CHECKING:
    from accelerate import Accelerator


def weighted_advantages(
    advantages: torch.Tensor, update: PeerUpdate, chains: int, recentre: bool, accelerator: Accelerator
) -> tuple[torch.Tensor, dict[str, float]]:
    """w A of this process's rows, (rows,), re-centred if so wanted; and what their mean is, if the weights vary.

    Args:
        advantages: TRL's, of this process's rows, (rows,).
        update: The peer's update: weights, and the rewards that say which rows TRL has scored.
        chains: G, rows of a group. Groups are complete, in order, over all processes, but may straddle two of them.
        recentre: Whether to take the mean off.
        accelerator: Joins the rows of all processes, first to last.

    Returns:
        The products, and metrics over the rows that reach the loss: `weighted_advantage`, their mean, and
        `weighted_advantage/raw`, what it is without re-centring.
    """
    assert update.weights is not None  # the callers' condition
    weights = update.weights.to(advantages)
    products = advantages * weights
    scored = (~torch.tensor(list(update.rewards.values())).isnan().all(0)).to(advantages)
    raw, factors, known = accelerator.gather(torch.stack([products, weights, scored], 1)).unbind(1)
    means = group_means(raw, factors, known.bool(), chains)
    if means is None:
        return products, {}
    centred = raw - means if recentre else raw
    own = accelerator.process_index * len(products)
    metrics = {"weighted_advantage": centred.mean().item(), "weighted_advantage/raw": raw.mean().item()}
    return centred[own : own + len(products)], metrics


def group_means(
    products: torch.Tensor, weights: torch.Tensor, scored: torch.Tensor, chains: int
) -> torch.Tensor | None:
    """What re-centring takes off each row, (rows,); `None` if no group's weights vary.

        A'_i = w_i A_i - mean over j of w_j A_j        j in the group of i, scored, w_j != 0

    The baseline of REINFORCE for the factor that multiplies grad log p: one number for a group, and no reward to any
    of its samples for being its own. Rows that no provider scored, and those of weight 0, are kept out of the update:
    they count in no mean and nothing is taken off them. Nothing is taken off in a group whose weights do not vary
    either: there the products have the mean of TRL's advantages, which is 0 but for rounding.
    """
    product, weight, known = (values.view(-1, chains) for values in (products, weights, scored))
    high = torch.where(known, weight, -torch.inf).amax(1, keepdim=True)
    low = torch.where(known, weight, torch.inf).amin(1, keepdim=True)
    if not (high > low).any():
        return None
    counted = known & (weight != 0.0) & (high > low)
    mean = torch.where(counted, product, 0.0).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    return torch.where(counted, mean, 0.0).flatten()
