"""Peer prediction: an answer is good if it tells a juror what others will answer."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Literal, get_args

from pst_rl.aggregation.base import break_tie
from pst_rl.options import check_choices
from pst_rl.records import Group, Query, Rewards
from pst_rl.rewards.base import blank
from pst_rl.scoring.juror import Juror

Jurors = Literal["others", "responder", "all"]
Samples = Literal["others", "chain", "all"]
Reduction = Literal["sum", "mean"]
Conditioning = Literal["in_prompt", "own_turn"]
Cell = tuple[int, int, int]  # (peer, question, chain)
Term = tuple["int | Juror", "Query", "Query"]  # juror, conditional, marginal

ANSWER_TEMPLATE = "The answer is \\boxed{{answer}}."  # the default of `PSTConfig.answer_template`


class MutualPrediction:
    """How much more likely others' answers become once a juror has read this one.

        S_i = sum over samples j and jurors k of  log p_k(a_j | x, a_i) - log p_k(a_j | x)            [nats]

    The peer-prediction score of arXiv 2601.20299: a *high* score is a *good* reward (in PST a high PMI means a small
    update). Stated there: the difference of log-probabilities, summed over peers and jurors; the target is an
    independent second sample; honest answering is an equilibrium; a weak juror suffices. Our choices: the statements
    (answers only, not whole responses), which samples are paired, and what an unparsed answer earns.

    a_i and a_j are statements of the extracted answers. Equivalent answers of a question are stated alike (its most
    common spelling), so each distinct pair of answers is scored once by each juror, in one call per juror for all
    questions. An unparsed a_j is left out. An unparsed a_i earns the smaller of 0 and its group's lowest score: 0 is
    what a juror learns from nothing, and no parsed answer may earn less than none. A sample abstains where there is
    nothing to predict, where a score is not finite, and, if it is unparsed, where its whole group has no score.
    In a sequential rollout later peers have read earlier ones of their chain: such samples are not independent.

    Args:
        jurors: Who reads and predicts: the `"others"` (every peer but the responder), the `"responder"` itself,
            `"all"` peers, or an outside `Juror`.
        samples: Whose answers are predicted: all samples of the `"others"` (less noise, at hardly more cost, since
            answers repeat), those of the other peers in the same `"chain"`, or `"all"` other samples of the question,
            the responder's own further chains included.
        reduction: `"sum"` over j and k as stated, or `"mean"`, which does not punish a sample whose partners are
            unparsed.
        conditioning: a_i stands `"in_prompt"`, as another peer's answer, or opens the juror's `"own_turn"`.
        answer_template: How an answer is stated; `{answer}` is filled. Use the run's own.

    Raises:
        ValueError: An option that does not exist; a single peer where other peers are asked for.
    """

    reads_answers = True

    def __init__(
        self,
        jurors: Jurors | Juror = "others",
        samples: Samples = "others",
        reduction: Reduction = "sum",
        conditioning: Conditioning = "in_prompt",
        answer_template: str = ANSWER_TEMPLATE,
    ):
        check_choices(
            samples=(samples, Samples), reduction=(reduction, Reduction), conditioning=(conditioning, Conditioning)
        )
        if not isinstance(jurors, Juror) and jurors not in get_args(Jurors):
            raise ValueError(f"jurors must be one of {', '.join(get_args(Jurors))}, or a Juror, got {jurors!r}.")
        if "{answer}" not in answer_template:
            raise ValueError(f"answer_template must contain {{answer}}, got {answer_template!r}.")
        self.jurors = jurors
        self.samples = samples
        self.reduction = reduction
        self.conditioning = conditioning
        self.answer_template = answer_template
        self.min_peers = 1 if samples == "all" and jurors != "others" else 2

    def __call__(self, group: Group) -> Rewards:
        peers, questions, _ = group.shape
        if peers < self.min_peers:
            raise ValueError(
                f"MutualPrediction(jurors={self.jurors!r}, samples={self.samples!r}) needs at least 2 peers, got "
                f"{peers}. For one peer alone use samples='all' with jurors='responder' or a Juror."
            )
        terms = self._terms(group)
        scores = self._scores(group, terms)
        values, abstain = blank(group)
        for p in range(peers):
            for q in range(questions):
                known = {g: scores[p, q, g] for g in range(len(group.responses[p][q])) if (p, q, g) in scores}
                lowest = min(known.values(), default=0.0)
                for g, response in enumerate(group.responses[p][q]):
                    if g in known:
                        values[p, q, g] = known[g]
                    elif response.key is None and known:
                        values[p, q, g] = min(0.0, lowest)
                    else:
                        abstain[p, q, g] = True
        return Rewards(values, abstain, {"nonfinite": float(len(terms) - len(scores))})

    def _terms(self, group: Group) -> dict[Cell, list[Term]]:
        """What to ask about each parsed sample that has something to predict."""
        stated = [self._statements(group, q) for q in range(len(group.prompts))]
        terms: dict[Cell, list[Term]] = {}
        for p, q, g, response in group.cells():
            if response.key is None:
                continue
            found = [
                (
                    juror,
                    self._query(q, stated[q][other], stated[q][response.key]),
                    self._query(q, stated[q][other]),
                )
                for other in self._partners(group, p, q, g)
                for juror in self._judges(p, len(group.peers))
            ]
            if found:
                terms[p, q, g] = found
        return terms

    def _scores(self, group: Group, terms: Mapping[Cell, list[Term]]) -> dict[Cell, float]:
        """S_i of every sample whose scores are all finite; one call per juror."""
        wanted: dict[int | Juror, dict[Query, None]] = defaultdict(dict)
        for juror, conditional, marginal in (term for cell in terms.values() for term in cell):
            wanted[juror] |= {conditional: None, marginal: None}
        logprob = {
            (juror, query): score.logprob
            for juror, queries in wanted.items()
            for query, score in zip(queries, group.the_scorer.logprobs(juror, list(queries)), strict=True)
        }
        scores = {}
        for cell, asked in terms.items():
            gains = [logprob[juror, conditional] - logprob[juror, marginal] for juror, conditional, marginal in asked]
            if all(math.isfinite(gain) for gain in gains):
                total = math.fsum(gains)  # exact, so that the order of peers and samples does not matter
                scores[cell] = total if self.reduction == "sum" else total / len(gains)
        return scores

    def _statements(self, group: Group, question: int) -> dict[str, str]:
        """How each answer of a question is stated: in its most common spelling."""
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        for _, _, response in group.pooled(question):
            if response.answer is not None:
                spellings[response.answer.key][response.answer.text] += 1
        stated = {}
        for key, counts in spellings.items():
            most = max(counts.values())
            text = break_tie(spelling for spelling, count in counts.items() if count == most)
            stated[key] = self.answer_template.replace("{answer}", text)
        return stated

    def _partners(self, group: Group, peer: int, question: int, chain: int) -> list[str]:
        """The keys of the parsed samples that this one is to predict."""
        paired = {
            "chain": lambda p, g: p != peer and g == chain,
            "others": lambda p, g: p != peer,
            "all": lambda p, g: (p, g) != (peer, chain),
        }[self.samples]
        return [r.key for p, g, r in group.pooled(question) if r.key is not None and paired(p, g)]

    def _judges(self, peer: int, peers: int) -> list[int | Juror]:
        if isinstance(self.jurors, Juror):
            return [self.jurors]
        if self.jurors == "responder":
            return [peer]
        return [j for j in range(peers) if self.jurors == "all" or j != peer]

    def _query(self, question: int, target: str, read: str | None = None) -> Query:
        """log p(target | question), or given that the juror has read another statement."""
        if self.conditioning == "in_prompt":
            return Query(question, target, shown=() if read is None else (read.strip(),))
        return Query(question, f" {target}", given=read or "")
