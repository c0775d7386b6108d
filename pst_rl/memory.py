"""How much memory a run needs, before it is started: of each peer, and of one process.

All peers are resident on every device, so weights, adapters, optimizer states and reference models add up. The
phases of a step follow each other, and in each the peers take turns, so only the largest of them counts:

    total = resident + max(generation, scoring, gradients + update)

Exact: weights, NF4 with its constants, LoRA adapters, gradients, AdamW states, keys and values. Approximate: what
autograd keeps of a forward pass, and work space. Not counted: the CUDA context (about half a GiB), fragmentation,
DDP's buckets. docs/memory.md derives the formulas and compares them with measurements. All figures are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.model_shape import Linear, ModelShape

if TYPE_CHECKING:
    from trl import ModelConfig

    from pst_rl.config import PSTConfig

__all__ = ["Linear", "MemoryEstimate", "ModelShape", "PeerMemory", "RunShape", "estimate"]

WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
TILE_TOKENS, TILE_WORDS = 4096, 32768  # TRL 1.16: trl.kernels.chunked_logprob, trl.trainer.utils
GIB = 2**30


@dataclass(frozen=True)
class RunShape:
    """The settings that memory depends on; lengths in tokens, rows on one process.

    Attributes:
        quantization: `"nf4"` for 4-bit weights (bitsandbytes), with `double_quant` for quantized constants.
        dtype: Of weights that are not quantized; unset: float32, or bfloat16 with quantization, as `PeerSpec`.
        lora_rank: Rank of the adapters; `None` trains all weights.
        lora_targets: Names of adapted layers, `("all-linear",)`, or `None` for PEFT's choice.
        lora_dropout: TRL's default is 0.05; any dropout keeps a mask and a copy of each adapted input.
        optimizer: `"adamw"`, or `"adamw_8bit"` of bitsandbytes.
        batch: Rows in one forward and backward pass (`per_device_train_batch_size`).
        generation_rows: Rows that are sampled together.
        autocast: `bf16=True` or `fp16=True`: 2-byte activations whatever the weights are.
        reference: `beta > 0`. A second model where all weights are trained; LoRA needs none.
        pmi, target_length: Whether PMI is scored, and the tokens of the longest target.
        keep_caches: `pmi_from_cache`: the keys and values of all peers stay until PMI is known.
        device: `"cpu"`, or `"cuda"` for any device with Triton: there TRL folds logits without copies.
    """

    quantization: Literal["none", "nf4"] = "none"
    double_quant: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    lora_dropout: float = 0.05
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    batch: int = 8
    generation_rows: int = 8
    prompt_length: int = 256
    completion_length: int = 256
    gradient_checkpointing: bool = True
    autocast: bool = True
    reference: bool = False
    pmi: bool = False
    target_length: int = 16
    keep_caches: bool = False
    device: Literal["cuda", "cpu"] = "cuda"

    def __post_init__(self):
        if self.quantization != "none" and self.lora_rank is None:
            raise ValueError("Quantized weights cannot be trained: add LoRA (--use-peft), or leave --load-in-4bit out.")
        for name in ("batch", "generation_rows", "prompt_length", "completion_length", "target_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, got {self.lora_rank}.")

    @classmethod
    def of(cls, config: PSTConfig, model: ModelConfig, prompt_length: int) -> RunShape:
        """The shape of a run as the command line describes it.

        Raises:
            ValueError: An optimizer whose states are not known here, or 8-bit weights.
        """
        optimizer = str(getattr(config.optim, "value", config.optim))
        known = {"adamw_torch": "adamw", "adamw_torch_fused": "adamw"}
        known |= dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit"), "adamw_8bit")
        if optimizer not in known:
            raise ValueError(f"Memory is estimated for {', '.join(known)}, not for optim={optimizer!r}.")
        if model.load_in_8bit:
            raise ValueError("Memory is not estimated for 8-bit weights; use load_in_4bit or neither.")
        targets = model.lora_target_modules
        return cls(
            quantization="nf4" if model.load_in_4bit else "none",
            double_quant=model.use_bnb_nested_quant,
            lora_rank=model.lora_r if model.use_peft else None,
            lora_targets=(targets,) if isinstance(targets, str) else targets and tuple(targets),
            lora_dropout=model.lora_dropout,
            optimizer=known[optimizer],
            batch=config.per_device_train_batch_size,
            generation_rows=config.rows_per_generate
            or config.per_device_train_batch_size * config.steps_per_generation,
            prompt_length=prompt_length,
            completion_length=config.max_completion_length,
            gradient_checkpointing=config.gradient_checkpointing,
            autocast=bool(config.bf16 or config.fp16),
            reference=config.beta != 0.0,
            pmi=config.pmi == "on",
            target_length=config.max_completion_length if config.pmi_target == "response" else 16,
            keep_caches=config.pmi_from_cache,
            device="cpu" if config.use_cpu else "cuda",
        )

    @property
    def weight_width(self) -> int:
        """Bytes of an element of weights that are not quantized, and of the residual stream."""
        return WIDTH[self.dtype or ("bfloat16" if self.quantization == "nf4" else "float32")]

    @property
    def width(self) -> int:
        """Bytes of an element that a linear layer computes."""
        return 2 if self.autocast else self.weight_width

    @property
    def row(self) -> int:
        """Tokens of a trained row."""
        return self.prompt_length + self.completion_length


@dataclass(frozen=True)
class PeerMemory:
    """Bytes of one peer. The first five stay for the whole run; gradients from the first backward pass to the
    optimizer's step; the others while it is this peer's turn.
    """

    name: str
    weights: int
    adapters: int
    optimizer: int
    reference: int
    gradients: int
    kv_cache: int
    sampling: int
    scoring: int
    activations: int
    loss: int

    @property
    def resident(self) -> int:
        return self.weights + self.adapters + self.optimizer + self.reference


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process, with those of its peers."""

    peers: tuple[PeerMemory, ...]
    resident: int
    generation: int
    scoring: int
    update: int

    @property
    def total(self) -> int:
        """The peak: what is resident and the largest phase."""
        return self.resident + max(self.phases.values())

    @property
    def phases(self) -> dict[str, int]:
        """What each phase of a step needs beyond what is resident."""
        return {"generation": self.generation, "scoring": self.scoring, "update": self.update}

    @property
    def peak(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=self.phases.__getitem__)


def estimate(shapes: Sequence[ModelShape], settings: RunShape) -> MemoryEstimate:
    """The memory of one process that trains these peers with these settings; module docstring for what is counted.

    Raises:
        ValueError: No peers, or LoRA targets that a peer does not have.
    """
    if not shapes:
        raise ValueError("Name at least one peer.")
    peers = tuple(_peer(shape, settings) for shape in shapes)
    caches = [peer.kv_cache for peer in peers]
    kept = sum(caches) if settings.keep_caches else 0
    generation = max(peer.sampling + (0 if kept else peer.kv_cache) for peer in peers) + kept
    return MemoryEstimate(
        peers=peers,
        resident=sum(peer.resident for peer in peers),
        generation=generation,
        scoring=max(peer.scoring for peer in peers) + kept,
        update=sum(peer.gradients for peer in peers) + max(peer.activations + peer.loss for peer in peers),
    )


def _peer(shape: ModelShape, run: RunShape) -> PeerMemory:
    trained, width = trained_tensors(shape, run)
    adapters = 4 * sum(trained) if run.lora_rank is not None else 0
    return PeerMemory(
        name=shape.name,
        weights=weight_bytes(shape, run),
        adapters=adapters,
        optimizer=optimizer_bytes(trained, width, run.optimizer),
        reference=weight_bytes(shape, run) if run.reference and run.lora_rank is None else 0,
        gradients=width * sum(trained),
        kv_cache=cache_bytes(shape, run),
        sampling=sampling_bytes(shape, run),
        scoring=scoring_bytes(shape, run) if run.pmi else 0,
        activations=activation_bytes(shape, run),
        loss=loss_bytes(shape, run),
    )


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


def sampling_bytes(shape: ModelShape, run: RunShape) -> int:
    """The larger of two moments of `generate`. Reading the prompts: the feed-forward layer's three vectors and two of
    the residual stream for each token, and the scores of eager attention. Drawing: four float32 vectors over the
    vocabulary for each row (logits, a copy, scaled, probabilities), while one layer's cache is copied to grow.
    """
    tokens = run.generation_rows * run.prompt_length
    reading = tokens * (3 * shape.intermediate * run.width + 2 * shape.hidden * run.weight_width)
    if shape.eager:
        reading += tokens * run.prompt_length * shape.heads * (4 + run.width)
    drawing = 16 * run.generation_rows * shape.vocabulary + cache_bytes(shape, run) // shape.layers
    return max(reading, drawing)


def scoring_bytes(shape: ModelShape, run: RunShape) -> int:
    """A forward pass without gradients over `batch` rows, and three tensors of logits for the target's tokens (as
    computed, in float32, and their log-softmax).
    """
    tokens = run.batch * (run.row + run.target_length)
    reading = tokens * (3 * shape.intermediate * run.width + 2 * shape.hidden * run.weight_width)
    if shape.eager:
        reading += tokens * (run.row + run.target_length) * shape.heads * (4 + run.width)
    logits = run.batch * (run.target_length + 1) * shape.vocabulary * (run.width + 8)
    return max(reading, logits)


def layer_bytes(shape: ModelShape, run: RunShape) -> int:
    """What autograd keeps of one block for one row of `run.row` tokens: a count of the saved tensors of a Llama block
    in transformers, in the manner of arXiv 2205.05198. w is the width of weights, c of computed elements.

        norms       hidden (4 + w), for each: input in float32, and the normalised vector if its weight is trained
        attention   4 heads head_dim c: rotated queries, keys and values repeated for each head, output; and for eager
                    attention heads tokens (4 + c), and c once more with soft-capping
        inputs      of each linear layer: shared by q, k, v and by gate, up, unless each makes a copy in another dtype
        mlp         3 intermediate c: gate, its activation, up
    """
    c, w, full = run.width, run.weight_width, run.lora_rank is None
    attention = shape.heads * shape.head_dim
    kept = shape.norms * shape.hidden * (4 + (w if full else 0))
    kept += 4 * attention * c + 4 * shape.heads
    if shape.eager:
        kept += shape.heads * run.row * (4 + c + (c if shape.softcap else 0))
    kept += 3 * shape.intermediate * c
    if full:
        copied = 5 if c != w else 2  # q, k, v, gate and up each; or once for attention and once for the mlp
        kept += copied * shape.hidden * c + shape.intermediate * c
    else:
        inputs = sum(layer.inputs for layer in shape.targets(run.lora_targets)) // shape.layers
        kept += inputs * ((2 if run.autocast else 4) + (1 if run.lora_dropout else 0))
    return kept * run.row


def activation_bytes(shape: ModelShape, run: RunShape) -> int:
    """What a forward pass over `batch` rows leaves for the backward pass, and the gradients that flow back.

    Every block (`layer_bytes`); with gradient checkpointing only the input of each, and one block that is computed
    again (arXiv 1604.06174). To it come three gradients of the feed-forward layer's width and two of the residual
    stream's, the 2-byte copies that autocast makes of float32 weights, and one dequantized weight.
    """
    tokens = run.batch * run.row
    stored = layer_bytes(shape, run) * run.batch
    if run.gradient_checkpointing:
        stored += shape.layers * tokens * shape.hidden * run.weight_width
    else:
        stored *= shape.layers
    flowing = tokens * (3 * shape.intermediate * run.width + 2 * shape.hidden * run.weight_width)
    elements = [linear.elements for linear in shape.linears]
    copies = 0
    if run.quantization == "nf4":
        copies = 2 * max(elements)
    elif run.autocast and run.weight_width == 4:
        whole = run.lora_rank is None or not run.gradient_checkpointing
        copies = 2 * sum(elements) // (1 if whole else shape.layers)
    return stored + flowing + copies


def loss_bytes(shape: ModelShape, run: RunShape) -> int:
    """TRL's fused output head: one tile of logits, at most 4096 tokens by 32768 words, and float32 gradients of the
    hidden states and, if it is trained, of the head.

    With Triton only the completions' tokens are scored; the CPU scores all of them, with four float32 copies of a tile.
    """
    tokens = run.batch * (run.completion_length if run.device == "cuda" else run.row)
    rows = min(tokens, TILE_TOKENS)
    tile = rows * TILE_WORDS * run.width
    if run.device == "cpu":
        tile += 4 * rows * min(shape.vocabulary, TILE_WORDS) * 4
    hidden = tokens * shape.hidden * (4 + run.weight_width)
    head = 4 * shape.vocabulary * shape.hidden if run.lora_rank is None else 0
    return tile + hidden + head


def as_json(estimated: MemoryEstimate) -> dict[str, Any]:
    """All parts in bytes, as JSON values."""
    return {
        "total": estimated.total,
        "peak": estimated.peak,
        "resident": estimated.resident,
        "phases": estimated.phases,
        "peers": [dict(vars(peer)) for peer in estimated.peers],
    }
