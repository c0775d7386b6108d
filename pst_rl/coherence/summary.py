"""What a labelling run found, in numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pst_rl.coherence.accuracy import accuracy
from pst_rl.coherence.claims import Claims
from pst_rl.coherence.export import most_coherent
from pst_rl.coherence.labelling import Labelling, agreement
from pst_rl.files import write_atomically

FILE = "summary.json"


def write_summary(claims: Claims, labellings: Sequence[Labelling], folder: str | Path) -> Path:
    """Writes `summary.json`: the numbers of every seed, which one was written, and the agreement of all.

    Coherence is in nats, cost in units and tokens, accuracies and agreement are shares; unknown ones are `null`.
    """
    content = {
        "method": labellings[0].method,
        "items": len(claims),
        "constraints": len(claims.problem.constraints),
        "clamped": len(claims.problem.clamped),
        "written_seed": most_coherent(labellings).seed,
        "agreement": fmean(agreement(labellings)) if len(labellings) > 1 else None,
        "seeds": [_numbers(claims, labelling) for labelling in labellings],
    }
    return write_atomically(Path(folder) / FILE, json.dumps(content, indent=2) + "\n")


def summarise(claims: Claims, labellings: Sequence[Labelling]) -> list[str]:
    """A line for each seed and, of several, one for their agreement."""
    lines = []
    for labelling in labellings:
        n = _numbers(claims, labelling)
        line = f"seed {n['seed']}: coherence {n['coherence']:.2f} nats, {n['violations']} violated pairs, "
        line += f"{n['tokens']:,} tokens read"
        if n["accuracy"] is not None:
            low, high = n["accuracy_ci95"]
            line += f", accuracy {100 * n['accuracy']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"
        lines.append(line)
    if len(labellings) > 1:
        shared = 100 * fmean(agreement(labellings))
        lines.append(f"agreement of the seeds {shared:.1f} %; written: seed {most_coherent(labellings).seed}")
    if given := len(claims.problem.clamped):
        lines.append(f"{given} gold labels were given; accuracy leaves them out")
    return lines


def _numbers(claims: Claims, labelling: Labelling) -> dict[str, Any]:
    measured = accuracy(labelling, claims.gold, claims.problem.clamped)
    return {
        "seed": labelling.seed,
        "coherence": labelling.coherence,
        "violations": labelling.violations,
        "units": labelling.units,
        "tokens": labelling.tokens,
        "accuracy": None if measured is None else measured.share,
        "accuracy_ci95": None if measured is None else [measured.interval.low, measured.interval.high],
        "balanced_accuracy": None if measured is None else measured.balanced,
        "labels": {name: labelling.labels.count(i) for i, name in enumerate(claims.label_names)},
    }
