"""Trains the tiny peers under every reward scheme with the same questions, updates and seeds, and tabulates the gains.

    python scripts/compare_rewards.py                                     # the table: docs/results/compare_rewards.*
    python scripts/compare_rewards.py --schemes majority random --seeds 0 1 --out runs/compare --docs runs/docs
    python scripts/compare_rewards.py --split validation --seeds 100 101  # to choose settings

Resumable: a run whose result is in `--out` is not repeated. Runs share the cores, one thread each. The seconds of a
step are processor seconds of that thread.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread a run

from compare_report import write_report
from reward_schemes import BUDGET, SCHEMES
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.tiny import TINY_PEERS

PEERS = {name: str(folder) for name, folder in TINY_PEERS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "compare_rewards", "schemes", SCHEMES, questions=900)
    parser.add_argument("--list", action="store_true", help="name the schemes and stop")
    args = parser.parse_args(arguments)
    if args.list:
        print("\n".join(SCHEMES))
        return 0
    args.budget = with_changes(BUDGET, args.set)
    args.out = args.out / args.split
    before = args.out / "before.json"
    failed = run_jobs([Job("before training", before, lambda: measure_before(args), lambda r: 0.0)], 1)
    if not failed:
        jobs = [
            make_job(scheme, seed, alone, args)
            for seed in args.seeds
            for scheme in args.schemes
            for alone in (PEERS if SCHEMES[scheme].alone else [None])
        ]
        failed = run_jobs(jobs, args.jobs)
        write_report(args)
    return 1 if failed else 0


def make_job(scheme: str, seed: int, alone: str | None, args: argparse.Namespace) -> Job:
    """One scheme at one seed; `alone` names the only peer, or is `None` for all of them together."""
    peers = [alone] if alone else list(PEERS)

    def work() -> dict:
        trainer = make_trainer(args.budget | SCHEMES[scheme].config, seed, peers, args)
        return train(trainer) | {"scheme": scheme, "seed": seed}

    label = f"{scheme}, seed {seed}" + (f", {alone}" if alone else "")
    file = result_file(args.out, scheme if alone is None else f"{scheme}.{alone}", seed)
    return Job(label, file, work, lambda result: mean_gain(result, args))


def mean_gain(result: dict, args: argparse.Namespace) -> float:
    """Gain over the trained peers in points of greedy exact match."""
    before = json.loads((args.out / "before.json").read_text())
    return fmean(100 * (result["accuracy"][peer] - before[peer]) for peer in result["peers"])


def train(trainer: PSTTrainer) -> dict:
    """Trains and measures; returns accuracies, cost and what the logs say."""
    peers = list(trainer.peers)
    start = time.process_time()
    trainer.train()
    seconds = time.process_time() - start
    logs = [log for log in trainer.state.log_history if "loss" in log]
    mean = lambda key: sum(log[key] for log in logs if key in log) / max(1, sum(key in log for log in logs))  # noqa: E731
    return measured(trainer) | {
        "peers": peers,
        "seconds_per_step": seconds / trainer.state.max_steps,
        "generated_tokens": sum(mean(f"{p}/tokens/generated") for p in peers),
        "scored_tokens": sum(mean(f"{p}/tokens/scored") for p in peers),
        "answer_tokens": sum(mean(f"{p}/completions/mean_length") for p in peers) * rows(trainer),
        "target_accuracy": mean("aggregate/accuracy"),
        "abstained": mean("peers/abstained"),
        "agreement": [log["peers/agreement"] for log in logs],
        "supervised": trainer.args.supervised,
        "objective": trainer.args.objective,
    }


def measure_before(args: argparse.Namespace) -> dict[str, float]:
    """The untrained peers' accuracies, once for all runs."""
    return measured(make_trainer(args.budget, 0, list(PEERS), args))["accuracy"]


def make_trainer(config: dict, seed: int, peers: list[str], args, trainer_class=PSTTrainer) -> PSTTrainer:
    return trainer_class(
        {name: PEERS[name] for name in peers},
        PSTConfig(output_dir=str(args.out / "scratch" / str(os.getpid())), seed=seed, **config),
        train_dataset=load_questions("tiny", split="train"),
        eval_dataset=load_questions("tiny", split=args.split, limit=args.questions),
    )


def measured(trainer: PSTTrainer) -> dict:
    metrics = trainer.measure().metrics()
    names = [*trainer.peers, "vote"]
    return {
        "accuracy": {name: metrics[f"{name}/accuracy"] for name in names},
        "unanimous_wrong": metrics["peers/unanimous_wrong"],
        "parsed": {name: metrics[f"{name}/parsed"] for name in trainer.peers},
    }


def rows(trainer: PSTTrainer) -> int:
    """Samples per peer and generation batch."""
    return trainer.args.per_device_train_batch_size * trainer.args.steps_per_generation


if __name__ == "__main__":
    sys.exit(main())
