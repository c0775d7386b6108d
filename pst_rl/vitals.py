"""Label-free signs of a collapse in one generation batch, for each peer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    questions: int
    shares: dict[str, float]
    parsed: float
    finished: float
    length: float
    within: float
    across: float

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


def question_rewards(rewards: Mapping[str, Rewards], mix: Mapping[str, float]) -> list[float]:
    """Weighted sum of the rewards of each question, mean over its samples, (Q,); abstentions count as 0."""
    total = sum(weight * rewards[name].values.masked_fill(rewards[name].abstain, 0.0) for name, weight in mix.items())
    return total.mean((0, 2)).tolist()


def agreement_beyond_chance(group: Group) -> float:
    """Mean vote share, minus agreement on shuffled questions, mean over peers.

    A label-free criterion for the best checkpoint (ours): it rises as the peers agree, and a constant answer earns 0.
    """
    by_chance = [v.shuffled_agreement for v in vitals(group).values()]
    return sum(vote_shares(group)) / group.shape[1] - sum(by_chance) / len(by_chance)
