"""The control every claim needs: a coin flip."""

import torch

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank


class RandomReward:
    """r ~ Bernoulli(1/2), independent of the response.

    Random rewards alone lift some models (arXiv 2506.10947 reports +21 points for Qwen2.5-Math on MATH-500), so every
    learning claim should show this control beside it.
    """

    name = "random"

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        flips = [float(group.rng.random() < 0.5) for _ in range(values.numel())]
        return Rewards(torch.tensor(flips).view(group.shape), abstain)
