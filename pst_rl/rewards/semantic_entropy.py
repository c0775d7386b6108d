"""EMPO: an answer earns the probability of its equivalence class, unless the question is settled or in chaos."""

from __future__ import annotations

import math

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import Scope, blank, check_scope, electorates, shares


class SemanticEntropy:
    """r_pqg = p(c), the share of samples in the answer's equivalence cluster c, gated by the entropy of the clusters.

        H = - sum_c p(c) log p(c)   [nats]          abstain unless  low < H / log n < high

    over n = P G samples, or G for `scope="own"`. A cluster is a canonical key. An unparsed response is a cluster of
    its own, of one sample: it raises H, and earns 0.

    Source: EMPO (arXiv 2504.05812). Stated: the reward p(c) over semantic clusters, and training only where H lies
    between two thresholds, which keeps out questions that are settled and those too uncertain to trust. The authors'
    code for mathematics puts each unparsed response into a cluster of its own and gives a question no reward where all
    clusters are single (H = log n); that code rewards log p(c). Our choice: thresholds as shares of log n, the largest
    possible H, so that they hold for any number of samples, with the defaults 0 and 1 that leave out unanimous and
    all-different questions only; canonical keys as clusters; 0 for unparsed responses; counting all peers' samples.

    Args:
        low, high: Bounds of the gate, 0 <= low < high. A `high` above 1 never closes at the top; at the bottom
            unanimous questions, which have no gradient anyway, are always left out.
        scope: `"pooled"` counts all peers' samples, `"own"` (the paper's single policy) each peer's alone.

    Raises:
        ValueError: An unknown scope, or bounds that leave nothing between them.
    """

    reads_answers = True

    def __init__(self, low: float = 0.0, high: float = 1.0, scope: Scope = "pooled"):
        if not 0.0 <= low < min(high, 1.0):  # also refuses NaN
            raise ValueError(f"The entropy gate needs 0 <= low < high and low < 1, got low={low} and high={high}.")
        check_scope(scope)
        self.low = low
        self.high = high
        self.scope = scope

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        entropies = []
        for voters in electorates(group, self.scope):
            for q in range(len(group.prompts)):
                samples = [(p, g, r) for p, g, r in group.pooled(q) if p in voters]
                clusters = shares([r for _, _, r in samples])
                entropies.append(_entropy(clusters, len(samples)))
                if not self._opens(entropies[-1], len(samples)):
                    abstain[voters, q] = True
                    continue
                for p, g, response in samples:
                    if response.key is not None:
                        values[p, q, g] = clusters[response.key]
        return Rewards(values, abstain, {"entropy": sum(entropies) / len(entropies)})

    def _opens(self, entropy: float, samples: int) -> bool:
        share = entropy / math.log(samples) if samples > 1 else 0.0
        return self.low + 1e-9 < share < self.high - 1e-9  # an entropy on a bound may miss it by a rounding error


def _entropy(clusters: dict[str, float], samples: int) -> float:
    """Entropy in nats of the clusters and of the samples that are in none, each a cluster of its own."""
    single = 1.0 - sum(clusters.values())
    return single * math.log(samples) - sum(p * math.log(p) for p in clusters.values())
