"""Reads each distinct prompt once: its keys and values are computed once and expanded over the rows that share it.

In the loss this is exact up to rounding: gradients of all rows that share a prompt add up in its keys and values, as
they do in its weights. The last prompt token stays with every row, since it predicts the first completion token.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel


def distinct_rows(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First row of each distinct (ids, mask) pair (U,), and which of them each row equals (B,)."""
    first: dict[tuple, int] = {}
    inverse: list[int] = []
    rows: list[int] = []
    for row, key in enumerate(zip(map(tuple, ids.tolist()), map(tuple, mask.tolist()), strict=True)):
        if key not in first:
            first[key] = len(rows)
            rows.append(row)
        inverse.append(first[key])
    return torch.tensor(rows, device=ids.device), torch.tensor(inverse, device=ids.device)


def prefill(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, **inputs) -> DynamicCache:
    """Keys and values of left-padded token ids (U, W), differentiable where gradients are on.

    Args:
        inputs: More inputs of the forward pass, such as `position_ids`.
    """
    cache = DynamicCache(config=model.config)  # it says what each layer keeps, such as sliding windows
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **inputs)
    return cache


def completion_logprobs(
    model: nn.Module, reader: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, keep: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """TRL's fused log-probabilities and entropies of the last `keep` tokens of each row, (B, K), nats.

    Args:
        model: What takes `fused_lm_head=True` (`trl.trainer.utils.add_fused_lm_head`), perhaps wrapped by DDP.
        reader: The same model without the wrapper, which reads the prompts.
        ids, mask: Left-padded prompts of at least two columns and right-padded completions, (B, P + K).
        keep: K, the width of the completions.
    """
    prompt = ids.size(1) - keep
    rows, inverse = distinct_rows(ids[:, : prompt - 1], mask[:, : prompt - 1])
    labels = ids[:, prompt - 1 :].masked_fill(mask[:, prompt - 1 :] == 0, -100)  # (B, 1 + K)
    labels[:, 0] = -100
    cache = prefill(reader, ids[rows, : prompt - 1], mask[rows, : prompt - 1])
    cache.batch_select_indices(inverse)
    outputs = model(
        input_ids=ids[:, prompt - 1 :],
        attention_mask=mask,
        past_key_values=cache,
        labels=labels,
        fused_lm_head=True,
    )
    return outputs.log_probs[:, -keep:], outputs.entropy[:, -keep:]
