"""Do published models gain from each other without labels? Every scheme, with controls, on held-out questions.

    python scripts/real_tasks.py runs/tasks
    python scripts/real_learning.py --models smollm=FOLDER qwen=FOLDER --frozen qwen --tasks runs/tasks/facts:text

A task is a folder with train, validation and test.jsonl, and how its answers are read if not "auto". Frozen models
answer and vote, and are not trained; they are left out where their answers decide nothing. LoRA on bfloat16 weights,
with the same questions, updates and seeds for every scheme. Resumable: a run whose result is in `--out` is not
repeated. Runs share the cores, one thread each.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread a run

from datasets import Dataset
from peft import LoraConfig
from real_learning_report import write_report
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PeerSpec, PSTConfig, PSTTrainer, load_questions
from pst_rl.cli.presets import SMALL_TRAINING
from pst_rl.stages.evaluation import EvaluationRequest, evaluate_peers, is_right

SAMPLES = 8
SAMPLED = 24  # questions, from the first
# The preset `small`, measured by this script alone.
BUDGET: dict[str, Any] = SMALL_TRAINING | {
    "weighting": "none",
    "use_cpu": True,
    "on_nothing_read": "warn",
    "on_collapse": "warn",
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
}
# An answer without reasoning leaves nothing to condition on once its answer is cut off: the response is shown instead.
IN_PROMPT = {"conditioning": "in_prompt", "marginal": "unconditional"}
GOLD = {"supervised": True, "rewards": ["supervised_gold"]}

# scheme: (what it changes in BUDGET, whether frozen peers take part: in the others nothing depends on their answers)
SCHEMES: dict[str, tuple[dict[str, Any], bool]] = {
    "random reward": ({"rewards": ["random"]}, False),
    "own vote": ({"aggregator": "own_vote"}, False),
    "pooled vote": ({}, True),
    "reliability": ({"aggregator": "reliability"}, True),
    "pooled vote, PMI": ({"weighting": "pmi", "weighting_options": IN_PROMPT}, True),
    "gold, supervised": (GOLD, False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "real_learning", "schemes", SCHEMES, seeds=[0, 1, 2], questions=60)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER", help="the peers")
    parser.add_argument("--frozen", nargs="*", default=[], metavar="NAME", help="those of them that are not trained")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="FOLDER[:STYLE]", help="the questions")
    args = parser.parse_args(arguments)
    args.budget, args.out = with_changes(BUDGET, args.set), args.out / args.split
    args.models = dict(item.split("=", 1) for item in args.models)
    args.command = "python scripts/real_learning.py " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    tasks = dict(item.split(":") if ":" in item else (item, "auto") for item in args.tasks)
    args.golds = {Path(task).name: read(Path(task), args.split, args.questions)["answer"] for task in tasks}
    jobs = [make_job(Path(task), style, None, 0, args) for task, style in tasks.items()]
    failed = run_jobs(jobs, args.jobs)
    jobs = [
        make_job(Path(task), style, scheme, seed, args)
        for task, style in tasks.items()
        for seed in args.seeds
        for scheme in args.schemes
    ]
    failed += run_jobs(jobs, args.jobs)
    write_report(args, SCHEMES)
    return 1 if failed else 0


def make_job(task: Path, style: str, scheme: str | None, seed: int, args: argparse.Namespace) -> Job:
    """One scheme at one seed; without a scheme all models are measured as they are."""
    file = result_file(args.out / task.name, scheme or "before", seed)
    if scheme is None:
        return Job(f"{task.name}, before training", file, lambda: before(task, style, args), lambda r: r["seconds"])

    def work() -> dict:
        return train(task, style, scheme, seed, args)

    return Job(f"{task.name}, {scheme}, seed {seed}", file, work, lambda result: result["gain"])


def before(task: Path, style: str, args: argparse.Namespace) -> dict:
    start = time.perf_counter()
    made = measure(make_trainer(task, style, None, 0, args), list(args.models))
    return {"task": task.name, "models": made, "seconds": time.perf_counter() - start}


def train(task: Path, style: str, scheme: str, seed: int, args: argparse.Namespace) -> dict:
    """Trains, measures the trained peers, and says what they gained in points of greedy exact match."""
    trainer = make_trainer(task, style, scheme, seed, args)
    peers = list(trainer.trained)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    after = measure(trainer, peers)
    first = json.loads(result_file(args.out / task.name, "before", 0).read_text())["models"]
    logs = [log for log in trainer.state.log_history if "loss" in log]
    return {
        "task": task.name,
        "scheme": scheme,
        "objective": trainer.args.objective,
        "seed": seed,
        "peers": list(trainer.peers),
        "trained": peers,
        "models": after,
        "gain": 100 * fmean(fmean(after[p]["greedy"]) - fmean(first[p]["greedy"]) for p in peers),
        "seconds": seconds,
        "targets_right": [log["aggregate/accuracy"] for log in logs if "aggregate/accuracy" in log],
        "abstained": [log["peers/abstained"] for log in logs if "peers/abstained" in log],
    }


def make_trainer(task: Path, style: str, scheme: str | None, seed: int, args: argparse.Namespace) -> PSTTrainer:
    changes, everyone = SCHEMES[scheme] if scheme else ({}, True)
    names = [name for name in args.models if everyone or name not in args.frozen]
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    specs = {
        name: PeerSpec(args.models[name], dtype="bfloat16", peft_config=lora, trainable=name not in args.frozen)
        for name in names
    }
    folder = args.out / "scratch" / str(os.getpid())
    config = PSTConfig(output_dir=str(folder), seed=seed, answer_style=style, **args.budget | changes)
    return PSTTrainer(
        specs,
        config,
        train_dataset=read(task, "train", None),
        eval_dataset=read(task, args.split, args.questions),
    )


def read(task: Path, split: str, limit: int | None) -> Dataset:
    return load_questions(str(task / f"{split}.jsonl"), limit=limit)


def measure(trainer: PSTTrainer, names: Sequence[str]) -> dict[str, dict]:
    """Of each of these peers and each question: greedy right or wrong, and its text; of the first also its samples."""
    dataset, known = trainer._questions(None)
    gold = [known[i] for i in dataset["question_id"]]
    request = EvaluationRequest(
        engines=[engine for name, engine in zip(trainer.peers, trainer.engines, strict=True) if name in names],
        names=tuple(names),
        prompts=list(dataset["prompt"]),
        gold=gold,
        rollout=replace(trainer.rollout_request([], greedy=True), sequential=False),
        samples=SAMPLES,
        pooled_questions=min(SAMPLED, len(dataset)),
        batch_size=trainer.args.per_device_eval_batch_size,
        accelerator=trainer.accelerator,
    )
    made = evaluate_peers(request)
    return {
        name: {
            "greedy": [int(hit) for hit in made.correct[name]],
            "samples": [sum(is_right(r, g) for r in rows) for rows, g in zip(made.sampled[p], gold, strict=False)],
            "read": fmean(r.answer is not None for rows in made.sampled[p] for r in rows),
            "texts": [r.text for r in made.greedy[p]],
            "vote": [int(hit) for hit in made.correct["pooled_vote"]],
        }
        for p, name in enumerate(names)
    }


if __name__ == "__main__":
    sys.exit(main())
