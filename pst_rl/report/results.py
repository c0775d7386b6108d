"""What a run measured, and its file `results.json`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from statistics import fmean
from typing import Any

from pst_rl.report.results_file import read_results_file, write_results_file


@dataclass(frozen=True)
class PeerResult:
    """One peer's greedy responses to the held-out questions, before and after training; shares are fractions.

    Attributes:
        before, after: Exact match; `None` where no gold is known, as `ci95`. The others need no gold.
        ci95: Low and high of the gain after - before (see `pst_rl.measure.paired_bootstrap`).
        parsed_before, parsed_after: The share of responses in which an answer was found.
        finished_before, finished_after: The share that ended by themselves; the others were cut off.
        length_before, length_after: Tokens of a response, mean.
        changed: The share of questions that have another answer after training; none is an answer of its own.
    """

    before: float | None = None
    after: float | None = None
    ci95: tuple[float, float] | None = None
    parsed_before: float | None = None
    parsed_after: float | None = None
    finished_before: float | None = None
    finished_after: float | None = None
    length_before: float | None = None
    length_after: float | None = None
    changed: float | None = None


@dataclass(frozen=True)
class VoteResult:
    """A vote of the peers, as far as it was measured.

    Attributes:
        before, after, ci95: Its accuracy as a fraction, and low and high of the gain; need gold.
        changed: The share of questions whose vote is another one after training.
    """

    before: float | None = None
    after: float | None = None
    ci95: tuple[float, float] | None = None
    changed: float | None = None


@dataclass(frozen=True)
class JointResult:
    """What the peers' answers have in common, before and after training; no gold is needed.

    Attributes:
        agreement_before, agreement_after: Of all pairs of peers at all questions, the share with one greedy answer;
            `None` for a single peer.
        distinct_before, distinct_after: Different answers to a question, mean.
        responses: Of how many responses to a question: the samples of all peers if they were drawn, else the greedy
            ones.
    """

    agreement_before: float | None = None
    agreement_after: float | None = None
    distinct_before: float | None = None
    distinct_after: float | None = None
    responses: int | None = None


@dataclass(frozen=True)
class RunResults:
    """What one run measured.

    Attributes:
        peers: The result of each peer, by name.
        vote: Of the vote over the peers' greedy answers.
        pooled_vote: Of the vote over all peers' sampled answers.
        dataset: What was measured on.
        n_test: How many held-out questions.
        seed: Of the run.
        supervised: Whether training read labels.
        seconds: Wall-clock seconds of each phase.
        peak_memory_mib: The most memory held, in MiB.
        config: The full configuration.
        alarms: What the monitor of collapse found (`pst_rl.monitors.collapse`), in order; `None` if that is not known.
        joint: Agreement and distinct answers of the peers.
        unread: Peers of which nothing could be read after training, each with what that means and what to change.
    """

    peers: dict[str, PeerResult]
    vote: VoteResult
    pooled_vote: VoteResult
    dataset: str
    n_test: int
    seed: int
    supervised: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    alarms: list[str] | None = None
    joint: JointResult = field(default_factory=JointResult)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, PeerResult | VoteResult]:
        """Everything that has an accuracy, by the name it is shown under: the peers and the two votes."""
        return {**self.peers, "greedy vote": self.vote, "pooled vote": self.pooled_vote}

    @property
    def mean_gain(self) -> float | None:
        """The mean over the peers of after - before, in points (hundredths); `None` where no gold is known."""
        gains = [points for peer in self.peers.values() if (points := gain(peer)) is not None]
        return fmean(gains) if gains and len(gains) == len(self.peers) else None


def write_results(results: RunResults, folder: str | Path) -> Path:
    """Write `results.json`, of the kind "training", into the folder and return its path.

    Accuracies are fractions, `mean_gain` is in points, unknown values are `null`. The file appears whole or not at
    all. Configuration values that JSON does not know are written as text.
    """
    content = {
        "dataset": results.dataset,
        "n_test": results.n_test,
        "supervised": results.supervised,
        "peers": {name: vars(peer) for name, peer in results.peers.items()},
        "vote": vars(results.vote),
        "pooled_vote": vars(results.pooled_vote),
        "joint": vars(results.joint),
        "mean_gain": results.mean_gain,
        "seconds": results.seconds,
        "peak_memory_mib": results.peak_memory_mib,
        "seed": results.seed,
        "alarms": results.alarms,
        "unread": results.unread,
        "config": results.config,
    }
    return write_results_file(folder, "training", _jsonable(content), indent=2)


def read_results(path: str | Path) -> RunResults:
    """Read what `write_results` wrote, by this version or an older one: what is missing keeps its default.

    Raises:
        FileNotFoundError, ValueError: As `read_results_file`: there is none, or it is no training run's.
    """
    content = read_results_file(path, "training")
    return RunResults(
        peers={name: PeerResult(**_known(PeerResult, peer)) for name, peer in content["peers"].items()},
        vote=VoteResult(**_known(VoteResult, content.get("vote") or {})),
        pooled_vote=VoteResult(**_known(VoteResult, content.get("pooled_vote") or {})),
        joint=JointResult(**_known(JointResult, content.get("joint") or {})),
        dataset=str(content.get("dataset", "an unnamed data set")),
        n_test=int(content.get("n_test", 0)),
        seed=int(content.get("seed", 0)),
        **{
            name: content[name]
            for name in ("supervised", "seconds", "peak_memory_mib", "config", "alarms", "unread")
            if content.get(name) is not None
        },
    )


def _known(record: type[PeerResult | VoteResult | JointResult], content: Mapping[str, Any]) -> dict[str, Any]:
    """The record's own fields; an interval is a tuple again."""
    names = record.__dataclass_fields__
    return {n: tuple(v) if isinstance(v, list) else v for n, v in content.items() if n in names}


def gain(result: PeerResult | VoteResult) -> float | None:
    """Return after - before in points."""
    if result.before is None or result.after is None:
        return None
    return 100 * (result.after - result.before)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):  # NumPy's numbers too
        return float(value) if math.isfinite(value) else None
    return str(value)
