"""The least that a step can cost: operations, bytes, and seconds on one H200, computed from the models' shapes.

    python scripts/bench_cost.py
    python scripts/bench_cost.py --questions 16 --generations 8 --prompt 128 --length 256 --json runs/cost.json

Nothing is measured here. Attention is counted over what lies before each token, adapters are counted where they are
trained, activations are not counted as bytes. A phase takes at least the longer of its operations at the peak rate and
its bytes at the peak bandwidth.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench_shapes import LARGER_SHAPES, TRUE_SHAPES
from rich.console import Console
from rich.table import Table

FLOPS = 990e12  # H200, bf16, dense
BANDWIDTH = 4.8e12  # H200, HBM3e, bytes a second
NF4 = 0.5 + 4 / 64  # bytes a weight: half a byte, and a float32 scale for each block of 64
BF16 = 2.0
RANK = 16
ADAPTER_STATE = 16  # bytes a trained parameter: float32 weight, gradient, and two moments


@dataclass(frozen=True)
class Shape:
    """What a model's configuration says about its cost.

    Attributes:
        linear: Weights of all linear layers but the head.
        head: Weights of the language-model head, vocabulary x hidden size.
        embedding: Weights of the token embedding, 0 where it is tied to the head.
        attention: Width of all query heads together, summed over layers.
        cache: Numbers kept for each token: keys and values of all layers.
        adapter: Trained weights of LoRA of rank 16 on every linear layer.
    """

    linear: int
    head: int
    embedding: int
    attention: int
    cache: int
    adapter: int

    @classmethod
    def of(cls, config: dict) -> "Shape":
        """Derived from a dictionary with the names of `transformers`."""
        width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        size = config.get("head_dim", width // config["num_attention_heads"])
        queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
        matrices = [(width, queries), (width, keys), (width, keys), (queries, width)] + 3 * [(width, inner)]
        return cls(
            linear=layers * sum(a * b for a, b in matrices),
            head=config["vocab_size"] * width,
            embedding=0 if config.get("tie_word_embeddings") else config["vocab_size"] * width,
            attention=layers * queries,
            cache=layers * 2 * keys,
            adapter=layers * sum(RANK * (a + b) for a, b in matrices),
        )

    def operations(self, tokens: float, before: float, scored: float) -> float:
        """Of a forward pass: 2 a weight and token, 4 a query and token attended to, the head where it is needed."""
        return 2 * self.linear * tokens + 4 * self.attention * tokens * before + 2 * self.head * scored

    @property
    def weight_bytes(self) -> float:
        """Read by one forward pass: NF4 linear layers and the bf16 head."""
        return NF4 * self.linear + BF16 * self.head


@dataclass(frozen=True)
class Batch:
    """One step: questions, generations, tokens of a prompt, of a response and of an answer, rows in a micro-batch."""

    questions: int = 16
    generations: int = 8
    prompt: int = 128
    length: int = 256
    answer: int = 8
    micro_batch: int = 8

    @property
    def rows(self) -> int:
        return self.questions * self.generations


def phases(shape: Shape, batch: Batch) -> dict[str, tuple[float, float]]:
    """(operations, bytes) of one peer's step with NF4 weights, LoRA and gradient checkpointing, by phase.

    PMI is counted twice: as whole responses read again, and as answers read after the cache that sampling has left.
    """
    rows, whole = batch.rows, batch.prompt + batch.length
    cached = rows * shape.cache * BF16
    micro_batches = rows / batch.micro_batch
    forward = shape.operations(rows * whole, whole / 2, rows * batch.length)
    return {
        "generate: prompts, each once": (
            shape.operations(batch.questions * batch.prompt, batch.prompt / 2, batch.questions),
            shape.weight_bytes,
        ),
        "generate: responses": (
            shape.operations(rows * batch.length, batch.prompt + batch.length / 2, rows * batch.length),
            batch.length * (shape.weight_bytes + cached * (batch.prompt + batch.length / 2)),
        ),
        "pmi: responses read again": (
            shape.operations(rows * (whole + batch.answer), whole / 2, rows * batch.answer),
            shape.weight_bytes * micro_batches,
        ),
        "pmi: from the cache": (
            shape.operations(rows * batch.answer, whole, rows * batch.answer),
            shape.weight_bytes + cached * whole,
        ),
        # Forward, forward again (checkpointing), and the gradient of the activations: the weights are frozen.
        "loss and backward": (3 * forward, 3 * shape.weight_bytes * micro_batches),
        "optimizer": (0.0, 28.0 * shape.adapter),  # reads weight, gradient and moments; writes weight and moments
    }


def seconds(cost: tuple[float, float]) -> float:
    """The floor of one phase."""
    operations, moved = cost
    return max(operations / FLOPS, moved / BANDWIDTH)


def memory_gb(shape: Shape, batch: Batch) -> dict[str, float]:
    """GB that one peer needs: weights and adapters always, keys and values of all rows while it samples."""
    whole = batch.rows * (batch.prompt + batch.length)
    return {
        "weights": (shape.weight_bytes + BF16 * shape.embedding) / 1e9,
        "adapter": ADAPTER_STATE * shape.adapter / 1e9,
        "cache": whole * shape.cache * BF16 / 1e9,
    }


def exchanged_bytes(shape: Shape, batch: Batch, bytes_per_token: float = 4.5) -> dict[str, float]:
    """Bytes that one peer's step exchanges between processes, at most: texts and floats, and adapter gradients."""
    return {
        "text and floats": batch.rows * (batch.length * bytes_per_token + 64),
        "adapter gradients": 2 * 4 * shape.adapter,  # a ring all-reduce moves each float32 about twice
    }


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for name, default in Batch.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default.default)
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    batch = Batch(**{name: getattr(args, name) for name in Batch.__dataclass_fields__})
    if min(vars(batch).values()) < 1:
        print("all counts must be at least 1", file=sys.stderr)
        return 2
    result = {name: cost(Shape.of(config), batch) for name, config in (TRUE_SHAPES | LARGER_SHAPES).items()}
    show(result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"batch": vars(batch), "models": result}, indent=2) + "\n")
    return 0


def cost(shape: Shape, batch: Batch) -> dict:
    """All figures of one model."""
    return {
        "phases": {
            name: {"operations": c[0], "bytes": c[1], "seconds": seconds(c)}
            for name, c in phases(shape, batch).items()
        },
        "memory_gb": memory_gb(shape, batch),
        "exchanged_bytes": exchanged_bytes(shape, batch),
    }


def show(result: dict[str, dict]) -> None:
    """Prints the floors as a table."""
    table = Table(title="Floor of one step on one H200, milliseconds (c: bound by computing, m: by memory)")
    table.add_column("")
    for name in result:
        table.add_column(name, justify="right")
    for phase in next(iter(result.values()))["phases"]:
        cells = [r["phases"][phase] for r in result.values()]
        bound = ["c" if c["operations"] / FLOPS > c["bytes"] / BANDWIDTH else "m" for c in cells]
        table.add_row(phase, *(f"{1000 * c['seconds']:.2f} {b}" for c, b in zip(cells, bound, strict=True)))
    for part in ("weights", "adapter", "cache"):
        table.add_row(f"{part}, GB", *(f"{r['memory_gb'][part]:.2f}" for r in result.values()))
    for part in ("text and floats", "adapter gradients"):
        table.add_row(f"{part}, MB", *(f"{r['exchanged_bytes'][part] / 1e6:.2f}" for r in result.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
