"""Rewards for being sure: what the current policy thinks of its own tokens, right or wrong."""

from __future__ import annotations

import torch

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank


class SelfCertainty:
    """r = mean over the response's tokens of KL(U || p_t) = logsumexp(z_t) - mean(z_t) - log V, in nats, >= 0.

    U is uniform over the V tokens of the vocabulary, z_t the logits that predict token t. Intuitor (arXiv 2505.19590)
    states logsumexp(z) - mean(z); the constant log V changes no advantage and makes 0 the value of a uniform
    prediction. Scored online, by the policy that gave the response and at temperature 1: the paper finds that offline
    scores are hacked. A response whose statistics are not finite abstains.
    """

    def __call__(self, group: Group) -> Rewards:
        return _finite(group, group.the_scorer.statistics().self_certainty)


class NegativeEntropy:
    """r = - mean over the response's tokens of the entropy of p_t, in nats, <= 0 (RENT, arXiv 2505.22660).

    Scored online, by the policy that gave the response and at temperature 1 (our choice: the sampling temperature does
    not matter). A response whose statistics are not finite abstains.
    """

    def __call__(self, group: Group) -> Rewards:
        return _finite(group, -group.the_scorer.statistics().entropy)


def _finite(group: Group, scores: torch.Tensor) -> Rewards:
    """The scores as rewards; abstains where one is not a number."""
    values, _ = blank(group)
    known = scores.isfinite()
    return Rewards(torch.where(known, scores, values), ~known)
