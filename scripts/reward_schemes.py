"""The schemes that `compare_rewards.py` compares, as settings of `PSTConfig` on top of one shared budget."""

from dataclasses import dataclass, field
from typing import Any

from pst_rl.cli.presets import TINY_ANSWERS, TINY_TRAINING

# What every run shares: the demo's budget, without PMI, which is one of the rows.
BUDGET: dict[str, Any] = (
    TINY_TRAINING
    | TINY_ANSWERS
    | {"quorum": 0.34, "weighting": "none", "save_strategy": "no", "report_to": [], "disable_tqdm": True}
)


@dataclass(frozen=True)
class Scheme:
    """One row of the table.

    Attributes:
        config: What it changes in `BUDGET`.
        peers: The peers that are trained together; each of them alone, one run after the other, if `alone`.
        alone: Whether every peer is trained in a run of its own.
        group: The part of the table it stands in.
        supervised: Whether it reads gold answers.
    """

    config: dict[str, Any] = field(default_factory=dict)
    alone: bool = False
    group: str = "rewards"
    supervised: bool = False


def _aggregator(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"aggregator": name, "aggregator_options": options}


def _pmi(**options: Any) -> dict[str, Any]:
    return {"weighting": "pmi", "weighting_options": options or None, "recentre_weighted": False}  # as measured


SFT = {"objective": "aggregate_sft"}
GOLD = {"supervised": True, "rewards": ["supervised_gold"]}
GOLD_TARGET = {"supervised": True, "aggregator": "supervised_gold", "objective": "aggregate_sft"}
# Rewards that are not votes need no quorum: their targets serve the metrics only.
OPEN = {"quorum": 0.0}

SCHEMES: dict[str, Scheme] = {
    # ---- votes and aggregates, with the match reward ----
    "majority": Scheme(),
    "leave_one_out": Scheme({"aggregator": "leave_one_out"}),
    "own_vote (TTRL)": Scheme({"aggregator": "own_vote"}),
    "other_peer (Co-rewarding)": Scheme({"aggregator": "other_peer"}),
    "cross_view, EMA (Co-rewarding)": Scheme(_aggregator("cross_view", {"view": "ema"})),
    "weighted by confidence": Scheme({"aggregator": "weighted"}),
    "reliability (Dawid-Skene)": Scheme({"aggregator": "reliability"}),
    "joint_likelihood": Scheme({"aggregator": "joint_likelihood"}),
    "debate": Scheme({"aggregator": "debate"}),
    # ---- other rewards ----
    "vote_share (SRT)": Scheme({"rewards": ["vote_share"], "reward_options": {"vote_share": {"threshold": 0.34}}}),
    "semantic_entropy (EMPO)": Scheme(OPEN | {"rewards": ["semantic_entropy"]}),
    "self_certainty (Intuitor)": Scheme(OPEN | {"rewards": ["self_certainty"]}),
    "negative_entropy (RENT)": Scheme(OPEN | {"rewards": ["negative_entropy"]}),
    "mutual_prediction": Scheme(OPEN | {"rewards": ["mutual_prediction"]}),
    "correlated_agreement": Scheme(OPEN | {"rewards": ["correlated_agreement"]}),
    "random": Scheme({"rewards": ["random"]}, group="controls"),
    "gold, supervised": Scheme(GOLD, group="controls", supervised=True),
    # ---- one peer at a time ----
    "majority (TTRL), alone": Scheme(alone=True, group="alone"),
    "self_certainty, alone": Scheme(OPEN | {"rewards": ["self_certainty"]}, alone=True, group="alone"),
    "gold, supervised, alone": Scheme(GOLD, alone=True, group="alone", supervised=True),
    # ---- cross-entropy towards the aggregate ----
    "majority, aggregate_sft": Scheme(SFT, group="objectives"),
    "joint_likelihood, aggregate_sft": Scheme(SFT | {"aggregator": "joint_likelihood"}, group="objectives"),
    "majority, weighted_sft": Scheme({"objective": "weighted_sft", "weighting": "pmi"}, group="objectives"),
    "majority (TTRL), alone, aggregate_sft": Scheme(SFT, alone=True, group="objectives"),
    "gold, supervised, aggregate_sft": Scheme(GOLD_TARGET, group="objectives", supervised=True),
    # ---- PST's own switches, one at a time ----
    "PMI on": Scheme(_pmi(), group="switches"),
    "PMI on, aligned more": Scheme(_pmi(direction="more"), group="switches"),
    "PMI on, scorer other_peers": Scheme(_pmi(scorer="other_peers"), group="switches"),
    "PMI on, whole response": Scheme(_pmi(target="response"), group="switches"),
    "PMI on, in_prompt": Scheme(_pmi(conditioning="in_prompt", marginal="unconditional"), group="switches"),
    "PMI on, unconditional": Scheme(_pmi(marginal="unconditional"), group="switches"),
    "PMI on, tau 1": Scheme(_pmi(tau=1.0), group="switches"),
    "sequential": Scheme({"context": "sequential"}, group="switches"),
    "sequential, answers only": Scheme({"context": "sequential", "peer_context": "answers"}, group="switches"),
    "sequential, last_peer": Scheme({"context": "sequential", "aggregator": "last_peer"}, group="switches"),
}
