"""Aggregators: the only code that makes targets. `AGGREGATORS` maps names to classes; add your own to it."""

from pst_rl.aggregation.base import Aggregator
from pst_rl.aggregation.last_peer import LastPeer
from pst_rl.aggregation.supervised_gold import SupervisedGoldTarget
from pst_rl.aggregation.votes import LeaveOneOut, Majority, Weighted

AGGREGATORS = {
    "majority": Majority,
    "last_peer": LastPeer,
    "weighted": Weighted,
    "leave_one_out": LeaveOneOut,
    "supervised_gold": SupervisedGoldTarget,
}

__all__ = ["AGGREGATORS", "Aggregator", "LastPeer", "LeaveOneOut", "Majority", "SupervisedGoldTarget", "Weighted"]
