"""From the single results of `real_learning.py` to its table, plot and JSON."""

import argparse
import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pst_rl.measure.samples import pass_at_k
from pst_rl.report import pipe_table

RESAMPLES = 4000
Grid = np.ndarray  # [seeds, questions]: points that the trained peers gained, on average over them

INTRODUCTION = """# Published models that train each other

Written by the command below; do not edit. What it means: [real models](../real-models.md).

```bash
{command}
```

Gains of greedy exact match in points, mean over the trained peers, on {split} questions that training did not see,
with a 95 % interval from {resamples:,} bootstrap samples of seeds and of questions, both at once. *Minus random* is
paired by seed and question. *Samples right* and pass@8 are means over peers and seeds of eight samples at temperature
{temperature} of the first {sampled} questions. *Targets right* is read from gold afterwards; the supervised row alone
trains on it. Answers are cut at {tokens} tokens, and an answer that is cut counts as none; *gold in the greedy text*
counts it wherever it stands, also in such a one: what of a gain is form, and what is not.
"""
HEADS = ("scheme", "gain (95 %)", "minus random (95 %)", "by peer", "samples right", "pass@8", "answers read")
HEADS += ("gold in the greedy text", "targets right, first and last quarter", "s a run", "seeds")


def write_report(args: argparse.Namespace, schemes: dict[str, Any]) -> None:
    """Writes real_learning.json, .md and .png from every finished run in `args.out`."""
    tasks = {folder.name: found for folder in sorted(args.out.iterdir()) if (found := load_runs(folder))}
    rows = [row for name, found in tasks.items() for row in make_rows(name, found, list(schemes), args.golds[name])]
    if not rows:
        return
    args.docs.mkdir(parents=True, exist_ok=True)
    before = {name: {m: figures(v) for m, v in found["before"]["models"].items()} for name, found in tasks.items()}
    texts = {name: sample_texts(found) for name, found in tasks.items()}
    sampled = max(len(m["samples"]) for found in tasks.values() for m in found["before"]["models"].values())
    content = {
        "command": args.command,
        "sampled": sampled,
        "split": args.split,
        "budget": args.budget,
        "before": before,
        "rows": rows,
    }
    (args.docs / "real_learning.json").write_text(json.dumps(content | {"texts": texts}, indent=1) + "\n")
    (args.docs / "real_learning.md").write_text(markdown(content, texts))
    plot(rows, args.docs / "real_learning.png")
    print(f"{len(rows)} rows in {args.docs / 'real_learning.md'}")


def load_runs(folder: Path) -> dict[str, Any]:
    """`before`, and the finished runs by scheme and seed; nothing where nothing was measured before."""
    if not (file := folder / "before.seed0.json").is_file():
        return {}
    runs: dict[str, dict[int, dict]] = {}
    for other in sorted(folder.glob("*.seed*.json")):
        if other != file:
            run = json.loads(other.read_text())
            runs.setdefault(run["scheme"], {})[run["seed"]] = run
    return {"before": json.loads(file.read_text()), "runs": runs}


def gains(run: dict, before: dict) -> np.ndarray:
    """Points that each question gained, on average over the trained peers."""
    each = [np.subtract(run["models"][p]["greedy"], before["models"][p]["greedy"]) for p in run["trained"]]
    return 100 * np.mean(each, axis=0)


def interval(grid: Grid, draw: np.random.Generator) -> tuple[float, float]:
    """95 % of the means of resampled seeds and resampled questions, crossed."""
    seeds, questions = grid.shape
    means = [
        grid[np.ix_(draw.integers(seeds, size=seeds), draw.integers(questions, size=questions))].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def make_rows(task: str, found: dict, schemes: list[str], golds: list[str]) -> list[dict[str, Any]]:
    """One row for each scheme that has finished runs."""
    runs, before = found["runs"], found["before"]
    grids = {name: {seed: gains(run, before) for seed, run in by_seed.items()} for name, by_seed in runs.items()}
    rows = []
    for name in (scheme for scheme in schemes if scheme in runs):
        row = make_row(task, name, runs[name], before, grids)
        trained, said = row["trained"], lambda model: contained(model["texts"], golds)
        row["contained_before"] = fmean(said(before["models"][p]) for p in trained)
        row["contained_after"] = fmean(said(run["models"][p]) for p in trained for run in runs[name].values())
        rows.append(row)
    return rows


def contained(texts: list[str], golds: list[str]) -> float:
    """Share of texts in which gold stands as words of its own, whatever its form, also where they are cut off."""
    found = [re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", text) for text, gold in zip(texts, golds, strict=True)]
    return fmean(hit is not None for hit in found)


def make_row(task: str, name: str, runs: dict[int, dict], before: dict, grids: dict) -> dict[str, Any]:
    grid, draw = np.stack([grids[name][seed] for seed in sorted(runs)]), np.random.default_rng(0)
    control = grids.get("random reward", {})
    paired = [grids[name][seed] - control[seed] for seed in sorted(runs) if seed in control]
    one, trained = next(iter(runs.values())), next(iter(runs.values()))["trained"]
    of = lambda peer, key: fmean(figures(run["models"][peer])[key] for run in runs.values())  # noqa: E731
    quarters = [quarter for run in runs.values() if (quarter := first_and_last(run["targets_right"]))]
    return {
        "task": task,
        "scheme": name,
        "objective": one["objective"],
        "peers": one["peers"],
        "trained": trained,
        "seeds": sorted(runs),
        "questions": grid.shape[1],
        "gain": float(grid.mean()),
        "ci95": interval(grid, draw),
        "minus_random": float(np.mean(paired)) if paired else None,
        "minus_random_ci95": interval(np.stack(paired), draw) if paired and name != "random reward" else None,
        "by_peer": {p: 100 * (of(p, "greedy") - figures(before["models"][p])["greedy"]) for p in trained},
        "by_seed": [float(grids[name][seed].mean()) for seed in sorted(runs)],
        "samples_before": fmean(figures(before["models"][p])["sampled"] for p in trained),
        "samples_after": fmean(of(p, "sampled") for p in trained),
        "pass8_before": fmean(figures(before["models"][p])["pass8"] for p in trained),
        "pass8_after": fmean(of(p, "pass8") for p in trained),
        "read_before": fmean(before["models"][p]["read"] for p in trained),
        "read_after": fmean(of(p, "read") for p in trained),
        "targets_right": [fmean(values) for values in zip(*quarters, strict=True)],
        "seconds": fmean(run["seconds"] for run in runs.values()),
    }


def figures(model: dict) -> dict[str, float]:
    """Shares: greedy exact match, samples right, pass@8, answers read."""
    right, count = model["samples"], 8
    return {
        "greedy": fmean(model["greedy"]),
        "sampled": fmean(right) / count,
        "pass8": fmean(pass_at_k(hits, count, count) for hits in right),
        "read": model["read"],
    }


def first_and_last(values: list[float]) -> tuple[float, float] | None:
    """Means of the first and the last quarter."""
    size = max(1, len(values) // 4)
    return (fmean(values[:size]), fmean(values[-size:])) if values else None


def sample_texts(found: dict, count: int = 4) -> list[dict[str, Any]]:
    """What each trained peer wrote to the first questions before, and after each scheme's first seed."""
    before, out = found["before"]["models"], []
    for name, runs in found["runs"].items():
        run = runs[min(runs)]
        for peer in run["trained"]:
            now = run["models"][peer]["texts"][:count]
            out.append({"scheme": name, "peer": peer, "before": before[peer]["texts"][:count], "after": now})
    return out


def markdown(content: dict[str, Any], texts: dict[str, list[dict]]) -> str:
    budget = content["budget"]
    fields = {
        "temperature": budget["temperature"],
        "tokens": budget["max_completion_length"],
        "sampled": content["sampled"],
    }
    head = INTRODUCTION.format(**fields, resamples=RESAMPLES, **{k: content[k] for k in ("command", "split")})
    parts = [head]
    for task, models in content["before"].items():
        rows = [row for row in content["rows"] if row["task"] == task]
        parts += [f"## {task}\n", *pipe_table(("before training", "greedy, %", "samples, %", "pass@8, %", "read, %"), [
            [name, *(f"{100 * values[key]:.0f}" for key in ("greedy", "sampled", "pass8", "read"))]
            for name, values in models.items()
        ]), "", *pipe_table(HEADS, map(cells, rows)), ""]  # fmt: skip
        parts += ["What the trained peers wrote to the first questions:\n"]
        shown = [[t["scheme"], t["peer"], quoted(t["before"]), quoted(t["after"])] for t in texts[task]]
        parts += [*pipe_table(("scheme", "peer", "before", "after"), shown), ""]
    settings = ", ".join(f"`{name}={value!r}`" for name, value in budget.items())
    return "\n".join([*parts, f"Settings of every run: {settings}."]) + "\n"


def quoted(texts: list[str]) -> str:
    return "; ".join("`" + " ".join(text.split()).replace("`", "'") + "`" for text in texts)


def cells(row: dict[str, Any]) -> list[str]:
    spread = lambda value, pair: f"{value:+.1f} ({pair[0]:+.1f} to {pair[1]:+.1f})"  # noqa: E731
    shift = lambda key: f"{100 * row[key + '_before']:.0f} to {100 * row[key + '_after']:.0f} %"  # noqa: E731
    other = row["minus_random_ci95"]
    return [
        row["scheme"],
        spread(row["gain"], row["ci95"]),
        spread(row["minus_random"], other) if other else "",
        ", ".join(f"{name} {value:+.0f}" for name, value in row["by_peer"].items()),
        shift("samples"),
        shift("pass8"),
        shift("read"),
        shift("contained"),
        " and ".join(f"{100 * value:.0f} %" for value in row["targets_right"]),
        f"{row['seconds']:.0f}",
        str(len(row["seeds"])),
    ]


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Gains with their intervals, one panel a task."""
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(4.2 * len(tasks) + 1.6, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))[::-1]
    for task, axis in zip(tasks, axes[0], strict=True):
        axis.axvline(0, color="0.6", linewidth=1)
        for row in (row for row in rows if row["task"] == task):
            y, control = schemes.index(row["scheme"]), row["scheme"] in ("random reward", "gold, supervised")
            colour = "#555555" if control else "#0072B2"
            axis.plot(row["ci95"], [y, y], color=colour, linewidth=2)
            axis.plot(row["by_seed"], [y] * len(row["by_seed"]), "|", color=colour, markersize=9)
            axis.plot(row["gain"], y, "o", color=colour)
        axis.set_title(f"{task} ({next(r['questions'] for r in rows if r['task'] == task)} questions)", loc="left")
        axis.set_yticks(range(len(schemes)), schemes)
        axis.set_xlabel("gain of greedy exact match, points")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
