"""The settings of a run that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trl import ModelConfig

    from pst_rl.config import PSTConfig

Dtype = Literal["float32", "bfloat16", "float16"]
WIDTH: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
_CHOSEN: dict[str | None, Dtype | None] = {None: None, "float32": None, "bfloat16": "bfloat16", "float16": "float16"}
_OPTIMIZERS: dict[str, Literal["adamw", "adamw_8bit"]] = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
}


@dataclass(kw_only=True)
class MemoryOptions:
    """The options of training that memory depends on, for a command that answers before TRL is imported.

    Names, defaults and meanings are those of `PSTConfig` and TRL's `ModelConfig`; a test compares. Only the machine
    differs: `PSTConfig` looks at the one it is on, these are for a GPU that knows bfloat16 unless `use_cpu` is set.
    """

    use_peft: bool = False
    """LoRA adapters; otherwise all weights are trained."""
    lora_r: int = 16
    """Rank of the adapters."""
    lora_dropout: float = 0.05
    """Dropout before the adapters; any keeps a mask."""
    lora_target_modules: list[str] | None = None
    """Layers that get one, or `all-linear`; by default PEFT's choice for the architecture."""
    load_in_4bit: bool = False
    """NF4 weights; only with LoRA."""
    load_in_8bit: bool = False
    """8-bit weights; their memory is not estimated."""
    use_bnb_nested_quant: bool = False
    """Double quantization."""
    dtype: str | None = "float32"
    """Of weights that are not quantized: float32 (with load_in_4bit: bfloat16), bfloat16 or float16."""
    optim: str = "adamw_torch_fused"
    """Optimizer: an AdamW of torch, or of 8 bits."""
    per_device_train_batch_size: int = 8
    """Rows in a forward and backward pass."""
    gradient_accumulation_steps: int = 1
    """Above 1, gradients of earlier batches wait beside a later one's activations."""
    steps_per_generation: int | None = None
    """So many batches are sampled together; by default gradient_accumulation_steps."""
    rows_per_generate: int | None = None
    """So many rows are sampled at a time; by default all that are sampled together."""
    max_completion_length: int = 512
    """Tokens of a completion."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass."""
    bf16: bool | None = None
    """Mixed precision in bfloat16; by default on a GPU, unless fp16 is set."""
    fp16: bool = False
    """Mixed precision in float16."""
    beta: float = 0.0
    """Other than 0 a reference model is needed, unless LoRA is used."""
    weighting: str = "none"
    """Whether PMI is scored (pmi)."""
    weighting_options: dict[str, Any] | None = None
    """Its options (JSON): what of the aggregate is scored, and whether the keys and values of all peers stay."""
    use_cpu: bool = False
    """A run without a GPU."""


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
        accumulates: Whether an optimizer step has several micro-batches (`gradient_accumulation_steps` above 1).
        reference: `beta > 0`. A second model where all weights are trained; LoRA needs none.
        pmi, target_length: Whether PMI is scored, and the tokens of the longest target.
        keep_caches: PMI's `from_cache`: the keys and values of all peers stay until PMI is known.
        device: `"cpu"`, or `"cuda"` for any device with Triton: there TRL folds logits without copies.
    """

    quantization: Literal["none", "nf4"] = "none"
    double_quant: bool = False
    dtype: Dtype | None = None
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
    accumulates: bool = True
    reference: bool = False
    pmi: bool = False
    target_length: int = 16
    keep_caches: bool = False
    device: Literal["cuda", "cpu"] = "cuda"

    def __post_init__(self):
        for name in ("batch", "generation_rows", "prompt_length", "completion_length", "target_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, got {self.lora_rank}.")

    def with_adapter(self, adapter: tuple[int, tuple[str, ...]] | None) -> RunShape:
        """The shape for a peer: with the adapter it comes with, if it does, instead of a new one.

        Raises:
            ValueError: Quantized weights without an adapter.
        """
        own = self if adapter is None else replace(self, lora_rank=adapter[0], lora_targets=adapter[1])
        if own.quantization != "none" and own.lora_rank is None:
            raise ValueError("Quantized weights cannot be trained: add --use-peft, or leave --load-in-4bit out.")
        return own

    @classmethod
    def of(cls, config: PSTConfig | MemoryOptions, model: ModelConfig | MemoryOptions, prompt_length: int) -> RunShape:
        """The shape of a run as the command line describes it.

        Raises:
            ValueError: An optimizer or a dtype whose size is not known here, or 8-bit weights.
        """
        optimizer = str(getattr(config.optim, "value", config.optim))
        if optimizer not in _OPTIMIZERS:
            raise ValueError(f"Memory is estimated for {', '.join(_OPTIMIZERS)}, not for optim={optimizer!r}.")
        if model.load_in_8bit:
            raise ValueError("Memory is not estimated for 8-bit weights; use load_in_4bit or neither.")
        from pst_rl.stages.pmi import PMIWeights  # loads torch, which `pst-rl peers` can do without

        if model.dtype not in _CHOSEN:
            raise ValueError(f"Memory is estimated for {', '.join(WIDTH)}, not for dtype={model.dtype!r}.")
        targets = model.lora_target_modules
        pmi = PMIWeights.of(config)  # type: ignore[arg-type]  # it reads nothing that only `PSTConfig` has
        steps = config.steps_per_generation or config.gradient_accumulation_steps
        return cls(
            quantization="nf4" if model.load_in_4bit else "none",
            double_quant=model.use_bnb_nested_quant,
            dtype=_CHOSEN[model.dtype],
            lora_rank=model.lora_r if model.use_peft else None,
            lora_targets=(targets,) if isinstance(targets, str) else tuple(targets) if targets else None,
            lora_dropout=model.lora_dropout,
            optimizer=_OPTIMIZERS[optimizer],
            batch=config.per_device_train_batch_size,
            generation_rows=config.rows_per_generate or config.per_device_train_batch_size * steps,
            prompt_length=prompt_length,
            completion_length=config.max_completion_length,
            gradient_checkpointing=config.gradient_checkpointing,
            autocast=config.fp16 or (not config.use_cpu if config.bf16 is None else config.bf16),
            accumulates=config.gradient_accumulation_steps > 1,
            reference=config.beta != 0.0,
            pmi=pmi is not None,
            target_length=config.max_completion_length if pmi and pmi.target == "response" else 16,
            keep_caches=pmi is not None and pmi.from_cache,
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
