"""Reward providers. `REWARDS` maps names to classes; add your own to it.

A provider is a plain callable `provider(group) -> Rewards` over the complete gathered group. It runs on every process
on the identical group, draws randomness only from `group.rng`, and never generates text itself.
"""

from pst_rl.rewards.base import RewardProvider, Stateful, provider_name
from pst_rl.rewards.matches_aggregate import MatchesAggregate
from pst_rl.rewards.random_reward import RandomReward
from pst_rl.rewards.supervised_gold import SupervisedGold
from pst_rl.rewards.trl_reward import TRLReward

REWARDS = {"matches_aggregate": MatchesAggregate, "random": RandomReward, "supervised_gold": SupervisedGold}

__all__ = [
    "REWARDS",
    "MatchesAggregate",
    "RandomReward",
    "RewardProvider",
    "Stateful",
    "SupervisedGold",
    "TRLReward",
    "provider_name",
]
