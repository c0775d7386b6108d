"""Log-probabilities of given texts: one batched prefill, no generation, every distinct pair scored once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import selective_log_softmax

if TYPE_CHECKING:
    from pst_rl.peer_trainer import PeerTrainer

Pair = tuple[Sequence[int], Sequence[int]]  # (context token ids, target token ids)


def sum_logprobs(engine: PeerTrainer, pairs: Sequence[Pair], batch_size: int) -> list[float]:
    """log p(target | context) in nats, summed over the target's tokens, under `engine`'s current policy.

    Temperature is 1 and dropout is off, whatever the sampling settings: TRL's fused log-probabilities are tempered by
    the sampling temperature, so the plain logits are used here.

    Args:
        pairs: (context ids, target ids); duplicates are scored once. Neither may be empty.
        batch_size: Rows per forward pass; rows are sorted by length.
    """
    distinct = {(tuple(context), tuple(target)): float("nan") for context, target in pairs}
    keys = sorted(distinct, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
    with _scoring_mode(engine):
        for start in range(0, len(keys), batch_size):
            chunk = keys[start : start + batch_size]
            distinct.update(zip(chunk, _score_chunk(engine, chunk), strict=True))
    return [distinct[(tuple(context), tuple(target))] for context, target in pairs]


@contextmanager
def _scoring_mode(engine: PeerTrainer):
    training = engine.model.training
    engine.model.eval()
    try:
        with torch.no_grad(), disable_gradient_checkpointing(engine.model, engine.args.gradient_checkpointing_kwargs):
            yield
    finally:
        engine.model.train(training)


def _score_chunk(engine: PeerTrainer, chunk: Sequence[Pair]) -> list[float]:
    device = engine.accelerator.device
    width = max(len(c) + len(t) for c, t in chunk)
    keep = max(len(t) for _, t in chunk)
    # Left padding lines the targets up at the right edge, so few logits are needed.
    ids = torch.full((len(chunk), width), engine._tokenizer.pad_token_id, dtype=torch.long)  # (B, W)
    mask = torch.zeros((len(chunk), width), dtype=torch.long)  # (B, W)
    target_mask = torch.zeros((len(chunk), keep), dtype=torch.bool)  # (B, K)
    for row, (context, target) in enumerate(chunk):
        length = len(context) + len(target)
        ids[row, width - length :] = torch.tensor([*context, *target])
        mask[row, width - length :] = 1
        target_mask[row, keep - len(target) :] = True
    ids, mask, target_mask = ids.to(device), mask.to(device), target_mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with engine.accelerator.autocast():
        logits = engine.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep + 1, use_cache=False
        ).logits  # (B, K + 1, V)
    logps = selective_log_softmax(logits[:, :-1].float(), ids[:, -keep:])  # (B, K)
    return torch.where(target_mask, logps, 0.0).sum(1).tolist()
