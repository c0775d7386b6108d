"""From the single results of `compare_rewards.py` to its table, plot and JSON."""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from reward_schemes import SCHEMES, Scheme

from pst_rl.measure import mean_interval
from pst_rl.report import pipe_table

GROUPS = {
    "rewards": "Schemes, peers trained together",
    "controls": "Controls, peers trained together",
    "alone": "Every peer trained alone, with the same updates",
    "objectives": "Other objectives",
    "switches": "PST's own switches, one at a time",
}
HEADS = (
    "scheme",
    "label-free",
    "gain (95 %)",
    "lowest, highest",
    "minus majority, paired",
    "share of ceiling",
    "targets right",
    "extra tokens a step",
    "seconds a step",
    "seeds",
)
COLOURS = {"rewards": "#0072B2", "controls": "#555555", "alone": "#D55E00", "objectives": "#009E73"}
COLOURS["switches"] = "#CC79A7"


def write_report(args: argparse.Namespace) -> None:
    """Writes compare_rewards.json, .md and .png from every finished run in `args.out`."""
    before = json.loads((args.out / "before.json").read_text())
    table = make_rows(load_runs(args.out), before, args.budget)
    if not table:
        return
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "questions": args.questions, "budget": args.budget, "before": before}
    text = json.dumps(settings | {"rows": table}, indent=1)
    (args.docs / "compare_rewards.json").write_text(text + "\n")
    (args.docs / "compare_rewards.md").write_text(markdown(table, settings))
    plot(table, args.docs / "compare_rewards.png")
    print(f"{len(table)} rows in {args.docs / 'compare_rewards.md'}")


def load_runs(folder: Path) -> dict[str, dict[int, list[dict]]]:
    """The finished runs by scheme and seed; several where each peer was trained alone."""
    runs: dict[str, dict[int, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("*.seed*.json")):
        run = json.loads(file.read_text())
        runs[run["scheme"]][run["seed"]].append(run)
    return runs


def make_rows(
    runs: dict[str, dict[int, list[dict]]], before: dict[str, float], budget: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row per scheme that has finished seeds, in the order of `SCHEMES`."""
    gains = {
        name: {seed: gain(found, before) for seed, found in by_seed.items() if is_whole(found, before)}
        for name, by_seed in runs.items()
    }
    updates = budget["steps_per_generation"]
    return [
        make_row(name, scheme, runs[name], gains, before, updates)
        for name, scheme in SCHEMES.items()
        if gains.get(name)
    ]


def is_whole(found: list[dict], before: dict[str, float]) -> bool:
    """Whether all peers have been trained, together or each alone."""
    return {peer for run in found for peer in run["peers"]} == set(before) - {"vote"}


def gain(found: list[dict], before: dict[str, float]) -> float:
    """Mean gain over the peers, in points of greedy exact match."""
    return fmean(100 * (run["accuracy"][peer] - before[peer]) for run in found for peer in run["peers"])


def make_row(name: str, scheme: Scheme, runs, gains, before, updates: int) -> dict[str, Any]:
    """Everything about one scheme; `updates` is the number of them that share a generation batch."""
    own, base = gains[name], gains.get("majority", {})
    found = [runs[seed] for seed in own]
    total = lambda key: fmean(sum(run[key] for run in runs_of_seed) for runs_of_seed in found)  # noqa: E731
    first = found[0][0]
    ceiling = gains.get(ceiling_of(scheme, first["objective"]), {})
    shared = sorted(set(own) & set(ceiling))
    paired = [own[seed] - base[seed] for seed in own if seed in base]
    return {
        "scheme": name,
        "group": scheme.group,
        "objective": first["objective"],
        "peers": "alone" if scheme.alone else "together",
        "label_free": not first["supervised"],
        "gain": fmean(own.values()),
        "ci95": interval(list(own.values())),
        "gains": {str(seed): value for seed, value in sorted(own.items())},
        "minus_majority": {"gain": fmean(paired), "ci95": interval(paired)} if paired else None,
        "share_of_ceiling": fmean(own[s] for s in shared) / fmean(ceiling[s] for s in shared) if shared else None,
        "target_accuracy": fmean(fmean(run["target_accuracy"] for run in runs_of_seed) for runs_of_seed in found),
        "extra_tokens": (total("generated_tokens") + total("scored_tokens") - total("answer_tokens")) / updates,
        "answer_tokens": total("answer_tokens") / updates,
        "seconds_per_step": total("seconds_per_step"),
        "peer_gains": {
            peer: fmean(100 * (r["accuracy"][peer] - before[peer]) for rs in found for r in rs if peer in r["peers"])
            for peer in before
            if peer != "vote"
        },
        "unanimous_wrong": fmean(run["unanimous_wrong"] for rs in found for run in rs) if not scheme.alone else None,
        "seeds": len(own),
    }


def ceiling_of(scheme: Scheme, objective: str) -> str:
    """The supervised row of the same objective; cross-entropy on own responses is held against GRPO's."""
    if objective == "aggregate_sft":
        return "gold, supervised, aggregate_sft"
    return "gold, supervised, alone" if scheme.alone else "gold, supervised"


def interval(values: list[float]) -> list[float] | None:
    """The 95 % interval over seeds; none for a single run."""
    if len(values) < 2:
        return None
    found = mean_interval(values)
    return [found.low, found.high]


def markdown(table: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    budget = settings["budget"]
    samples = budget["per_device_train_batch_size"] * budget["steps_per_generation"]
    before = ", ".join(f"{peer} {100 * value:.1f}" for peer, value in settings["before"].items())
    lines = [
        "# Every scheme at equal budget",
        "",
        "Written by `python scripts/compare_rewards.py`; do not edit. What it means: [findings](../findings.md).",
        "",
        f"Three tiny peers, {settings['questions']} held-out questions ({settings['split']} split), greedy exact "
        f"match before in percent: {before}. Every run makes {budget['max_steps']} updates at learning rate "
        f"{budget['learning_rate']:g} (linear decay) on {budget['max_steps'] // budget['steps_per_generation']} "
        f"generation batches of {samples // budget['num_generations']} questions x {budget['num_generations']} "
        "samples per peer.",
        "",
        "Gains are in points, the mean of the three peers, with the 95 % t-interval over seeds; differences to "
        "`majority` are paired by seed. *Share of ceiling* divides by the gain of the supervised run of the same "
        "objective. *Targets right* is the share of targets that are correct. *Extra tokens* are those generated or "
        "scored beyond the first answers, all peers together, a step; *seconds* are processor seconds of one thread.",
        "",
        "![gains](compare_rewards.png)",
    ]
    for group, title in GROUPS.items():
        rows = [row for row in table if row["group"] == group]
        if rows:
            lines += ["", f"## {title}", "", *pipe_table(HEADS, map(cells, rows))]
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    gains = row["gains"].values()
    paired = row["minus_majority"]
    share = row["share_of_ceiling"]
    return [
        row["scheme"],
        "yes" if row["label_free"] else "**no**",
        spread(row["gain"], row["ci95"]),
        f"{min(gains):+.1f}, {max(gains):+.1f}",
        "-" if paired is None or row["scheme"] == "majority" else spread(paired["gain"], paired["ci95"]),
        "-" if share is None else f"{100 * share:.0f} %",
        f"{100 * row['target_accuracy']:.0f} %",
        f"{row['extra_tokens'] / 1000:.1f} k",
        f"{row['seconds_per_step']:.1f}",
        str(row["seeds"]),
    ]


def spread(value: float, ci95: list[float] | None) -> str:
    return f"{value:+.1f}" + ("" if ci95 is None else f" ({ci95[0]:+.1f} to {ci95[1]:+.1f})")


def plot(table: list[dict[str, Any]], file: Path) -> None:
    """Gains with their intervals, one line per scheme."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.28 * len(table) + 1.2), layout="constrained")
    for place, row in enumerate(reversed(table)):
        low, high = row["ci95"] or (row["gain"], row["gain"])
        colour = COLOURS[row["group"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(row["gain"], place, "o" if row["label_free"] else "s", color=colour, markersize=5)
    axes.set_yticks(range(len(table)), [row["scheme"] for row in reversed(table)], fontsize=8)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("gain in greedy exact match, points (95 % interval over seeds; squares use labels)")
    axes.spines[["top", "right"]].set_visible(False)
    for group, title in GROUPS.items():
        if any(row["group"] == group for row in table):
            axes.plot([], [], color=COLOURS[group], linewidth=2, label=title)
    figure.legend(fontsize=7, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
