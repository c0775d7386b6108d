"""The generator-verifier gap of published models: every generator with every verifier.

    python scripts/real_tasks.py runs/tasks
    python scripts/real_gv_gap.py --models smollm=FOLDER qwen=FOLDER gemma=FOLDER --tasks runs/tasks

What `pst-rl gv-gap` measures, by its own code, with the samples that `real_pmi.py` has left. Resumable: samples and
scores are kept.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from real_pmi_report import Wins, auc, rounded, shown
from real_samples import (
    decoding_of,
    load_models,
    load_task,
    prompt_ids,
    remember,
    sampled,
    study_options,
    style_of,
)

from pst_rl.benchmarks.benchmark import Scoring
from pst_rl.benchmarks.cache import Cache
from pst_rl.benchmarks.gv_gap import Samples, draw_samples, gap_scores
from pst_rl.benchmarks.model import LanguageModel
from pst_rl.benchmarks.prompts import load_prompt
from pst_rl.benchmarks.verifiers import Likelihood, TrueFalse, Verifier, verify
from pst_rl.files import write_atomically
from pst_rl.measure.verification import Threshold
from pst_rl.quiet import quiet_output
from pst_rl.report import pipe_table

TASKS = ["differences", "capitals", "opposites"]
OTHERS = "others"
AT_ONCE = 1_000_000  # all rows: shared beginnings are found among them
INTRODUCTION = """# The generator-verifier gap of published models

Written by `{command}`; do not edit. What it means: [evaluation](../evaluation.md), and [the
study](../real-pmi-study.md).

{samples} samples of each model at temperature {temperature:g}; kept are those from the {quantile:g} quantile of a
question's scores on, about the best one. *Gap*: accuracy of the kept samples minus accuracy of all, points, with the
95 % bootstrap interval over questions. *True/false*: P(True) / (P(True) + P(False)) of the judge that is asked;
*likelihood*: its mean log-probability of the response's tokens; *others*: mean score of the two other models. *AUC*:
chance that a right sample scores higher than a wrong one of the same question (.5 is chance). A sample that was cut
off has no answer and is wrong (*unread*)."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = study_options(__doc__, "real_gv_gap")
    parser.add_argument("--only", nargs="+", default=TASKS, metavar="TASK", help="only these tasks")
    parser.add_argument("--questions", type=int, default=36, help="test questions of each task, at most")
    parser.add_argument("--quantile", type=float, default=0.8, help="samples from this quantile of scores are kept")
    args = parser.parse_args(arguments)
    quiet_output()
    if not args.report:
        compute(args)
    write_report(args)
    return 0


def compute(args: argparse.Namespace) -> None:
    """Block by block through all tasks: what each sample is worth, and each verifier's score of it."""
    models = load_models(args.models)
    prompt, cache = load_prompt("judge.v1"), Cache(args.out / "cache.jsonl")
    verifiers: dict[str, Verifier] = {f"true/false, {name}": TrueFalse(m, prompt) for name, m in models.items()}
    verifiers |= {f"likelihood, {name}": Likelihood(m) for name, m in models.items()}
    for first in range(0, args.questions, args.block):
        for task in args.only:
            file = args.out / f"{task}.{first}.json"
            items = load_task(args.tasks, task, first, min(first + args.block, args.questions))
            if file.is_file() or not items:
                continue
            drawn = draw_all(models, task, items, first, cache, args)
            scores = score_all(verifiers, drawn, cache)
            result = {"task": task, "scores": scores, "samples": {}}
            for name, own in drawn.items():
                result["samples"][name] = {
                    "correct": own.correct,
                    "keys": [[sample.key for sample in row] for row in own.judged],
                }
            write_atomically(file, json.dumps(result))
            print(f"{task}, from {first}: done", flush=True)


def draw_all(
    models: Mapping[str, LanguageModel], task: str, items, first: int, cache: Cache, args: argparse.Namespace
) -> dict[str, Samples]:
    """Every model's samples, as `gv-gap` reads and judges them."""
    found = {}
    samples = sampled(models, task, items, first, args)
    for name, model in models.items():
        decoding = decoding_of(name, task, first, args)
        remember(cache, model, prompt_ids(model, items), decoding, samples[name])
        scoring = Scoring(style_of(task))  # type: ignore[arg-type]
        found[name] = draw_samples(model, items, scoring, decoding, cache, samples=args.chains, batch_size=AT_ONCE)
    return found


def score_all(
    verifiers: Mapping[str, Verifier], drawn: Mapping[str, Samples], cache: Cache
) -> dict[str, dict[str, list[list[float]]]]:
    """Scores by verifier and generator, `[question][sample]`."""
    cases = [case for own in drawn.values() for row in own.cases for case in row]
    found: dict[str, dict] = {}
    for label, verifier in verifiers.items():
        scores = iter(verify(verifier, cases, cache, AT_ONCE, label))
        found[label] = {name: [[next(scores) for _ in row] for row in own.cases] for name, own in drawn.items()}
    return found


# ---- the report ----------------------------------------------------------------------------------------------------


def joined(args: argparse.Namespace, task: str) -> dict[str, Any] | None:
    """The blocks of a task, one behind the other."""
    files = sorted(args.out.glob(f"{task}.*.json"), key=lambda file: int(file.stem.rpartition(".")[2]))
    blocks = [json.loads(file.read_text()) for file in files]
    if not blocks:
        return None
    scores = {
        label: {name: [row for block in blocks for row in block["scores"][label][name]] for name in by_name}
        for label, by_name in blocks[0]["scores"].items()
    }
    for kind in dict.fromkeys(label.partition(", ")[0] for label in scores):
        judges = {label.partition(", ")[2]: own for label, own in scores.items() if label.startswith(kind)}
        scores[f"{kind}, {OTHERS}"] = {name: mean_of_others(judges, name) for name in judges}
    samples = {
        name: {key: [row for block in blocks for row in block["samples"][name][key]] for key in ("correct", "keys")}
        for name in blocks[0]["samples"]
    }
    return {"scores": scores, "samples": samples}


def mean_of_others(judges: Mapping[str, Mapping[str, list]], name: str) -> list[list[float]]:
    """The mean score of all judges but one, `[question][sample]`."""
    others = [own[name] for judge, own in judges.items() if judge != name]
    return [[fmean(values) for values in zip(*rows, strict=True)] for rows in zip(*others, strict=True)]


def make_rows(task: str, found: Mapping[str, Any], quantile: float) -> list[dict[str, Any]]:
    """One row for each generator and verifier, percent and points."""
    from pst_rl.measure.samples import Judged

    rows = []
    for name, own in found["samples"].items():
        judged = [
            [Judged(key, right) for key, right in zip(*pair, strict=True)]
            for pair in zip(own["keys"], own["correct"], strict=True)
        ]
        samples = Samples(cases=[], judged=judged)
        for label, by_name in found["scores"].items():
            kind, _, judge = label.partition(", ")
            scores = gap_scores(samples, by_name[name], Threshold(quantile=quantile))
            size = len(judged[0])
            row = {"task": task, "generator": name, "verifier": kind, "judge": judge, "questions": len(judged)}
            for key in ("generation", "verified", "gap", "relative_gap", "balanced_accuracy", "kept", "unparsed"):
                entry = scores[key]
                row[key] = None if entry is None else 100 * entry["value"]
                row[f"{key}_ci95"] = None if entry is None else [100 * end for end in entry["ci95"]]
            row |= {f"{key}@{size}": 100 * scores[f"{key}@{size}"]["value"] for key in ("pass", "majority")}
            flat = [(q, s, j.correct) for q, r in enumerate(judged) for s, j in zip(by_name[name][q], r, strict=True)]
            questions, values, right = (list(column) for column in zip(*flat, strict=True))
            inside = auc({task: [Wins.of(values, right, questions, len(judged))]}, within=True)
            row |= {"auc_within_question": inside and inside[0], "auc_ci95": inside and inside[1]}
            rows.append(row)
    return rows


def write_report(args: argparse.Namespace) -> None:
    """real_gv_gap.json and .md."""
    found = {task: joined(args, task) for task in args.only}
    rows = [row for task, own in found.items() if own for row in make_rows(task, own, args.quantile)]
    command = shlex.join(["python", "scripts/real_gv_gap.py", "--models", *(f"{n}=FOLDER" for n, _ in args.models)])
    command += " --tasks FOLDER"
    settings = {"samples": args.chains, "temperature": args.temperature, "quantile": args.quantile, "seed": args.seed}
    args.docs.mkdir(parents=True, exist_ok=True)
    report = {"command": command, "settings": settings, "rows": rows}
    (args.docs / "real_gv_gap.json").write_text(json.dumps(rounded(report), indent=1) + "\n")
    lines = [INTRODUCTION.format(command=command, **settings)]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        lines += ["", f"## {task}, {own[0]['questions']} questions", ""]
        size = next(key.partition("@")[2] for key in own[0] if key.startswith("pass@"))
        heads = ["generator", f"accuracy / pass@{size} / majority@{size} / unread, %", "verifier", "judge", "gap"]
        heads += ["relative gap", "balanced accuracy, %", "kept, %", "AUC in a question"]
        table = []
        for row in own:
            base = [row["generation"], row[f"pass@{size}"], row[f"majority@{size}"], row["unparsed"]]
            judge = "itself" if row["judge"] == row["generator"] else row["judge"]
            table.append(
                [row["generator"], " / ".join(f"{v:.0f}" for v in base), row["verifier"], judge]
                + [shown(row[key], row[f"{key}_ci95"], 1) for key in ("gap", "relative_gap", "balanced_accuracy")]
                + [f"{row['kept']:.0f}", shown(row["auc_within_question"], row["auc_ci95"])]
            )
        lines += pipe_table(heads, table)
    (args.docs / "real_gv_gap.md").write_text("\n".join(lines) + "\n")
    print(f"{len(rows)} rows in {args.docs / 'real_gv_gap.md'}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
