"""Kills training runs with SIGKILL at random moments and resumes them: does each end as if nothing had happened?

    python scripts/kill_study.py --kills 50
    python scripts/kill_study.py --kills 3 --kinds full --docs runs/kills

Two tiny peers train for a few steps over several epochs, with full fine-tuning, LoRA with dropout, and LoRA on NF4
weights; a checkpoint is saved after every step, also inside a generation batch. Each run is killed one to three times,
a third of the times while a checkpoint is being written, and started again each time with
`resume_from_checkpoint="auto"` and nothing else. At its end the weights, the optimizer, the random states and the
losses are compared, bit for bit, with those of a run that was left alone. Runs are forked from one process that has
imported everything.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one thread a run
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.loop.checkpoint_files import checkpoints_of, newest_complete
from pst_rl.report import pipe_table
from pst_rl.tiny import TINY_PEERS, tiny_questions

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"
KINDS = ("full", "lora", "nf4")
STEPS = 6
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: what it was aimed at, and what it found on disk."""

    kind: str
    run: int
    aim: str  # "saving" or "any moment"
    while_writing: bool  # it hit while a checkpoint was being written
    checkpoints: int  # complete ones that were left
    damaged: int  # checkpoints that were visible and not complete


# ---- one run, in a process of its own ------------------------------------------------------------------------------


def train(kind: str, folder: Path, events: Connection) -> None:
    """Trains to the end, from the newest checkpoint if there is one; writes a digest of everything at the end."""
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    trainer = build(kind, folder)
    save = trainer._save_checkpoint

    def announced(*args):
        events.send("saving")
        save(*args)
        events.send("saved")

    trainer._save_checkpoint = announced
    events.send("started")
    trainer.train(resume_from_checkpoint="auto")
    folder.with_suffix(".json").write_text(json.dumps(digest(trainer)))


def build(kind: str, folder: Path) -> PSTTrainer:
    args = PSTConfig(
        str(folder), max_steps=STEPS, save_strategy="steps", save_steps=1, save_total_limit=2, logging_steps=1,
        per_device_train_batch_size=8, num_generations=4, steps_per_generation=2, max_completion_length=8,
        learning_rate=1e-3, lr_scheduler_type="linear", loss_type="grpo", context="sequential", order="rotating",
        rewards=["random"], answer_style="hash", answer_template="#### {answer}", peer_template="\nP: {text}",
        report_to="none", disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    rows = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in tiny_questions("train", 8)]
    lora = LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return PSTTrainer(
        {name: str(TINY_PEERS[name]) for name in ("llama", "qwen2")},
        args,
        Dataset.from_list(rows),
        peft_config=None if kind == "full" else lora,
        quantization_config=nf4 if kind == "nf4" else None,
    )


def digest(trainer: PSTTrainer) -> dict:
    """Hashes of all that a further step would depend on, and the logged losses."""
    parameters = [p for peer in trainer.engines for _, p in sorted(peer.model.named_parameters()) if p.requires_grad]
    state = trainer.optimizer.state_dict()["state"]
    moments = [state[i][key] for i in sorted(state) for key in sorted(state[i])]
    logs = [(h["loss"], h["grad_norm"], h["learning_rate"]) for h in trainer.state.log_history if "loss" in h]
    return {
        "weights": hashed(parameters),
        "optimizer": hashed(moments),
        "random": hashed([torch.get_rng_state()]),
        "logs": logs,
    }


def hashed(tensors) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(torch.as_tensor(tensor).detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


# ---- killing -------------------------------------------------------------------------------------------------------


class Run:
    """A training process and what it says about itself."""

    def __init__(self, kind: str, folder: Path):
        self.events, there = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=train, args=(kind, folder, there))
        self.began = time.monotonic()
        self.process.start()
        there.close()

    def wait_for(self, word: str, times: int = 1) -> bool:
        """Waits until the process has said a word; `False` if it ended before."""
        while times:
            try:
                times -= self.events.recv() == word
            except EOFError:
                return False
        return True

    def last_word(self) -> str | None:
        """The last of what it said that nobody has heard yet."""
        word = None
        try:
            while True:
                word = self.events.recv()
        except EOFError:
            return word

    def finish(self) -> bool:
        self.process.join()
        return self.process.exitcode == 0

    def kill(self) -> bool:
        """`False` if it had already ended."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -9


def undisturbed(kind: str, folder: Path) -> tuple[dict, float, float]:
    """The digest of a run that is left alone, the seconds it takes, and those of one save."""
    run = Run(kind, folder)
    run.wait_for("saving")
    began = time.monotonic()
    run.wait_for("saved")
    saving = time.monotonic() - began
    if not run.finish():
        raise SystemExit(f"The undisturbed run failed: see {folder.with_suffix('.log')}")
    return json.loads(folder.with_suffix(".json").read_text()), time.monotonic() - run.began, saving


def strike(kind: str, folder: Path, number: int, aim: str, seconds: tuple[float, float], rng: Random) -> Kill | None:
    """Starts or resumes a run and kills it; `None` if it came to its end before."""
    run = Run(kind, folder)
    whole, saving = seconds
    heard = None
    if aim == "saving":
        steps_left = STEPS - int(checkpoints_of(folder)[0].name.split("-")[1]) if checkpoints_of(folder) else STEPS
        heard = "saving" if run.wait_for("saving", rng.randint(1, max(1, min(3, steps_left)))) else None
        time.sleep(rng.uniform(0, saving))
    else:
        time.sleep(rng.uniform(0, whole))
    if not run.kill():
        return None
    _, skipped = newest_complete(folder)
    complete = len(checkpoints_of(folder)) - len(skipped)
    writing = (run.last_word() or heard) == "saving"
    return Kill(kind, number, aim, writing, complete, len(skipped))


def study(kinds: list[str], wanted: int, seed: int, folder: Path) -> dict:
    rng = Random(seed)
    straight = {kind: undisturbed(kind, folder / f"straight-{kind}") for kind in kinds}
    kills: list[Kill] = []
    runs: list[dict] = []
    while len(kills) < wanted:
        kind, number = kinds[len(runs) % len(kinds)], len(runs)
        target, strikes = folder / f"run-{number}", min(rng.randint(1, 3), wanted - len(kills))
        for _ in range(strikes):
            aim = "saving" if len(kills) % 3 == 0 else "any moment"
            if (kill := strike(kind, target, number, aim, straight[kind][1:], rng)) is None:
                break  # it was too fast; what it made is compared below
            kills.append(kill)
        finished = target.with_suffix(".json").is_file() or Run(kind, target).finish()
        made = json.loads(target.with_suffix(".json").read_text()) if finished else {}
        expected = straight[kind][0]
        differs = [key for key in expected if made.get(key) != expected[key]]
        runs.append({"kind": kind, "ended": finished, "differs": differs})
        print(f"{len(kills)}/{wanted} kills, run {number} ({kind}): {'equal' if not differs else differs}", flush=True)
        if not differs:
            shutil.rmtree(target, ignore_errors=True)
    return {
        "kinds": kinds,
        "seed": seed,
        "steps": STEPS,
        "seconds_undisturbed": {kind: round(straight[kind][1], 2) for kind in kinds},
        "seconds_saving": {kind: round(straight[kind][2], 3) for kind in kinds},
        "kills": [asdict(kill) for kill in kills],
        "runs": runs,
    }


# ---- report --------------------------------------------------------------------------------------------------------


def report(result: dict) -> str:
    kills, runs = result["kills"], result["runs"]
    lines = [
        "# Kills and resumes",
        "",
        "Written by `python scripts/kill_study.py`; do not edit. What it means: [faults, tested](../trust-study.md).",
        "",
        f"{len(kills)} SIGKILLs over {len(runs)} runs of {result['steps']} steps of two tiny peers, a checkpoint "
        'after every step. Resumed with `resume_from_checkpoint="auto"`. Equal: weights, optimizer, random states and '
        f"logged losses, bit for bit. {round(result['seconds'])} s in all, seed {result['seed']}, on a CPU.",
        "",
    ]
    head = (
        "run", "kills", "aimed at a save", "hit one being written", "before the first checkpoint",
        "visible but damaged checkpoints", "runs", "ended without a hand", "bit-equal",
    )  # fmt: skip
    rows = []
    for kind in [*result["kinds"], "all"]:
        struck = [kill for kill in kills if kind in ("all", kill["kind"])]
        ended = [run for run in runs if kind in ("all", run["kind"])]
        aims = Counter(kill["aim"] for kill in struck)
        cells = [
            kind, len(struck), aims["saving"], sum(kill["while_writing"] for kill in struck),
            sum(kill["checkpoints"] == 0 for kill in struck), sum(kill["damaged"] for kill in struck),
            len(ended), sum(run["ended"] for run in ended), sum(not run["differs"] for run in ended),
        ]  # fmt: skip
        rows.append([str(cell) for cell in cells])
    return "\n".join([*lines, *pipe_table(head, rows)]) + "\n"


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of kill_study.md and kill_study.json")
    args = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kill_study_"))
    result = study(args.kinds, args.kills, args.seed, folder)
    result["seconds"] = time.monotonic() - began
    args.docs.mkdir(parents=True, exist_ok=True)
    (args.docs / "kill_study.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.docs / "kill_study.md").write_text(report(result))
    print(report(result))
    if any(run["differs"] for run in result["runs"]):
        print(f"Runs that ended differently are kept in {folder}.", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
