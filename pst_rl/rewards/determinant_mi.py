"""Determinant mutual information: what one peer's verdicts tell about another's, from a few questions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pst_rl.answers import canonical_key
from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank, need_peers


class DeterminantMI:
    """r_pqg = the determinant mechanism's expected payment, given that peer p hands in this answer to question q.

        M_h[c, c'] = C / T_h * sum over questions t of half h of  1[x_t = c] 1[z_t = c']         (C, C), h = 1, 2
        pay(x, z)  = det(M_1) det(M_2)                                                           in [-1, 1]
        r_pqg      = mean over other peers j of  E[ pay(x, z) | x_q = a_pqg ]

    x holds one answer of peer p for each question and z one of peer j. The expectation runs over which chain gives
    each of them, drawn for each question apart. det(A^T B) is linear in every question's row (Cauchy-Binet), so it is
    exact and cheap: put each peer's shares of the choices in place of single answers, and this sample's choice in
    place of its own peer's shares for q. Hence the mean of r over the chains of a question is the expected payment,
    the same for every question, and r minus this mean is the sample's marginal contribution to it: what a
    group-relative advantage needs.

    A question takes part where every peer has a sample with one of the choices; the others abstain, and all do where
    fewer than 2C take part. Those that do go into the two halves in turn. Within them a sample that is none of the
    choices, or unparsed, is left out of the shares and earns the least that a choice would earn there: silence never
    beats an answer.

    Source: DMI (arXiv 1911.00272, Kong). Stated: C choices, T >= 2C questions in two disjoint sets of at least C,
    payment det(M_1) det(M_2) of the count matrices, for every pair of agents; truthful answers pay most whatever the
    others do, and a constant answer pays 0. Our choice: the factor C / T_h (perfect agreement on choices that are
    equally common pays 1), the reward per sample, the mean over the other peers, and alternate halves.

    Args:
        choices: The C possible answers, compared by canonical key.

    Raises:
        ValueError: Fewer than two different choices; when called, one peer alone, or fewer than 2C questions.
    """

    reads_answers = True

    name = "determinant_mi"
    min_peers = 2

    def __init__(self, choices: Sequence[str] = ("true", "false")):
        keys = list(dict.fromkeys(canonical_key(choice) for choice in choices))
        if isinstance(choices, str) or len(keys) < 2 or len(keys) < len(choices):
            raise ValueError(f"choices must be two or more different answers, got {choices!r}.")
        self.choices = keys

    def __call__(self, group: Group) -> Rewards:
        need_peers(group, self.name)
        peers, questions, chains = group.shape
        size = len(self.choices)
        if questions < 2 * size:
            raise ValueError(
                f"The reward {self.name!r} with {size} choices needs at least {2 * size} questions in a generation "
                f"batch, got {questions}. Raise per_device_train_batch_size or steps_per_generation, or lower "
                "num_generations."
            )
        values, abstain = blank(group)
        chosen = self._one_hot(group)  # (P, Q, G, C)
        verdicts = chosen.any(-1)  # (P, Q, G)
        used = verdicts.any(-1).all(0).nonzero().flatten().tolist()
        if len(used) < 2 * size:
            return Rewards(values, ~abstain, {"questions": 0.0})
        shares = chosen.sum(2) / verdicts.sum(2, keepdim=True).clamp(min=1)  # (P, Q, C)
        pay = torch.zeros(peers, questions, size, dtype=torch.float64)
        for p in range(peers):
            for j in range(peers):
                if j != p:
                    pay[p] += _payments(shares[p], shares[j], used[::2], used[1::2]) / (peers - 1)
        earned = (chosen * pay.unsqueeze(2)).sum(-1)  # (P, Q, G)
        values = torch.where(verdicts, earned, pay.min(-1).values.unsqueeze(2)).to(values.dtype)
        abstain[:, [q for q in range(questions) if q not in used]] = True
        return Rewards(values, abstain, {"questions": float(len(used))})

    def _one_hot(self, group: Group) -> torch.Tensor:
        chosen = torch.zeros(*group.shape, len(self.choices), dtype=torch.float64)
        for p, q, g, response in group.cells():
            if response.key in self.choices:
                chosen[p, q, g, self.choices.index(response.key)] = 1.0
        return chosen


def _payments(x: torch.Tensor, z: torch.Tensor, first: list[int], second: list[int]) -> torch.Tensor:
    """Expected payment between shares x and z, both (Q, C), if x answered question q with c; (Q, C), 0 if unused."""
    pay = torch.zeros_like(x)
    size = x.shape[1]
    for half, other in ((first, second), (second, first)):
        joint = x[half].T @ z[half]  # (C, C)
        rest = joint - x[half].unsqueeze(2) * z[half].unsqueeze(1)  # (T, C, C): without the question itself
        answered = torch.eye(size, dtype=x.dtype).view(1, size, size, 1) * z[half].view(-1, 1, 1, size)  # (T, C, C, C)
        mine = torch.linalg.det((rest.unsqueeze(1) + answered) * (size / len(half)))  # (T, C)
        pay[half] = mine * torch.linalg.det((x[other].T @ z[other]) * (size / len(other)))
    return pay
