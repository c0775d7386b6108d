"""Log-probabilities of given texts: one batched prefill, no generation, every distinct pair scored once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import selective_log_softmax

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.scoring.juror import Juror

Pair = tuple[Sequence[int], Sequence[int]]  # (context token ids, target token ids)


def sum_logprobs(engine: PeerTrainer | Juror, pairs: Sequence[Pair], batch_size: int) -> list[float]:
    """log p(target | context) in nats, summed over the target's tokens, under `engine`'s current policy.

    Temperature is 1 and dropout is off, whatever the sampling settings: TRL's fused log-probabilities are tempered by
    the sampling temperature, so the plain logits are used here.

    Args:
        pairs: (context ids, target ids); duplicates are scored once. Neither may be empty.
        batch_size: Rows per forward pass; rows are sorted by length.
    """
    return _by_distinct_pair(engine, pairs, batch_size, _sum_of_targets)


def token_statistics(
    engine: PeerTrainer | Juror, pairs: Sequence[Pair], batch_size: int
) -> list[tuple[float, float, float]]:
    """Means over each pair's target tokens, in nats, from the distribution p that predicts each token.

    Returns (log p(token), entropy, self-certainty) for each pair:

        entropy        = - sum_v p(v) log p(v)
        self-certainty = KL(U || p) = logsumexp(z) - mean(z) - log V        (arXiv 2505.19590, up to the constant)

    The distribution that predicts token t is made of the logits at position t - 1. Arguments as in `sum_logprobs`.
    """
    return _by_distinct_pair(engine, pairs, batch_size, _means_over_targets)


def _by_distinct_pair(engine: PeerTrainer | Juror, pairs: Sequence[Pair], batch_size: int, reduce: Callable) -> list:
    """One reduced value per pair, each distinct pair computed once, rows of like length together."""
    keys = sorted(
        {(tuple(context), tuple(target)) for context, target in pairs},
        key=lambda pair: (len(pair[0]) + len(pair[1]), pair),
    )
    engine.tokens["scored"] += sum(len(context) + len(target) for context, target in keys)
    values: dict = {}
    with scoring_mode(engine):
        for start in range(0, len(keys), batch_size):
            chunk = keys[start : start + batch_size]
            values.update(zip(chunk, reduce(*_target_logits(engine, chunk)), strict=True))
    return [values[(tuple(context), tuple(target))] for context, target in pairs]


@contextmanager
def scoring_mode(engine: PeerTrainer | Juror):
    """No gradients, no dropout, no gradient checkpointing."""
    training = engine.model.training
    engine.model.eval()
    try:
        with torch.no_grad(), disable_gradient_checkpointing(engine.model, engine.args.gradient_checkpointing_kwargs):
            yield
    finally:
        engine.model.train(training)


def _target_logits(
    engine: PeerTrainer | Juror, chunk: Sequence[Pair]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each row, right-aligned: the logits that predict its targets (B, K, V), the targets (B, K), their mask."""
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
    return logits[:, :-1].float(), ids[:, -keep:], target_mask


def _sum_of_targets(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> list[float]:
    return torch.where(mask, selective_log_softmax(logits, targets), 0.0).sum(1).tolist()


def _means_over_targets(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> list[tuple]:
    logprobs = torch.log_softmax(logits, -1)  # (B, K, V)
    token = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (B, K)
    entropy = torch.special.entr(logprobs.exp()).sum(-1)
    self_certainty = -logprobs.mean(-1) - math.log(logits.shape[-1])
    count = mask.sum(1)
    means = [torch.where(mask, value, 0.0).sum(1) / count for value in (token, entropy, self_certainty)]
    return list(zip(*(mean.tolist() for mean in means), strict=True))
