"""Log-probabilities from a model's own logits, where TRL's fused head does not know the architecture's head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType

import torch
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput, entropy_from_logits, selective_log_softmax


def use_plain_head(model: PreTrainedModel, temperature: float, cast_to_float32: bool = False) -> Callable[[], None]:
    """From now on `model(..., labels=labels, fused_lm_head=True)` goes through the model's own head.

    TRL's fused head multiplies hidden states with the output embeddings and applies the scales that it knows. What an
    architecture does besides (a dense layer before, one scale under another name) is missing. Here the logits of
    the labelled columns are computed by the model and kept, (B, K + 1, V), which is what the fused head saves.

    Args:
        model: With `trl.trainer.utils.add_fused_lm_head`; not the LoRA around it.
        temperature: What logits are divided by.
        cast_to_float32: Whether log-probabilities are made of float32 logits.

    Returns:
        What takes it back.
    """
    fused = model.forward

    @functools.wraps(type(model).forward)  # `generate` checks its arguments against the signature
    def forward(self, *args, fused_lm_head=False, labels=None, **kwargs):
        if not fused_lm_head:
            return fused(*args, **(kwargs if labels is None else kwargs | {"labels": labels}))
        labelled = (labels[:, 1:] != -100).any(0)
        first = int(labelled.int().argmax()) if bool(labelled.any()) else labelled.numel() - 1
        kwargs["use_cache"] = False
        outputs = fused(*args, logits_to_keep=labels.size(1) - first, **kwargs)
        logits = outputs.logits[:, :-1][:, -(labelled.numel() - first) :] / temperature  # (B, K, V)
        logits = logits.float() if cast_to_float32 else logits
        labels = labels[:, 1 + first :].to(logits.device)
        mask = labels != -100
        logps = selective_log_softmax(logits, labels.clamp(min=0)).masked_fill(~mask, 0.0)
        entropy = entropy_from_logits(logits).masked_fill(~mask, 0.0)
        padded = [torch.nn.functional.pad(values, (first, 0)) for values in (logps, entropy)]
        return FusedCausalLMOutput(log_probs=padded[0], entropy=padded[1], aux_loss=getattr(outputs, "aux_loss", None))

    model.forward = MethodType(forward, model)
    return lambda: setattr(model, "forward", fused)
