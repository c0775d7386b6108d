"""Before and after: from two evaluations of the same questions to the results of a run."""

from __future__ import annotations

import resource
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from pst_rl.measure.statistics import paired_bootstrap
from pst_rl.report import PeerResult, RunResults, VoteResult

if TYPE_CHECKING:
    from pst_rl.stages.evaluation import Evaluation
    from pst_rl.trainer import PSTTrainer


def compare(
    before: Evaluation, after: Evaluation, trainer: PSTTrainer, dataset: str, config: dict[str, Any]
) -> RunResults:
    """The table of a run: exact match before and after, with the 95 % paired-bootstrap interval of each gain.

    Args:
        before, after: Evaluations of the same questions in the same order.
        dataset: What was measured on.
        config: Everything that was set.
    """
    parsed = [{n: v for n, v in e.metrics().items() if n.endswith("/parsed")} for e in (before, after)]
    peers = {}
    for name in trainer.trained:
        old, new = (shares[f"{name}/parsed"] for shares in parsed)
        peers[name] = PeerResult(**_gain(before, after, name), parsed_before=old, parsed_after=new)
    return RunResults(
        peers=peers,
        vote=VoteResult(**_gain(before, after, "vote")),
        pooled_vote=VoteResult(**_gain(before, after, "pooled_vote")),
        dataset=dataset,
        n_test=len(before.greedy[0]),
        seed=trainer.args.seed,
        supervised=trainer.args.supervised,
        seconds=dict(trainer.seconds),
        peak_memory_mib=peak_memory_mib(),
        config=config,
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


def peak_memory_mib() -> float:
    """Peak memory so far in MiB: allocated on the GPU if there is one, else this process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
