"""The default pseudo-reward: agree with the aggregate."""

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank


class MatchesAggregate:
    """r_pqg = 1 if the answer's canonical key equals the target's, else 0.

    An unparsed answer earns 0 where its group has a target; a (question, chain) without a target abstains.
    With the `majority` aggregator and one peer this is TTRL (arXiv 2504.16084).
    """

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        for p, q, g, response in group.cells():
            target = group.targets[p][q][g]
            if target is None:
                abstain[p, q, g] = True
            else:
                values[p, q, g] = float(response.key == target.answer.key)
        return Rewards(values, abstain)
