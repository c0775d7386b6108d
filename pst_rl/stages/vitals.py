"""Label-free signs of a collapse in one generation batch, for each peer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pst_rl.aggregation.base import spellings
from pst_rl.records import Group, Rewards


@dataclass(frozen=True)
class Vitals:
    """One peer in one generation batch of Q questions.

    Attributes:
        questions: Q.
        shares: Share of each answer among the peer's samples, mean over the questions; unparsed samples count.
        parsed: Share of samples with an answer.
        finished: Share of samples that ended by themselves.
        length: Mean tokens of a sample.
        within, across: How often the peer's answer is that of the one before it, in its own chain and in other chains
            of the same question; both 1 for first speakers, and where there is one chain.
        spellings: How the peer writes each answer of `shares`, whose keys are for comparing only.
    """

    questions: int
    shares: dict[str, float]
    parsed: float
    finished: float
    length: float
    within: float
    across: float
    spellings: dict[str, str] = field(default_factory=dict)

    @property
    def shuffled_agreement(self) -> float:
        """Chance that samples of two questions, drawn apart, agree: sum of squared shares; 1 for a constant answer."""
        return sum(share * share for share in self.shares.values())


def vitals(group: Group) -> dict[str, Vitals]:
    """The vitals of every peer, by name; the same on every process."""
    return {name: _of_peer(group, p) for p, name in enumerate(group.peers)}


def _of_peer(group: Group, p: int) -> Vitals:
    _, questions, chains = group.shape
    shares: dict[str, float] = defaultdict(float)
    for chain in group.responses[p]:
        for key, count in Counter(r.key for r in chain if r.key is not None).items():
            shares[key] += count / (chains * questions)
    samples = [response for chain in group.responses[p] for response in chain]
    mean = lambda values: sum(values) / len(samples)  # noqa: E731
    within, across = _repeats(group, p)
    return Vitals(
        questions,
        dict(shares),
        parsed=mean(r.key is not None for r in samples),
        finished=mean(r.finished for r in samples),
        length=mean(r.length for r in samples),
        within=within,
        across=across,
        spellings=spellings(samples),
    )


def _repeats(group: Group, p: int) -> tuple[float, float]:
    """Agreement with the speaker before, in the same chain and in others; means over questions with such a speaker."""
    _, questions, chains = group.shape
    within, across = [], []
    for q in range(questions):
        place = group.order[q].index(p)
        if place == 0 or chains == 1:
            continue
        own = [r.key for r in group.responses[p][q]]
        before = [r.key for r in group.responses[group.order[q][place - 1]][q]]
        same = [[a is not None and a == b for b in before] for a in own]
        inside = sum(same[g][g] for g in range(chains))
        within.append(inside / chains)
        across.append((sum(map(sum, same)) - inside) / (chains * (chains - 1)))
    return (sum(within) / len(within), sum(across) / len(across)) if within else (1.0, 1.0)


def copying(some: Sequence[Vitals]) -> float:
    """Share of the disagreements across chains that are none within a chain: (within - across) / (1 - across).

    0 for a peer that answers alone, 1 for one that repeats what it is shown. 0 where chains hardly differ.
    """
    total = sum(v.questions for v in some)
    within, across = (sum(getattr(v, name) * v.questions for v in some) / total for name in ("within", "across"))
    return (within - across) / (1 - across) if across < 0.98 else 0.0


def vote_shares(group: Group) -> list[float]:
    """Share of the most common answer among all samples of each question, (Q,)."""
    peers, questions, chains = group.shape
    votes = [Counter(r.key for _, _, r in group.pooled(q) if r.key is not None) for q in range(questions)]
    return [max(counts.values(), default=0) / (peers * chains) for counts in votes]


def mixed_reward(rewards: Mapping[str, Rewards], mix: Mapping[str, float]) -> torch.Tensor:
    """Weighted sum of the rewards of each sample, (P, Q, G); abstentions count as 0."""
    known = (weight * rewards[name].values.masked_fill(rewards[name].abstain, 0.0) for name, weight in mix.items())
    return sum(known, torch.zeros(()))


def payoffs(group: Group, reward: torch.Tensor) -> list[float]:
    """How far the reward follows what the peers agree on: a correlation for each question, as far as it is defined.

    s is the share of all other samples of the question that give the sample's answer, r its reward. Both are taken
    as differences from their means over the samples of the same peer, as in a GRPO advantage, and

        payoff = sum(r s) / sqrt(sum(r^2) sum(s^2))

    over all samples of the question. Undefined, and left out, where either is the same for all samples of each peer.
    This measure is ours. It is about 1 for a vote's reward, and 0 for one that has nothing to do with agreement.

    Args:
        group: The samples, (P, Q, G).
        reward: `mixed_reward`.
    """
    peers, questions, chains = group.shape
    found = []
    for q in range(questions):
        votes = Counter(response.key for _, _, response in group.pooled(q) if response.key is not None)
        others = max(1, peers * chains - 1)
        keys = [[response.key for response in group.responses[p][q]] for p in range(peers)]
        shares = [[0.0 if key is None else (votes[key] - 1) / others for key in row] for row in keys]
        s = torch.tensor(shares, dtype=torch.float64)
        r = reward[:, q].to(s)
        s, r = s - s.mean(1, keepdim=True), r - r.mean(1, keepdim=True)
        scale = float((r.square().sum() * s.square().sum()).sqrt())
        if scale > 1e-9:
            found.append(float((r * s).sum()) / scale)
    return found


def agreement_beyond_chance(group: Group) -> float:
    """Mean vote share, minus agreement on shuffled questions, mean over peers.

    A label-free criterion for the best checkpoint (ours): it rises as the peers agree, and a constant answer earns 0.
    """
    by_chance = [v.shuffled_agreement for v in vitals(group).values()]
    return sum(vote_shares(group)) / group.shape[1] - sum(by_chance) / len(by_chance)
