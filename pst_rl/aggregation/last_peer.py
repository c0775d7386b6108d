"""The last peer's response is the aggregate."""

from pst_rl.aggregation.base import Aggregator
from pst_rl.records import Group, Target, Targets


class LastPeer(Aggregator):
    """In each chain, the response of the peer that spoke last (after reading all the others) is the target.

    The aggregate of PST (arXiv 2604.13356) as reported in a reading note on its first version. Where the last peer's
    answer is unparsed, or its response was cut off, the chain abstains. A target's share is 1.
    """

    min_peers = 2

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        rows = []
        for q in range(questions):
            last = group.responses[group.order[q][-1]][q]
            rows.append(tuple(None if r.answer is None else Target(r.answer, r.text, 1.0) for r in last))
        return tuple(tuple(rows) for _ in range(peers))
