"""Trains two tiny peers for 2,000 steps and watches what must not grow: memory, open files, threads.

    python scripts/long_run.py
    python scripts/long_run.py --steps 60 --from-step 20 --docs runs/long

Everything that a run does now and then happens in it: generation, updates, logs, checkpoints with rotation. Memory is
the resident set after Python's garbage collection and `malloc_trim`, every 100 steps; the claim compares `--from-step`
with the last step.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.quiet import quiet_output
from pst_rl.tiny import TINY_PEERS, tiny_questions

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"


class Watch(TrainerCallback):
    """Takes the process's measure at some steps."""

    def __init__(self, steps: set[int]):
        self.steps = steps
        self.seen: list[dict] = []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.steps:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            self.seen.append({"step": state.global_step, **measure()})
            print(self.seen[-1], flush=True)


def measure() -> dict[str, float]:
    """Resident memory in MiB, open files, threads and Python objects of this process (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "objects": len(gc.get_objects()),
    }


def main() -> int:
    """Entry point; see the module's docstring."""
    quiet_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--from-step", type=int, default=200)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of long_run.json")
    args = parser.parse_args()
    watch = Watch({args.from_step, args.steps, *range(args.every, args.steps, args.every)})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        config = PSTConfig(
            folder, max_steps=args.steps, save_strategy="steps", save_steps=max(1, args.steps // 10),
            save_total_limit=1, logging_steps=10, per_device_train_batch_size=4, num_generations=2,
            steps_per_generation=1, max_completion_length=4, learning_rate=1e-4, loss_type="grpo", rewards=["random"],
            answer_style="hash", answer_template="#### {answer}", report_to="none", disable_tqdm=True,
            gradient_checkpointing=False,
        )  # fmt: skip
        rows = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in tiny_questions("train", 64)]
        peers = {name: str(TINY_PEERS[name]) for name in ("llama", "qwen2")}
        trainer = PSTTrainer(peers, config, Dataset.from_list(rows), callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    first = next(seen for seen in watch.seen if seen["step"] == args.from_step)
    last = watch.seen[-1]
    growth = last["memory_mib"] / first["memory_mib"] - 1
    result = {
        "steps": args.steps,
        "seconds": round(time.monotonic() - began),
        "memory_growth": round(growth, 4),
        "from_step": args.from_step,
        "seen": watch.seen,
    }
    args.docs.mkdir(parents=True, exist_ok=True)
    (args.docs / "long_run.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"memory {growth:+.2%} from step {args.from_step} to {args.steps}, {result['seconds']} s")
    grew = [kind for kind in ("open_files", "threads") if last[kind] > first[kind]]
    if growth > 0.02 or grew:
        print(f"Something grew: {['memory'] * (growth > 0.02) + grew}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
