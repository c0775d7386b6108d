"""ICM as a reward: peers that answer concept questions, against the majority vote, random and gold rewards.

    python scripts/icm_study.py                                      # docs/results/icm_reward.*
    python scripts/icm_study.py --split validation --seeds 100 101   # to choose settings

Three copies of the tiny concept model answer questions about items without any context, and half know what is asked:
they agree with the most salient concept on 69 % of the items. Every arm makes the same updates on the same questions.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from compare_report import interval, spread
from datasets import Dataset
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.report import pipe_table
from pst_rl.tiny import CONCEPT_STYLE, TINY_CONCEPT_MODEL, concept_questions

SETTINGS = {
    "max_steps": 24,
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 96,
    "steps_per_generation": 4,
    "num_generations": 8,
    "max_completion_length": 4,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "loss_type": "grpo",
    "answer_template": "{answer}",
    "gradient_checkpointing": False,
    "quorum": 0.0,
    "save_strategy": "no",
    "logging_steps": 4,
    "report_to": [],
    "disable_tqdm": True,
}
ICM = {"candidates": "labels", "judge": str(TINY_CONCEPT_MODEL)} | CONCEPT_STYLE


def icm(samples: int, **options) -> dict:
    """The most coherent of so many sampled labellings is what rewards."""
    search = {"start": "empty", "sweeps": 2, "anneal_to": 0.0, "restarts": samples}
    return {"rewards": ["icm"], "reward_options": {"icm": ICM | {"search": search} | options}}


ARMS: dict[str, dict] = {
    "ICM, frozen judge, best of 8": icm(8),
    "ICM, frozen judge, best of 24": icm(24),
    "ICM, the peers judge, best of 24": icm(24, judge="peers"),
    "majority": {},
    "random": {"rewards": ["random"]},
    "gold, supervised": {"rewards": ["supervised_gold"], "supervised": True},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "icm_study", "arms", ARMS)
    args = parser.parse_args(arguments)
    args.settings = with_changes(SETTINGS, args.set)
    args.out = args.out / args.split
    failed = run_jobs([make_job(arm, seed, args) for seed in args.seeds for arm in args.arms], args.jobs)
    write_report(args)
    return 1 if failed else 0


def questions(split: str, n: int) -> Dataset:
    rows = concept_questions(split, n)
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row["question"]}], "answer": row["answer"]} for row in rows]
    )


def make_job(arm: str, seed: int, args: argparse.Namespace) -> Job:
    def work() -> dict:
        trainer = PSTTrainer(
            dict.fromkeys("abc", str(TINY_CONCEPT_MODEL)),
            PSTConfig(output_dir=str(args.out / "scratch" / str(os.getpid())), seed=seed, **args.settings | ARMS[arm]),
            train_dataset=questions("train", 128),
            eval_dataset=questions(args.split, 32 if args.split == "validation" else 96),
        )
        before = accuracy(trainer)
        trainer.train()
        logs = [log for log in trainer.state.log_history if "loss" in log]
        found = {"arm": arm, "seed": seed, "before": before, "after": accuracy(trainer)}
        icm = [log["icm/tokens"] for log in logs if "icm/tokens" in log]
        return found | {
            "judge_tokens": fmean(icm) if icm else 0.0,
            "targets": [log.get("aggregate/accuracy") for log in logs],
        }

    return Job(f"{arm}, seed {seed}", result_file(args.out, arm, seed), work, lambda r: r["after"] - r["before"])


def accuracy(trainer: PSTTrainer) -> float:
    """Greedy exact match in percent, mean of the peers."""
    metrics = trainer.measure().metrics()
    return 100 * fmean(metrics[f"{peer}/accuracy"] for peer in trainer.peers)


def write_report(args: argparse.Namespace) -> None:
    """icm_reward.json and .md."""
    rows, found = [], {}
    for arm in ARMS:
        files = {seed: result_file(args.out, arm, seed) for seed in args.seeds}
        found[arm] = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
    for arm, runs in found.items():
        if runs:
            after = [run["after"] for run in runs.values()]
            paired = [
                run["after"] - found["majority"][s]["after"] for s, run in runs.items() if s in found["majority"]
            ]
            rows.append(
                {"arm": arm, "seeds": len(runs), "before": fmean(run["before"] for run in runs.values())}
                | {"after": fmean(after), "ci95": interval(after)}
                | {"minus_majority": fmean(paired) if paired else None, "minus_majority_ci95": interval(paired)}
                | {"judge_tokens": fmean(run["judge_tokens"] for run in runs.values())}
            )
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "settings": args.settings}
    (args.docs / "icm_reward.json").write_text(json.dumps(settings | {"rows": rows}, indent=1) + "\n")
    heads = ("reward", "before", "after (95 %)", "minus majority, paired", "tokens read by the judge a batch", "seeds")
    text = "\n".join([INTRODUCTION.format(split=args.split), *pipe_table(heads, map(cells, rows))])
    (args.docs / "icm_reward.md").write_text(text + "\n")
    print(text)


INTRODUCTION = """# ICM as a reward

Written by `python scripts/icm_study.py`; do not edit. What it means: [ICM as a reward](../schemes/icm.md).

Three copies of the tiny concept model answer questions about items; greedy exact match with the most salient concept
in percent ({split} split), mean of the peers, mean over seeds with the 95 % t-interval.
"""


def cells(row: dict) -> list[str]:
    minus = row["minus_majority"]
    paired = "-" if minus is None or row["arm"] == "majority" else spread(minus, row["minus_majority_ci95"])
    after = spread(row["after"], row["ci95"]).replace("+", "")
    return [row["arm"], f"{row['before']:.1f}", after, paired, f"{row['judge_tokens']:,.0f}", str(row["seeds"])]


if __name__ == "__main__":
    sys.exit(main())
