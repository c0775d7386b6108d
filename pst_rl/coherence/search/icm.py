"""Internal Coherence Maximization: simulated annealing on mutual predictability and consistency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import score_given
from pst_rl.coherence.search.base import Searcher, Start, check
from pst_rl.coherence.search.choose import project
from pst_rl.coherence.search.mutual import Labelled, Utility
from pst_rl.coherence.search.run import Run

STEPS_PER_ITEM = 12  # the released code makes 3,000 steps for a batch of 256


@dataclass(frozen=True, kw_only=True)
class ICM(Searcher):
    """Grows and revises a labelled set D, one item a step, by a simulated annealing of

        U(D) = alpha P(D) - I(D),    P(D) = sum_{i in D} log p(y_i | x_i, D without i)

    with I(D) the number of inconsistent pairs. Step n picks an item, gives it its most probable label given D, fixes
    the inconsistencies that this brings (below), and accepts the new set if U rises, else with probability
    exp(dU / T), T = max(t_min, t0 / (1 + beta ln n)). A label that is what the item already had changes nothing.

    ConsistencyFix: while two items contradict each other, a random such pair takes the best of its consistent label
    pairs if U rises. Where none raises U, the paper leaves the contradiction (its released code takes the best pair);
    we then give the whole block its most probable consistent labels given all other items, so that no contradiction
    is ever accepted. Items that are in no labelled set at the end are filled in, given all others.

    U is exact, at n (log2 n + 1) units for each candidate. `delta="conditional"` takes the joint log p(D) for P(D):
    for an exchangeable predictor it changes by the leave-one-out log-odds of what changes, at most n units an item.
    That is coherence (arXiv 2601.13566) and another objective than ICM's, which is why it is not the default.

    Source: arXiv 2506.10139, algorithms 1 and 2; it searches batches of 256 items. Ours: the cost of an exact U;
    demonstrations stay in one random order during a restart, so that U is a function of D; initial labels are drawn
    from consistent ones; the number of steps.

    Attributes:
        alpha: Contradictions that one nat is worth.
        t0: First temperature.
        t_min: Lowest temperature.
        beta: Rate of cooling.
        clock: What n counts in T: "steps", or "accepted" sets and one.
        reduction: "sum", or "mean" over D, which divides P by |D|, as if T were |D| times higher.
        score: "logprob", or "logodds": log p / (1 - p) in place of log p.
        sibling_weight: How much likelier an unlabelled item is picked if an item of its block is labelled.
        steps: Number of steps; without it, 12 per item that is not clamped.
        delta: "exact" or "conditional".
    """

    name: ClassVar[str] = "icm"

    start: Start = "few"
    keep: Literal["best", "last"] = "last"
    alpha: float = 50.0
    t0: float = 10.0
    t_min: float = 0.01
    beta: float = 0.99
    clock: Literal["steps", "accepted"] = "steps"
    reduction: Literal["sum", "mean"] = "sum"
    score: Literal["logprob", "logodds"] = "logprob"
    sibling_weight: float = 100.0
    steps: int | None = None
    delta: Literal["exact", "conditional"] = "exact"

    def __post_init__(self):
        super().__post_init__()
        for option, known in (
            ("clock", ("steps", "accepted")),
            ("reduction", ("sum", "mean")),
            ("score", ("logprob", "logodds")),
            ("delta", ("exact", "conditional")),
        ):
            check(getattr(self, option) in known, option, " or ".join(map(repr, known)), getattr(self, option))
        for option in ("alpha", "t0", "t_min", "sibling_weight"):
            check(0 < getattr(self, option) < math.inf, option, "a number above 0", getattr(self, option))
        check(0 <= self.beta < math.inf, "beta", "a number from 0", self.beta)
        check(self.steps is None or self.steps >= 1, "steps", "at least 1, or None", self.steps)
        if self.delta == "conditional" and self.score == "logodds":
            raise ValueError('`delta="conditional"` follows log p(D), which has no log-odds; use `score="logprob"`.')

    @classmethod
    def paper(cls, **options) -> ICM:
        """As published: P(D) a sum of log-probabilities, alpha 50, T falling with the steps. The defaults."""
        return cls(**options)

    @classmethod
    def released_code(cls, **options) -> ICM:
        """As the authors' code runs by default: mean log-odds, alpha 30, T = 10 / (1 + 2 ln(1 + accepted sets))."""
        preset = {"alpha": 30.0, "beta": 2.0, "clock": "accepted", "reduction": "mean", "score": "logodds"}
        return cls(**{**preset, **options})

    def temperature_at(self, n: int) -> float:
        """T = max(t_min, t0 / (1 + beta ln n)) for n = 1, 2, ..."""
        return max(self.t_min, self.t0 / (1 + self.beta * math.log(n)))

    def _steps(self, problem: Problem) -> int:
        free = problem.n_items - len(problem.clamped)
        return 0 if not free else STEPS_PER_ITEM * free if self.steps is None else self.steps

    def _measured_every(self, problem: Problem) -> int:
        return max(1, problem.n_items - len(problem.clamped))

    def _begin(self, run: Run) -> None:
        order = run.rng.sample(range(run.problem.n_items), run.problem.n_items)
        value = self._utility(run, order).measured(run.state.labels).value
        run.state.extra = {"order": order, "value": value, "accepted": 0}

    def _step(self, run: Run, step: int) -> None:
        state, utility = run.state, self._utility(run, run.state.extra["order"])
        before = Labelled(tuple(state.labels), state.extra["value"])
        item = self._pick(run)
        row = utility.predicted(item, before.labels)
        label = row.index(max(row))
        if label == before.labels[item]:
            return
        proposed = utility.moved(before, _with(before.labels, (item,), (label,)))
        candidate = self._fix(run, utility, proposed)
        n = step if self.clock == "steps" else 1 + state.extra["accepted"]
        if accept(utility(candidate) - utility(before), self.temperature_at(n), run.rng.random()):
            run.take(candidate.labels, step)
            state.extra["value"] = candidate.value
            state.extra["accepted"] += 1

    def _utility(self, run: Run, order: Sequence[int]) -> Utility:
        return Utility(
            run.predictor,
            run.problem,
            order,
            alpha=self.alpha,
            reduction=self.reduction,
            score=self.score,
            delta=self.delta,
        )

    def _pick(self, run: Run) -> int:
        """A random item that is not clamped; an unlabelled one with a labelled sibling is likelier."""
        problem, labels = run.problem, run.state.labels
        begun = [any(labels[i] is not None for i in block) for block in problem.blocks]
        free = [item for item in range(problem.n_items) if item not in problem.clamped]
        weights = [self.sibling_weight if labels[i] is None and begun[problem.block_of[i]] else 1.0 for i in free]
        return run.rng.choices(free, weights)[0]

    def _fix(self, run: Run, utility: Utility, found: Labelled) -> Labelled:
        """ConsistencyFix; every pass raises U or settles a block for good, so that it ends."""
        problem = run.problem
        while pairs := problem.violations(found.labels):
            pair = run.rng.choice(pairs)
            options = [utility.moved(found, labels) for labels in _consistent_pairs(problem, found.labels, pair)]
            best = max(options, key=utility, default=found)
            found = best if utility(best) > utility(found) else self._settled(run, utility, found, pair[0])
        return found

    def _settled(self, run: Run, utility: Utility, found: Labelled, item: int) -> Labelled:
        """D with the labelled items of an item's block at their most probable consistent labels, given the rest."""
        problem, labels = run.problem, found.labels
        block = problem.blocks[problem.block_of[item]]
        shown = [other for other in utility.order if other not in block]
        labelled = [place for place, other in enumerate(block) if labels[other] is not None]
        scores = torch.zeros(len(block), problem.n_labels)  # items outside D weigh nothing
        scores[labelled] = score_given(run.predictor, labels, shown, [block[place] for place in labelled])
        chosen = project(scores, problem, block)
        return utility.moved(found, _with(labels, [block[p] for p in labelled], [chosen[p] for p in labelled]))


def accept(delta: float, temperature: float, draw: float) -> bool:
    """Metropolis rule: whether a change of U by `delta` is accepted, given a uniform draw from [0, 1).

    With probability 1 if U rises, else exp(delta / temperature).
    """
    return delta > 0 or draw < math.exp(delta / temperature)


def _consistent_pairs(problem: Problem, labels: Sequence[int | None], pair: tuple[int, int]) -> list[list[int | None]]:
    """The labels with each pair of labels for two items under which these two no longer contradict each other."""
    rules = problem.constraints_of[pair[0]]
    values = [[problem.clamped[item]] if item in problem.clamped else range(problem.n_labels) for item in pair]
    changed = [_with(labels, pair, (a, b)) for a in values[0] for b in values[1]]
    return [new for new in changed if not any(pair in rule.violations(new) for rule in rules)]


def _with(labels: Sequence[int | None], items: Sequence[int], new: Sequence[int]) -> list[int | None]:
    changed = list(labels)
    for item, label in zip(items, new, strict=True):
        changed[item] = label
    return changed
