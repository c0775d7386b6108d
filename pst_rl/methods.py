"""Published methods by their names: the options of `PSTConfig` that make each of them.

    PSTConfig("runs/mine", **METHODS["ttrl"])
    pst-rl train --method ttrl

What each computes, and where ours differs from the paper: docs/schemes. Importing it loads no library.
"""

from __future__ import annotations

from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "pooled-vote": {"aggregator": "majority"},
    "leave-one-out": {"aggregator": "leave_one_out"},
    "reliability": {"aggregator": "reliability"},
    "joint-likelihood": {"aggregator": "joint_likelihood"},
    "ttrl": {"aggregator": "own_vote"},  # arXiv 2504.16084
    "srt": {"aggregator": "own_vote"},  # arXiv 2505.21444: its reward is the hard vote; `vote_share` is the soft one
    "co-rl": {"aggregator": "other_peer"},  # arXiv 2608.17253; after Co-rewarding, arXiv 2508.00410
    "co-rewarding": {"aggregator": "cross_view"},  # arXiv 2508.00410, I
    "empo": {"rewards": ["semantic_entropy"]},  # arXiv 2504.05812
    "intuitor": {"rewards": ["self_certainty"]},  # arXiv 2505.19590
    "rent": {"rewards": ["negative_entropy"]},  # arXiv 2505.22660
    "debate": {"aggregator": "debate"},  # arXiv 2501.05707
    "saie": {"rewards": ["saie"]},  # arXiv 2311.08107
    "icm": {"rewards": ["icm"]},  # after arXiv 2506.10139
    "mutual-prediction": {"rewards": ["mutual_prediction"]},  # arXiv 2601.20299
    "pst": {  # arXiv 2604.13356
        "context": "sequential",
        "peer_context": "responses",
        "aggregator": "last_peer",
        "objective": "weighted_sft",
        "quorum": 0.0,
        "weighting": "pmi",
    },
}
"""Method -> fields of `PSTConfig`; those that are not named keep their values."""
