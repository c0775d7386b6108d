"""Is a planted collapse caught before it costs accuracy, and does a healthy run stay without alarms?

    python scripts/collapse_study.py                       # docs/results/collapse.*: five runs at five seeds
    python scripts/collapse_study.py --seeds 100 101 --split validation --docs runs/docs    # to choose thresholds

Each run trains the tiny peers on the demo's questions with the monitor of `pst_rl.monitors.collapse` and its probe,
and measures the greedy accuracy of every peer on held-out questions after every generation batch. Planted are a reward
that pays for one constant answer, and training on whatever the last and weakest peer says.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from reward_schemes import BUDGET
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes
from transformers import TrainerCallback

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.records import Group, Rewards
from pst_rl.report import pipe_table
from pst_rl.rewards.base import blank
from pst_rl.tiny import TINY_PEERS

CONSTANT = 7
PROBED = 1200
BUDGET = BUDGET | {"max_steps": 32, "lr_scheduler_type": "constant", "collapse_probe": PROBED, "on_collapse": "warn"}
LAST = {"objective": "aggregate_sft", "aggregator": "last_peer", "update_last_peer": False}


class ConstantAnswer:
    """Planted: 1 / (1 + |a - 7|) for the answer a, whatever the question is.

    Paying for a = 7 alone plants nothing: hardly any other question is ever answered so, and nothing is learned.
    """

    name = "constant_answer"

    def __call__(self, group: Group) -> Rewards:
        def paid(p: int, q: int, g: int) -> float:
            answer = group.responses[p][q][g].answer
            number = None if answer is None else as_number(answer.text)
            return 0.0 if number is None else 1 / (1 + abs(number - CONSTANT))

        values, abstain = blank(group)
        for p, q, g, _ in group.cells():
            values[p, q, g] = paid(p, q, g)
        return Rewards(values, abstain)


def as_number(text: str) -> float | None:
    """A whole number, or `None`."""
    digits = text.strip().replace(",", "")
    return float(digits) if digits.removeprefix("-").isdecimal() else None


RUNS = {
    "healthy: majority": ({}, None),
    "healthy: majority, sequential": ({"context": "sequential"}, None),
    "planted: one constant answer": ({}, ConstantAnswer),
    "planted: copying the last peer": (LAST, None),
    "planted: copying the last peer, slowly": (LAST | {"learning_rate": 2e-4, "max_steps": 48}, None),
}


class Accuracy(TrainerCallback):
    """Measures all peers after every generation batch."""

    def __init__(self):
        self.trainer: PSTTrainer | None = None
        self.rows: list[dict] = []

    def measure(self, step: int) -> None:
        metrics = self.trainer.measure(samples=0).metrics()
        self.rows.append({"step": step} | {name: metrics[f"{name}/accuracy"] for name in self.trainer.peers})

    def on_train_begin(self, args, state, control, **kwargs):
        self.measure(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % args.steps_per_generation == 0:
            self.measure(state.global_step)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "collapse", "runs", RUNS, questions=600, seeds=[10, 11, 12, 13, 14])
    args = parser.parse_args(arguments)
    args.budget = with_changes(BUDGET, args.set)
    args.out = args.out / args.split
    failed = run_jobs([make_job(run, seed, args) for seed in args.seeds for run in args.runs], args.jobs)
    write_report(args)
    return 1 if failed else 0


def make_job(run: str, seed: int, args: argparse.Namespace) -> Job:
    def work() -> dict:
        settings, reward = RUNS[run]
        accuracy = Accuracy()
        trainer = PSTTrainer(
            {name: str(folder) for name, folder in TINY_PEERS.items()},
            PSTConfig(output_dir=str(args.out / "scratch" / f"{run}{seed}"), seed=seed, **args.budget | settings),
            train_dataset=load_questions("tiny", split="train"),
            eval_dataset=load_questions("tiny", split=args.split, limit=args.questions),
            reward_providers=None if reward is None else [reward()],
            callbacks=[accuracy],
        )
        accuracy.trainer = trainer
        trainer.train()
        payoffs = [row["peers/payoff"] for row in trainer.state.log_history if "peers/payoff" in row]
        found = {"alarms": trainer.collapse.alarms, "probe": trainer.collapse.probe.history, "payoff": payoffs}
        return {"run": run, "seed": seed, "accuracy": accuracy.rows} | found

    return Job(
        f"{run}, seed {seed}", result_file(args.out, run, seed), work, lambda r: loss(r, len(r["accuracy"]) - 1)
    )


def mean_accuracy(row: dict) -> float:
    return 100 * fmean(row[name] for name in TINY_PEERS)


def loss(result: dict, row: int) -> float:
    """Points of mean accuracy lost up to a measurement, from the start."""
    return mean_accuracy(result["accuracy"][0]) - mean_accuracy(result["accuracy"][row])


def at_alarm(result: dict) -> tuple[int, float] | None:
    """Step of the first alarm, and the points lost when it was raised."""
    if not result["alarms"]:
        return None
    step = int(result["alarms"][0].split()[1].rstrip(":"))
    seen = [row for row, measured in enumerate(result["accuracy"]) if measured["step"] <= step]
    return step, loss(result, seen[-1])


def write_report(args: argparse.Namespace) -> None:
    """collapse.json and .md, from every finished seed in `--out`."""
    rows, results = [], []
    for run in args.runs:
        files = sorted(args.out.glob(result_file(args.out, run, 0).name.replace("seed0", "seed*")))
        done = [json.loads(file.read_text()) for file in files if file.suffix == ".json"]
        results += done
        if not done:
            continue
        alarms = [found for result in done if (found := at_alarm(result)) is not None]
        end = [loss(result, len(result["accuracy"]) - 1) for result in done]
        steps = ", ".join(str(step) for step, _ in alarms) or "none"
        lost = ", ".join(f"{points:+.1f}" for _, points in alarms) or "-"
        seeds = ", ".join(str(result["seed"]) for result in done)
        rows.append([run, seeds, f"{len(alarms)} of {len(done)}", steps, lost, ", ".join(f"{p:+.1f}" for p in end)])
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "questions": args.questions, "budget": args.budget}
    (args.docs / "collapse.json").write_text(json.dumps(settings | {"runs": results}, indent=1) + "\n")
    table = "\n".join(pipe_table(HEADS, rows))
    text = INTRODUCTION.format(**settings, probed=args.budget["collapse_probe"]) + "\n" + table + "\n"
    (args.docs / "collapse.md").write_text(text)
    print(text)


HEADS = ("run", "seeds", "alarms", "at step", "points lost at the alarm", "points lost at the end")
INTRODUCTION = """# Planted collapses

Written by `python scripts/collapse_study.py`; do not edit. What the monitor watches: [trust](../trust.md).

The tiny peers, 32 updates at a constant learning rate of 4e-4 (4 a generation batch of 32 questions), mean greedy
accuracy on {questions} {split} questions; one number for each seed. Points lost are from the start; a negative number
is a gain. The probe asks {probed} training questions between generation batches. *Copying*: two peers are trained on
the responses of the third and weakest, which stays as it is; *slowly*: at 2e-4, 48 updates.
"""


if __name__ == "__main__":
    sys.exit(main())
