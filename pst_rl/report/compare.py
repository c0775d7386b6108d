"""Before and after: from two evaluations of the same questions to the results of a run."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from pst_rl.aggregation.votes import Majority
from pst_rl.measure.statistics import paired_bootstrap
from pst_rl.monitors.start import Shares, unread
from pst_rl.report import JointResult, PeerResult, RunResults, VoteResult

if TYPE_CHECKING:
    from pst_rl.records import Response
    from pst_rl.report.run_facts import RunFacts
    from pst_rl.stages.evaluation import Evaluation


def compare(
    before: Evaluation, after: Evaluation, trainer: RunFacts, dataset: str, config: dict[str, Any]
) -> RunResults:
    """What a run changed: with gold exact match and the 95 % paired-bootstrap interval of each gain; always answers.

    Args:
        before, after: Evaluations of the same questions in the same order.
        dataset: What was measured on.
        config: Everything that was set.
    """
    return RunResults(
        peers={
            name: PeerResult(**_gain(before, after, name), **_answers(before, after, name)) for name in trainer.trained
        },
        vote=VoteResult(**_gain(before, after, "vote"), changed=votes_changed(before, after)),
        pooled_vote=VoteResult(
            **_gain(before, after, "pooled_vote"), changed=votes_changed(before, after, pooled=True)
        ),
        joint=joint(before, after),
        dataset=dataset,
        n_test=len(before.greedy[0]),
        seed=trainer.args.seed,
        supervised=trainer.args.supervised,
        seconds=dict(trainer.seconds),
        peak_memory_mib=peak_memory_mib(),
        config=config,
        unread=unread(_shares(before), _shares(after), trainer.args.max_completion_length),
        alarms=None if trainer.args.on_collapse == "off" else list(trainer.collapse.alarms),
    )


def _gain(before: Evaluation, after: Evaluation, name: str) -> dict[str, Any]:
    if before.correct is None or after.correct is None or name not in before.correct:
        return {}
    old, new = before.correct[name], after.correct[name]
    interval = asdict(paired_bootstrap(old, new))
    return {
        "before": sum(old) / len(old),
        "after": sum(new) / len(new),
        "ci95": (interval["low"], interval["high"]),
    }


# ---- what needs no gold ----


def _answers(before: Evaluation, after: Evaluation, name: str) -> dict[str, Any]:
    """The fields of a `PeerResult` that need no gold."""
    old, new = (evaluation.greedy[evaluation.names.index(name)] for evaluation in (before, after))
    found: dict[str, float] = {}
    for when, rows in (("before", old), ("after", new)):
        found[f"parsed_{when}"] = fmean(row.answer is not None for row in rows)
        found[f"finished_{when}"] = fmean(row.finished for row in rows)
        found[f"length_{when}"] = fmean(row.length for row in rows)
    return found | {"changed": fmean(a.key != b.key for a, b in zip(old, new, strict=True))}


def _shares(evaluation: Evaluation) -> dict[str, Shares]:
    return {name: Shares.of(rows) for name, rows in zip(evaluation.names, evaluation.greedy, strict=True)}


def votes_changed(before: Evaluation, after: Evaluation, pooled: bool = False) -> float | None:
    """The share of questions whose greedy (or pooled) vote is another one; `None` without samples to pool."""
    old, new = (_votes(evaluation, pooled) for evaluation in (before, after))
    return fmean(a != b for a, b in zip(old, new, strict=True)) if old else None


def _votes(evaluation: Evaluation, pooled: bool) -> list[str | None]:
    """The key that wins each question, as in [`pst_rl.stages.evaluation.evaluate_peers`]."""
    ballots = [[(0, 0, row) for row in rows] for rows in _questions(evaluation, pooled)]
    targets = map(Majority().vote, ballots)
    return [None if target is None else target.answer.key for target in targets]


def _questions(evaluation: Evaluation, sampled: bool) -> list[list[Response]]:
    """All peers' responses to each question: samples, or greedy ones."""
    if sampled:
        return [[row for rows in peers for row in rows] for peers in zip(*evaluation.sampled, strict=True)]
    return [list(peers) for peers in zip(*evaluation.greedy, strict=True)]


def joint(before: Evaluation, after: Evaluation) -> JointResult:
    """Agreement and distinct answers of the peers, before and after."""
    sampled = bool(before.sampled and after.sampled)
    old, new = (_questions(evaluation, sampled) for evaluation in (before, after))
    first, last = (evaluation.metrics().get("peers/pairwise_agreement") for evaluation in (before, after))
    return JointResult(first, last, _distinct(old), _distinct(new), len(old[0]))


def _distinct(questions: Sequence[Sequence[Response]]) -> float:
    return fmean(len({row.key for row in rows} - {None}) for rows in questions)


def peak_memory_mib() -> float:
    """Peak memory so far in MiB: allocated on the GPU if there is one, else this process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
