"""The parts of a peer's memory, in bytes: formulas with their sources. `pst_rl.memory.estimate` puts them together."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pst_rl.memory.model_shape import ModelShape
from pst_rl.memory.run_shape import RunShape

TILE_TOKENS, TILE_WORDS = 4096, 32768  # TRL 1.16: trl.kernels.chunked_logprob, trl.trainer.utils

# ---- exact ----


def nf4_bytes(elements: int, double_quant: bool) -> int:
    """4 bits an element, a constant for each block of 64, and the table of the 16 values (QLoRA, arXiv 2305.14314).

    The constant is a float32; with double quantization a byte, and a float32 for each 256 of them, with a table of 256
    values and an offset. Layout: bitsandbytes 0.50, one state for each weight.
    """
    blocks = ceil(elements / 64)
    constants = blocks + 4 * ceil(blocks / 256) + 4 * 256 + 4 if double_quant else 4 * blocks
    return ceil(elements / 2) + constants + 4 * 16


def weight_bytes(shape: ModelShape, run: RunShape) -> int:
    """Parameters of the base model. NF4 leaves embeddings, output head, norms and biases as they are."""
    if run.quantization == "none":
        return shape.parameters * run.weight_width
    plain = shape.parameters - sum(linear.elements for linear in shape.linears)
    return plain * run.weight_width + sum(nf4_bytes(x.elements, run.double_quant) for x in shape.linears)


def trained_tensors(shape: ModelShape, run: RunShape) -> tuple[list[int], int]:
    """Elements of each trained tensor, and the bytes of one element.

    LoRA of rank r adds r (inputs + outputs) to a layer (arXiv 2106.09685). Adapters are float32 here, also on
    quantized weights.
    """
    if run.lora_rank is None:
        return list(shape.tensors), run.weight_width
    layers = shape.targets(run.lora_targets)
    return [run.lora_rank * size for layer in layers for size in (layer.inputs, layer.outputs)], 4


def optimizer_bytes(tensors: Sequence[int], width: int, optimizer: str) -> int:
    """AdamW: two moments in the parameters' dtype and a step count of 4 bytes for each tensor.

    8-bit: a byte for each moment and two float32 for each block of 256 (arXiv 2110.02861); tensors of less than 4096
    elements keep float32 moments, as in bitsandbytes.
    """
    if optimizer == "adamw":
        return sum(2 * width * size + 4 for size in tensors)
    return sum(8 * size if size < 4096 else 2 * size + 8 * ceil(size / 256) for size in tensors)


def cache_bytes(shape: ModelShape, run: RunShape) -> int:
    """Keys and values of all sampled rows when the last token is drawn: prompt + completion - 1 tokens, or one less
    than the window where a layer's is sliding.

    The width is that of the residual stream, in which keys are rotated: autocast on float32 weights does not make the
    cache smaller.
    """
    tokens = [min(run.row - 1, (window or run.row) - 1) for window in shape.windows]
    vector = shape.key_value_heads * shape.head_dim
    return run.generation_rows * sum(tokens) * 2 * vector * max(run.weight_width, run.width)


# ---- approximate ----


def reading_bytes(shape: ModelShape, run: RunShape, rows: int, tokens: int) -> int:
    """A forward pass without gradients. For each token the feed-forward layer's gate, its activation and up, with LoRA
    also an adapter's product, and of the residual stream's width its old and new value and those of a norm; for eager
    attention the scores of one layer, computed and in float32.
    """
    vectors = 3 if run.lora_rank is None else 4
    each = vectors * shape.intermediate * run.width + 4 * shape.hidden * run.weight_width
    if shape.eager:
        each += tokens * shape.heads * (4 + run.width)
    return rows * tokens * each


def sampling_bytes(shape: ModelShape, run: RunShape) -> int:
    """The larger of two moments of `generate`: reading the prompts, and drawing, with four float32 vectors over the
    vocabulary for each row (logits, a copy, scaled, probabilities), while one layer's cache is copied to grow.
    """
    reading = reading_bytes(shape, run, run.generation_rows, run.prompt_length)
    drawing = 16 * run.generation_rows * shape.vocabulary + cache_bytes(shape, run) // shape.layers
    return max(reading, drawing) + head_scratch(shape, run)


def head_scratch(shape: ModelShape, run: RunShape) -> int:
    """What torch 2.13 takes on the CPU for a 2-byte product with the output head: 8 bytes for each of its elements."""
    two_bytes = min(run.width, run.weight_width) == 2
    return 8 * shape.vocabulary * shape.hidden if run.device == "cpu" and two_bytes else 0


def scoring_bytes(shape: ModelShape, run: RunShape) -> int:
    """A forward pass without gradients over `batch` rows, and three tensors of logits for the target's tokens (as
    computed, in float32, and their log-softmax).
    """
    reading = reading_bytes(shape, run, run.batch, run.row + run.target_length)
    logits = run.batch * (run.target_length + 1) * shape.vocabulary * (run.width + 8)
    return max(reading, logits) + head_scratch(shape, run)


def block_bytes(shape: ModelShape, run: RunShape) -> int:
    """What autograd keeps of one block for one row of `run.row` tokens: a count of the saved tensors of a Llama block
    in transformers, in the manner of arXiv 2205.05198. For each token, with w the width of weights, c of computed
    elements:

        norms       hidden (4 + w), for each: input in float32, and the normalised vector if its weight is trained
        attention   4 heads head_dim c: rotated queries, keys and values repeated for each head, output; and for eager
                    attention heads tokens (4 + c), and c once more with soft-capping
        mlp         3 intermediate c: gate, its activation, up
        inputs      of the linear layers if they are trained: q, k, v share one, and gate, up, unless autocast copies
                    it for each; of each adapted layer with LoRA, with a dropout mask (1 byte; 4 on the CPU)
    """
    c, w = run.width, run.weight_width
    kept = shape.norms * shape.hidden * (4 + (w if run.lora_rank is None else 0))
    kept += 4 * shape.heads * shape.head_dim * c + 4 * shape.heads
    if shape.eager:
        kept += shape.heads * run.row * (4 + c + (c if shape.softcap else 0))
    kept += 3 * shape.intermediate * c
    if run.lora_rank is None:
        kept += (5 if c != w else 2) * shape.hidden * c + shape.intermediate * c
    else:
        layers = shape.targets(run.lora_targets)
        mask = (4 if run.device == "cpu" else 1) if run.lora_dropout else 0
        adapted = sum(layer.inputs * ((2 if run.autocast else 4) + mask) + run.lora_rank * c for layer in layers)
        kept += adapted // shape.layers
    return kept * run.row


def activation_bytes(shape: ModelShape, run: RunShape) -> int:
    """What a forward pass over `batch` rows leaves for the backward pass: every block (`block_bytes`); with gradient
    checkpointing only the input of each (arXiv 1604.06174). Without it, also the 2-byte copies that autocast makes of
    float32 weights; with it, only those of trained ones, which autocast itself keeps.
    """
    tokens = run.batch * run.row
    last_norm = tokens * shape.hidden * (4 + run.weight_width)
    copies = 0
    if run.autocast and run.weight_width == 4 and (run.lora_rank is None or not run.gradient_checkpointing):
        copies = 2 * sum(linear.elements for linear in shape.linears)
    if run.gradient_checkpointing:
        return shape.layers * tokens * shape.hidden * run.weight_width + last_norm + copies
    return shape.layers * run.batch * block_bytes(shape, run) + last_norm + copies


def backward_bytes(shape: ModelShape, run: RunShape) -> int:
    """What the backward pass needs inside one block: three gradients of the feed-forward layer's width and two of the
    residual stream's, one dequantized weight, and with gradient checkpointing the block, computed again.
    """
    tokens = run.batch * run.row
    flowing = tokens * (3 * shape.intermediate * run.width + 2 * shape.hidden * run.weight_width)
    weight = max(linear.elements for linear in shape.linears) * run.width if run.quantization == "nf4" else 0
    return flowing + weight + (run.batch * block_bytes(shape, run) if run.gradient_checkpointing else 0)


def loss_bytes(shape: ModelShape, run: RunShape) -> int:
    """TRL's fused output head: one tile of logits, at most 4096 tokens by 32768 words, and float32 gradients of the
    hidden states and, if it is trained, of the head.

    With Triton only the completions' tokens are scored; the CPU scores all of them, and holds seven float32 copies of
    a tile (one more where logits are computed in 2 bytes) and a mask in its backward pass.
    """
    tokens = run.batch * (run.completion_length if run.device == "cuda" else run.row)
    rows = min(tokens, TILE_TOKENS)
    tile = rows * TILE_WORDS * run.width
    if run.device == "cpu":
        copies = (8 if run.width == 2 else 7) * 4 + 1
        tile += copies * rows * min(shape.vocabulary, TILE_WORDS)
    hidden = tokens * shape.hidden * (4 + run.weight_width)
    head = 4 * shape.vocabulary * shape.hidden if run.lora_rank is None else 0
    return tile + hidden + head
