"""Correlated agreement: agreeing on the same question counts only beyond what agrees across different questions."""

from __future__ import annotations

from typing import Literal

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank, need_peers, others, shares


class CorrelatedAgreement:
    """r_pqg = bonus - penalty: agreement with other peers on this question, minus with their other questions' answers.

        bonus   = mean over samples a' of the other peers on question q             of 1[a_pqg = a']
        penalty = mean over q' != q and samples a' of the other peers on q'         of 1[a_pqg = a']

    Rewards lie in [-1, 1]. An answer that is given whatever the question is earns as much penalty as bonus: over all
    questions, a constant answer earns exactly 0, whatever the others do. Peers' unparsed responses count as samples
    that disagree. A batch with one question abstains: it has no other question.

    Source: the multi-task mechanism of Dasgupta and Ghosh (2013, binary signals), which the correlated agreement
    mechanism of Shnayder, Agarwal, Frongillo and Parkes (2016, arXiv 1603.03151) extends to many signals. Stated:
    score on a shared (bonus) task minus score across different (penalty) tasks, with a matrix of which pairs of
    signals score. Our choice: the identity matrix (only equal answers score), which is theirs where different answers
    are never positively correlated; the mean over other peers, samples and penalty questions instead of drawing one of
    each; and an unparsed response earns the worst a popular wrong answer could, - max_a penalty(a), so that silence
    never beats an answer.

    Args:
        penalty: `"all"` other questions (the exact expectation), or one other question `"drawn"` by `group.rng` for
            each question and batch.

    Raises:
        ValueError: An unknown `penalty`, or, when called, a group with one peer.
    """

    reads_answers = True

    min_peers = 2

    def __init__(self, penalty: Literal["all", "drawn"] = "all"):
        if penalty not in ("all", "drawn"):
            raise ValueError(f"penalty must be 'all' or 'drawn', got {penalty!r}.")
        self.penalty = penalty

    def __call__(self, group: Group) -> Rewards:
        need_peers(group, "correlated_agreement")
        values, abstain = blank(group)
        peers, questions, _ = group.shape
        if questions == 1:
            return Rewards(values, ~abstain)
        compared = [self._compared(group, q) for q in range(questions)]
        for p in range(peers):
            share = [shares(others(group, p, q)) for q in range(questions)]
            for q in range(questions):
                penalty = _mean([share[other] for other in compared[q]])
                for g, response in enumerate(group.responses[p][q]):
                    if response.key is None:
                        values[p, q, g] = -max(penalty.values(), default=0.0)
                    else:
                        values[p, q, g] = share[q].get(response.key, 0.0) - penalty.get(response.key, 0.0)
        return Rewards(values, abstain)

    def _compared(self, group: Group, question: int) -> list[int]:
        different = [q for q in range(len(group.prompts)) if q != question]
        return different if self.penalty == "all" else [group.rng.choice(different)]


def _mean(shares: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(s.get(key, 0.0) for s in shares) / len(shares) for key in set().union(*shares)}
