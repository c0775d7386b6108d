"""Pretrain the embedded tiny peers and measure them.

    python scripts/train_tiny_peers.py                     # remake the shipped folders
    python scripts/train_tiny_peers.py --out /tmp/peers    # leave them alone

Writes one folder per peer (model, tokenizer, card) and `checksums.json` with the SHA-256 of every weight file and the
measured accuracies. The three peers train in parallel, one thread each.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

import pst_rl.tiny as tiny
from pst_rl.tiny.card import write_card
from pst_rl.tiny.problems import FAMILIES
from pst_rl.tiny.questions import stated_answer, tiny_questions

MEASURED = {"validation": 450, "test": 900}
SAMPLES = 8
MAX_NEW_TOKENS = 64
GENERATION_BATCH = 64  # questions

Answers = list[list[str | None]]  # one list of answers per question


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=tiny.FOLDER, help="where the folders go (default: the package)")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps of every peer (default: per peer)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-only", action="store_true", help="measure the folders that are there already")
    return parser.parse_args()


def make_peer(name: str, folder: Path, steps: int | None, seed: int, train: bool) -> tuple[dict[str, Answers], int]:
    """Pretrain a peer into its folder (if `train`), load it as a user would, and answer the measured questions.

    Returns its answers per split, with those of `test_samples`, and its number of parameters.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl.tiny.pretrain import pretrain_peer

    torch.set_num_threads(1)
    if train:
        model, tokenizer = pretrain_peer(name, steps, seed, log=lambda line: print(line, flush=True))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    answers = {}
    for split, n in MEASURED.items():
        questions = [row["question"] for row in tiny_questions(split, n)]
        answers[split] = answer(model, tokenizer, questions, samples=1)
    torch.manual_seed(seed)
    answers["test_samples"] = answer(model, tokenizer, questions, samples=SAMPLES)
    return answers, model.num_parameters()


def answer(model, tokenizer, questions: list[str], samples: int) -> Answers:
    """Return each question's answers: one greedy answer, or `samples` at temperature 1; `None` where unfinished."""
    prompts = [[{"role": "user", "content": question}] for question in questions]
    sampling = {"do_sample": samples > 1, "num_return_sequences": samples, "max_new_tokens": MAX_NEW_TOKENS}
    if samples > 1:
        sampling |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    answers: Answers = [[] for _ in questions]
    by_length = sorted(range(len(questions)), key=lambda i: len(questions[i]))
    for start in range(0, len(questions), GENERATION_BATCH):
        rows = by_length[start : start + GENERATION_BATCH]
        inputs = tokenizer.apply_chat_template(
            [prompts[i] for i in rows],
            add_generation_prompt=True,
            return_tensors="pt",
            padding=True,
            return_dict=True,
        )
        completions = model.generate(**inputs, **sampling)[:, inputs["input_ids"].shape[1] :]  # (B * samples, T)
        for place, ids in enumerate(completions.tolist()):
            finished = tokenizer.eos_token_id in ids
            text = tokenizer.decode(ids, skip_special_tokens=True)
            answers[rows[place // samples]].append(stated_answer(text) if finished else None)
    return answers


def plurality(answers: list[str | None]) -> str | None:
    """Return the most common answer, the smallest text first among equals, ignoring unfinished responses."""
    votes = Counter(a for a in answers if a is not None)
    return min(votes, key=lambda a: (-votes[a], a), default=None)


def accuracy(predicted: list[str | None], rows: list[dict[str, str]]) -> dict[str, float]:
    """Return the fraction right over all rows and per family."""
    right = {family: [] for family in ("all", *FAMILIES)}
    for prediction, row in zip(predicted, rows, strict=True):
        for key in ("all", row["family"]):
            right[key].append(prediction == row["answer"])
    return {key: round(sum(values) / len(values), 4) for key, values in right.items()}


def measure(answers: dict[str, dict[str, Answers]]) -> dict[str, dict]:
    """Return per peer and split the greedy accuracy, and for the test split the votes."""
    report: dict[str, dict] = {name: {} for name in answers}
    for split, n in MEASURED.items():
        rows = tiny_questions(split, n)
        for name in answers:
            report[name][split] = accuracy([greedy for (greedy,) in answers[name][split]], rows)
    for name in answers:  # the mean over samples is the accuracy of one sample
        columns = zip(*answers[name]["test_samples"], strict=True)
        of_samples = [accuracy(list(column), rows) for column in columns]
        report[name]["test_sampled"] = {
            key: round(sum(a[key] for a in of_samples) / SAMPLES, 4) for key in of_samples[0]
        }
    for key, source in (("greedy_vote", "test"), ("pooled_vote", "test_samples")):
        pooled = [list(chain(*lists)) for lists in zip(*(answers[name][source] for name in answers), strict=True)]
        report[key] = {"test": accuracy([plurality(votes) for votes in pooled], rows)}
    return report


def main() -> None:
    args = parse_args()
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    start = time.monotonic()
    folders = {name: args.out / name for name in tiny.TINY_PEERS}
    with ProcessPoolExecutor(len(folders), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {
            name: pool.submit(make_peer, name, folder, args.steps, args.seed, not args.measure_only)
            for name, folder in folders.items()
        }
        done = {name: job.result() for name, job in running.items()}
    report = measure({name: answers for name, (answers, _) in done.items()})
    record = {
        "sha256": {f"{name}/{file}": tiny.sha256(args.out / name / file) for name in folders for file in tiny.CHECKED},
        "parameters": {name: parameters for name, (_, parameters) in done.items()},
        "measured_questions": MEASURED,
        "samples": SAMPLES,
        "accuracy": report,
    }
    (args.out / "checksums.json").write_text(json.dumps(record, indent=2) + "\n")
    for name, folder in folders.items():
        write_card(name, folder, record)
    print(json.dumps(report, indent=2))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
