"""Which search finds the most coherent labelling, and at what cost? Every searcher on the tiny concept model.

    python scripts/coherence_study.py                                     # docs/results/coherence_study.*
    python scripts/coherence_study.py --split validation --seeds 100 101  # to choose settings

Each seed has its own 32 items. The most coherent of the five concepts' labellings is known; a search *succeeds* if it
agrees with it on 95 % of the items. The second table clamps gold labels of a less salient concept: how few does it
take until a search finds that one?
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from compare_report import interval, spread
from run_jobs import Job, result_file, run_jobs, study_parser

from pst_rl.coherence.baselines import random_few_shot, supervised_gold_few_shot, zero_shot
from pst_rl.coherence.finetune import fine_tuned
from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import coherence
from pst_rl.coherence.search import ICM, Bootstrap, Debate, FoldICM, Gibbs
from pst_rl.coherence.search.base import orders_of
from pst_rl.report import pipe_table
from pst_rl.tiny.concepts import CONCEPT_STYLE, PRIOR, concept_labels, concept_questions

CONCEPTS = list(PRIOR)
LESS_SALIENT = CONCEPTS[2]
TRAINING = {"learning_rate": 1e-3, "num_train_epochs": 8, "per_device_train_batch_size": 8}
SAMPLED = {"sweeps": 2, "temperature": 1.0, "anneal_to": 0.0, "start": "empty", "orders": 4}
ANNEALED = {"sweeps": 10, "temperature": 1.0, "anneal_to": 0.0}

SEARCHES = {
    "Gibbs, annealed": Gibbs(**ANNEALED),
    "Gibbs, best of 24 samples": Gibbs(**SAMPLED, restarts=24),
    "Gibbs, one sample": Gibbs(**SAMPLED),
    "Gibbs, annealed, from random labels": Gibbs(**ANNEALED, start="random"),
    "ICM, as published": ICM.paper(),
    "ICM, as released": ICM.released_code(),
    "ICM, joint likelihood, best of 12 from one label": ICM(delta="conditional", initial=1, restarts=12, steps=96),
    "bootstrap": Bootstrap(),
    "FoldICM": FoldICM(training=TRAINING),
    "debate": Debate(),
}
CLAMPED = (0, 1, 2, 4, 8)
CLAMPED_SEARCHES = ("Gibbs, best of 24 samples", "Gibbs, annealed", "bootstrap")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "coherence_study", "methods", METHODS, seeds=list(range(20)), settings=False)
    parser.add_argument("--items", type=int, default=32)
    args = parser.parse_args(arguments)
    args.out = args.out / args.split
    jobs = [make_job(method, seed, args) for seed in args.seeds for method in args.methods]
    failed = run_jobs(jobs, args.jobs)
    write_report(args)
    return 1 if failed else 0


def make_job(method: str, seed: int, args: argparse.Namespace) -> Job:
    def work() -> dict:
        questions = [row["question"] for row in concept_questions(args.split, args.items, seed)]
        predictor = make_predictor(questions)
        order = orders_of(args.items, 2)
        known = {concept: concept_labels(questions, concept) for concept in CONCEPTS}
        nats = {concept: coherence(predictor, labels, order).nats for concept, labels in known.items()}
        predictor.units = predictor.tokens = 0
        wanted, find = METHODS[method]
        labelling = find(predictor, known[wanted], seed)
        zero = zero_shot(predictor, Problem(args.items)).labels
        agree = lambda labels: {c: fmean(a == b for a, b in zip(labels, known[c], strict=True)) for c in known}  # noqa: E731
        return {
            "method": method,
            "seed": seed,
            "most_coherent": max(nats, key=nats.__getitem__),
            "agreement": {"found": agree(labelling.labels), "zero-shot": agree(zero)},
            "nats": nats | {"found": labelling.coherence},
            "units": labelling.units,
            "tokens": labelling.tokens,
        }

    return Job(f"{method}, seed {seed}", result_file(args.out, method, seed), work, lambda r: 100 * share(r))


def share(result: dict) -> float:
    """Agreement with the concept that the method is to find."""
    return result["agreement"]["found"][METHODS[result["method"]][0]]


def make_predictor(questions: Sequence[str]) -> LanguageModelPredictor:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl.tiny import TINY_CONCEPT_MODEL

    return LanguageModelPredictor(
        AutoModelForCausalLM.from_pretrained(TINY_CONCEPT_MODEL),
        AutoTokenizer.from_pretrained(TINY_CONCEPT_MODEL),
        [CONCEPT_STYLE["template"].format(question=question) for question in questions],
        [(word,) for word in CONCEPT_STYLE["label_words"]],
        separator=CONCEPT_STYLE["separator"],
    )


Find = Callable[[LanguageModelPredictor, Sequence[int], int], Labelling]


def searched(name: str, clamped: int = 0) -> Find:
    """A search, with the gold labels of the first `clamped` items given away."""
    return lambda predictor, gold, seed: SEARCHES[name].search(
        predictor, Problem(len(gold), 2, (), {item: gold[item] for item in range(clamped)}), seed=seed
    )


def gold_fine_tuning(predictor: LanguageModelPredictor, gold: Sequence[int], seed: int) -> Labelling:
    """Supervised: each half of the items is labelled after fine-tuning on the other half's gold labels."""
    n, found, tokens, units = len(gold), {}, 0, 0
    for half in (range(0, n, 2), range(1, n, 2)):
        demos = [(item, gold[item]) for item in range(n) if item not in half]
        trained = fine_tuned(predictor, demos, TRAINING, seed=seed)
        scores = trained.open().score([half])
        found |= zip(half, scores.exp().tolist(), strict=True)
        tokens, units = tokens + trained.tokens, units + trained.units + len(demos)
    rows = [found[item] for item in range(n)]
    labels = tuple(row.index(max(row)) for row in rows)
    nats = coherence(predictor, labels, orders_of(n, 2)).nats
    return Labelling(labels, tuple(map(tuple, rows)), (0,) * n, nats, 0, units, tokens, seed, "supervised_fine_tuning")


METHODS: dict[str, tuple[str, Find]] = {name: (CONCEPTS[0], searched(name)) for name in SEARCHES}
METHODS |= {
    "zero-shot": (CONCEPTS[0], lambda predictor, gold, seed: zero_shot(predictor, Problem(len(gold)), seed=seed)),
    "8 random labels shown": (
        CONCEPTS[0],
        lambda predictor, gold, seed: random_few_shot(predictor, Problem(len(gold)), seed=seed),
    ),
    "8 gold labels shown, supervised": (
        CONCEPTS[0],
        lambda predictor, gold, seed: supervised_gold_few_shot(predictor, Problem(len(gold)), gold, seed=seed),
    ),
    "fine-tuned on gold, supervised": (CONCEPTS[0], gold_fine_tuning),
}
METHODS |= {f"{name}, {k} clamped": (LESS_SALIENT, searched(name, k)) for name in CLAMPED_SEARCHES for k in CLAMPED}


def write_report(args: argparse.Namespace) -> None:
    """coherence_study.json and .md."""
    rows = []
    for method, (wanted, _) in METHODS.items():
        files = [result_file(args.out, method, seed) for seed in args.seeds]
        runs = [json.loads(file.read_text()) for file in files if file.is_file()]
        if runs:
            agreement = [100 * share(run) for run in runs]
            rows.append(
                {"method": method, "wanted": wanted, "seeds": len(runs), "success": sum(a >= 95 for a in agreement)}
                | {"agreement": fmean(agreement), "ci95": interval(agreement)}
                | {"nats": fmean(run["nats"]["found"] for run in runs)}
                | {"nats_of_concepts": {c: fmean(run["nats"][c] for run in runs) for c in CONCEPTS}}
                | {"zero_shot_agreement": fmean(100 * run["agreement"]["zero-shot"][wanted] for run in runs)}
                | {"tokens": fmean(run["tokens"] for run in runs), "units": fmean(run["units"] for run in runs)}
            )
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"split": args.split, "items": args.items, "concepts": PRIOR}
    (args.docs / "coherence_study.json").write_text(json.dumps(settings | {"rows": rows}, indent=1) + "\n")
    parts = [INTRODUCTION.format(items=args.items, split=args.split)]
    for title, wanted in (("The most salient concept", CONCEPTS[0]), ("Clamped labels", LESS_SALIENT)):
        chosen = [row for row in rows if row["wanted"] == wanted]
        if chosen:
            nats = ", ".join(f"{c} {v:.1f}" for c, v in chosen[0]["nats_of_concepts"].items())
            zero = f"Zero-shot labels agree on {chosen[0]['zero_shot_agreement']:.1f} %."
            parts += [f"## {title}: {wanted}\n", f"Coherence of the concepts' labellings in nats: {nats}. {zero}\n"]
            parts += [*pipe_table(HEADS, map(cells, chosen)), ""]
    (args.docs / "coherence_study.md").write_text("\n".join(parts).rstrip() + "\n")
    print("\n".join(parts))


HEADS = ("method", "agreement, % (95 %)", "found in", "coherence, nats", "units", "tokens")
INTRODUCTION = """# Searching for the most coherent labels

Written by `python scripts/coherence_study.py`; do not edit. What it means: [coherence](../coherence-study.md).

The tiny concept model labels {items} items ({split} split, other items at every seed). *Found in* counts the seeds
whose labels agree with the concept named on at least 95 % of the items. *Units* are demonstrations and targets read.
"""


def cells(row: dict) -> list[str]:
    agreement = spread(row["agreement"], row["ci95"]).replace("+", "")
    cost = [f"{row['units']:,.0f}", f"{row['tokens']:,.0f}"]
    return [row["method"], agreement, f"{row['success']} of {row['seeds']}", f"{row['nats']:.1f}", *cost]


if __name__ == "__main__":
    sys.exit(main())
