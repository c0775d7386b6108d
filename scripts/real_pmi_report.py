"""The analysis of `real_pmi.py`: AUC with intervals, sizes, and saturated weights; here gold is read."""

import argparse
import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_samples import style_of

from pst_rl.answers import is_correct
from pst_rl.report import pipe_table
from pst_rl.stages.pmi import RunningScale, sigmoid_weight

RESAMPLES = 2_000
FEWEST = 5  # right and wrong samples, of three questions each, below which there is no AUC
GROUPS = ("all", "agree", "disagree")
CONTROLS = {"log-probability per token": "logprob", "vote share of its own answer": "own_share"}
ALL = "all"  # models, or tasks


@dataclass(frozen=True)
class Wins:
    """Pairs of a right and a wrong sample of one model and task, by the questions that they belong to.

    Attributes:
        wins: How often the right one has the higher score, ties half; [question of right][question of wrong].
        pairs: All of them.
    """

    wins: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, score: Sequence[float], right: Sequence[bool], question: Sequence[int], questions: int) -> "Wins":
        s, r, q = np.asarray(score, float), np.asarray(right, bool), np.asarray(question, int)
        of = np.eye(questions)[q]  # (n, questions)
        better = np.sign(s[r][:, None] - s[~r][None]) / 2 + 0.5
        return cls(of[r].T @ better @ of[~r], np.outer(of[r].sum(0), of[~r].sum(0)))


def auc(strata: Mapping[str, Sequence[Wins]], within: bool = False, seed: int = 0) -> tuple[float, list[float]] | None:
    """Chance that the right one of two samples has the higher score, with its 95 % bootstrap interval.

    Only samples of one model and task are compared. Questions are resampled, each with all samples of all models.

    Args:
        strata: By task, those of each model.
        within: Compare samples of one question only.
    """
    draw = np.random.default_rng(seed)
    total = np.zeros((RESAMPLES + 1, 2))
    for task in sorted(strata):
        count = len(strata[task][0].wins)
        times = draw.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        times = np.vstack([np.ones(count), times])  # the first row: as it is
        for one in strata[task]:
            for column, matrix in enumerate((one.wins, one.pairs)):
                if within:
                    total[:, column] += times @ np.diag(matrix)
                else:
                    total[:, column] += np.einsum("bi,ij,bj->b", times, matrix, times)
    value, sampled = total[0], total[1:][total[1:, 1] > 0]
    if not value[1]:
        return None
    low, high = np.quantile(sampled[:, 0] / sampled[:, 1], [0.025, 0.975])
    return value[0] / value[1], [low, high]


# ---- rows ----------------------------------------------------------------------------------------------------------


def load(folder: Path) -> list[dict[str, Any]]:
    """All samples, with `right` by gold, `task`, and a question's number in its task."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        block = json.loads(file.read_text(encoding="utf-8"))
        for row in block["rows"]:
            gold = block["gold"][row["question"]]
            right = row["answer"] is not None and is_correct(row["text"], gold, style=style_of(block["task"]))
            rows.append(row | {"task": block["task"], "question": block["first"] + row["question"], "right": right})
    return rows


def score_of(row: Mapping[str, Any], signal: str) -> float:
    """NaN where there is none."""
    return row[CONTROLS[signal]] if signal in CONTROLS else row["pmi"][signal]


def with_weights(rows: Sequence[Mapping[str, Any]], signal: str) -> list[dict[str, Any]]:
    """Samples of one model and task that have a score, with their weights at the default tau and at 1 nat."""
    known = [row for row in rows if row["target"] is not None and score_of(row, signal) == score_of(row, signal)]
    pmi = torch.tensor([score_of(row, signal) for row in known])
    tau = RunningScale().update("", pmi)
    found = zip(known, pmi.tolist(), sigmoid_weight(pmi / tau).tolist(), sigmoid_weight(pmi).tolist(), strict=True)
    return [dict(row) | {"score": s, "tau": tau, "weight": w, "weight_at_1": v} for row, s, w, v in found]


def make_rows(samples: list[dict[str, Any]], signals: Iterable[str]) -> list[dict[str, Any]]:
    """One row for each model, task, signal and group, and pooled ones."""
    models, tasks = (sorted({row[key] for row in samples}) for key in ("model", "task"))
    questions = {t: 1 + max(row["question"] for row in samples if row["task"] == t) for t in tasks}
    rows = []
    for signal in (*signals, *CONTROLS):
        cells = {
            (m, t): with_weights([r for r in samples if r["model"] == m and r["task"] == t], signal)
            for m in models
            for t in tasks
        }
        for model in (*models, ALL):
            for task in (*tasks, ALL):
                chosen = {(m, t): own for (m, t), own in cells.items() if model in (m, ALL) and task in (t, ALL)}
                rows += [make_row(model, task, signal, group, chosen, questions) for group in GROUPS]
    return rows


def make_row(
    model: str, task: str, signal: str, group: str, cells: Mapping[tuple[str, str], list[dict]], questions: Mapping
) -> dict[str, Any]:
    """What one signal knows about the samples of one group."""
    strata, chosen = defaultdict(list), []
    for (_, name), rows in cells.items():
        own = [row for row in rows if group == "all" or row["agrees"] == (group == "agree")]
        fields = ([row[key] for row in own] for key in ("score", "right", "question"))
        strata[name].append(Wins.of(*fields, questions[name]))
        chosen += own
    right, wrong = ([row for row in chosen if row["right"] == value] for value in (True, False))
    of = [len({(row["task"], row["question"]) for row in part}) for part in (right, wrong)]
    enough = min(len(right), len(wrong)) >= FEWEST and min(of) >= 3
    across, inside = (auc(strata) if enough else None), (auc(strata, within=True) if enough else None)
    setting, _, scorer = signal.partition(", ")
    row = {
        "model": model,
        "task": task,
        "scorer": scorer or signal,
        "setting": setting if scorer else "control",
        "group": group,
        "n": len(chosen),
        "right": len(right),
        "right_questions": of[0],
        "wrong_questions": of[1],
        "auc": across and across[0],
        "ci95": across and across[1],
        "auc_within_question": inside and inside[0],
        "ci95_within_question": inside and inside[1],
    }
    if signal in CONTROLS:
        return row
    everyone = [one for rows in cells.values() for one in rows]
    for name in ("agree", "disagree"):
        pmi = [one["score"] for one in everyone if one["agrees"] == (name == "agree")]
        row[f"pmi_mean_{name}"] = float(np.mean(pmi)) if pmi else None
        row[f"pmi_quartiles_{name}"] = np.quantile(pmi, [0.25, 0.5, 0.75]).tolist() if pmi else None
    saturated = lambda key: share(one[key] < 0.1 or one[key] > 1.9 for one in chosen)  # noqa: E731
    return row | {
        "zero": share(one["score"] == 0 for one in chosen),
        "saturated": saturated("weight"),
        "saturated_at_1_nat": saturated("weight_at_1"),
        "weight_right": float(np.mean([one["weight"] for one in right])) if right else None,
        "weight_wrong": float(np.mean([one["weight"] for one in wrong])) if wrong else None,
    }


def share(flags: Iterable[bool]) -> float | None:
    """Of those that are true; `None` of nothing."""
    values = list(flags)
    return sum(values) / len(values) if values else None


# ---- files ---------------------------------------------------------------------------------------------------------


INTRODUCTION = """# Is PMI informative on published models?

Written by `{command}`; do not edit. What it means: [the study](../real-pmi-study.md).

{models} answered {questions} test questions in {chains} samples each at temperature {temperature:g}; the aggregate is
the pooled vote of all of them. *AUC*: chance that of a right and a wrong sample, of the same model and task, the right
one has the higher score (.5 is chance), with a 95 % bootstrap interval over questions. *Agree*, *disagree*: reward 1
and 0. *Default*: `PMIWeights()`; *as published*: log p(aggregate's response | question, response) - log p(aggregate's
response | question), the response shown in the prompt. *Self*: scored by the responder; *other_peers*: by the two
others, mean. Of *as published, other_peers* {other_chains} samples of each model and question were scored. No AUC
is given of a group with fewer than {fewest} right or wrong samples, or of fewer than three questions each."""


def write_report(args: argparse.Namespace) -> None:
    """real_pmi.json, .md and .png."""
    samples = load(args.out)
    signals = list(samples[0]["pmi"])
    rows = make_rows(samples, signals)
    command = shlex.join(["python", "scripts/real_pmi.py", "--models", *(f"{n}=FOLDER" for n, _ in args.models)])
    command += " --tasks FOLDER"
    names = ("questions", "steps_questions", "chains", "other_chains", "temperature", "seed")
    settings = {name: getattr(args, name) for name in names} | {"tasks": args.only, "resamples": RESAMPLES}
    settings["accuracy"] = accuracies(samples)
    finished = {one["task"] for one in settings["accuracy"]}
    settings["not_finished"] = [task for task in args.only if task not in finished]
    args.docs.mkdir(parents=True, exist_ok=True)
    report = {"command": command, "settings": settings, "rows": rows}
    text = json.dumps(rounded(report), indent=1)
    (args.docs / "real_pmi.json").write_text(text + "\n", encoding="utf-8")
    (args.docs / "real_pmi.md").write_text(markdown(command, settings, rows, args), encoding="utf-8")
    plot(rows, args.docs / "real_pmi.png")
    print(f"{len(samples)} samples in {args.docs / 'real_pmi.md'}", file=sys.stderr)


def accuracies(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By task: questions, and shares of right samples of each model, of right votes, and of samples read."""
    found = []
    for task in sorted({row["task"] for row in samples}):
        own = [row for row in samples if row["task"] == task]
        votes = {row["question"]: row["target"] is not None and row["agrees"] and row["right"] for row in own}
        for row in own:
            votes[row["question"]] |= row["agrees"] and row["right"]
        by_model = {m: [r for r in own if r["model"] == m] for m in sorted({r["model"] for r in own})}
        found.append(
            {
                "task": task,
                "questions": len(votes),
                "vote_right": share(votes.values()),
                "right": {m: share(r["right"] for r in rows) for m, rows in by_model.items()},
                "read": {m: share(r["answer"] is not None for r in rows) for m, rows in by_model.items()},
                "nothing_before_the_answer": {
                    m: share(not r["text"][: r["start"]].strip() for r in rows if r["answer"] is not None)
                    for m, rows in by_model.items()
                },
            }
        )
    return found


def rounded(value: Any) -> Any:
    """Floats of a nested value to four digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return round(float(value), 4) if isinstance(value, float) else value


def shown(value: float | None, ci95: Sequence[float] | None = None, digits: int = 2) -> str:
    if value is None:
        return "-"
    interval = f" ({ci95[0]:.{digits}f} to {ci95[1]:.{digits}f})" if ci95 else ""
    return f"{value:.{digits}f}{interval}"


def markdown(command: str, settings: dict[str, Any], rows: list[dict], args: argparse.Namespace) -> str:
    signals = list(dict.fromkeys((row["setting"], row["scorer"]) for row in rows))
    by = {(r["model"], r["task"], r["setting"], r["scorer"], r["group"]): r for r in rows}
    models, tasks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "task"))
    label = lambda s: s[1] if s[0] == "control" else ", ".join(s)  # noqa: E731
    kept = {"models": ", ".join(m for m in models if m != ALL), "command": command, "fewest": FEWEST}
    count = sum(one["questions"] for one in settings["accuracy"])
    lines = [INTRODUCTION.format(**settings | kept | {"questions": count}), "", "![AUC](real_pmi.png)", ""]
    lines += ["## What was answered, percent", ""]
    heads = ["task", "questions", "vote right", *(f"{m} right / read / nothing before it" for m in models if m != ALL)]
    percent = lambda value: "-" if value is None else f"{100 * value:.0f}"  # noqa: E731
    table = [
        [one["task"], str(one["questions"]), percent(one["vote_right"])]
        + [
            " / ".join(percent(one[key][m]) for key in ("right", "read", "nothing_before_the_answer"))
            for m in models
            if m != ALL
        ]
        for one in settings["accuracy"]
    ]
    lines += pipe_table(heads, table)
    for group in GROUPS:
        lines += ["", f"## AUC: {group}", ""]
        heads = ["task", "model", "n (right)", *map(label, signals)]
        table = []
        for task in tasks:
            for model in models:
                first = by[model, task, *signals[0], group]
                own = [by[model, task, *signal, group] for signal in signals]
                table.append(
                    [task, model, f"{first['n']} ({first['right']})", *(shown(r["auc"], r["ci95"]) for r in own)]
                )
        lines += pipe_table(heads, table)
    lines += ["", "## AUC within questions", "", "Pairs of samples of the same question and model, all models.", ""]
    heads = ["task", "group", *map(label, signals)]
    table = [
        [task, group]
        + [
            shown(r["auc_within_question"], r["ci95_within_question"])
            for r in (by[ALL, task, *signal, group] for signal in signals)
        ]
        for task in tasks
        for group in ("all", "disagree")
    ]
    lines += pipe_table(heads, table)
    lines += ["", "## Size of PMI (nats) and of the weights", "", "Quartiles of PMI; shares in percent.", ""]
    heads = ["signal", "task", "model", "PMI, agree", "PMI, disagree", "exactly 0", "saturated", "saturated, tau = 1"]
    quartiles = lambda q: "-" if q is None else " / ".join(f"{round(v, 1) + 0.0:+.1f}" for v in q)  # noqa: E731
    table = []
    for signal in signals:
        for task in tasks if signal[0] != "control" else ():
            for model in models:
                r = by[model, task, *signal, "all"]
                sizes = [quartiles(r["pmi_quartiles_agree"]), quartiles(r["pmi_quartiles_disagree"])]
                flags = [percent(r[key]) for key in ("zero", "saturated", "saturated_at_1_nat")]
                table.append([label(signal), task, model, *sizes, *flags])
    lines += pipe_table(heads, table)
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """AUC of every signal by task, all models together, one panel a group."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    signals = list(dict.fromkeys((row["setting"], row["scorer"]) for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    colours = ["#999999", "#56B4E9", "#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    figure, axes = plt.subplots(1, 3, figsize=(12, 0.75 * len(tasks) + 1.6), sharey=True, layout="constrained")
    titles = {"all": "all samples", "agree": "samples with reward 1", "disagree": "samples with reward 0"}
    for axis, group in zip(axes, GROUPS, strict=True):
        axis.axvline(0.5, color="black", linewidth=0.8)
        for k, (signal, colour) in enumerate(zip(signals, colours, strict=True)):
            label = signal[1] if signal[0] == "control" else f"PMI {', '.join(signal)}"
            for row in rows:
                if (row["setting"], row["scorer"]) != signal or row["model"] != ALL or row["group"] != group:
                    continue
                if row["auc"] is None:
                    continue
                y = len(tasks) - 1 - tasks.index(row["task"]) + 0.3 - 0.12 * k
                axis.plot(row["ci95"], [y, y], color=colour, linewidth=1.5)
                axis.plot(row["auc"], y, "o" if signal[0] != "control" else "D", color=colour, markersize=4)
            axis.plot([], [], "o" if signal[0] != "control" else "D", color=colour, label=label, markersize=4)
        for y in range(1, len(tasks)):
            axis.axhline(y - 0.5, color="#dddddd", linewidth=0.6)
        if not any(row["auc"] for row in rows if row["model"] == ALL and row["group"] == group):
            axis.text(
                0.5, 0.5, "too few right samples", ha="center", transform=axis.transAxes, backgroundcolor="white"
            )
        axis.set_title(titles[group], fontsize=10)
        axis.set_xlabel("AUC, right against wrong")
        axis.set_xlim(0, 1)
    axes[0].set_yticks(range(len(tasks)), ["all tasks" if t == ALL else t for t in reversed(tasks)])
    axes[0].set_ylim(-0.6, len(tasks) - 0.4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
