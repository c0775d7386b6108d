"""Aggregators: the only code that makes targets. `AGGREGATORS` maps names to classes; add your own to it."""

from pst_rl.aggregation.base import Aggregator
from pst_rl.aggregation.joint_likelihood import JointLikelihood
from pst_rl.aggregation.reliability import Reliability
from pst_rl.aggregation.views import CrossView, Debate
from pst_rl.aggregation.votes import (
    LastPeer,
    LeaveOneOut,
    Majority,
    OtherPeer,
    OwnVote,
    SupervisedGoldTarget,
    Weighted,
)

AGGREGATORS = {
    "majority": Majority,
    "last_peer": LastPeer,
    "weighted": Weighted,
    "leave_one_out": LeaveOneOut,
    "own_vote": OwnVote,
    "other_peer": OtherPeer,
    "cross_view": CrossView,
    "reliability": Reliability,
    "joint_likelihood": JointLikelihood,
    "debate": Debate,
    "supervised_gold": SupervisedGoldTarget,
}
"""The aggregators by name; add your own."""

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "CrossView",
    "Debate",
    "JointLikelihood",
    "LastPeer",
    "LeaveOneOut",
    "Majority",
    "OtherPeer",
    "OwnVote",
    "Reliability",
    "SupervisedGoldTarget",
    "Weighted",
]
