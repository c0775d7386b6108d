"""Does the generator-verifier gap of the tiny peers shrink as they train each other, and is a smaller gap good news?

    python scripts/gv_gap_study.py                                            # docs/results/gv_gap.*
    python scripts/gv_gap_study.py --seeds 100 --split validation --questions 60 --docs runs/docs    # a trial

The demo's training, five seeds, no label read. Before and after it, samples of held-out questions are verified by the
likelihood and by the true/false judgement of the peer itself, of the other peers, and of the peers as they were before
training, and by a small verifier that was trained on gold answers (supervised; of other questions). Resumable: a seed
whose result is in `--out` is not run again, and samples and scores are cached.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread a run

import torch
from compare_report import interval, spread
from reward_schemes import BUDGET
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.benchmarks.benchmark import BENCHMARKS
from pst_rl.benchmarks.cache import Cache
from pst_rl.benchmarks.gv_gap import Samples, draw_samples, gap_scores, score_samples
from pst_rl.benchmarks.items import load_items
from pst_rl.benchmarks.model import Decoding, LanguageModel
from pst_rl.benchmarks.prompts import load_prompt
from pst_rl.benchmarks.verifiers import Likelihood, RewardModel, TrueFalse
from pst_rl.measure.verification import Threshold
from pst_rl.report import pipe_table
from pst_rl.tiny import TINY_PEERS

PEERS = {name: str(folder) for name, folder in TINY_PEERS.items()}
TINY = BENCHMARKS["tiny"]
SCORING = TINY.scorings["exact_match"]
ROWS = 256  # side by side
METRICS = ("generation", "verified", "gap", "relative_gap", "balanced_accuracy", "kept", "pass", "majority")
TRAINED = "trained verifier (supervised)"
INTRODUCTION = """# The generator-verifier gap before and after training

Written by `python scripts/gv_gap_study.py`; do not edit. What it means: [evaluation](../evaluation.md).

Percent and points, mean of the three tiny peers, mean over seeds with the 95 % t-interval. *Self*, *others*: the peer
itself or the mean score of the other two judges, as they are when they are measured; *frozen*: as they were before
training. *Change of the gap* is 100 (after / before - 1) of the mean gap; it is left out where a seed's gap before is
below 1 point."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_parser(__doc__, "gv_gap_study", "", (), questions=300)
    parser.add_argument("--samples", type=int, default=8, help="samples of each peer and question")
    parser.add_argument("--quantile", type=float, default=0.8, help="samples from this quantile of scores are kept")
    parser.add_argument("--verifier-questions", type=int, default=900, help="to train the supervised verifier on")
    args = parser.parse_args(arguments)
    args.budget = with_changes(BUDGET, args.set)
    verifier = Job(
        "the supervised verifier, balanced accuracy in percent",
        args.out / "verifier.json",
        lambda: train_verifier(args),
        lambda result: 100 * result["balanced_accuracy"],
    )
    failed = run_jobs([verifier], 1)
    args.out = args.out / args.split
    if not failed:
        failed = run_jobs([make_job(seed, args) for seed in args.seeds], args.jobs)
        write_report(args)
    return 1 if failed else 0


# ---- the supervised verifier ---------------------------------------------------------------------------------------


def train_verifier(args: argparse.Namespace) -> dict[str, Any]:
    """A classifier of right and wrong samples of the untrained peers, begun from one of them; questions of the
    training split, labels from their gold answers.
    """
    torch.manual_seed(0)
    questions = load_items(TINY, split="train", limit=args.verifier_questions)
    cache = Cache(args.out / "verifier.cache.jsonl")
    pairs = []
    for name, path in PEERS.items():
        samples = draw(LanguageModel.load(path, name), questions, cache, args.samples, seed=0)
        cells = zip(samples.cases, samples.judged, strict=True)
        pairs += [(c, float(j.correct)) for cases, judged in cells for c, j in zip(cases, judged, strict=True)]
    pairs = sorted(set(pairs), key=lambda pair: (pair[0].shown, pair[0].response))
    held_out = {item.shown for item in questions[::10]}
    train = [pair for pair in pairs if pair[0].shown not in held_out]
    test = [pair for pair in pairs if pair[0].shown in held_out]
    folder = args.out / "verifier"
    start = PEERS["llama"]
    tokenizer = AutoTokenizer.from_pretrained(start)
    AutoModelForSequenceClassification.from_pretrained(start, num_labels=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    verifier = RewardModel(str(folder))
    optimizer = torch.optim.AdamW(verifier.model.parameters(), lr=1e-3)
    steps = 6 * (len(train) // 64)
    right = sum(y for _, y in train)
    weight = torch.tensor((len(train) - right) / right)  # most different samples are wrong ones
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        batch = [train[i] for i in torch.randint(len(train), (64,)).tolist()]
        logits = verifier.logits([case for case, _ in batch])[:, 0]
        gold = torch.tensor([y for _, y in batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, gold, pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    verifier.model.save_pretrained(folder)
    verdicts = [score > 0 for score in verifier.score([case for case, _ in test])]
    by_gold = [[v == bool(y) for v, (_, y) in zip(verdicts, test, strict=True) if y == gold] for gold in (0, 1)]
    return {"balanced_accuracy": fmean(map(fmean, by_gold)), "pairs": len(train)}


# ---- one seed ------------------------------------------------------------------------------------------------------


def make_job(seed: int, args: argparse.Namespace) -> Job:
    """The demo's training at one seed, and the gaps before and after it."""
    folder = args.out / f"seed-{seed}"

    def work() -> dict[str, Any]:
        trainer = PSTTrainer(
            PEERS,
            PSTConfig(output_dir=str(folder), seed=seed, **args.budget),
            train_dataset=load_questions("tiny", split="train"),
        )
        trainer.train()
        trainer.save_model()
        before = {name: LanguageModel.load(path, name) for name, path in PEERS.items()}
        after = {name: LanguageModel.load(str(folder / name), name) for name in PEERS}
        items = load_items(TINY, split=args.split, limit=args.questions)
        cache = Cache(folder / "cache.jsonl")
        found = [gaps(models, before, items, cache, seed, args) for models in (before, after)]
        accuracy = [greedy(models, items, cache) for models in (before, after)]
        return {"seed": seed, "before": found[0], "after": found[1], "greedy": accuracy}

    def headline(result: dict[str, Any]) -> float:
        own = [mean_of_peers(result[when]["likelihood, self"], "gap") for when in ("before", "after")]
        return own[1] - own[0]

    return Job(
        f"seed {seed}, change of the gap (likelihood, self)", result_file(args.out, "gv_gap", seed), work, headline
    )


def gaps(models, frozen, items, cache: Cache, seed: int, args: argparse.Namespace) -> dict[str, dict[str, dict]]:
    """Values of `METRICS` as fractions, by verifier and peer."""
    prompt, trained = load_prompt("judge.v1"), RewardModel(str(args.out.parent / "verifier"))
    found: dict[str, dict[str, dict]] = {}
    for name, model in models.items():
        samples = draw(model, items, cache, args.samples, seed)
        panels = {TRAINED: [trained]}
        for word, judges in (("", models), (", frozen", frozen)):
            for kind, make in (("likelihood", Likelihood), ("true/false", lambda judge: TrueFalse(judge, prompt))):
                panels[f"{kind}, self{word}"] = [make(judges[name])]
                panels[f"{kind}, others{word}"] = [make(judge) for other, judge in judges.items() if other != name]
        for label, panel in panels.items():
            scores = gap_scores(samples, score_samples(panel, samples, cache, ROWS), Threshold(quantile=args.quantile))
            values = {key.partition("@")[0]: entry and entry["value"] for key, entry in scores.items()}
            found.setdefault(label, {})[name] = {metric: values[metric] for metric in METRICS}
    return found


def greedy(models: dict[str, LanguageModel], items, cache: Cache) -> dict[str, float]:
    """Share of right greedy answers, by peer."""
    decoding = Decoding(TINY.max_new_tokens)
    drawn = {
        n: draw_samples(m, items, SCORING, decoding, cache, samples=1, batch_size=ROWS) for n, m in models.items()
    }
    return {name: fmean(row[0] for row in samples.correct) for name, samples in drawn.items()}


def draw(model: LanguageModel, items, cache: Cache, samples: int, seed: int) -> Samples:
    decoding = Decoding(TINY.max_new_tokens, temperature=1.0, seed=seed)
    return draw_samples(model, items, SCORING, decoding, cache, samples=samples, batch_size=ROWS)


# ---- the report ----------------------------------------------------------------------------------------------------


def mean_of_peers(by_peer: dict[str, dict], metric: str) -> float:
    """In percent or points."""
    return 100 * fmean(own[metric] for own in by_peer.values())


def write_report(args: argparse.Namespace) -> None:
    """gv_gap.json, .md and .png from every finished seed in `--out`."""
    runs = [json.loads(file.read_text()) for file in sorted(args.out.glob("gv_gap.seed*.json"))]
    if not runs:
        return
    rows = [make_row(label, runs) for label in sorted(runs[0]["before"], key=lambda label: ("froz" in label, label))]
    accuracy = before_and_after([[100 * fmean(own.values()) for own in run["greedy"]] for run in runs])
    settings = {name: getattr(args, name) for name in ("split", "questions", "samples", "quantile", "budget")}
    verifier = json.loads((args.out.parent / "verifier.json").read_text())
    args.docs.mkdir(parents=True, exist_ok=True)
    shown = {"seeds": len(runs), "verifier": verifier, "greedy": accuracy}
    text = json.dumps(settings | shown | {"rows": rows, "runs": runs}, indent=1)
    (args.docs / "gv_gap.json").write_text(text + "\n")
    (args.docs / "gv_gap.md").write_text(markdown(rows, settings | shown))
    plot(rows, args.docs / "gv_gap.png")
    print(f"{len(runs)} seeds in {args.docs / 'gv_gap.md'}")


def make_row(label: str, runs: list[dict]) -> dict[str, Any]:
    """Before, after and the paired change of every metric for one verifier."""
    row: dict[str, Any] = {"verifier": label}
    for metric in METRICS:
        old, new = ([mean_of_peers(run[when][label], metric) for run in runs] for when in ("before", "after"))
        row[metric] = before_and_after([list(pair) for pair in zip(old, new, strict=True)])
        if metric == "gap":
            shares = [100 * (b / a - 1) for a, b in zip(old, new, strict=True)] if min(old) >= 1 else []
            row["gap_change_percent"] = {"mean": fmean(shares), "ci95": interval(shares)} if shares else None
    row["gap_by_peer"] = {
        peer: {when: 100 * fmean(run[when][label][peer]["gap"] for run in runs) for when in ("before", "after")}
        for peer in runs[0]["before"][label]
    }
    return row


def before_and_after(pairs: list[list[float]]) -> dict[str, dict]:
    """Mean and interval over seeds of the value before, after, and of the paired change."""
    old, new = zip(*pairs, strict=True)
    change = [b - a for a, b in pairs]
    named = (("before", list(old)), ("after", list(new)), ("change", change))
    return {name: {"mean": fmean(values), "ci95": interval(values)} for name, values in named}


def markdown(rows: list[dict], settings: dict[str, Any]) -> str:
    cell = lambda value: spread(value["mean"], value["ci95"])  # noqa: E731
    both = lambda value: f"{value['before']['mean']:.1f} -> {value['after']['mean']:.1f}"  # noqa: E731
    first = rows[0]
    budget, verifier, accuracy = (settings[name] for name in ("budget", "verifier", "greedy"))
    lines = [
        INTRODUCTION,
        "",
        f"{settings['seeds']} seeds, {budget['max_steps']} updates at learning rate {budget['learning_rate']:g}; "
        f"{settings['questions']} questions ({settings['split']} split), {settings['samples']} samples each at "
        f"temperature 1; kept are scores from the {settings['quantile']:g} quantile of a question's samples on, "
        f"equal ones included. The supervised verifier learnt from {verifier['pairs']} different samples; its "
        f"balanced accuracy on samples of other questions is {100 * verifier['balanced_accuracy']:.1f} %.",
        "",
        f"Accuracy of the greedy answer {both(accuracy)} ({cell(accuracy['change'])}), of a sample "
        f"{both(first['generation'])} ({cell(first['generation']['change'])}), "
        f"pass@{settings['samples']} {both(first['pass'])}, majority@{settings['samples']} {both(first['majority'])}.",
        "",
        "![gaps](gv_gap.png)",
        "",
    ]
    heads = ["verifier", "verified accuracy", "change", "gap before", "gap after", "change", "change of the gap, %"]
    heads += ["relative gap", "balanced accuracy", "kept"]
    table = [
        [
            row["verifier"],
            both(row["verified"]),
            cell(row["verified"]["change"]),
            cell(row["gap"]["before"]),
            cell(row["gap"]["after"]),
            cell(row["gap"]["change"]),
            cell(row["gap_change_percent"]) if row["gap_change_percent"] else "-",
            *(both(row[metric]) for metric in ("relative_gap", "balanced_accuracy", "kept")),
        ]
        for row in rows
    ]
    return "\n".join([*lines, *pipe_table(heads, table)]) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """For each verifier, accuracy of samples and of kept samples, before and after."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.4), layout="constrained")
    for y, row in enumerate(reversed(rows)):
        for when, colour, offset in (("before", "#555555", 0.15), ("after", "#0072B2", -0.15)):
            ends = [row[metric][when]["mean"] for metric in ("generation", "verified")]
            axis.annotate(
                "",
                xy=(ends[1], y + offset),
                xytext=(ends[0], y + offset),
                arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0},
            )
            axis.plot(ends, [y + offset] * 2, color=colour, lw=1.5, label=when if y == 0 else None)
            axis.plot(ends[0], y + offset, "o", ms=4, color=colour)
    axis.set_yticks(range(len(rows)), [row["verifier"] for row in reversed(rows)])
    axis.set_xlabel("accuracy of a sample (dot) -> of the samples kept (arrow), %")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="best")
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
