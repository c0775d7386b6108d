"""Which rows of a generation batch share a micro-batch: rows of one length, so that less is spent on padding.

TRL shuffles a generation batch and splits it in order, so that a micro-batch is as wide as the longest of any rows.
Here rows change places inside what one optimizer step accumulates, which leaves its gradient the same: the losses that
are allowed average over rows, or divide by a token count of the whole generation batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Batch = dict[str, Any]  # tensors with a row each, or a value that is the same for all rows


def sort_by_length(batches: Sequence[Batch], window: int, by_prompt: bool) -> list[Batch]:
    """The same rows in micro-batches of like length.

    Args:
        batches: Micro-batches of equal size.
        window: How many consecutive micro-batches one optimizer step accumulates; rows stay inside.
        by_prompt: Keep rows of one prompt together, ordered by their mean length, for `shared_prompts`.
    """
    sorted_batches: list[Batch] = []
    for start in range(0, len(batches), window):
        chunk = batches[start : start + window]
        rows = {name: _join([batch[name] for batch in chunk]) for name in chunk[0]}
        order = _order(rows, by_prompt)
        size = len(order) // len(chunk)
        for i in range(len(chunk)):
            part = order[i * size : (i + 1) * size]
            sorted_batches.append({name: _pick(value, part) for name, value in rows.items()})
    return sorted_batches


def _order(rows: Batch, by_prompt: bool) -> torch.Tensor:
    lengths = (rows["prompt_mask"].sum(1) + rows["completion_mask"].sum(1)).float()  # (B,)
    if not by_prompt:
        return torch.argsort(lengths, stable=True)
    _, prompt, count = torch.unique(rows["prompt_ids"], dim=0, return_inverse=True, return_counts=True)
    mean = torch.zeros(len(count), device=lengths.device).index_add(0, prompt, lengths) / count
    together = torch.argsort(prompt, stable=True)
    return together[torch.argsort(mean[prompt[together]], stable=True)]


def _join(values: list) -> Any:
    """Rows of several micro-batches; a number that is the same for all of them stays as it is."""
    return torch.cat(values) if isinstance(values[0], torch.Tensor) and values[0].dim() else values[0]


def _pick(value: Any, rows: torch.Tensor) -> Any:
    return value[rows] if isinstance(value, torch.Tensor) and value.dim() else value


def filled_columns(mask: torch.Tensor, keep: int) -> tuple[int, int]:
    """First prompt column and number of completion columns that any row fills.

    Args:
        mask: (B, P + K), prompts padded on the left and `keep` = K completion columns padded on the right.
    """
    used = mask.any(0)
    prompt, completion = used[:-keep], used[-keep:]
    first = int(prompt.int().argmax()) if bool(prompt.any()) else len(prompt) - 1
    return min(first, len(prompt) - 1), max(1, int(completion.sum()))
