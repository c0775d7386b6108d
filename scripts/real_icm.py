"""Labels that predict each other, on real text by published models: is coherence worth more than asking?

    python scripts/real_icm.py --models qwen=FOLDER gemma=FOLDER --data claims.jsonl answers.jsonl
    python scripts/real_icm.py ... --count     # tokens of each method, read by a model of one layer that knows nothing

Claims are made as in `coherence_claims.py`, from the third of the questions that are shorter than the others. A search
is dear on a slow model: it labels the first claims (`--few`), and every method is compared with zero-shot on the
claims that it labelled. Finished results lie in `--out` and are not computed again.

`--scorer` times leave-one-out scores in divide-and-conquer order against one forward pass per item, on the claims of
the first file: a repeat does the first for all items and the second for so many of them, whose time is scaled up.
`--numerics` compares scores in bfloat16 and float32, and by both orders, on the first claims.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean, median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from coherence_claims import claims_of
from datasets import Dataset, disable_progress_bars
from run_jobs import result_file

from pst_rl.coherence.accuracy import accuracy
from pst_rl.coherence.baselines import random_few_shot, supervised_gold_few_shot, zero_shot
from pst_rl.coherence.claims import Claims
from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.scores import coherence, contexts_of, leave_one_out
from pst_rl.coherence.search import ICM, Bootstrap, Gibbs
from pst_rl.coherence.search.base import orders_of
from pst_rl.quiet import quiet_output
from pst_rl.report import pipe_table

ZERO_SHOT = "zero-shot"
SUPERVISED = "8 gold labels shown, supervised"
LAST = {"keep": "last"}  # coherence is measured at the end of a restart only: it costs as much as a sweep
Find = Callable[[LanguageModelPredictor, Claims, int], Labelling]


def searched(make: Callable[[int], object]) -> Find:
    return lambda predictor, claims, seed: make(len(claims)).search(predictor, claims.problem, seed=seed)


METHODS: dict[str, Find] = {
    ZERO_SHOT: lambda predictor, claims, seed: zero_shot(predictor, claims.problem, seed=seed),
    "8 random labels shown": lambda predictor, claims, seed: random_few_shot(predictor, claims.problem, seed=seed),
    SUPERVISED: lambda predictor, claims, seed: supervised_gold_few_shot(
        predictor, claims.problem, claims.gold, seed=seed
    ),
    "bootstrap": searched(lambda n: Bootstrap(rounds=3, context_size=16, **LAST)),
    "joint likelihood, annealed": searched(lambda n: Gibbs(sweeps=3, anneal_to=0.0, **LAST)),
    "joint likelihood, best of 4 samples": searched(lambda n: Gibbs(sweeps=1, start="empty", restarts=4, **LAST)),
    "ICM, as published": searched(lambda n: ICM.paper(steps=n)),
    "ICM, as released": searched(lambda n: ICM.released_code(steps=n)),
}
PLAIN = (ZERO_SHOT, "8 random labels shown", SUPERVISED)  # no search
REFERENCES = ("gold", "all false", "all true")


def main(arguments: Sequence[str] | None = None) -> int:
    quiet_output()
    disable_progress_bars()
    args = parse(arguments)
    for file in args.data:
        for name, folder in args.models.items():
            load = partial(Models.load, folder, args)
            for method in args.methods:
                items = claims_for(args.items if method in PLAIN else args.few, name, file)
                done(args, f"{file.stem} {name} {method}", partial(label, load, file, method, items, args))
            if not args.count and set(args.methods) == set(METHODS):
                done(args, f"{file.stem} {name} references", partial(references, load, file, name, args))
    for name in args.scorer:
        done(args, f"scorer {name}", partial(scorer, partial(Models.load, args.models[name], args), args))
    for name in args.numerics:
        done(args, f"numerics {name}", partial(numerics, args.models[name], args))
    if not args.count:
        write_report(args)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pair = lambda text: text.split("=", 1)  # noqa: E731
    parser.add_argument("--models", nargs="+", type=pair, required=True, metavar="NAME=FOLDER")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="files of claims or of recorded answers")
    parser.add_argument("--items", nargs="+", default=["64"], metavar="N", help="claims, and FILE=N, MODEL:FILE=N")
    parser.add_argument("--few", nargs="+", default=["24"], metavar="N", help="the same for searches")
    parser.add_argument("--max-tokens", type=int, default=640, help="length of a context with its target")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--scorer", nargs="*", default=[], metavar="NAME", help="models to time the scorer with")
    parser.add_argument("--repeats", type=int, default=3, help="of the scorer")
    parser.add_argument("--naive", type=int, default=8, help="items that a repeat of the scorer reads one by one")
    parser.add_argument("--numerics", nargs="*", default=[], metavar="NAME", help="models of that comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the claims that are drawn and of the searches")
    parser.add_argument("--count", action="store_true", help="print the tokens of each method, and write nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/real_icm"), help="folder of the single results")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args(arguments)
    args.models = dict(args.models)
    return args


def claims_for(option: Sequence[str], model: str, file: Path) -> int:
    """How many claims: the number that stands alone, or the one for this file, or for this model on it."""
    by_name = {name: int(n) for name, _, n in (text.rpartition("=") for text in option)}
    return by_name.get(f"{model}:{file.stem}", by_name.get(file.stem, by_name.get("", 0)))


def done(args: argparse.Namespace, name: str, work: Callable[[], dict]) -> None:
    """Makes a result, unless it is there."""
    file = result_file(args.out, name, args.seed)
    if file.is_file() and not args.count:
        return
    start = time.perf_counter()
    result = work()
    print(f"{name}: {time.perf_counter() - start:.0f} s, {result.get('tokens', 0):,} tokens", flush=True)
    if not args.count:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result))


class Models:
    """One model at a time, as it was loaded last."""

    held: tuple = ()

    @classmethod
    def load(cls, folder: str, args: argparse.Namespace, dtype: torch.dtype = torch.bfloat16):
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

        if cls.held[:1] != ((folder, dtype),):
            cls.held = ()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if args.count:
                sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
                model = LlamaForCausalLM(
                    LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=32768, **sizes)
                )
            else:
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            cls.held = ((folder, dtype), model.eval(), tokenizer)
        return cls.held[1:]


def draw(file: Path, items: int, seed: int) -> Claims:
    """Claims from the third of the questions with the shortest prompts: whole questions where rules hold, else rows.

    Those of fewer items are among those of more, and come first.
    """
    rows = Dataset.from_json(str(file))
    every = claims_of(rows)
    units: dict = {}
    for i, group in enumerate(every.groups):
        units.setdefault(group if every.problem.constraints else i, []).append(i)
    length = {unit: max(len(every.prompts[i]) for i in members) for unit, members in units.items()}
    short = [unit for unit in units if length[unit] <= sorted(length.values())[len(units) // 3]]
    Random(seed).shuffle(short)
    chosen: list = []
    for unit in short:
        if sum(len(units[u]) for u in [*chosen, unit]) <= items:
            chosen.append(unit)
    if not every.problem.constraints:
        return claims_of(rows.select(chosen))
    where = {" ".join(row["question"].split()): k for k, row in enumerate(rows)}
    return claims_of(rows.select([where[unit] for unit in chosen]))


def opened(load: Callable, claims: Claims, max_tokens: int | None) -> LanguageModelPredictor:
    return LanguageModelPredictor(*load(), claims.prompts, claims.label_words, max_tokens=max_tokens)


def label(load: Callable, file: Path, method: str, items: int, args: argparse.Namespace) -> dict:
    """Labels by one method; gold is read afterwards, but by the supervised one."""
    claims = draw(file, items, args.seed)
    predictor = opened(load, claims, args.max_tokens)
    start, cpu = time.perf_counter(), time.process_time()
    found = METHODS[method](predictor, claims, args.seed)
    return {
        "prompts": claims.prompts,
        "groups": claims.groups,
        "gold": claims.gold,
        "rules": len(claims.problem.constraints),
        "labels": found.labels,
        "probabilities": [row[1] for row in found.probabilities],
        "balanced": accuracy(found, claims.gold).balanced,
        "coherence": found.coherence,
        "contradictions": found.violations,
        "tokens": found.tokens,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "dropped": predictor.dropped,
    }


def references(load: Callable, file: Path, name: str, args: argparse.Namespace) -> dict:
    """Coherence of the gold labels and of labels that are all the same, in nats, over the orders of the searches."""
    claims = draw(file, claims_for(args.few, name, file), args.seed)
    predictor, n = opened(load, claims, args.max_tokens), len(claims)
    labels = dict(zip(REFERENCES, (list(claims.gold), [0] * n, [1] * n), strict=True))
    nats = {name: coherence(predictor, each, orders_of(n, 2)).nats for name, each in labels.items()}
    return {"nats": nats, "tokens": predictor.tokens}


def scorer(load: Callable, args: argparse.Namespace) -> dict:
    """Both sides, in turn, on whole contexts; the naive one on other items in every repeat."""
    claims = draw(args.data[0], claims_for(args.items, "", args.data[0]), args.seed)
    predictor, n, rng = opened(load, claims, None), len(claims), Random(1)
    labels = [rng.randrange(2) for _ in range(n)]
    blocks = [[item] for item in rng.sample(range(n), n)]
    contexts, left = contexts_of(blocks, labels), rng.sample(range(n), n)
    with predictor.open().extended([contexts[0][:2]]) as warm:
        warm.score([[0]])
    ours, naive, difference = [], [], 0.0
    for _ in range(args.repeats):
        fast, scores = timed(predictor, lambda: leave_one_out(predictor, labels, blocks))
        items, left = left[: args.naive], left[args.naive :]
        slow, one = timed(predictor, lambda i=items: one_by_one(predictor, contexts, i))
        difference = max(difference, float((one - scores[items]).abs().max()))
        ours.append(fast)
        naive.append([part * n / len(items) for part in slow])
    if predictor.dropped:
        raise RuntimeError(f"{predictor.dropped} demonstrations were dropped: the two sides would read too little.")
    ratios = [slow[0] / fast[0] for slow, fast in zip(naive, ours, strict=True)]
    sides = (("naive", naive), ("divide_and_conquer", ours))
    return {
        "n": n,
        "repeats": args.repeats,
        "naive_items": args.naive,
        "seconds": {side: median(seconds for seconds, _ in found) for side, found in sides},
        "read": {side: fmean(tokens for _, tokens in found) for side, found in sides},
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "max_difference": difference,
        "tokens": predictor.tokens,
    }


def timed(predictor: LanguageModelPredictor, score: Callable[[], torch.Tensor]) -> tuple[list[float], torch.Tensor]:
    """Processor seconds, which other processes do not lengthen, and tokens read; and the scores."""
    tokens, start = predictor.tokens, time.process_time()
    scores = score()
    return [time.process_time() - start, predictor.tokens - tokens], scores


def one_by_one(predictor: LanguageModelPredictor, contexts: dict, items: Sequence[int]) -> torch.Tensor:
    """Scores of some items, each context read from its beginning."""
    rows = []
    for item in items:
        with predictor.open().extended([contexts[item]]) as context:
            rows.append(context.score([[item]])[0])
    return torch.stack(rows)


def numerics(folder: str, args: argparse.Namespace, items: int = 16) -> dict:
    """Leave-one-out log-odds of the first claims by number format and by order of reading; differences in nats."""
    claims = draw(args.data[0], items, args.seed)
    n, rng = len(claims), Random(1)
    labels = [rng.randrange(2) for _ in range(n)]
    blocks = [[item] for item in rng.sample(range(n), n)]
    odds, tokens = {}, 0
    for dtype in (torch.float32, torch.bfloat16):
        predictor = opened(partial(Models.load, folder, args, dtype), claims, None)
        name = str(dtype).removeprefix("torch.")
        for way, scores in (
            ("cached", leave_one_out(predictor, labels, blocks)),
            ("naive", one_by_one(predictor, contexts_of(blocks, labels), range(n))),
        ):
            odds[name, way] = scores[:, 1] - scores[:, 0]
        tokens += predictor.tokens
    exact = odds["float32", "naive"]
    gap = lambda a, b: float((odds[a] - odds[b]).abs().max())  # noqa: E731
    return {
        "n": n,
        "tokens": tokens,
        "mean_odds": float(exact.abs().mean()),
        "float32_cached_naive": gap(("float32", "cached"), ("float32", "naive")),
        "bfloat16_cached_naive": gap(("bfloat16", "cached"), ("bfloat16", "naive")),
        "bfloat16_float32": gap(("bfloat16", "naive"), ("float32", "naive")),
        "labels_that_change": int(((odds["bfloat16", "cached"] > 0) != (exact > 0)).sum()),
        "least_odds": float(exact.abs().min()),
    }


def clustered(values: Sequence[float], groups: Sequence[str], samples: int = 10_000) -> tuple[float, float, float]:
    """The mean, and its 95 % percentile interval by a bootstrap that draws whole groups."""
    names = sorted(set(groups))
    sums = numpy.array([sum(v for v, g in zip(values, groups, strict=True) if g == name) for name in names])
    sizes = numpy.array([sum(g == name for g in groups) for name in names])
    drawn = numpy.random.default_rng(0).integers(0, len(names), (samples, len(names)))
    low, high = numpy.percentile(sums[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    return fmean(values), float(low), float(high)


def auc(scores: Sequence[float], gold: Sequence[int]) -> float:
    """How often a true claim scores higher than a false one; a tie counts half."""
    true, false = (numpy.array([s for s, g in zip(scores, gold, strict=True) if g == label]) for label in (1, 0))
    differences = true[:, None] - false
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def auc_interval(scores: Sequence[float], gold: Sequence[int], groups: Sequence[str], samples: int = 2000) -> list:
    """Its 95 % percentile interval by a bootstrap that draws whole groups; draws of one kind of claim are left out."""
    places = [[i for i, g in enumerate(groups) if g == name] for name in sorted(set(groups))]
    rng, found = Random(0), []
    for _ in range(samples):
        drawn = [i for group in rng.choices(places, k=len(places)) for i in group]
        if 0 < sum(gold[i] for i in drawn) < len(drawn):
            found.append(auc([scores[i] for i in drawn], [gold[i] for i in drawn]))
    return [float(end) for end in numpy.percentile(found, [2.5, 97.5])]


def write_report(args: argparse.Namespace) -> None:
    """real_icm.json and .md, of what there is."""
    rows, there = [], []
    for file in args.data:
        for name in args.models:
            found = {m: saved(args, f"{file.stem} {name} {m}") for m in METHODS}
            rows += [row(file.stem, name, m, found) for m in METHODS if found[m]]
            if nats := saved(args, f"{file.stem} {name} references"):
                there.append({"data": file.stem, "model": name, **nats["nats"]})
    lines = [result | {"model": name} for name in args.models if (result := saved(args, f"scorer {name}"))]
    shared = ("n", "ratio", "low", "high", "max_difference", "repeats", "naive_items")
    sides = [
        {"model": r["model"], "method": side, "seconds": r["seconds"][side], "tokens": r["read"][side]}
        | {key: r[key] for key in shared}
        for r in lines
        for side in ("naive", "divide_and_conquer")
    ]
    formats = [{"model": name} | result for name in args.models if (result := saved(args, f"numerics {name}"))]
    command = ["python scripts/real_icm.py", "--models", *(f"{name}=FOLDER" for name in args.models), "--data"]
    command += [file.name for file in args.data]
    for flag in ("items", "few", "scorer", "numerics"):
        command += [f"--{flag}", *given] if (given := getattr(args, flag)) else []
    settings = {"items": args.items, "few": args.few, "max_tokens": args.max_tokens, "dtype": "bfloat16", "threads": 1}
    settings |= {"seed": args.seed, "icm_steps_per_claim": 1, "template": "as coherence_claims.py"}
    result = {"command": " ".join(command), "settings": settings, "rows": rows, "references": there, "scorer": sides}
    args.docs.mkdir(parents=True, exist_ok=True)
    (args.docs / "real_icm.json").write_text(json.dumps(result | {"numerics": formats}, indent=1) + "\n")
    text = markdown(result, formats)
    (args.docs / "real_icm.md").write_text(text)
    print(text)


def saved(args: argparse.Namespace, name: str) -> dict | None:
    file = result_file(args.out, name, args.seed)
    return json.loads(file.read_text()) if file.is_file() else None


def row(data: str, model: str, method: str, found: dict) -> dict:
    """One method: accuracy, and the difference from zero-shot on the same claims, by whole questions."""
    mine, zero = found[method], found[ZERO_SHOT]
    right = [float(a == b) for a, b in zip(mine["labels"], mine["gold"], strict=True)]
    share, low, high = clustered(right, mine["groups"])
    result = {"data": data, "model": model, "method": method, "n": len(right), "questions": len(set(mine["groups"]))}
    result |= {
        "accuracy": share,
        "ci95": [low, high],
        "balanced": mine["balanced"],
        "said_true": fmean(mine["labels"]),
    }
    result |= {"gold_true": fmean(mine["gold"]), "rules": mine["rules"]}
    if zero and method != ZERO_SHOT:
        place = {prompt: k for k, prompt in enumerate(zero["prompts"])}
        base = [float(zero["labels"][place[p]] == g) for p, g in zip(mine["prompts"], mine["gold"], strict=True)]
        gain, *interval = clustered([a - b for a, b in zip(right, base, strict=True)], mine["groups"])
        result |= {"minus_zero_shot": gain, "minus_zero_shot_ci95": interval}
    if method in PLAIN and 0 < sum(mine["gold"]) < len(right):
        result["auc"] = auc(mine["probabilities"], mine["gold"])
        result["auc_ci95"] = auc_interval(mine["probabilities"], mine["gold"], mine["groups"])
    keys = ("coherence", "contradictions", "tokens", "seconds", "cpu_seconds", "dropped")
    return result | {key: mine[key] for key in keys}


HEADS = (
    *("method", "n", "accuracy, % (95 %)", "minus zero-shot (95 %)", "balanced, %", "AUC, % (95 %)", "called true, %"),
    *("coherence, nats", "contradictions", "tokens", "CPU s"),
)
INTRODUCTION = """# Coherence on real text, by published models

Written by `{command}`; do not edit. What it means: [the study](../real-icm-study.md).

bfloat16, one thread, seed {seed}; contexts of at most {max_tokens:,} tokens, what does not fit is left out. ICM makes
one step per claim, where its default is 12. Intervals are 95 % bootstrap intervals over questions, drawn whole;
zero-shot is taken on the same claims. *AUC* is how often a true claim has a higher probability of being true than a
false one, where nothing was searched. *Called true* is the share of claims so labelled. Coherence is comparable among
rows of the same n.
"""


def markdown(result: dict, formats: Sequence[dict]) -> str:
    settings = result["settings"]
    parts = [INTRODUCTION.format(command=result["command"], **settings)]
    for data, model in dict.fromkeys((r["data"], r["model"]) for r in result["rows"]):
        rows = [r for r in result["rows"] if (r["data"], r["model"]) == (data, model)]
        most = max(rows, key=lambda r: r["n"])
        parts.append(
            f"## {data}, {model}\n\n{most['n']} claims about {most['questions']} questions, "
            f"{100 * most['gold_true']:.0f} % of them true, {most['rules']} rules.\n"
        )
        parts += [*pipe_table(HEADS, map(cells, rows)), ""]
        for known in result["references"]:
            if (known["data"], known["model"]) == (data, model):
                nats = ", ".join(f"{name} {known[name]:.1f}" for name in REFERENCES)
                parts.append(f"Coherence of labels that nobody searched for, in nats: {nats}.\n")
    if result["scorer"]:
        parts += ["## The scorer\n", *pipe_table(SIDES, map(side_cells, result["scorer"])), ""]
    if formats:
        parts += ["## bfloat16 and float32\n", *pipe_table(FORMATS, map(format_cells, formats)), ""]
    return "\n".join(parts).rstrip() + "\n"


def cells(row: dict) -> list[str]:
    spread = lambda value, ends: f"{100 * value:.1f} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"  # noqa: E731
    gain = spread(row["minus_zero_shot"], row["minus_zero_shot_ci95"]) if "minus_zero_shot" in row else ""
    shares = [
        spread(row["accuracy"], row["ci95"]),
        gain,
        f"{100 * row['balanced']:.1f}",
        spread(row["auc"], row["auc_ci95"]) if "auc" in row else "",
        f"{100 * row['said_true']:.0f}",
    ]
    cost = [f"{row['coherence']:.1f}", str(row["contradictions"]), f"{row['tokens']:,}", f"{row['cpu_seconds']:.0f}"]
    return [row["method"], str(row["n"]), *shares, *cost]


SIDES = (
    "model",
    "n",
    "order",
    "CPU s",
    "tokens",
    "naive / divide and conquer (least to greatest)",
    "difference, nats",
)


def side_cells(side: dict) -> list[str]:
    ratio = f"{side['ratio']:.1f} ({side['low']:.1f} to {side['high']:.1f})" if side["method"] != "naive" else ""
    cost = [f"{side['seconds']:.1f}", f"{side['tokens']:,.0f}"]
    return [side["model"], str(side["n"]), side["method"], *cost, ratio, f"{side['max_difference']:.3f}"]


FORMATS = (
    *("model", "n", "mean log-odds", "float32: cached - naive", "bfloat16: cached - naive", "bfloat16 - float32"),
    "labels that change",
)


def format_cells(result: dict) -> list[str]:
    keys = ("float32_cached_naive", "bfloat16_cached_naive", "bfloat16_float32")
    gaps = [f"{result['mean_odds']:.2f}", *(f"{result[key]:.2g}" for key in keys)]
    return [result["model"], str(result["n"]), *gaps, str(result["labels_that_change"])]


if __name__ == "__main__":
    sys.exit(main())
