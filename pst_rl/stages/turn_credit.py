"""Which advantage each token of a row of several turns gets.

tokens of the first answer     TRL's advantage of the first answer's reward, times its PMI weight, re-centred
tokens of later turn t         the group-relative advantage of that turn's reward
foreign tokens                 none: they are masked out of the loss
"""

from __future__ import annotations

import torch
from trl.trainer.utils import nanstd

from pst_rl.records import Rewards, Rollout, TurnCredit

EPSILON = 1e-4  # TRL's


def later_advantages(rewards: list[Rewards], weights: list[float], scale_rewards: str) -> torch.Tensor | None:
    """Group-relative advantages of later turns, (P, Q, G, T); `None` if no provider rewards any.

        r = sum over providers of weight * later           (providers that say nothing about a turn are left out)
        A = (r - mean over the group) / (std + 1e-4)       for each peer and turn, over the group's G chains

    TRL's `sum_then_normalize`, with its rule for `scale_rewards`: the standard deviation (n - 1 in the denominator) of
    the `"group"`, of the peer's whole `"batch"` (of this turn), or no division for `"none"`. Chains without the turn
    (NaN) count in no mean and have advantage 0, and so has a turn that a single chain of its group reached.
    """
    given = [(w, r.later) for w, r in zip(weights, rewards, strict=True) if r.later is not None]
    turns = max((later.shape[-1] for _, later in given), default=0)
    if turns == 0:
        return None
    padded = torch.stack([_padded(w * later, turns) for w, later in given])  # (providers, P, Q, G, T)
    total = padded.nansum(0).masked_fill(padded.isnan().all(0), float("nan"))
    advantages = total - total.nanmean(2, keepdim=True)
    if scale_rewards != "none":
        over = 2 if scale_rewards == "group" else (1, 2)
        advantages = advantages / (nanstd(total, dim=over, keepdim=True) + EPSILON)
    return advantages.nan_to_num(nan=0.0)


def _padded(later: torch.Tensor, turns: int) -> torch.Tensor:
    return torch.nn.functional.pad(later.float(), (0, turns - later.shape[-1]), value=float("nan"))


def credit_turns(rollout: Rollout, first: list[int], advantages: torch.Tensor | None) -> TurnCredit | None:
    """Spreads the advantages of later turns over the tokens of the rows.

    Args:
        rollout: One peer's rows on this process.
        first: Tokens of each row's first answer.
        advantages: Of the rows' later turns, (rows, T); `None` if no provider rewards them.

    Returns:
        `None` if no row has a later turn, so that nothing changes in a run without a discussion.
    """
    if rollout.turns is None or not any(rollout.turns):
        return None
    own, lengths, later = [], [], []
    for i, (ids, turns) in enumerate(zip(rollout.completion_ids, rollout.turns, strict=True)):
        mask, values = [0] * len(ids), [0.0] * len(ids)
        start = first[i] if turns else len(ids)
        mask[:start] = [1] * start
        for t, turn in enumerate(turns):
            length = turn.stop - turn.start
            mask[turn.start : turn.stop] = [1] * length
            if advantages is not None and t < advantages.shape[1]:
                values[turn.start : turn.stop] = [advantages[i, t].item()] * length
        own.append(mask)
        later.append(values)
        lengths.append(start)
    return TurnCredit(own, lengths, later)
