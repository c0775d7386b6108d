"""Every causal architecture of transformers, tiny and random, as a peer: what the self-test finds, and two steps.

    python scripts/architecture_sweep.py                # all, about 45 minutes; writes docs/results/architectures.md
    python scripts/architecture_sweep.py --only gpt2 qwen3_5_text
    python scripts/architecture_sweep.py --page         # the page once more, from docs/results/architectures.json

Each runs in a process of its own, twice: with every lever of speed off, and with all of them on. What a peer that was
accepted computes is then compared with each row read alone, by code that is not the self-test's, on other rows.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import transformers
import trl
from architecture_shapes import architectures, tiny_config, tiny_model
from datasets import Dataset

from pst_rl import PeerSpec, PSTConfig, PSTTrainer
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.peers.reader import load_tokenizer
from pst_rl.quiet import quiet_output
from pst_rl.scoring.logprobs import sum_logprobs
from pst_rl.tiny import TINY_PEERS, tiny_questions

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "architectures.json"
PAGE = ROOT / "docs" / "results" / "architectures.md"
LEVERS = {
    False: {"shared_prefill": False, "shared_prompts": False, "sort_micro_batches": False},
    True: {"shared_prefill": True, "shared_prompts": True, "sort_micro_batches": True, "skip_zero_advantage": True},
}
WRONG = 1e-3  # nats for a row
OUTCOMES = {
    "clean": "nothing to do",
    "mended": "its loss passes position ids, or goes through the model's own head",
    "aside": "right, and a lever of speed steps aside",
    "refused": "in one line at construction, with the size of the error",
    "not built": "transformers has no tiny configuration of it that runs",
    "wrong": "accepted, and wrong",
    "crash": "accepted, and a step fails",
}


def build(name: str, levers: bool, folder: str) -> PSTTrainer:
    """A trainer of the tiny peer, on questions that the tiny peers' tokenizer was made for."""
    tokenizer = load_tokenizer(str(TINY_PEERS["llama"]))
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    rows = [
        {"prompt": [{"role": "user", "content": row["question"]}], "answer": row["answer"]}
        for row in tiny_questions("train", 16)
    ]
    args = PSTConfig(
        output_dir=folder,
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=12,
        learning_rate=1e-3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        answer_style="hash",
        weighting="pmi",
        weighting_options={"from_cache": levers},
        **LEVERS[levers],
    )
    peer = PeerSpec(model=tiny_model(tiny_config(name, ids)), name="peer", processing_class=tokenizer)
    return PSTTrainer({"peer": peer}, args, train_dataset=Dataset.from_list(rows), reward_providers=["random"])


@torch.no_grad()
def error_of(engine: PeerTrainer) -> float:
    """The largest difference, in nats for a row, of the loss as it is set and of the scorer from the row alone."""
    model, drawn = engine.model.eval(), random.Random(1)
    pad = engine._tokenizer.pad_token_id
    words = [i for i in range(len(engine._tokenizer)) if i not in engine._tokenizer.all_special_ids]
    prompt = drawn.choices(words, k=30)
    rows = [(prompt, drawn.choices(words, k=10)), (drawn.choices(words, k=9), drawn.choices(words, k=4))]
    rows.append((prompt, drawn.choices(words, k=7)))
    want, tempered = [], []
    for context, target in rows:
        logits = model(input_ids=torch.tensor([[*context, *target]])).logits[0, len(context) - 1 : -1].float()
        at = range(len(target)), target
        want.append(logits.log_softmax(-1)[at].sum().item())
        tempered.append((logits / engine.temperature).log_softmax(-1)[at].sum().item())
    ids = torch.full((len(rows), 40), pad)
    mask = torch.zeros_like(ids)
    for i, (context, target) in enumerate(rows):
        ids[i, 30 - len(context) : 30 + len(target)] = torch.tensor([*context, *target])
        mask[i, 30 - len(context) : 30 + len(target)] = 1
    logps, _, _ = engine._get_per_token_logps_and_entropies(model, ids, mask, 10, compute_entropy=True)
    loss = (logps.float() * mask[:, 30:]).sum(1).tolist()
    errors = [abs(a - b) for a, b in zip(loss, tempered, strict=True)]
    errors += [abs(a - b) for a, b in zip(sum_logprobs(engine, rows, 3), want, strict=True)]
    return max(error if error == error else float("inf") for error in errors)


def examine(name: str, levers: bool) -> dict[str, Any]:
    """One architecture in one setting, in this process."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, _stage(found, "not built"):
        tokenizer_ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        tiny_model(tiny_config(name, tokenizer_ids))(input_ids=torch.arange(24)[None] + 5)
        with _stage(found, "refused"):
            began = time.perf_counter()
            trainer = build(name, levers, folder)
            engine = trainer.engines[0]
            test = engine.self_test
            found |= {"positions": test.positions, "plain_head": test.plain_head, "aside": test.aside}
            found |= {"nats": test.nats, "construction_s": round(time.perf_counter() - began, 2)}
            with _stage(found, "crash"):
                found["error_nats"] = error_of(engine)
                before = {key: value.detach().clone() for key, value in engine.model.named_parameters()}
                trainer.train()
                moved = [key for key, value in engine.model.named_parameters() if not value.equal(before[key])]
                found["moved"], found["parameters"] = len(moved), len(before)
                found["finite"] = all(bool(value.isfinite().all()) for value in engine.model.parameters())
    return found


@contextmanager
def _stage(found: dict[str, Any], outcome: str) -> Iterator[None]:
    """Notes under which outcome an exception falls, in one line; a stage inside has its own."""
    try:
        yield
    except Exception as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        clear = isinstance(error, ValueError) and "Peer 'peer'" in line
        found["outcome"] = "crash" if outcome == "refused" and not clear else outcome
        found["line"] = line[:400]


def judge(off: dict[str, Any], on: dict[str, Any]) -> str:
    """The outcome of both settings together."""
    for outcome in ("not built", "crash", "refused"):
        if outcome in (off.get("outcome"), on.get("outcome")):
            return outcome
    if any(not run["error_nats"] <= WRONG or not run["moved"] or not run["finite"] for run in (off, on)):
        return "wrong"
    if off["positions"] or off["plain_head"]:
        return "mended"
    return "aside" if on["aside"] else "clean"


def run(name: str, timeout: float) -> dict[str, Any]:
    """One architecture in both settings, each in a process of its own: a fork, which need not import anything."""
    found: dict[str, Any] = {"architecture": name}
    for levers in (False, True):
        key = "levers_on" if levers else "levers_off"
        with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
            child = multiprocessing.get_context("fork").Process(target=_child, args=(name, levers, file.name))
            child.start()
            child.join(timeout)
            if late := child.is_alive():
                child.kill()
                child.join()
            text = file.read()
        lost = f"longer than {timeout:.0f} s" if late else f"its process ended with {child.exitcode}"
        found[key] = json.loads(text) if text else {"outcome": "crash", "line": lost}
        if found[key].get("outcome") == "not built":
            found["levers_on"] = found[key]
            break
    return found | {"outcome": judge(found["levers_off"], found["levers_on"])}


def _child(name: str, levers: bool, path: str) -> None:
    logging.disable(logging.WARNING)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # until this process ends
    Path(path).write_text(json.dumps(examine(name, levers)))


def write_page(result: dict[str, Any]) -> None:
    """`docs/results/architectures.md`."""
    rows = result["rows"]
    count = Counter(row["outcome"] for row in rows)
    lines = [
        "# Every architecture as a peer",
        "",
        "Written by `python scripts/architecture_sweep.py`; do not edit. What the self-test does:",
        "[the self-test of a peer](../trainer.md#the-self-test-of-a-peer).",
        "",
        f"The {len(rows)} causal language models of transformers {result['transformers']} that read text, variants of",
        f"some (`name@variant`) among them, with tiny random weights; TRL {result['trl']}, {result['machine']}.",
        "Each is built with the levers of speed off and on, compared with its rows read alone, and trained two steps.",
        "",
        "| outcome | architectures | |",
        "| --- | --- | --- |",
        *(f"| {outcome} | {count[outcome]} | {meaning} |" for outcome, meaning in OUTCOMES.items()),
        "",
        f"Wrong: more than {WRONG:g} nats for a row, weights that no step moves, or weights that are no numbers.",
        "An architecture that is mended may have levers aside, too.",
        "",
        "## One by one",
        "",
        "| architecture | outcome | error, nats | moved, levers off | on | what was done |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        off, on = row["levers_off"], row["levers_on"]
        errors = [run["error_nats"] for run in (off, on) if "error_nats" in run]
        moved = [f"{run['moved']}/{run['parameters']}" if "moved" in run else "" for run in (off, on)]
        error = f"{max(errors):.1g}" if errors else ""
        lines.append(f"| {row['architecture']} | {row['outcome']} | {error} | {' | '.join(moved)} | {done(off, on)} |")
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def done(off: dict[str, Any], on: dict[str, Any]) -> str:
    """What the self-test did or said, as a cell of a table."""
    for setting in (off, on):
        if "line" in setting:
            text = re.sub(r"^ValueError: Peer 'peer' is refused by the self-test: ", "", setting["line"])
            return text.replace("|", "\\|").replace("<", "&lt;")[:260]
    parts = ["position ids"] * off["positions"] + ["own head"] * off["plain_head"]
    return ", ".join([*parts, *(f"{lever} aside" for lever in on["aside"])])


def main() -> None:
    quiet_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these, into the table that is there")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one setting of one architecture")
    parser.add_argument("--page", action="store_true", help="write the page only")
    given = parser.parse_args()
    known = {row["architecture"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.is_file() else {}
    names = [] if given.page else given.only or architectures()
    for name in names:
        known[name] = run(name, given.timeout)
        print(name, known[name]["outcome"], done(known[name]["levers_off"], known[name]["levers_on"]), flush=True)
        result = {
            "transformers": transformers.__version__,
            "trl": trl.__version__,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, torch {torch.__version__}",
            "rows": [known[key] for key in sorted(known)],
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(RESULT.read_text()))


if __name__ == "__main__":
    main()
