"""The default reward, and its two controls: a coin flip, and the supervised ceiling."""

from __future__ import annotations

import torch

from pst_rl.answers import is_correct
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


class RandomReward:
    """r ~ Bernoulli(1/2), independent of the response.

    Random rewards alone lift some models (arXiv 2506.10947 reports +21 points for Qwen2.5-Math on MATH-500), so every
    learning claim should show this control beside it.
    """

    name = "random"

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        flips = [float(group.rng.random() < 0.5) for _ in range(values.numel())]
        return Rewards(torch.tensor(flips).view(group.shape), abstain)


class SupervisedGold:
    """r = 1 if the response is correct by the gold answer, else 0; abstains where a question has no gold answer."""

    needs_labels = True

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        for p, q, g, response in group.cells():
            gold = group.gold[q]
            if gold is None:
                abstain[p, q, g] = True
            elif response.answer is not None:
                values[p, q, g] = float(is_correct(response.answer, gold))
        return Rewards(values, abstain)
