"""Samples of published models on the questions of `real_tasks.py`, kept in files: what the studies with them share."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import real_tasks
import torch
from shared_reading import SharedReader
from transformers import DynamicCache, GenerationConfig

from pst_rl.benchmarks.cache import Cache, cache_key
from pst_rl.benchmarks.items import Item
from pst_rl.benchmarks.model import Completion, Decoding, LanguageModel, describe
from pst_rl.files import write_atomically
from pst_rl.peers.generation import bare_settings, until_end
from pst_rl.peers.prompts import cut_at_stop
from pst_rl.peers.shared_prompts import distinct_rows

WORDS = {task.__name__ for task in real_tasks.WORDS}  # tasks that are answered in words
STEPS = "step by step"  # behind a task's name: the model is asked to reason
SHORT, LONG = 8, 80  # tokens of a response; of one with reasoning
QUESTIONS = 12  # side by side


def named_folder(text: str) -> tuple[str, str]:
    """`NAME=FOLDER` of the command line."""
    name, _, folder = text.partition("=")
    if not name or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"must be NAME=FOLDER with the folder of a model, got {text!r}")
    return name, folder


def named_count(text: str) -> tuple[str, int]:
    """`NAME=COUNT` of the command line."""
    name, _, count = text.partition("=")
    return name, int(count)


def style_of(task: str) -> str:
    """How the answers of a task are read."""
    return "text" if task in WORDS else "auto"


def load_task(folder: Path, task: str, first: int, last: int) -> list[Item]:
    """Test questions `first` to `last` of a task."""
    name, _, how = task.partition(", ")
    lines = (folder / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[first:last]]
    questions = [row["question"] for row in rows]
    if how == STEPS:
        questions = [
            q.replace("Answer with the number only.", 'Think step by step, then end with "The answer is N."')
            for q in questions
        ]
    return [Item(q, q, row["answer"]) for q, row in zip(questions, rows, strict=True)]


def load_models(models: Sequence[tuple[str, str]]) -> dict[str, LanguageModel]:
    """The models by name, in bfloat16."""
    return {name: SharedReader.load(folder, name, "bfloat16") for name, folder in models}


def prompt_ids(model: LanguageModel, items: Sequence[Item]) -> list[list[int]]:
    """What the model reads before it answers each question."""
    return [model.prompt_ids(model.asked(item.shown)) for item in items]


@torch.inference_mode()
def draw(model: LanguageModel, prompts: Sequence[Sequence[int]], copies: int, decoding: Decoding) -> list[list[dict]]:
    """`copies` samples of each prompt, which is read once: `[prompt][copy]` of text, finished, length and ids."""
    torch.manual_seed(decoding.seed)
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=True,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=0,
        eos_token_id=model.eos_token_ids,
        pad_token_id=model.pad_id,
        disable_compile=True,
    )
    found: list[list[dict]] = []
    for start in range(0, len(prompts), QUESTIONS):
        rows = [list(ids) for ids in prompts[start : start + QUESTIONS] for _ in range(copies)]
        width = max(map(len, rows))
        ids = torch.tensor([[model.pad_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        first, inverse = distinct_rows(ids, mask)
        positions = (mask[first, :-1].cumsum(1) - 1).clamp(min=0)
        with bare_settings(model.model):
            cache = DynamicCache(config=model.model.config)
            known = {"attention_mask": mask[first, :-1], "position_ids": positions, "past_key_values": cache}
            model.model.base_model(input_ids=ids[first, :-1], use_cache=True, **known)  # without the output layer
            cache.batch_select_indices(inverse)
            output = model.model.generate(
                input_ids=ids, attention_mask=mask, past_key_values=cache, generation_config=settings
            )
        made = [_sample(model, row) for row in output[:, width:].tolist()]
        found += [made[i : i + copies] for i in range(0, len(made), copies)]
    return found


def _sample(model: LanguageModel, row: list[int]) -> dict[str, Any]:
    ids = until_end(row, model.eos_token_ids)
    text, finished = model.response_text(ids), ids[-1] in model.eos_token_ids
    if (at := cut_at_stop(text, model.stop_strings)) is not None:
        while len(ids) > 1 and len(model.response_text(ids)) > at:
            ids = ids[:-1]
        text, finished = text[:at], True
    return {"text": text, "finished": finished, "ids": ids}


def decoding_of(model: str, task: str, first: int, args: argparse.Namespace) -> Decoding:
    """How a model answers the questions of a task from `first` on."""
    room = LONG if task.endswith(STEPS) else dict(args.tokens).get(model, SHORT)
    return Decoding(room, args.temperature, seed=args.seed + first)


def sampled(
    models: Mapping[str, LanguageModel], task: str, items: Sequence[Item], first: int, args: argparse.Namespace
) -> dict[str, list[list[dict]]]:
    """Samples by model, `[question][chain]`; those in the folder `args.samples` are not drawn again."""
    found = {}
    for name, model in models.items():
        file = args.samples / f"{task}.{name}.{first}.json"
        if not file.is_file():
            made = draw(model, prompt_ids(model, items), args.chains, decoding_of(name, task, first, args))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(made, ensure_ascii=False))
        found[name] = json.loads(file.read_text(encoding="utf-8"))
    return found


def study_options(text: str, name: str) -> argparse.ArgumentParser:
    """What both studies are told."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=named_folder, metavar="NAME=FOLDER", required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="folder that real_tasks.py has written")
    parser.add_argument("--block", type=int, default=12, help="questions computed, and kept, at a time")
    parser.add_argument("--chains", type=int, default=4, help="samples of each model and question")
    how = f"tokens of a short response of models that need more than {SHORT}"
    parser.add_argument("--tokens", nargs="*", type=named_count, default=[("smollm", 20)], metavar="NAME=N", help=how)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, default=Path("runs/real_samples"), help="folder of the samples")
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="folder of single results")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    parser.add_argument("--report", action="store_true", help="only write the results of what is in --out")
    return parser


def remember(cache: Cache, model: LanguageModel, prompts, decoding: Decoding, samples: list[list[dict]]) -> None:
    """Puts samples where `pst-rl eval` and `gv-gap` look for theirs."""
    cache.put(
        {
            cache_key(model.digest, list(ids), describe(decoding), copy): asdict(
                Completion(one["text"], one["finished"], len(one["ids"]))
            )
            for ids, own in zip(prompts, samples, strict=True)
            for copy, one in enumerate(own)
        }
    )
