"""A vote that counts in shares: the more samples agree, the higher the reward."""

from __future__ import annotations

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import Scope, blank, check_scope, electorates, shares


class VoteShare:
    """r_pqg = share of the samples of the question that give the same answer; an unparsed response earns 0.

        r_pqg = count(a_pqg) / n                                leave_self_out: (count(a_pqg) - 1) / (n - 1)

    with n = P G samples, or G for `scope="own"`. A question abstains where the most common answer's share of the n
    samples, unparsed ones included, is below `threshold`. The aggregate is not read.

    Source: SRT (arXiv 2505.21444), whose reward is the hard vote, 1[a = majority] (`OwnVote` with `MatchesAggregate`).
    Our choice: the share itself as the reward, the threshold, and counting all peers' samples.

    Args:
        threshold: In [0, 1]; 0 never abstains.
        scope: `"pooled"` counts all peers' samples, `"own"` each peer's alone.
        leave_self_out: Do not count a sample's agreement with itself. A lone answer then earns 0, as an unparsed one
            does; among parsed samples of a question only the scale changes. Abstains where there is one sample.

    Raises:
        ValueError: An unknown scope, or a threshold that is no share.
    """

    reads_answers = True

    def __init__(self, threshold: float = 0.0, scope: Scope = "pooled", leave_self_out: bool = False):
        if not 0.0 <= threshold <= 1.0:  # also refuses NaN
            raise ValueError(f"threshold must be a share between 0 and 1, got {threshold}.")
        check_scope(scope)
        self.threshold = threshold
        self.scope = scope
        self.leave_self_out = leave_self_out

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        for voters in electorates(group, self.scope):
            for q in range(len(group.prompts)):
                samples = [(p, g, r) for p, g, r in group.pooled(q) if p in voters]
                share = shares([r for _, _, r in samples])
                alone = self.leave_self_out and len(samples) == 1
                if alone or max(share.values(), default=0.0) < self.threshold:
                    abstain[voters, q] = True
                    continue
                for p, g, response in samples:
                    if response.key is not None:
                        values[p, q, g] = self._reward(share[response.key], len(samples))
        return Rewards(values, abstain)

    def _reward(self, share: float, samples: int) -> float:
        return (share * samples - 1.0) / (samples - 1) if self.leave_self_out else share
