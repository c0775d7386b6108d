"""Samples of peers, scores of verifiers, and the gaps between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any

from pst_rl.benchmarks.ask import ask
from pst_rl.benchmarks.benchmark import Scoring
from pst_rl.benchmarks.cache import Cache
from pst_rl.benchmarks.items import Item
from pst_rl.benchmarks.model import Decoding, LanguageModel
from pst_rl.benchmarks.verifiers import Case, Verifier, verify
from pst_rl.measure.samples import Judged, judge, majority_at_k, pass_at_k
from pst_rl.measure.statistics import Interval, bootstrap_mean
from pst_rl.measure.verification import Threshold, verification_gap


@dataclass(frozen=True)
class Samples:
    """n samples of one peer: `cases[question][sample]`, what they are worth, which ended by themselves (if known)."""

    cases: list[list[Case]]
    judged: list[list[Judged]]
    finished: list[list[bool]] | None = None

    @property
    def correct(self) -> list[list[bool]]:
        return [[sample.correct for sample in row] for row in self.judged]


def draw_samples(
    model: LanguageModel,
    items: Sequence[Item],
    scoring: Scoring,
    decoding: Decoding,
    cache: Cache,
    *,
    samples: int,
    batch_size: int = 16,
    parse_truncated: bool = False,
) -> Samples:
    """n samples of every item, read and scored; one that was cut off has no answer unless `parse_truncated`."""
    prompts = [model.fit(item.shown, (), "", model.window - decoding.max_new_tokens) for item in items]
    found = ask(model, prompts, decoding, cache, copies=samples, batch_size=batch_size, doing=f"{samples} samples")
    read = partial(judge, style=scoring.style, metric=scoring.metric)
    return Samples(
        [[Case(i.question, i.shown, row.text) for row in rows] for i, rows in zip(items, found, strict=True)],
        [
            [read(row.text, item.gold, finished=row.finished or parse_truncated) for row in rows]
            for item, rows in zip(items, found, strict=True)
        ],
        [[row.finished for row in rows] for rows in found],
    )


def score_samples(
    verifiers: Sequence[Verifier],
    samples: Samples,
    cache: Cache,
    batch_size: int = 16,
    doing: str = "verifying",
) -> list[list[float]]:
    """The verifiers' mean score of each sample, `[question][sample]`; `doing` names the phase of each."""
    flat = [case for row in samples.cases for case in row]
    judges = [f"{doing} {k + 1} of {len(verifiers)}" if len(verifiers) > 1 else doing for k in range(len(verifiers))]
    columns = [verify(v, flat, cache, batch_size, name) for v, name in zip(verifiers, judges, strict=True)]
    means = iter([fmean(scores) for scores in zip(*columns, strict=True)])
    return [[next(means) for _ in row] for row in samples.cases]


def gap_scores(samples: Samples, scores: Sequence[Sequence[float]], threshold: Threshold) -> dict[str, Any]:
    """Everything about one peer and one verifier: `{metric: {"value", "ci95", "by_question"}}` as fractions.

    Those that are no mean over questions have no `by_question`; shares of questions have no interval.
    """
    gap = verification_gap(samples.correct, scores, threshold)
    size = len(samples.judged[0])
    named: Mapping[str, list[float]] = gap.by_question | {
        f"pass@{size}": [pass_at_k(sum(row), size, size) for row in samples.correct],
        f"majority@{size}": [majority_at_k(row, size) for row in samples.judged],
        "unparsed": [fmean(sample.key is None for sample in row) for row in samples.judged],
    }
    if samples.finished is not None:
        named = {**named, "finished": [fmean(row) for row in samples.finished]}
    found: dict[str, Any] = {
        name: _entry(bootstrap_mean(values)) | {"by_question": values} for name, values in named.items()
    }
    for name in ("relative_gap", "balanced_accuracy", "kept"):
        interval = getattr(gap, name)
        found[name] = None if interval is None else _entry(interval)
    return found | {name: {"value": getattr(gap, name), "ci95": None} for name in ("always_right", "kept_none")}


def _entry(interval: Interval) -> dict[str, Any]:
    values = asdict(interval)
    return {"value": values["gain"], "ci95": [values["low"], values["high"]]}
