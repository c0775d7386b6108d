"""The sizes of a language model, read from its configuration: no weights are loaded or downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from pst_rl.peers.positions import reading_window
from pst_rl.peers.sources import adapter_config, is_gguf, read_config


@dataclass(frozen=True)
class Linear:
    """One linear layer: its path in the model and the lengths of its input and output vectors."""

    path: str
    inputs: int
    outputs: int

    @property
    def elements(self) -> int:
        """Elements of its weight, without a bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """What the memory of a model depends on.

    Attributes:
        name: How the model was named: Hub id or folder.
        architecture, model_type: As in `config.json`.
        tensors: Elements of each parameter tensor; a tied one counts once.
        linears: The linear layers of the blocks: what NF4 quantizes and `all-linear` LoRA adapts. Not the output head.
        hidden, vocabulary: Width of the residual stream, rows of the output head.
        context: `reading_window`.
        heads, key_value_heads, head_dim: Of the attention.
        windows: For each layer the sliding window in tokens, or `None` for full attention.
        norms: Normalisation layers in a block.
        eager: Whether attention scores are stored, (heads, tokens, tokens), because no fused kernel is used.
        softcap: Whether attention scores are soft-capped (Gemma 2).
        tied: Whether the output head is the embedding.
        adapter: Rank and target modules of the LoRA adapter that the model comes with.
    """

    name: str
    architecture: str
    model_type: str
    tensors: tuple[int, ...]
    linears: tuple[Linear, ...]
    hidden: int
    vocabulary: int
    context: int
    heads: int
    key_value_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    norms: int
    eager: bool
    softcap: bool
    tied: bool
    adapter: tuple[int, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, model: str | os.PathLike, *, revision: str | None = None, attention: str | None = None) -> ModelShape:
        """Reads the configuration and builds the model on torch's `meta` device, which holds shapes only: the counts
        are exact.

        Args:
            model: Hub id, folder or GGUF file; for an adapter, its base model is read, and `adapter` is its own.
            attention: `attn_implementation`; by default the model's own choice.

        Raises:
            OSError, ValueError: The configuration cannot be found or read, or asks for code of its own.
        """
        name = os.fspath(model)
        config = read_config(name, revision=revision)
        options = {} if attention is None else {"attn_implementation": attention}
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config, **options)
        text = built.config.get_text_config()
        head = built.get_output_embeddings()
        layers = text.num_hidden_layers
        heads = getattr(text, "num_attention_heads", 0)  # none in a purely recurrent model
        kinds = getattr(text, "layer_types", None) or ["full_attention"] * layers
        norms = sum("Norm" in type(module).__name__ for module in built.modules())
        return cls(
            name=name,
            architecture=type(built).__name__,
            model_type=text.model_type,
            tensors=tuple(parameter.numel() for parameter in built.parameters()),
            linears=tuple(_linears(built, head)),
            hidden=text.hidden_size,
            vocabulary=head.weight.shape[0],
            context=reading_window(text),
            heads=heads,
            key_value_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // max(heads, 1),
            windows=tuple(text.sliding_window if kind == "sliding_attention" else None for kind in kinds),
            norms=norms // layers,
            eager=built.config._attn_implementation == "eager",
            softcap=getattr(text, "attn_logit_softcapping", None) is not None,
            tied=head.weight is built.get_input_embeddings().weight,
            adapter=_own_lora(name, revision),
        )

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        return sum(self.tensors)

    @property
    def layers(self) -> int:
        return len(self.windows)

    @property
    def intermediate(self) -> int:
        """Width of the feed-forward layer: the longest vector between the linear layers."""
        return max((max(linear.inputs, linear.outputs) for linear in self.linears), default=self.hidden)

    def targets(self, names: Sequence[str] | None) -> tuple[Linear, ...]:
        """The layers that LoRA adapts: those whose path ends in one of the names; `["all-linear"]` for all; `None` for
        what PEFT chooses for this architecture.

        Raises:
            ValueError: No layer has such a name, or PEFT has no choice for the architecture.
        """
        if names is None:
            names = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(self.model_type)
            if names is None:
                raise ValueError(
                    f"PEFT has no default LoRA targets for {self.model_type!r}; name them: --lora-target-modules "
                    "all-linear"
                )
        if list(names) == ["all-linear"]:
            return self.linears
        found = tuple(x for x in self.linears if any(f".{x.path}".endswith(f".{name}") for name in names))
        if not found:
            known = sorted({linear.path.rpartition(".")[2] for linear in self.linears})
            raise ValueError(f"{self.name} has no layer named {', '.join(names)}; it has {', '.join(known)}.")
        return found


def _own_lora(name: str, revision: str | None) -> tuple[int, tuple[str, ...]] | None:
    adapter = None if is_gguf(name) else adapter_config(name, revision)
    if adapter is None:
        return None
    if adapter.get("peft_type") != "LORA":
        raise ValueError(f"Memory is estimated for LoRA adapters; {name!r} is of type {adapter.get('peft_type')}.")
    targets = adapter["target_modules"]
    return adapter["r"], (targets,) if isinstance(targets, str) else tuple(targets)


def _linears(model: nn.Module, head: nn.Module):
    for path, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear):
            yield Linear(path, module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            yield Linear(path, *module.weight.shape)
