"""Is a planted collapse caught before it costs accuracy, and does a healthy run stay without alarms?

    python scripts/collapse_study.py                       # docs/results/collapse.*: three runs at five seeds
    python scripts/collapse_study.py --seeds 100 --split validation

Each run trains the tiny peers with the demo's budget and the monitor of `pst_rl.collapse`, and measures the greedy
accuracy of every peer on held-out questions after every generation batch. Planted are a reward that pays for one
constant answer, and a sequential rollout whose reward pays for repeating the peer before.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from compare_report import pipe_table
from reward_schemes import BUDGET
from run_jobs import Job, result_file, run_jobs
from transformers import TrainerCallback

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.records import Group, Rewards
from pst_rl.tiny import TINY_PEERS
from pst_rl.vitals import agreement_beyond_chance, vitals

CONSTANT = 7
# Hotter samples and a higher, constant learning rate than the demo's: there, neither planted reward does any harm.
HOT = {"temperature": 1.5, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
BUDGET = BUDGET | {"max_steps": 24, "logging_steps": 4, "on_collapse": "warn"}
SHOWN = {"context": "sequential", "peer_context": "answers"}


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

        return _paid(group, paid)


def as_number(text: str) -> float | None:
    """A whole number, or `None`."""
    digits = text.strip().replace(",", "")
    return float(digits) if digits.removeprefix("-").isdecimal() else None


class RepeatsThePeerBefore:
    """Planted: 1 for the answer of the peer before in the chain; the first speaker is paid for the last one's."""

    name = "repeats_the_peer_before"

    def __call__(self, group: Group) -> Rewards:
        def repeats(p: int, q: int, g: int) -> bool:
            order = group.order[q]
            other = order[order.index(p) - 1]
            key = group.responses[p][q][g].key
            return key is not None and key == group.responses[other][q][g].key

        return _paid(group, repeats)


def _paid(group: Group, pays) -> Rewards:
    values = torch.zeros(group.shape)
    for p, q, g, _ in group.cells():
        values[p, q, g] = float(pays(p, q, g))
    return Rewards(values, torch.zeros(group.shape, dtype=torch.bool))


RUNS = {
    "healthy: majority, the demo's budget": ({}, None),
    "healthy: majority": (HOT, None),
    "healthy: majority, sequential": (HOT | SHOWN, None),
    "planted: one constant answer": (HOT, ConstantAnswer),
    "planted: repeating the peer before": (HOT | SHOWN, RepeatsThePeerBefore),
}


class Accuracy(TrainerCallback):
    """Measures all peers after every generation batch."""

    def __init__(self):
        self.trainer: PSTTrainer | None = None
        self.rows: list[dict] = []

    def measure(self, step: int) -> None:
        metrics = self.trainer.measure(samples=0).metrics()
        row = {"step": step} | {name: metrics[f"{name}/accuracy"] for name in self.trainer.peers}
        if self.trainer.last_group is not None:
            row["vitals"] = {n: v.__dict__ for n, v in vitals(self.trainer.last_group).items()}
            row["beyond_chance"] = agreement_beyond_chance(self.trainer.last_group)
        self.rows.append(row)

    def on_train_begin(self, args, state, control, **kwargs):
        self.measure(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % args.steps_per_generation == 0:
            self.measure(state.global_step)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="RUN")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="change the shared budget")
    args = parser.parse_args(arguments)
    args.budget = BUDGET | {name: json.loads(value) for name, value in (item.split("=", 1) for item in args.set)}
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
        return {"run": run, "seed": seed, "alarms": trainer.collapse.alarms, "accuracy": accuracy.rows}

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
    """collapse.json and .md."""
    rows, results = [], []
    for run in args.runs:
        files = [result_file(args.out, run, seed) for seed in args.seeds]
        done = [json.loads(file.read_text()) for file in files if file.is_file()]
        results += done
        if not done:
            continue
        alarms = [found for result in done if (found := at_alarm(result)) is not None]
        end = [loss(result, len(result["accuracy"]) - 1) for result in done]
        steps = ", ".join(str(step) for step, _ in alarms) or "none"
        lost = ", ".join(f"{points:+.1f}" for _, points in alarms) or "-"
        rows.append([run, f"{len(alarms)} of {len(done)}", steps, lost, ", ".join(f"{p:+.1f}" for p in end)])
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "questions": args.questions}
    (args.docs / "collapse.json").write_text(json.dumps(settings | {"runs": results}, indent=1) + "\n")
    table = "\n".join(pipe_table(HEADS, rows))
    text = INTRODUCTION.format(questions=args.questions, split=args.split) + "\n" + table + "\n"
    (args.docs / "collapse.md").write_text(text)
    print(text)


HEADS = ("run", "alarms", "at step", "points lost at the alarm", "points lost at the end")
INTRODUCTION = """# Planted collapses

Written by `python scripts/collapse_study.py`; do not edit. What the monitor watches: [trust](../trust.md).

The tiny peers, 24 updates (4 a generation batch of 32 questions), mean greedy accuracy on {questions} {split}
questions; one number for each seed. Points lost are from the start; a negative number is a gain.
"""


if __name__ == "__main__":
    sys.exit(main())
