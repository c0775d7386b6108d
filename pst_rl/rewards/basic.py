"""The default reward, and its two controls: a coin flip, and the supervised ceiling."""

from __future__ import annotations

from typing import Any

from pst_rl.records import Group, Response, Target
from pst_rl.rewards.base import per_sample


class MatchesAggregate:
    """r_pqg = 1[a_pqg = a*_pqg]: 1 if the answer's canonical key equals the target's, else 0.

    An unparsed answer earns 0 where its group has a target; a (question, chain) without a target abstains.

    Source: with the `majority` aggregator and one peer this is TTRL (arXiv 2504.16084).
    """

    reads_answers = True

    @per_sample
    def __call__(self, response: Response, target: Target) -> float:
        return float(response.key == target.answer.key)


class RandomReward:
    """r_pqg ~ Bernoulli(1/2), independent of the response.

    Source: arXiv 2506.10947. Random rewards alone lift some models (it reports +21 points for Qwen2.5-Math on
    MATH-500), so every learning claim should show this control beside it.
    """

    name = "random"

    @per_sample
    def __call__(self, group: Group) -> float:
        return float(group.rng.random() < 0.5)


class SupervisedGold:
    """r_pqg = 1 if the answer is correct by the gold answer, else 0; abstains where a question has no gold answer.

    The supervised ceiling, not label-free: refused unless the run says `supervised=True`.
    """

    needs_labels = True

    @per_sample
    def __call__(self, response: Response, gold: Any, group: Group) -> float:
        return float(group.is_right(response.answer, gold))
