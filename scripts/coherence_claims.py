"""Every search and baseline on claims of real text, with a model that fits any machine.

    python scripts/coherence_claims.py --data claims.jsonl answers.jsonl       # docs/results/coherence_claims.*

A file with a column `responses` (several models' answers to a question) becomes the claims "The answer is 5.", of
which two different ones are not both true; any other file has one claim a row, without a rule. The default model is a
tiny peer that knows nothing of this: its accuracy is expected to be chance. What is shown is that all of it runs, and
at what cost.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from datasets import disable_progress_bars

from pst_rl.coherence.accuracy import accuracy
from pst_rl.coherence.baselines import random_few_shot, supervised_gold_few_shot, zero_shot
from pst_rl.coherence.builders import claims_from_responses
from pst_rl.coherence.claims import Claims, load_claims
from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.search import ICM, Bootstrap, Debate, FoldICM, Gibbs
from pst_rl.quiet import quiet_output
from pst_rl.report import pipe_table

STEPS_PER_ITEM = 2  # of ICM, whose default is 12
TRAINING = {"learning_rate": 1e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8}


def searches(items: int) -> dict[str, Callable[..., Labelling]]:
    """The searches by name, with ICM's steps for so many items."""
    steps = STEPS_PER_ITEM * items
    return {
        "Gibbs, best of 4 samples": Gibbs(sweeps=2, anneal_to=0.0, start="empty", restarts=4).search,
        "Gibbs, annealed": Gibbs(sweeps=4, anneal_to=0.0).search,
        "ICM, as published": ICM.paper(steps=steps).search,
        "ICM, as released": ICM.released_code(steps=steps).search,
        "bootstrap": Bootstrap().search,
        "FoldICM": FoldICM(folds=2, rounds=1, training=TRAINING).search,
        "debate": Debate().search,
        "zero-shot": zero_shot,
        "zero-shot, made consistent": lambda *args, **options: zero_shot(*args, consistent=True, **options),
        "8 random labels shown": random_few_shot,
    }


SUPERVISED = "8 gold labels shown, supervised"


@dataclass(frozen=True)
class Row:
    """What one method made of the claims of one file; accuracies are shares, coherence is in nats."""

    method: str
    accuracy: float
    ci95: tuple[float, float]
    balanced: float
    coherence: float
    contradictions: int
    units: int
    tokens: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    quiet_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="files of claims or of recorded answers")
    parser.add_argument("--model", help="folder or Hub id; by default the embedded tiny Llama")
    parser.add_argument("--items", type=int, default=16, help="claims of each file at most, in whole groups")
    parser.add_argument("--seed", type=int, default=0, help="of the claims that are drawn and of the searches")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args(arguments)
    disable_progress_bars()
    model, tokenizer = load(args.model)
    report = []
    for file in args.data:
        claims = read(file, args.items, args.seed)
        chosen = args.methods or [*searches(len(claims)), SUPERVISED]
        rows = []
        for name in chosen:
            predictor = LanguageModelPredictor(model, tokenizer, claims.prompts, claims.label_words)
            rows.append(measure(name, predictor, claims, args.seed))
            print(f"{file.stem}, {name}: {rows[-1].seconds:.0f} s", flush=True)
        report.append(describe(file.stem, claims, predictor) | {"rows": [asdict(row) for row in rows]})
    args.docs.mkdir(parents=True, exist_ok=True)
    settings = {"model": Path(args.model).name if args.model else "tiny Llama", "seed": args.seed}
    (args.docs / "coherence_claims.json").write_text(json.dumps(settings | {"data": report}, indent=1) + "\n")
    text = markdown(report, settings["model"])
    (args.docs / "coherence_claims.md").write_text(text)
    print(text)
    return 0


def load(name: str | None):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl.tiny import TINY_PEERS

    name = name or str(TINY_PEERS["llama"])
    return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


def read(file: Path, items: int, seed: int) -> Claims:
    """The claims of a file."""
    from datasets import Dataset

    return claims_of(Dataset.from_json(str(file)), items, seed)


def claims_of(rows, items: int | None = None, seed: int = 0) -> Claims:
    """The claims of a data set; their groups are the questions, so neither groups nor rules can depend on gold."""
    if "responses" in rows.column_names:
        return claims_from_responses(rows, limit=items, seed=seed)
    return load_claims(rows, template="truthfulness", limit=items, seed=seed)


def measure(name: str, predictor: Predictor, claims: Claims, seed: int) -> Row:
    """Labels by one method, and what gold, read afterwards, says about them."""
    start = time.perf_counter()
    if name == SUPERVISED:
        found = supervised_gold_few_shot(predictor, claims.problem, claims.gold, seed=seed)
    else:
        found = searches(len(claims))[name](predictor, claims.problem, seed=seed)
    seconds = time.perf_counter() - start
    right = accuracy(found, claims.gold)
    interval = right.interval
    return Row(
        method=name,
        accuracy=right.share,
        ci95=(interval.low, interval.high),
        balanced=right.balanced,
        coherence=found.coherence,
        contradictions=found.violations,
        units=found.units,
        tokens=found.tokens,
        seconds=seconds,
    )


def describe(name: str, claims: Claims, predictor: LanguageModelPredictor) -> dict:
    return {
        "name": name,
        "items": len(claims),
        "groups": len(set(claims.groups)),
        "rules": len(claims.problem.constraints),
        "true": sum(label == claims.true_label for label in claims.gold),
        "longest_prompt": max(map(len, predictor.prompt_ids)),
        "mean_prompt": round(sum(map(len, predictor.prompt_ids)) / len(claims)),
        "window": predictor.max_tokens,
    }


HEADS = ("method", "accuracy, % (95 %)", "balanced, %", "coherence, nats", "contradictions", "units", "tokens", "s")
INTRODUCTION = """# Searches on real text

Written by `python scripts/coherence_claims.py`; do not edit. What it means: [coherence](../coherence-study.md).

Model: {model}. Accuracy with its 95 % bootstrap interval over claims; claims of one question are not independent,
which makes it too narrow. Contexts longer than the window leave demonstrations out. ICM makes {steps} steps per claim,
where its default is 12. Seconds include waiting for whatever else the machine did.
"""


def markdown(report: Sequence[dict], model: str) -> str:
    parts = [INTRODUCTION.format(model=model, steps=STEPS_PER_ITEM)]
    for data in report:
        parts += [
            f"## {data['name']}\n",
            f"{data['items']} claims about {data['groups']} questions, {data['true']} of them true, {data['rules']} "
            f"rules; a prompt has {data['mean_prompt']} tokens ({data['longest_prompt']} at most), the window "
            f"{data['window']}.\n",
            *pipe_table(HEADS, map(cells, data["rows"])),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def cells(row: dict) -> list[str]:
    low, high = row["ci95"]
    shares = [f"{100 * row['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})", f"{100 * row['balanced']:.1f}"]
    cost = [f"{row['units']:,}", f"{row['tokens']:,}", f"{row['seconds']:.0f}"]
    return [row["method"], *shares, f"{row['coherence']:.1f}", str(row["contradictions"]), *cost]


if __name__ == "__main__":
    sys.exit(main())
