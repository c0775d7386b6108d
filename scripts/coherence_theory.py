"""When are the most coherent labels the wanted ones? Predictions of the theory, on a predictor in closed form.

    python scripts/coherence_theory.py        # docs/results/coherence_theory.json, .md and .png; a few minutes

A mixture of six concepts labels 32 items (`ConceptMixture`): no model is involved. The coherence of labels that
follow concept k throughout is, but for small terms, log prior_k + n log reliability_k nats. Each panel varies one
quantity and marks where the wanted concept becomes the most coherent one, or ceases to be, by that formula.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean

from pst_rl.coherence.baselines import few_shot
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import coherence
from pst_rl.coherence.search import Gibbs
from pst_rl.coherence.toy import ConceptMixture
from pst_rl.measure import mean_interval
from pst_rl.report import pipe_table

ITEMS, CONCEPTS = 32, 6
RELIABILITY = 0.9
CERTAIN = 200  # pseudo-observations: the reliability of a concept is known
SEARCHES = {
    "Gibbs, best of 24 samples": Gibbs(sweeps=2, anneal_to=0.0, start="empty", restarts=24, orders=1),
    "Gibbs, annealed from zero-shot labels": Gibbs(sweeps=10, anneal_to=0.0, orders=1),
}
MOST_COHERENT, ZERO_SHOT = "the most coherent concept itself", "zero-shot (clamped labels shown)"


@dataclass(frozen=True)
class World:
    """A predictor whose first concept is the wanted one, and how many of its labels are given away."""

    mixture: ConceptMixture
    clamped: int = 0


def salience(ratio: float, rng: random.Random) -> World:
    """The prior of the wanted concept is `ratio` times that of a competitor; the four others have 1/6 each."""
    wanted = ratio / (1 + ratio) / 3
    return world(rng, [wanted, 1 / 3 - wanted, *[1 / 6] * 4])


def imbalance(share: float, rng: random.Random) -> World:
    """The wanted concept says "true" of `share` of the items; another one of every item, and is right as often."""
    prior, reliability = [1 / CONCEPTS] * CONCEPTS, [0.8, share, *[0.7] * 4]
    return world(rng, prior, reliability, [coin(rng, share), [1] * ITEMS])


def ill_posed(share: float, rng: random.Random) -> World:
    """`share` of the items are coin flips to the wanted concept, which is 1.5 times as salient as each other one."""
    reliability = [(1 - share) * 0.98 + share * 0.5, *[RELIABILITY] * 5]
    return world(rng, [1.5 / 6.5, *[1 / 6.5] * 5], reliability)


def clamped(given: float, rng: random.Random) -> World:
    """`given` labels of the wanted concept are known; one competitor is four times as salient."""
    return World(world(rng, [0.12, 0.48, *[0.1] * 4]).mixture, int(given))


def world(
    rng: random.Random, prior: Sequence[float], reliability: Sequence[float] = (), concepts: Sequence[list[int]] = ()
) -> World:
    """Concepts that are not given call random halves of the items true."""
    rows = [*concepts, *(coin(rng, 0.5) for _ in range(CONCEPTS - len(concepts)))]
    reliability = reliability or [RELIABILITY] * CONCEPTS
    agree, disagree = [CERTAIN * r for r in reliability], [CERTAIN * (1 - r) for r in reliability]
    return World(ConceptMixture(rows, prior, agree=agree, disagree=disagree))


def coin(rng: random.Random, share: float) -> list[int]:
    """Labels of which `share` are 1."""
    ones = round(share * ITEMS)
    return rng.sample([1] * ones + [0] * (ITEMS - ones), ITEMS)


@dataclass(frozen=True)
class Panel:
    """One prediction.

    Attributes:
        title: What is predicted.
        axis: The quantity that is varied.
        values: Where it is measured.
        make: The world at a value.
        turn: Where the wanted concept's labels become as coherent as its strongest rival's.
    """

    title: str
    axis: str
    values: tuple[float, ...]
    make: Callable[[float, random.Random], World]
    turn: float


EQUAL = (0.98 - RELIABILITY * 1.5 ** (-1 / ITEMS)) / 0.48  # 1.5 r^n = 0.9^n with r = 0.98 - 0.48 share
# A clamped label decides where the two concepts differ, which is every other item: log 9 / 2 nats each on average.
PANELS = (
    Panel(
        "A more salient competitor",
        "prior of the wanted concept / prior of its competitor",
        (1 / 4, 1 / 3, 1 / 2, 2 / 3, 4 / 5, 5 / 4, 3 / 2, 2, 3, 4),
        salience,
        1.0,
    ),
    Panel(
        "Unequal classes",
        "share of items that the wanted concept calls true",
        (0.5, 0.5625, 0.625, 0.6875, 0.75, 0.84375, 0.90625, 0.96875),
        imbalance,
        0.8,
    ),
    Panel(
        "Ill-posed items",
        "share of items that are a coin flip to the wanted concept",
        (0.0, 0.05, 0.1, 0.15, 0.25, 0.3, 0.4, 0.5),
        ill_posed,
        EQUAL,
    ),
    Panel(
        "Clamped labels as the remedy",
        "labels given away, under a competitor four times as salient",
        (0, 1, 2, 3, 4, 6, 8),
        clamped,
        math.log(4) / (math.log(RELIABILITY / (1 - RELIABILITY)) / 2),
    ),
)


def balanced_accuracy(labels: Sequence[int], wanted: Sequence[int], asked: Sequence[int]) -> float:
    """Mean over the two labels of the share of their items that is labelled right; .5 for labels that say nothing."""
    by_label = [[labels[i] == value for i in asked if wanted[i] == value] for value in (0, 1)]
    return fmean(fmean(hits) for hits in by_label if hits)


def run(job: tuple[int, float, int]) -> dict[str, float]:
    """Balanced accuracy, on items that are not clamped, of all labels in one world."""
    panel, value, seed = job
    rng = random.Random(seed)
    made = PANELS[panel].make(value, rng)
    mixture, wanted, order = made.mixture, made.mixture.concepts[0], [list(range(ITEMS))]
    given = {i: wanted[i] for i in rng.sample(range(ITEMS), made.clamped)}
    problem, asked = Problem(ITEMS, clamped=given), [i for i in range(ITEMS) if i not in given]
    fitted = [[given.get(i, label) for i, label in enumerate(row)] for row in mixture.concepts]
    best = max(fitted, key=lambda labels: coherence(mixture, labels, order).nats)
    found = {MOST_COHERENT: best}
    found |= {name: search.search(mixture, problem, seed=seed).labels for name, search in SEARCHES.items()}
    found[ZERO_SHOT] = few_shot(mixture, problem, given, seed=seed, consistent=False, method="zero_shot").labels
    return {name: balanced_accuracy(labels, wanted, asked) for name, labels in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24, help="worlds at each value")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args(arguments)
    jobs = [(p, v, seed) for p, panel in enumerate(PANELS) for v in panel.values for seed in range(args.seeds)]
    with Pool(args.jobs) as pool:
        runs = dict(zip(jobs, pool.map(run, jobs, chunksize=4), strict=True))
    write_report(runs, args.seeds, args.docs)
    return 0


def write_report(runs: dict[tuple[int, float, int], dict[str, float]], seeds: int, docs: Path) -> None:
    """coherence_theory.json, .md and .png from the accuracies by panel, value and seed."""
    report = []
    for p, panel in enumerate(PANELS):
        rows = []
        for value in panel.values:
            found = [runs[p, value, seed] for seed in range(seeds)]
            row = {"value": value}
            for name in found[0]:
                interval = mean_interval([one[name] for one in found])
                row[name] = {"mean": interval.gain, "ci95": [max(0, interval.low), min(1, interval.high)]}
            rows.append(row)
        report.append({"title": panel.title, "axis": panel.axis, "turn": panel.turn, "rows": rows})
    docs.mkdir(parents=True, exist_ok=True)
    settings = {"items": ITEMS, "concepts": CONCEPTS, "seeds": seeds}
    (docs / "coherence_theory.json").write_text(json.dumps(settings | {"panels": report}, indent=1) + "\n")
    (docs / "coherence_theory.md").write_text(markdown(report, seeds))
    plot(report, docs / "coherence_theory.png")
    print(markdown(report, seeds))


def markdown(report: Sequence[dict], seeds: int) -> str:
    """Every number of the plot."""
    names = [MOST_COHERENT, *SEARCHES, ZERO_SHOT]
    lines = [
        "# When coherence finds the wanted concept",
        "",
        "Written by `python scripts/coherence_theory.py`; do not edit. See [coherence](../coherence-study.md).",
        "",
        f"Balanced accuracy for the wanted concept, in %, on {ITEMS} items in {CONCEPTS} concepts: mean over {seeds} "
        "seeds (95 % interval).",
    ]
    for panel in report:
        turn = f"The formula puts the turn at {panel['turn']:.2f}."
        rows = [[f"{row['value']:.2f}", *(percent(row[name]) for name in names)] for row in panel["rows"]]
        lines += ["", f"## {panel['title']}", "", turn, "", *pipe_table([panel["axis"], *names], rows)]
    return "\n".join(lines) + "\n"


def percent(found: dict) -> str:
    low, high = found["ci95"]
    return f"{100 * found['mean']:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def plot(report: Sequence[dict], file: Path) -> None:
    """One panel for each prediction."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(9.5, 7), sharey=True, layout="constrained")
    styles = dict(zip(SEARCHES, (("#0072B2", "o-"), ("#D55E00", "s-")), strict=True))
    styles |= {ZERO_SHOT: ("#555555", "^:"), MOST_COHERENT: ("#000000", "--")}
    for axes, panel in zip(grid.flat, report, strict=True):
        x = [row["value"] for row in panel["rows"]]
        for name, (colour, line) in styles.items():
            mean = [100 * row[name]["mean"] for row in panel["rows"]]
            axes.plot(x, mean, line, color=colour, label=name, markersize=4, linewidth=1.6)
            if name != MOST_COHERENT:
                band = [[100 * row[name]["ci95"][end] for row in panel["rows"]] for end in (0, 1)]
                axes.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
        axes.axvline(panel["turn"], color="#999999", linewidth=1, zorder=0, label="the turn, by the formula")
        axes.set_title(panel["title"], fontsize=11)
        axes.set_xlabel(panel["axis"], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    ratios = grid[0][0]
    ratios.set_xscale("log")
    ratios.set_xticks([1 / 4, 1 / 2, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    ratios.minorticks_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("balanced accuracy for the wanted concept, %", fontsize=9)
    figure.legend(*ratios.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
