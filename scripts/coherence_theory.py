"""When does labelling by coherence find the wanted concept? The theory's predictions on a predictor in closed form.

    python scripts/coherence_theory.py                # docs/results/coherence_theory.json and .png, about a minute

Items are labelled by one of several concepts (`ConceptMixture`); no model is involved, and the most coherent labelling
is known. Three things are varied: how salient the wanted concept is beside a competitor, how unbalanced its labels are
beside the trivial concept "all the same", and how reliably labels obey any concept (ill-posed items).
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import coherence, score_given
from pst_rl.coherence.search import ICM, Bootstrap, Gibbs
from pst_rl.coherence.toy import ConceptMixture
from pst_rl.measure import mean_interval

ITEMS = 40
SEARCHERS = {
    "Gibbs, annealed": Gibbs(sweeps=8, temperature=1.0, anneal_to=0.0),
    "ICM": ICM(),
    "bootstrap": Bootstrap(rounds=6),
}


def salience(share: float, rng: random.Random) -> ConceptMixture:
    """The wanted concept against one competitor; `share` of the prior is the wanted one's."""
    return ConceptMixture([coin(rng, 0.5), coin(rng, 0.5)], [share, 1 - share], agree=20.0)


def imbalance(share: float, rng: random.Random) -> ConceptMixture:
    """The wanted concept says "true" of `share` of the items; beside it a competitor, and "all of them are true"."""
    return ConceptMixture([coin(rng, share), coin(rng, 0.5), [1] * ITEMS], [0.45, 0.2, 0.35], agree=20.0)


def reliability(share: float, rng: random.Random) -> ConceptMixture:
    """Labels obey their concept in `share` of the cases (known exactly: 200 pseudo-observations)."""
    counts = {"agree": 200 * share, "disagree": 200 * (1 - share)}
    return ConceptMixture([coin(rng, 0.5), coin(rng, 0.5)], [0.6, 0.4], **counts)


STUDIES = {
    "salience of the wanted concept": (salience, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
    "share of items that the wanted concept calls true": (imbalance, [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]),
    "reliability of labels": (reliability, [0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 0.98]),
}


def coin(rng: random.Random, share: float) -> list[int]:
    """Labels of which exactly `share` are 1."""
    ones = round(share * ITEMS)
    return rng.sample([1] * ones + [0] * (ITEMS - ones), ITEMS)


def balanced_accuracy(labels: Sequence[int], wanted: Sequence[int]) -> float:
    """Mean over the labels of the share of their items that is labelled right; .5 for labels that say nothing."""
    by_label = [[a == b for a, b in zip(labels, wanted, strict=True) if b == value] for value in set(wanted)]
    return fmean(map(fmean, by_label))


def run(world: ConceptMixture, seed: int) -> dict[str, float]:
    """Balanced accuracy of every searcher and of zero-shot labels; and what the most coherent concept would reach."""
    wanted, order = world.concepts[0], [list(range(ITEMS))]
    problem = Problem(ITEMS)
    best = max(world.concepts, key=lambda labels: coherence(world, labels, order).nats)
    found = {"most coherent concept": best}
    found["zero-shot"] = score_given(world, [None] * ITEMS, [], range(ITEMS)).argmax(1).tolist()
    for name, searcher in SEARCHERS.items():
        found[name] = searcher.search(world, problem, seed=seed).labels
    return {name: balanced_accuracy(labels, wanted) for name, labels in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="worlds per setting")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args(arguments)
    report = {}
    for study, (make, values) in STUDIES.items():
        report[study] = []
        for value in values:
            runs = [run(make(value, random.Random(seed)), seed) for seed in range(args.seeds)]
            row = {"value": value}
            for name in runs[0]:
                interval = mean_interval([found[name] for found in runs])
                row[name] = {"mean": interval.gain, "ci95": [interval.low, interval.high]}
            report[study].append(row)
            print(study, value, {name: round(row[name]["mean"], 2) for name in runs[0]}, flush=True)
    args.docs.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"items": ITEMS, "seeds": args.seeds, "studies": report}, indent=1)
    (args.docs / "coherence_theory.json").write_text(text + "\n")
    plot(report, args.docs / "coherence_theory.png")
    return 0


def plot(report: dict, file: Path) -> None:
    """One panel per study: balanced accuracy by what is varied."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(report), figsize=(4 * len(report), 3.6), sharey=True, layout="constrained")
    styles = {"most coherent concept": ("#999999", "--"), "zero-shot": ("#555555", ":")}
    colours = iter(["#0072B2", "#D55E00", "#009E73"])
    for name in SEARCHERS:
        styles[name] = (next(colours), "-")
    for axes, (study, rows) in zip(panels, report.items(), strict=True):
        x = [row["value"] for row in rows]
        for name, (colour, line) in styles.items():
            axes.plot(x, [row[name]["mean"] for row in rows], line, color=colour, label=name)
            if line == "-":
                axes.fill_between(x, *zip(*(row[name]["ci95"] for row in rows), strict=True), color=colour, alpha=0.15)
        axes.set_xlabel(study, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("balanced accuracy for the wanted concept")
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
