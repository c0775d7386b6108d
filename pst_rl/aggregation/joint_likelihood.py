"""Mutual verification: the answer whose written-out solution all peers together find most likely."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pst_rl.aggregation.base import Aggregator, break_tie, make_target
from pst_rl.options import check_choices
from pst_rl.records import Group, Query, Score, Target, Targets

Evidence = Literal["likelihood", "pmi"]
Reduction = Literal["sum", "per_token"]
Combination = Literal["product", "mixture"]
Exclusion = Literal["none", "text", "class"]


@dataclass(frozen=True)
class Candidate:
    """One answer class of a question: its representative (`share`: of the votes), and the peers that judge it."""

    question: int
    target: Target
    judges: tuple[int, ...]


class JointLikelihood(Aggregator):
    """The answer class whose representative response is most likely under all peers together.

        s_j(c) = log p_j(response_c | question)                                              likelihood
               = log p_j(conclusion_c | question, reasoning_c) - log p_j(conclusion_c | question)       pmi
        L(c)   = mean_j s_j(c)  (product of experts)   or   log mean_j exp s_j(c)  (mixture of experts)
        a*     = argmax_c  L(c) + votes * log(n_c / n)
        share  = softmax over the classes of the same, at the winner

    response_c is the most common finished response that ends in answer c, n_c of the question's n samples (unparsed
    ones included) state c. The response is scored as it stands, with the token that ends the turn; for `"pmi"` it is
    split where the statement of its answer begins: reasoning, then conclusion. Log-probabilities are in nats. Each
    distinct response is scored once by each peer, in one call per peer for all questions; a question with one class
    needs no scoring. With one peer this is self-verification: the most likely of its own samples.

    Our own scheme: no paper states it. A score that is not finite makes its class impossible; a question abstains
    where nothing was parsed, or where every class is impossible.

    Args:
        score: What speaks for a class: its `"likelihood"`, or the `"pmi"` of its reasoning and its conclusion.
        reduction: `"sum"` over tokens, or mean `"per_token"`. The sum is the default because it is the log of a
            probability: only then is exp L a posterior over solutions (under a uniform prior), and a long, padded
            solution has to earn each of its tokens. The price is that short solutions are favoured.
        combine: `"product"` of experts, in which one peer can rule a class out, or `"mixture"`, in which one peer's
            belief is enough.
        votes: How much the votes count beside the likelihood, >= 0.
        exclude_authors: Leave out peers that wrote the representative `"text"` itself, or any response of its
            `"class"`; a class that this leaves without a judge is judged by all peers.
        quorum: Abstain where the winner's share of all samples (votes, not likelihood) is below it, in [0, 1].

    Raises:
        ValueError: An option that does not exist.
    """

    def __init__(
        self,
        score: Evidence = "likelihood",
        reduction: Reduction = "sum",
        combine: Combination = "product",
        votes: float = 0.0,
        exclude_authors: Exclusion = "none",
        quorum: float = 0.0,
    ):
        check_choices(
            score=(score, Evidence),
            reduction=(reduction, Reduction),
            combine=(combine, Combination),
            exclude_authors=(exclude_authors, Exclusion),
        )
        if not 0.0 <= votes < math.inf:
            raise ValueError(f"votes must be a finite weight >= 0, got {votes}.")
        if not 0.0 <= quorum <= 1.0:
            raise ValueError(f"quorum must be a share between 0 and 1, got {quorum}.")
        self.score = score
        self.reduction = reduction
        self.combine = combine
        self.votes = votes
        self.exclude_authors = exclude_authors
        self.quorum = quorum
        self.min_peers = 1 if exclude_authors == "none" else 2

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        classes = [self._candidates(group, q) for q in range(questions)]
        evidence = self._judge(group, [c for candidates in classes if len(candidates) > 1 for c in candidates])
        row = []
        for candidates in classes:
            totals = [self._total(c, evidence) if len(candidates) > 1 else 0.0 for c in candidates]
            row.append((self._choose(candidates, totals),) * chains)
        return (tuple(row),) * peers

    def _candidates(self, group: Group, question: int) -> list[Candidate]:
        """The answer classes of one question."""
        ballots = group.pooled(question)
        counts = Counter(r.key for _, _, r in ballots if r.key is not None)
        found = []
        for key, count in counts.items():
            target = make_target(key, count / len(ballots), (r for _, _, r in ballots))
            authors = {
                "none": set(),
                "text": {p for p, _, r in ballots if r.text == target.text},
                "class": {p for p, _, r in ballots if r.key == key},
            }[self.exclude_authors]
            everyone = range(len(group.peers))
            judges = tuple(p for p in everyone if p not in authors) or tuple(everyone)
            found.append(Candidate(question, target, judges))
        return found

    def _judge(self, group: Group, candidates: Sequence[Candidate]) -> dict[tuple[int, int, str], float]:
        """s_j(c) by (judge, question, key): one call per judge."""
        evidence = {}
        for judge in range(len(group.peers)):
            judged = [(c, self._queries(c)) for c in candidates if judge in c.judges]
            if not judged:
                continue
            scores = iter(group.the_scorer.logprobs(judge, [query for _, queries in judged for query in queries]))
            for candidate, queries in judged:
                key = judge, candidate.question, candidate.target.answer.key
                evidence[key] = self._evidence([next(scores) for _ in queries])
        return evidence

    def _queries(self, candidate: Candidate) -> list[Query]:
        """What to ask about a class: the conditional and, for PMI, its marginal."""
        question, text = candidate.question, candidate.target.text
        assert text is not None  # `make_target`
        if self.score == "likelihood":
            return [Query(question, text, whole=True)]
        reasoning = text[: candidate.target.answer.start].rstrip()
        conclusion = text[len(reasoning) :]
        return [Query(question, conclusion, given=reasoning), Query(question, conclusion)]

    def _evidence(self, scores: Sequence[Score]) -> float:
        conditional, *marginal = [s.logprob if self.reduction == "sum" else s.mean for s in scores]
        value = conditional - sum(marginal)
        return value if math.isfinite(value) else -math.inf

    def _total(self, candidate: Candidate, evidence: dict[tuple[int, int, str], float]) -> float:
        """L(c) + votes * log(n_c / n)."""
        key = candidate.question, candidate.target.answer.key
        values = [evidence[(judge, *key)] for judge in candidate.judges]
        if self.combine == "product":
            joint = math.fsum(values) / len(values)  # exact, so that the order of the peers does not matter
        else:
            joint = _log_mean_exp(values)
        return joint + self.votes * math.log(candidate.target.share)

    def _choose(self, candidates: Sequence[Candidate], totals: Sequence[float]) -> Target | None:
        best = max(totals, default=-math.inf)
        if best == -math.inf:
            return None
        tied = [c for c, t in zip(candidates, totals, strict=True) if t >= best - 1e-9 * max(1.0, abs(best))]
        key = break_tie(c.target.answer.key for c in tied)
        winner = next(c.target for c in tied if c.target.answer.key == key)
        if winner.share < self.quorum:
            return None
        return Target(winner.answer, winner.text, 1.0 / math.fsum(math.exp(t - best) for t in totals))


def _log_mean_exp(values: Sequence[float]) -> float:
    """log of the mean of exp(values), in nats; -inf where every value is."""
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))
