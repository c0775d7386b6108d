"""Label-free signs of a collapse in one generation batch, for each peer."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from pst_rl.records import Group


@dataclass(frozen=True)
class Vitals:
    """One peer in one generation batch of Q questions.

    Attributes:
        questions: Q.
        shares: Share of each answer among the peer's samples, mean over the questions; unparsed samples count.
        parsed: Share of samples with an answer.
        finished: Share of samples that ended by themselves.
        length: Mean tokens of a sample.
        copying: In a sequential rollout, how much more often the peer agrees with the one before it in its own chain
            than in other chains of the same question: 0 if it answers alone, and 1 at most. 0 for first speakers.
    """

    questions: int
    shares: dict[str, float]
    parsed: float
    finished: float
    length: float
    copying: float

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
    return Vitals(
        questions,
        dict(shares),
        parsed=mean(r.key is not None for r in samples),
        finished=mean(r.finished for r in samples),
        length=mean(r.length for r in samples),
        copying=_copying(group, p),
    )


def _copying(group: Group, p: int) -> float:
    """Agreement with the previous speaker within chains, minus across chains; mean over questions."""
    _, questions, chains = group.shape
    excess = []
    for q in range(questions):
        place = group.order[q].index(p)
        if place == 0 or chains == 1:
            continue
        own = [r.key for r in group.responses[p][q]]
        before = [r.key for r in group.responses[group.order[q][place - 1]][q]]
        same = [[a is not None and a == b for b in before] for a in own]
        within = sum(same[g][g] for g in range(chains)) / chains
        across = (sum(map(sum, same)) - within * chains) / (chains * (chains - 1))
        excess.append(within - across)
    return sum(excess) / len(excess) if excess else 0.0


def agreement_beyond_chance(group: Group) -> float:
    """Share of the most common answer on the same question, minus agreement on shuffled questions; mean over peers.

    A label-free criterion for the best checkpoint (ours): it rises as the peers agree, and a constant answer earns 0.
    """
    peers, questions, chains = group.shape
    tops = []
    for q in range(questions):
        votes = Counter(r.key for _, _, r in group.pooled(q) if r.key is not None)
        tops.append(max(votes.values(), default=0) / (peers * chains))
    by_chance = [v.shuffled_agreement for v in vitals(group).values()]
    return sum(tops) / questions - sum(by_chance) / peers
