"""Where, if anywhere, does scaling advantages by PMI pay? Variants of the weight on the tiny peers.

    python scripts/pmi_study.py --split validation --seeds 100 101 102          # to choose
    python scripts/pmi_study.py --split test --variants off on re-centred --seeds 20 21 22 23 24 25 26 27 28 29 \\
        --earlier docs/results/pmi_study_test.json                           # beside what is there already

Every run has the budget of `compare_rewards.py`. Beside the gain it reports, from all generation batches, what the
weights looked like: their mean where the reward is 1 and where it is 0, the share that is saturated, and how well PMI
tells right from wrong samples *among those with the same reward* (AUC; .5 is chance; gold is used for this only).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from compare_report import interval, spread
from compare_rewards import PEERS, make_trainer, mean_gain, measure_before, train
from reward_schemes import BUDGET
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PSTTrainer
from pst_rl.answers import is_correct
from pst_rl.report import pipe_table

OFF = {"weighting": "none"}
ON = {"weighting": "pmi", "recentre_weighted": False}
ANSWERED_BY_OTHERS = ON | {"weighting_options": {"scorer": "other_peers", "marginal": "unconditional"}}

# variant: (settings, what becomes of the weights)
VARIANTS = {
    "off": (OFF, "as they are"),
    "on": (ON, "as they are"),
    "re-centred": (ON | {"recentre_weighted": True}, "as they are"),
    "constant per reward": (ON, "mean by sign"),
    "balanced by sign": (ON, "divide by mean of sign"),
    "inverted": (ON, "inverted"),
    "inverted, constant per reward": (ON, "inverted, mean by sign"),
    "inverted, balanced by sign": (ON, "inverted, divide by mean of sign"),
    "positive only": (ON, "1 where reward is 0"),
    "negative only": (ON, "1 where reward is 1"),
    "scored by others": (ANSWERED_BY_OTHERS, "as they are"),
    "scored by others, balanced": (ANSWERED_BY_OTHERS, "divide by mean of sign"),
    "scored by others, inverted, balanced": (ANSWERED_BY_OTHERS, "inverted, divide by mean of sign"),
    "whole response, balanced": (ON | {"weighting_options": {"target": "response"}}, "divide by mean of sign"),
    "no quorum, off": (OFF | {"quorum": 0.0}, "as they are"),
    "no quorum, on": (ON | {"quorum": 0.0}, "as they are"),
    "no quorum, inverted, balanced": (ON | {"quorum": 0.0}, "inverted, divide by mean of sign"),
}


INTRODUCTION = """# Where scaling by PMI pays

Written by `python scripts/pmi_study.py`; do not edit. What it means: [findings](../findings.md).

Gains of greedy exact match in points, mean of the three tiny peers on {questions} questions of the {split} split, with
the 95 % t-interval over seeds. *Agrees* and *disagrees* are samples with reward 1 and 0; *AUC* is how well PMI tells
right from wrong among them (.5 is chance). Weights act as they are (*on* and all changes of it), or the mean of each
group's weighted advantages is taken off (*re-centred*).
"""


class StudyTrainer(PSTTrainer):
    """Changes the PMI weights as its `change` says, and keeps a record of them."""

    change = "as they are"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.records: list[dict[str, float]] = []

    def compute_weights(self, group, rewards, rollouts):
        weights = super().compute_weights(group, rewards, rollouts)
        reward = rewards["matches_aggregate"].values
        scored = weights.pmi.isfinite()
        if not scored.any():
            return weights
        self.records.append(describe(weights, reward, scored, self.correctness(group)))
        return replace(weights, values=changed(weights.values, reward, scored, self.change))

    def correctness(self, group) -> torch.Tensor:
        """1 where a sample is right by gold, (P, Q, G)."""
        right = torch.zeros(group.shape)
        for p, q, g, response in group.cells():
            gold = self._train_gold[group.columns[q]["question_id"]]
            right[p, q, g] = float(response.answer is not None and is_correct(response.answer, gold))
        return right


def changed(values: torch.Tensor, reward: torch.Tensor, scored: torch.Tensor, change: str) -> torch.Tensor:
    """The weights after a change; what was not scored keeps weight 1."""
    if change.startswith("inverted"):  # 2 sigmoid(z) instead of 2 sigmoid(-z)
        values = torch.where(scored, 2.0 - values, values)
    for sign in (0.0, 1.0):
        chosen = scored & (reward == sign)
        if not chosen.any():
            continue
        mean = values[chosen].mean()
        if change.endswith("mean by sign"):
            values = torch.where(chosen, mean, values)
        elif change.endswith("divide by mean of sign"):
            values = torch.where(chosen, values / mean, values)
        elif change == f"1 where reward is {sign:.0f}":
            values = torch.where(chosen, 1.0, values)
    return values


def describe(weights, reward, scored, right) -> dict[str, float]:
    """Means of the weights and what PMI knows, by reward."""
    found = {"saturated": ((weights.values < 0.1) | (weights.values > 1.9))[scored].float().mean().item()}
    for name, sign in (("agrees", 1.0), ("disagrees", 0.0)):
        chosen = scored & (reward == sign)
        if chosen.any():
            found[f"weight, {name}"] = weights.values[chosen].mean().item()
            found[f"PMI, {name}"] = weights.pmi[chosen].mean().item()
            found[f"AUC, {name}"] = auc(weights.pmi[chosen], right[chosen])
    return found


def auc(score: torch.Tensor, label: torch.Tensor) -> float:
    """Chance that a right sample has the higher score; NaN where all or none are right."""
    right, wrong = score[label == 1], score[label == 0]
    if not len(right) or not len(wrong):
        return float("nan")
    difference = right.unsqueeze(1) - wrong.unsqueeze(0)
    return ((difference > 0).float() + 0.5 * (difference == 0).float()).mean().item()


def make_job(variant: str, seed: int, args: argparse.Namespace) -> Job:
    config, change = VARIANTS[variant]

    def work() -> dict:
        trainer = make_trainer(args.budget | config, seed, list(PEERS), args, StudyTrainer)
        trainer.change = change
        return train(trainer) | {"variant": variant, "seed": seed, "diagnosis": means(trainer.records)}

    file = result_file(args.out, variant, seed)
    return Job(f"{variant}, seed {seed}", file, work, lambda result: mean_gain(result, args))


def means(records: list[dict[str, float]]) -> dict[str, float]:
    """Means over generation batches, NaNs left out."""
    keys = {key for record in records for key in record}
    return {
        key: fmean(values)
        for key in sorted(keys)
        if (values := [r[key] for r in records if key in r and r[key] == r[key]])
    }


def tabulate(args: argparse.Namespace) -> list[dict]:
    """One row per variant with finished seeds; differences to `off` are paired by seed."""
    found = {}
    for variant in args.variants:
        files = {seed: result_file(args.out, variant, seed) for seed in args.seeds}
        found[variant] = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
    gains = {v: {seed: mean_gain(result, args) for seed, result in runs.items()} for v, runs in found.items()}
    rows = []
    for variant, own in gains.items():
        if own:
            paired = [own[seed] - gains["off"][seed] for seed in own if seed in gains.get("off", {})]
            rows.append(
                {"variant": variant, "seeds": len(own), "gains": {str(seed): own[seed] for seed in sorted(own)}}
                | {"gain": fmean(own.values()), "ci95": interval(list(own.values()))}
                | {"minus_off": fmean(paired) if paired else None, "minus_off_ci95": interval(paired)}
                | {"seconds_per_step": fmean(r["seconds_per_step"] for r in found[variant].values())}
                | {"diagnosis": means([r["diagnosis"] for r in found[variant].values()])}
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = {"seeds": [100, 101, 102], "split": "validation", "questions": 900}
    parser = study_parser(__doc__, "pmi_study", "variants", VARIANTS, **chosen)
    parser.add_argument(
        "--earlier", type=Path, help="an earlier report of this study (JSON) to keep beside the new one"
    )
    args = parser.parse_args(arguments)
    args.budget, args.out = with_changes(BUDGET, args.set), args.out / args.split
    before = Job("before training", args.out / "before.json", lambda: measure_before(args), lambda r: 0.0)
    failed = run_jobs([before], 1)
    failed += run_jobs([make_job(v, s, args) for s in args.seeds for v in args.variants], args.jobs)
    write_report(tabulate(args), args)
    return 1 if failed else 0


def write_report(rows: list[dict], args: argparse.Namespace) -> None:
    """pmi_study_<split>.json and .md; the tables of an earlier report stand under the new one."""
    earlier = []
    if args.earlier is not None:
        report = json.loads(args.earlier.read_text())
        earlier = [report["rows"], *report.get("earlier", [])]
    text = INTRODUCTION.format(questions=args.questions, split=args.split)
    for table in (rows, *earlier):
        seeds = sorted({int(seed) for row in table for seed in row["gains"]})
        text += "\n".join(["", f"Seeds {', '.join(map(str, seeds))}:", "", *table_of(table), ""])
    print(text)
    args.docs.mkdir(parents=True, exist_ok=True)
    (args.docs / f"pmi_study_{args.split}.md").write_text(text)
    report = {"split": args.split, "questions": args.questions, "budget": args.budget, "rows": rows}
    report |= {"earlier": earlier} if earlier else {}
    (args.docs / f"pmi_study_{args.split}.json").write_text(json.dumps(report, indent=1) + "\n")


def table_of(rows: list[dict]) -> list[str]:
    """The lines of one table, a variant a row."""
    found = sorted({key for row in rows for key in row["diagnosis"]})
    heads = ["weight", "gain (95 %)", "minus off, paired", *found, "seconds a step", "seeds"]
    cells = []
    for row in rows:
        minus = "-" if row["minus_off"] is None else spread(row["minus_off"], row["minus_off_ci95"])
        diagnosis = [f"{row['diagnosis'][key]:.2f}" if key in row["diagnosis"] else "-" for key in found]
        cells.append([row["variant"], spread(row["gain"], row["ci95"]), minus, *diagnosis])
        cells[-1] += [f"{row['seconds_per_step']:.1f}", str(row["seeds"])]
    return pipe_table(heads, cells)


if __name__ == "__main__":
    sys.exit(main())
