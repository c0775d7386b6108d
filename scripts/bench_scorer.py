"""Times leave-one-out scores in divide-and-conquer order against one full forward pass per item, side by side.

    python scripts/bench_scorer.py --json runs/scorer.json
    python scripts/bench_scorer.py --json runs/scorer.json --sizes 64 256 --repeats 3

Both sides score the same items with the same labels, in the same order of demonstrations, on the same randomly
initialised Llama (hidden size 64, 3 layers); the times of a repeat are taken one after the other, and the speed-up is
the median over the repeats of their ratio. A unit is a demonstration or a target that is read.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import mean, median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.scores import leave_one_out, leave_one_out_naive
from pst_rl.quiet import quiet_output
from pst_rl.tiny import TINY_PEERS

LABEL_WORDS = (("No",), ("Yes",))


@dataclass(frozen=True)
class Row:
    """One size. Seconds are medians over the repeats; `low` and `high` are the least and the greatest speed-up."""

    n: int
    naive_units: int
    units: int
    naive_tokens: int
    tokens: int
    naive_seconds: float
    seconds: float
    speedup: float
    low: float
    high: float
    max_abs_difference: float  # nats


def main() -> int:
    """Entry point; see the module's docstring."""
    quiet_output()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], metavar="N", help="numbers of items")
    parser.add_argument("--repeats", type=int, default=3, help="times that each side is timed")
    parser.add_argument("--leaf-batch", type=int, help="blocks read side by side; the library's default if unset")
    args = parser.parse_args()
    if min(args.sizes) < 1 or args.repeats < 1 or (args.leaf_batch is not None and args.leaf_batch < 1):
        print("--sizes, --repeats and --leaf-batch must be at least 1", file=sys.stderr)
        return 2
    options = {} if args.leaf_batch is None else {"leaf_batch": args.leaf_batch}
    rows = [measure(n, args.repeats, **options) for n in args.sizes]
    show(rows)
    if args.json:
        result = {
            "model": "Llama, hidden size 64, 3 layers, randomly initialised, float32",
            "demonstration_tokens": mean(demonstration_tokens(build(max(args.sizes)))),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "repeats": args.repeats,
            **options,
            "rows": [asdict(row) for row in rows],
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def build(n: int) -> LanguageModelPredictor:
    """A predictor of n claims about sums, on a small Llama that has learned nothing."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_PEERS["llama"])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=32 * n + 32,  # nothing may be dropped: every context is read whole
        initializer_range=0.2,  # with the usual 0.02 all labels would be equally likely, and all scores alike
        **special(tokenizer),
    )
    rng = Random(0)
    prompts = [f"{a}+{b}={a + b + rng.choice([0, 1])}?" for a, b in _pairs(rng, n)]
    return LanguageModelPredictor(LlamaForCausalLM(config).eval(), tokenizer, prompts, LABEL_WORDS, separator="\n")


def special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of the special tokens, as a configuration names them."""
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def demonstration_tokens(predictor: LanguageModelPredictor) -> list[int]:
    """Lengths of all demonstrations."""
    return [len(predictor.demo_ids(item, 0)) for item in range(predictor.n_items)]


def measure(n: int, repeats: int, **options: int) -> Row:
    """Both sides, timed in turn, on n items with random labels."""
    predictor, rng = build(n), Random(1)
    labels = [rng.randrange(2) for _ in range(n)]
    blocks = [[item] for item in rng.sample(range(n), n)]
    _timed(predictor, lambda: leave_one_out(predictor, labels, blocks[:8]))  # warm-up
    pairs = [
        (
            _timed(predictor, lambda: leave_one_out_naive(predictor, labels, blocks)),
            _timed(predictor, lambda: leave_one_out(predictor, labels, blocks, **options)),
        )
        for _ in range(repeats)
    ]
    if predictor.dropped:
        raise RuntimeError(f"{predictor.dropped} demonstrations were dropped: the two sides would read too little.")
    naive, ours = pairs[0]
    ratios = [slow.seconds / fast.seconds for slow, fast in pairs]
    return Row(
        n,
        naive.units,
        ours.units,
        naive.tokens,
        ours.tokens,
        median(slow.seconds for slow, _ in pairs),
        median(fast.seconds for _, fast in pairs),
        median(ratios),
        min(ratios),
        max(ratios),
        max(float((slow.scores - fast.scores).abs().max()) for slow, fast in pairs),
    )


@dataclass(frozen=True)
class _Timed:
    scores: torch.Tensor
    seconds: float
    units: int
    tokens: int


def _timed(predictor: LanguageModelPredictor, score: Callable[[], torch.Tensor]) -> _Timed:
    units, tokens, start = predictor.units, predictor.tokens, perf_counter()
    scores = score()
    return _Timed(scores, perf_counter() - start, predictor.units - units, predictor.tokens - tokens)


def _pairs(rng: Random, n: int) -> list[tuple[int, int]]:
    return [(rng.randrange(10, 100), rng.randrange(10, 100)) for _ in range(n)]


def show(rows: Sequence[Row]) -> None:
    """Prints the figures as a table."""
    table = Table(title="Leave-one-out scores: one forward pass per item against divide and conquer")
    for head in (
        "n",
        "units, naive",
        "units",
        "s, naive",
        "s",
        "speed-up (least to greatest)",
        "largest difference, nats",
    ):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            str(row.n),
            str(row.naive_units),
            str(row.units),
            f"{row.naive_seconds:.2f}",
            f"{row.seconds:.3f}",
            f"{row.speedup:.1f} ({row.low:.1f} to {row.high:.1f})",
            f"{row.max_abs_difference:.1e}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
