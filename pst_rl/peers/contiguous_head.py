"""The head of a 16-bit model on a CPU, given the last positions as one block."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def contiguous_head(model: Any) -> Any:
    """The model, whose head from now on copies the hidden states that it is given, if they lie apart, before it reads.

    When `generate` has read the prompts, transformers gives the head a view of their last positions, (B, 1, H) out of
    (B, W, H). Where the weight needs no gradient, as beside a LoRA or in a frozen peer, torch (2.13) then multiplies
    row by row and copies the whole weight for every row on a CPU: B x V x H numbers, for the same logits bit for bit
    (`findings/frozen_head_is_copied_for_every_row.sh` measures it). In float32 the logits would differ in their last
    bit, so nothing is done there.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if isinstance(head, nn.Module) and _as_one_block not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(_as_one_block)
    return model


def _as_one_block(head: nn.Module, args: tuple) -> tuple:
    states = args[0] if args else None
    if isinstance(states, torch.Tensor) and states.device.type == "cpu" and states.element_size() == 2:
        return states.contiguous(), *args[1:]
    return args
