"""SAIE: earn the target with the first answer, and again with every revised one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from pst_rl.discussion.saie import SAIERollout
from pst_rl.discussion.stances import ATTACK, SUPPORT
from pst_rl.records import Group, Response, Rewards
from pst_rl.rewards.base import blank


class SAIE:
    """Rewards for a learner that answers, hears a partner's remark, and answers again.

        first answer:   r_0 = 1[a_0 = a*]
        later turn t:   r_t = 1[a_t = a*] + steadfastness * h_t
        h_t = 1   if the remark attacked, and a_(t-1) = a* = a_t                     (kept a right answer)
        h_t = 1   if the remark supported, a_(t-1) != a*, and a_t != a_(t-1)         (left a wrong answer; both parsed)
        h_t = 0   otherwise

    a* is the target, so the provider is label-free unless the aggregator is `supervised_gold`. Without a target a
    sample abstains. First and revised answers are credited apart, each to its own tokens: a later turn's advantage is
    relative to the same turn of the group's other chains.

    Source: SAIE (arXiv 2311.08107) trains a learner on supportive and adversarial remarks on its current answer. The
    reward form and the steadfastness term are our choice. With `stance="by_agreement"` h_t is always 0 (attacks meet
    only wrong answers, support only right ones), so it needs another stance to say anything.

    Args:
        steadfastness: Weight of h_t, in rewards; 0 leaves it out.
        rollout: The discussion, or its options by name (as in `reward_options`); default `SAIERollout()`.

    Raises:
        ValueError: A weight that is negative or no number, or one above 0 with `stance="by_agreement"`.
    """

    reads_answers = True

    name = "saie"

    def __init__(self, steadfastness: float = 0.0, rollout: SAIERollout | Mapping[str, Any] | None = None):
        self.discussion = rollout if isinstance(rollout, SAIERollout) else SAIERollout(**rollout or {})
        if not (steadfastness >= 0.0 and math.isfinite(steadfastness)):
            raise ValueError(f"steadfastness must be a number >= 0, got {steadfastness}.")
        if steadfastness and self.discussion.stance == "by_agreement":
            raise ValueError(
                "steadfastness has no effect with stance='by_agreement', which attacks only wrong answers and "
                "supports only right ones. Use stance='random' or 'inverse', or steadfastness=0."
            )
        self.steadfastness = steadfastness

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        turns = max(len(response.turns) for *_, response in group.cells())
        later = torch.full((*group.shape, turns), float("nan"))
        for p, q, g, response in group.cells():
            target = group.the_targets[p][q][g]
            if target is None:
                abstain[p, q, g] = True
                continue
            values[p, q, g] = float(response.key == target.answer.key)
            rewards = self._later(response, target.answer.key)
            later[p, q, g, : len(rewards)] = torch.tensor(rewards)
        return Rewards(values, abstain, discussion_metrics(group), later if turns else None)

    def _later(self, response: Response, target: str) -> list[float]:
        """r_1, r_2, ... of one sample."""
        rewards, before = [], response.key
        for turn in response.turns:
            kept = turn.stance == ATTACK and before == target == turn.key
            left = turn.stance == SUPPORT and None not in (before, turn.key) and before not in (target, turn.key)
            rewards.append(float(turn.key == target) + self.steadfastness * float(kept or left))
            before = turn.key
        return rewards


def discussion_metrics(group: Group) -> dict[str, float]:
    """What the discussion changed, counted against the targets (no labels).

    - `discussed`: share of samples with a later turn.
    - `repaired`: share of the discussed samples with a wrong first answer whose last answer is right.
    - `abandoned`: share of those with a right first answer whose last answer is wrong.
    """
    samples = repaired = wrong = abandoned = right = 0
    for p, q, g, response in group.cells():
        samples += 1
        target = group.the_targets[p][q][g]
        if target is None or not response.turns:
            continue
        ended_right = response.turns[-1].key == target.answer.key
        if response.key == target.answer.key:
            right, abandoned = right + 1, abandoned + (not ended_right)
        else:
            wrong, repaired = wrong + 1, repaired + ended_right
    metrics = {"discussed": (right + wrong) / samples}
    if wrong:
        metrics["repaired"] = repaired / wrong
    if right:
        metrics["abandoned"] = abandoned / right
    return metrics
