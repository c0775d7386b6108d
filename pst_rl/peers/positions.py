"""Position ids of padded rows, and how much a model reads."""

from __future__ import annotations

import sys
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_WINDOWS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "model_max_length", "seq_length")


def reading_window(config: Any) -> int:
    """Tokens that a model reads, prompt and response together; `sys.maxsize` where its configuration sets no limit.

    Recurrent models and attention with linear biases (Mamba, BLOOM, RWKV) state none.
    """
    text = config.get_text_config()
    stated = [value for name in _WINDOWS if isinstance(value := getattr(text, name, None), int) and value > 0]
    return stated[0] if stated else sys.maxsize


def takes_positions(model: nn.Module) -> bool:
    """Whether a causal language model's forward pass has an argument `position_ids`, below a LoRA too."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "position_ids" in signature(base.forward).parameters


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Positions that count each row's tokens from 0, whatever stands before them; (B, W) from (B, W)."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def pass_positions(model: nn.Module) -> RemovableHandle:
    """From now on a forward pass that has an attention mask and no position ids gets those of `positions_of`.

    TRL's loss passes none, and a model with absolute positions then counts the padding. With a cache the mask is
    longer than the tokens, which are its last columns.
    """

    def fill(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if ids is not None and mask is not None and mask.dim() == 2 and kwargs.get("position_ids") is None:
            kwargs = kwargs | {"position_ids": positions_of(mask)[:, -ids.size(1) :]}
        return args, kwargs

    return model.register_forward_pre_hook(fill, with_kwargs=True)
