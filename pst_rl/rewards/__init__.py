"""Reward providers. `REWARDS` maps names to classes; add your own to it.

A provider is a plain callable `provider(group) -> Rewards` over the complete gathered group. It runs on every process
on the identical group, draws randomness only from `group.rng`, and never generates text itself.
"""

from pst_rl.rewards.base import RewardProvider, Stateful, per_sample, provider_name
from pst_rl.rewards.basic import MatchesAggregate, RandomReward, SupervisedGold
from pst_rl.rewards.confidence import NegativeEntropy, SelfCertainty
from pst_rl.rewards.correlated_agreement import CorrelatedAgreement
from pst_rl.rewards.determinant_mi import DeterminantMI
from pst_rl.rewards.icm import ICMReward
from pst_rl.rewards.mutual_prediction import MutualPrediction
from pst_rl.rewards.saie import SAIE
from pst_rl.rewards.semantic_entropy import SemanticEntropy
from pst_rl.rewards.trl_reward import TRLReward
from pst_rl.rewards.vote_share import VoteShare

REWARDS = {
    "matches_aggregate": MatchesAggregate,
    "vote_share": VoteShare,
    "semantic_entropy": SemanticEntropy,
    "self_certainty": SelfCertainty,
    "negative_entropy": NegativeEntropy,
    "mutual_prediction": MutualPrediction,
    "correlated_agreement": CorrelatedAgreement,
    "determinant_mi": DeterminantMI,
    "saie": SAIE,
    "icm": ICMReward,
    "random": RandomReward,
    "supervised_gold": SupervisedGold,
}
"""The reward providers by name; add your own."""

__all__ = [
    "REWARDS",
    "SAIE",
    "CorrelatedAgreement",
    "DeterminantMI",
    "ICMReward",
    "MatchesAggregate",
    "MutualPrediction",
    "NegativeEntropy",
    "RandomReward",
    "RewardProvider",
    "SelfCertainty",
    "SemanticEntropy",
    "Stateful",
    "SupervisedGold",
    "TRLReward",
    "VoteShare",
    "per_sample",
    "provider_name",
]
