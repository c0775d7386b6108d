"""What does learning from discussions do? SAIE on the tiny learner, against the same training without discussion.

    python scripts/saie_study.py                                            # docs/results/saie.*
    python scripts/saie_study.py --split validation --seeds 100 101         # to choose settings

The learner is trained with a frozen copy of itself as its partner, which can support and attack; frozen tiny peers
vote with both on the targets, and no label is used unless an arm says "supervised". Every arm makes the same updates
on the same questions, with the same number of target tokens. Measured on held-out questions, greedily: the learner
alone, after self-discussion, and after discussion with each peer.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from compare_report import interval, spread
from reward_schemes import BUDGET
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PeerSpec, PSTConfig, PSTTrainer, load_questions
from pst_rl.discussion.discuss import measure_discussion
from pst_rl.discussion.saie import SAIERollout
from pst_rl.report import pipe_table
from pst_rl.tiny import TINY_LEARNER, TINY_PEERS
from pst_rl.tiny.discussion import LEARNER_STYLE

SETTINGS = BUDGET | {"learning_rate": 2e-4, "skip_zero_advantage": False}
DISCUSS = {"objective": "discussion_sft", "rewards": ["saie"]}
GOLD = {"supervised": True, "aggregator": "supervised_gold"}


INTRODUCTION = """# Learning from discussions (SAIE)

Written by `python scripts/saie_study.py`; do not edit. What it means: [findings](../findings.md).

Greedy exact match of the tiny learner in percent, mean over seeds with the 95 % t-interval."""

WARMUP = {"warmup_steps": 12}  # half of the updates are plain, as in the paper's first phase


def saie(**options) -> dict:
    return {"reward_options": {"saie": {"rollout": LEARNER_STYLE | {"partner": "partner"} | options}}}


ARMS: dict[str, dict] = {
    "no discussion": {"objective": "aggregate_sft"},
    "discussion": DISCUSS | saie(**WARMUP),
    "discussion, shuffled remarks": DISCUSS | saie(shuffle_remarks=True, **WARMUP),
    "supervised, no discussion": {"objective": "aggregate_sft"} | GOLD,
    "supervised, discussion": DISCUSS | saie(**WARMUP) | GOLD,
    "supervised, shuffled remarks": DISCUSS | saie(shuffle_remarks=True, **WARMUP) | GOLD,
    "GRPO, no discussion": {},
    "GRPO, discussion": {"rewards": ["saie"]} | saie(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "saie_study", "arms", ARMS, questions=600)
    args = parser.parse_args(arguments)
    args.settings = with_changes(SETTINGS, args.set)
    args.out = args.out / args.split
    before = Job("before training", args.out / "before.json", lambda: measured(make_trainer({}, 0, args), args), alone)
    failed = run_jobs([before], 1)
    failed += run_jobs([make_job(arm, seed, args) for seed in args.seeds for arm in args.arms], args.jobs)
    write_report(args)
    return 1 if failed else 0


def make_trainer(config: dict, seed: int, args: argparse.Namespace) -> PSTTrainer:
    frozen = {"partner": TINY_LEARNER, "gemma2": TINY_PEERS["gemma2"], "llama": TINY_PEERS["llama"]}
    peers = {"learner": PeerSpec(str(TINY_LEARNER))}
    peers |= {name: PeerSpec(str(folder), trainable=False) for name, folder in frozen.items()}
    return PSTTrainer(
        peers,
        PSTConfig(output_dir=str(args.out / "scratch" / str(os.getpid())), seed=seed, **args.settings | config),
        train_dataset=load_questions("tiny", split="train"),
    )


def make_job(arm: str, seed: int, args: argparse.Namespace) -> Job:
    def work() -> dict:
        trainer = make_trainer(ARMS[arm], seed, args)
        trainer.train()
        logs = [log for log in trainer.state.log_history if "loss" in log]
        return measured(trainer, args) | {
            "arm": arm,
            "seed": seed,
            "target_tokens": fmean(log["learner/completions/mean_length"] for log in logs),
            "target_accuracy": fmean(log["aggregate/accuracy"] for log in logs),
        }

    return Job(f"{arm}, seed {seed}", result_file(args.out, arm, seed), work, alone)


def measured(trainer: PSTTrainer, args: argparse.Namespace) -> dict:
    """Accuracy in percent by setting."""
    found = measure_discussion(
        trainer,
        load_questions("tiny", split=args.split, limit=args.questions),
        learners=["learner"],
        rollout=SAIERollout(**LEARNER_STYLE),
    )
    return {"accuracy": {s: 100 * sum(hits) / len(hits) for s, hits in found.correct["learner"].items()}}


def alone(result: dict) -> float:
    return result["accuracy"]["alone"]


def write_report(args: argparse.Namespace) -> None:
    """A Markdown table and the JSON behind it."""
    before = json.loads((args.out / "before.json").read_text())["accuracy"]
    rows, found = [], {}
    for arm in ARMS:
        files = {seed: result_file(args.out, arm, seed) for seed in args.seeds}
        found[arm] = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
        base = found["supervised, no discussion" if arm.startswith("supervised") else "no discussion"]
        runs = list(found[arm].values())
        if runs:
            paired = [alone(run) - alone(base[seed]) for seed, run in found[arm].items() if seed in base]
            by_setting = {s: [run["accuracy"][s] for run in runs] for s in before}
            rows.append(
                {"arm": arm, "seeds": len(runs)}
                | {key: fmean(run[key] for run in runs) for key in ("target_accuracy", "target_tokens")}
                | {"accuracy": {s: fmean(v) for s, v in by_setting.items()}}
                | {"ci95": {s: interval(v) for s, v in by_setting.items()}}
                | {"alone_minus_no_discussion": fmean(paired) if paired else None, "paired_ci95": interval(paired)}
            )
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "questions": args.questions, "settings": args.settings, "before": before}
    (args.docs / "saie.json").write_text(json.dumps(settings | {"rows": rows}, indent=1) + "\n")
    settings_heads = (f"after discussion with {s}" if s != "alone" else s for s in before)
    heads = ["arm", *settings_heads, "alone minus no discussion, paired"]
    heads += ["tokens of an answer", "targets right", "seeds"]
    cells = [["before training", *(f"{v:.1f}" for v in before.values()), "-", "-", "-", "-"]]
    for row in rows:
        values = [spread(row["accuracy"][s], row["ci95"][s]).replace("+", "") for s in before]
        minus = row["alone_minus_no_discussion"]
        paired = "-" if minus is None or "no discussion" in row["arm"] else spread(minus, row["paired_ci95"])
        targets = [f"{row['target_tokens']:.1f}", f"{100 * row['target_accuracy']:.0f} %"]
        cells.append([row["arm"], *values, paired, *targets, str(row["seeds"])])
    text = "\n".join([f"{INTRODUCTION}\n", *pipe_table(heads, cells)])
    (args.docs / "saie.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
