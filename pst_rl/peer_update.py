"""What reaches one peer's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pst_rl.stages.turn_credit import TurnCredit


@dataclass(frozen=True)
class PeerUpdate:
    """What the joint stages hand to one peer for one generation batch (local rows of this process).

    Attributes:
        inputs: One row per sample: `{"prompt": ...}`.
        prompt_ids, completion_ids, logprobs: The rows that reach the loss.
        rewards: Per provider, one float per row; NaN abstains.
        weights: Factors of TRL's advantages, (rows,); `None` leaves TRL's output untouched.
        advantages: Replaces TRL's advantages, (rows,); `None` keeps them.
        on_policy: Drop the old log-probabilities, so that every ratio is 1 (the cross-entropy objectives).
        token_count: Completion tokens of all rows of all processes, where some were left out; `None`: none were.
        credit: Which tokens of each row are the peer's own, and the advantages of those of later turns; `None`: every
            row is one answer.
    """

    inputs: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    logprobs: list[list[float]] | None
    rewards: dict[str, list[float]]
    weights: torch.Tensor | None = None
    advantages: torch.Tensor | None = None
    on_policy: bool = False
    token_count: int | None = None
    credit: TurnCredit | None = None
