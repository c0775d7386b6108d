"""Votes over canonical answer keys, and the targets that one response makes alone: the last peer's, the gold answer's.

Unparsed responses are never voted for, but count as samples that disagree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

from pst_rl.aggregation.base import Aggregator, break_tie, make_target
from pst_rl.records import Group, Response, Target, Targets

Ballot = tuple[int, int, Response]  # (peer, chain, response)


class Majority(Aggregator):
    """Plurality vote, pooled over all peers' samples of a question.

        a* = argmax_a  sum_{p,g} 1[a_pg = a]        share = count(a*) / (P G)

    Source: with one peer alone, the vote of TTRL (arXiv 2504.16084). Our choice: pooling over peers, each sample one
    vote, the `quorum`, and ties broken by `break_tie`.

    Args:
        quorum: Abstain where the winner's share of *all* samples (unparsed ones included) is below it, in [0, 1].
    """

    def __init__(self, quorum: float = 0.0):
        if not 0.0 <= quorum <= 1.0:
            raise ValueError(f"quorum must be a share between 0 and 1, got {quorum}.")
        self.quorum = quorum

    def vote(self, ballots: list[Ballot], weights: Sequence[float] | None = None) -> Target | None:
        """The target of one question; `weights` says how much each ballot counts (all alike unless given)."""
        counts: dict[str, float] = defaultdict(float)
        weights = [1.0] * len(ballots) if weights is None else weights
        for (_, _, response), weight in zip(ballots, weights, strict=True):
            if response.key is not None:
                counts[response.key] += weight
        total = sum(weights)
        if not counts or max(counts.values()) <= 0.0:
            return None
        most = max(counts.values())
        if most / total < self.quorum:
            return None
        # Sums of equal weights in another order may differ in the last bits: treat those as ties too.
        winner = break_tie(key for key, count in counts.items() if count >= most * (1 - 1e-9))
        return make_target(winner, most / total, (r for _, _, r in ballots))

    def _for_each_peer(self, group: Group, votes: Callable[[int, int], bool]) -> Targets:
        """A vote for each peer p, in which the samples of peer j count if `votes(p, j)`."""
        peers, questions, chains = group.shape
        rows = []
        for p in range(peers):
            ballots = [[b for b in group.pooled(q) if votes(p, b[0])] for q in range(questions)]
            rows.append(tuple((self.vote(those),) * chains for those in ballots))
        return tuple(rows)


class Weighted(Majority):
    """Vote in which each response counts by a score >= 0.

        a* = argmax_a  sum_{p,g} s_pg 1[a_pg = a]        share = sum of s over a* / sum of all s        s_pg >= 0

    No paper; our choice. Weights that are learned from agreement alone: `Reliability`.

    Args:
        score: A constant per peer name (its reliability), a function `(peer_name, response) -> float`, or `None` for
            the responder's own confidence exp(mean token log-probability), which costs a forward pass per response.
        quorum: As in `Majority`, of the total weight.

    Raises:
        ValueError: When called: a peer without a weight, or a weight that is negative or no number.
    """

    def __init__(self, score: dict[str, float] | Callable[[str, Response], float] | None = None, quorum: float = 0.0):
        super().__init__(quorum)
        self.score = score

    def __call__(self, group: Group) -> Targets:
        if isinstance(self.score, dict) and (missing := set(group.peers) - set(self.score)):
            raise ValueError(f"`score` has no weight for the peers {sorted(missing)}; it names {sorted(self.score)}.")
        confidence = group.the_scorer.statistics().logprob.exp() if self.score is None else None  # (P, Q, G)
        peers, questions, chains = group.shape
        row = []
        for q in range(questions):
            ballots = group.pooled(q)
            if confidence is None:
                weights = [self._weight(group.peers[p], response) for p, _, response in ballots]
            else:
                weights = confidence[:, q].nan_to_num(nan=0.0).flatten().tolist()
            row.append((self.vote(ballots, weights),) * chains)
        return (tuple(row),) * peers

    def _weight(self, peer: str, response: Response) -> float:
        assert self.score is not None  # else the responder's confidence counts
        weight = self.score[peer] if isinstance(self.score, dict) else self.score(peer, response)
        if not weight >= 0.0:  # also refuses NaN
            raise ValueError(f"A vote's weight must be a number >= 0, got {weight} for peer {peer!r}.")
        return weight


class LeaveOneOut(Majority):
    """Plurality vote of all *other* peers' samples: no peer votes on its own target.

        a*_p = argmax_a  sum_{j != p, g} 1[a_jg = a]        share = count(a*_p) / ((P - 1) G)

    No paper; our choice.

    Args:
        quorum: As in `Majority`, of the other peers' samples.
    """

    min_peers = 2

    def __call__(self, group: Group) -> Targets:
        return self._for_each_peer(group, lambda p, j: j != p)


class OwnVote(Majority):
    """Plurality vote of a peer's own samples: the peers train side by side and never hear of each other.

        a*_p = argmax_a  sum_g 1[a_pg = a]        share = count(a*_p) / G

    This is TTRL (arXiv 2504.16084) for every peer apart; with one peer it equals `Majority`. Stated: the vote over the
    policy's own samples is the label. Our choice: `quorum`.

    Args:
        quorum: As in `Majority`, of the peer's own samples.
    """

    def __call__(self, group: Group) -> Targets:
        return self._for_each_peer(group, lambda p, j: j == p)


class OtherPeer(Majority):
    """Plurality vote of the samples of one other peer, the labeller; every peer labels for exactly one other.

        a*_p = argmax_a  sum_g 1[a_l(p)g = a]        share = count(a*_p) / G,    l(p) != p

    Source: the cross-view label of Co-rewarding (arXiv 2508.00410). Stated: a view's label comes from another view, so
    that no policy confirms its own answers; the paper's views are a paraphrased question and a slow copy of the policy
    (`CrossView`). Our choice: another peer as the other view, `pick`, and `quorum`.

    Args:
        quorum: As in `Majority`, of the labeller's samples.
        pick: `"next"`: the labeller is the peer listed next, and the first peer labels for the last; with three or
            more peers the order in which they are listed therefore matters (only a rotation of the list merely
            permutes the targets). `"random"`: peers stand in a circle anew in every generation batch, by `group.rng`.

    Raises:
        ValueError: An unknown `pick`.
    """

    min_peers = 2

    def __init__(self, quorum: float = 0.0, pick: Literal["next", "random"] = "next"):
        super().__init__(quorum)
        if pick not in ("next", "random"):
            raise ValueError(f"pick must be 'next' or 'random', got {pick!r}.")
        self.pick = pick

    def __call__(self, group: Group) -> Targets:
        circle = list(range(len(group.peers)))
        if self.pick == "random":
            group.rng.shuffle(circle)
        labeller = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        return self._for_each_peer(group, lambda p, j: j == labeller[p])


class LastPeer(Aggregator):
    """In each chain, the response of the peer that spoke last (after reading all the others) is the target.

        a*_g = a_lg,    l the last peer of the question's order        share = 1

    Source: the aggregate of PST (arXiv 2604.13356), as reported in a reading note on its first version. Our choice:
    where the last peer's answer is unparsed, or its response was cut off, the chain abstains.
    """

    min_peers = 2

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        rows = []
        for q in range(questions):
            last = group.responses[group.order[q][-1]][q]
            rows.append(tuple(None if r.answer is None else Target(r.answer, r.text, 1.0) for r in last))
        return tuple(tuple(rows) for _ in range(peers))


class SupervisedGoldTarget(Aggregator):
    """The target is the gold answer, its text the most common correct response; abstains where no sample is correct.

        a* = gold        share = count of correct samples / (P G)

    The ceiling of the objectives that learn towards a target. Refused unless the run says `supervised=True`.
    """

    needs_labels = True

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        row = []
        for q in range(questions):
            pooled = [r for _, _, r in group.pooled(q)]
            gold = group.the_gold[q]
            correct = [] if gold is None else [r for r in pooled if group.is_right(r.answer, gold)]
            target = (
                make_target(break_tie(r.answer.key for r in correct if r.answer), len(correct) / len(pooled), correct)
                if correct
                else None
            )
            row.append((target,) * chains)
        return (tuple(row),) * peers
