"""Does PMI tell right from wrong among samples with the same reward? Published models, without training.

    python scripts/real_tasks.py runs/tasks
    python scripts/real_pmi.py --models smollm=FOLDER qwen=FOLDER gemma=FOLDER --tasks runs/tasks

All models answer test questions at temperature 1, their pooled vote is the aggregate, and the library's own PMI is
computed for every sample, by the responder and by the other peers. Gold is read in the analysis only. Resumable: a
block of questions whose file is in `--out` is not computed again; `--report` writes the results of what is there.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import torch
from real_pmi_report import write_report
from real_samples import STEPS, load_models, load_task, prompt_ids, sampled, study_options, style_of
from shared_reading import Sums

from pst_rl import PSTConfig
from pst_rl.aggregation.votes import Majority
from pst_rl.answers import find_answer
from pst_rl.benchmarks.model import LanguageModel
from pst_rl.files import write_atomically
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.peers.prompts import show_peers
from pst_rl.quiet import quiet_output
from pst_rl.records import Group, LocalRows, Response, Rollout
from pst_rl.scoring.juror import Juror
from pst_rl.stages.pmi import PMIWeights
from pst_rl.stages.weighting import WeightRequest

TASKS = ["capitals", "differences", "opposites", "continents", "products", "elements", f"stories, {STEPS}"]
PUBLISHED = {"conditioning": "in_prompt", "marginal": "unconditional", "target": "response"}
SIGNALS: dict[str, tuple[str, dict[str, str]]] = {  # name: (scorer, options of PMIWeights)
    "default, self": ("self", {}),
    "default, other_peers": ("other_peers", {"scorer": "other_peers"}),
    "as published, self": ("self", PUBLISHED),
    "as published, other_peers": ("other_peers", PUBLISHED | {"scorer": "other_peers"}),
}
FEWER = "as published, other_peers"  # reads each response with two models: only `--other-chains` of a question


class Engine(Juror):
    """A peer that only answers and scores: what PMI asks of one."""

    prefix_tokens = PeerTrainer.prefix_tokens


def make_request(
    models: Mapping[str, LanguageModel], engines: list[Engine], task: str, items, samples: Mapping[str, list]
) -> WeightRequest:
    """The generation batch of these samples, with the pooled vote as targets; no gold is in it."""
    chains, rollouts, responses = len(next(iter(samples.values()))[0]), [], []
    for name, model in models.items():
        rows = [one for own in samples[name] for one in own]
        answers = [find_answer(one["text"], style_of(task)) if one["finished"] else None for one in rows]
        prompts = [ids for ids in prompt_ids(model, items) for _ in range(chains)]
        rollouts.append(
            Rollout(
                prompts=prompts,
                prompt_ids=prompts,
                completion_ids=[one["ids"] for one in rows],
                logprobs=None,
                texts=[one["text"] for one in rows],
                answers=answers,
                finished=[one["finished"] for one in rows],
            )
        )
        said = [Response(o["text"], a, o["finished"], len(o["ids"])) for o, a in zip(rows, answers, strict=True)]
        responses.append(tuple(tuple(said[i : i + chains]) for i in range(0, len(said), chains)))
    group = Group(
        peers=tuple(models),
        prompts=tuple([{"role": "user", "content": item.shown}] for item in items),
        columns=tuple({"question_id": q} for q in range(len(items))),
        order=(tuple(range(len(models))),) * len(items),
        responses=tuple(responses),
        rng=random.Random(0),
    )
    group = replace(group, targets=Majority()(group))
    template = PSTConfig.peer_template
    return WeightRequest(
        engines=engines,  # type: ignore[arg-type]  # what PMI asks of a peer, they have
        group=group,
        rewards={},
        rollouts=rollouts,
        local=LocalRows(0, len(items) * chains, chains),
        active=torch.ones(group.shape, dtype=torch.bool),
        build_prompt=lambda prompt, previous: show_peers(prompt, previous, template) if previous else prompt,
        answer_template=PSTConfig.answer_template,
        batch_size=16,
    )


def pmi_of_all(request: WeightRequest, other_chains: int) -> dict[str, torch.Tensor]:
    """PMI by each signal, (P, Q, G)."""
    few = request.active.clone()
    few[:, :, other_chains:] = False
    return {
        name: PMIWeights(**options).pmi(replace(request, active=few if name == FEWER else request.active))
        for name, (_, options) in SIGNALS.items()
    }


def scored(request: WeightRequest, other_chains: int) -> list[dict[str, Any]]:
    """One row a sample: whether it agrees with the vote, its PMI by each signal, and the controls; without gold."""
    group, sums = request.group, Sums()
    with patch("pst_rl.stages.pmi.sum_logprobs", sums):  # the same sums, each prompt read once
        pmi_of_all(request, other_chains)  # asks
        pairs = [list(zip(r.prompt_ids, r.completion_ids, strict=True)) for r in request.rollouts]
        for engine, own in zip(request.engines, pairs, strict=True):
            sums(engine, own, request.batch_size)
        sums.read()
        pmi = pmi_of_all(request, other_chains)
    logprobs = [sums(engine, own, request.batch_size) for engine, own in zip(request.engines, pairs, strict=True)]
    rows, chains = [], request.local.chains
    for p, q, g, response in group.cells():
        target = group.the_targets[p][q][g]
        keys = [other.key for _, _, other in group.pooled(q)]
        rows.append(
            {
                "model": group.peers[p],
                "question": q,
                "chain": g,
                "text": response.text,
                "answer": None if response.answer is None else response.answer.text,
                "start": None if response.answer is None else response.answer.start,
                "finished": response.finished,
                "target": None if target is None else target.answer.text,
                "share": None if target is None else target.share,
                "agrees": target is not None and response.key == target.answer.key,
                "own_share": 0.0 if response.key is None else keys.count(response.key) / len(keys),
                "logprob": logprobs[p][q * chains + g] / response.length,
                "pmi": {name: round(values[p, q, g].item(), 4) for name, values in pmi.items()},
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_options(__doc__, "real_pmi")
    parser.add_argument("--only", nargs="+", default=TASKS, metavar="TASK", help="only these tasks")
    parser.add_argument("--questions", type=int, default=48, help="test questions of each task, at most")
    parser.add_argument("--steps-questions", type=int, default=12, help="of those that are answered step by step")
    parser.add_argument("--other-chains", type=int, default=2, help=f"samples of them scored by: {FEWER}")
    args = parser.parse_args(arguments)
    quiet_output()
    if not args.report:
        compute(args)
    write_report(args)
    return 0


def compute(args: argparse.Namespace) -> None:
    """Block by block through all tasks, so that there is something of each at any time."""
    models = load_models(args.models)
    engines = [Engine(model.model, model.tokenizer) for model in models.values()]
    for first in range(0, args.questions, args.block):
        for task in args.only:
            file = args.out / f"{task}.{first}.json"
            last = min(first + args.block, args.steps_questions if task.endswith(STEPS) else args.questions)
            items = load_task(args.tasks, task, first, max(first, last))
            if file.is_file() or not items:
                continue
            start = time.perf_counter()
            samples = sampled(models, task, items, first, args)
            middle = time.perf_counter()
            for engine in engines:
                engine.tokens.clear()
            rows = scored(make_request(models, engines, task, items, samples), args.other_chains)
            seconds = {"sampling": middle - start, "scoring": time.perf_counter() - middle}
            result = {"task": task, "first": first, "questions": [i.shown for i in items], "gold": [], "rows": rows}
            result["gold"] = [item.gold for item in items]  # for the analysis
            write_atomically(file, json.dumps(result | {"seconds": seconds}, ensure_ascii=False))
            print(f"{task}, from {first}: {seconds['sampling']:.0f} + {seconds['scoring']:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
