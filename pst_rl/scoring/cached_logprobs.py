"""Log-probabilities of texts that follow a beginning of a sampled response, from the keys and values sampling left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import DynamicCache
from trl.trainer.utils import selective_log_softmax

from pst_rl.peers.generation import LiveCache
from pst_rl.scoring.logprobs import Pair, scoring_mode, sum_logprobs

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer


class CachedPair(NamedTuple):
    """A (context, target) pair whose context is a prompt and a beginning of the response sampled to it.

    Attributes:
        live, row: Where the keys and values of the context are.
        context, target: Token ids.
    """

    live: LiveCache
    row: int
    context: Sequence[int]
    target: Sequence[int]


def sum_logprobs_from_cache(engine: PeerTrainer, pairs: Sequence[CachedPair | Pair], batch_size: int) -> list[float]:
    """log p(target | context) in nats, summed over the target's tokens: the targets alone are read.

    Pairs without a cache, and those that would leave a sliding window, are scored from their token ids. The policy
    must be the one that sampled.
    """
    found: dict[int, float] = {}
    rounds: dict[tuple[int, int], dict[int, CachedPair]] = defaultdict(dict)  # (cache, n-th target of its row)
    seen: dict[tuple[int, int], int] = defaultdict(int)
    rest: dict[int, CachedPair | Pair] = {}
    for i, pair in enumerate(pairs):
        if isinstance(pair, CachedPair) and fits(pair.live, len(pair.target) + 1):
            key = (id(pair.live), pair.row)
            rounds[id(pair.live), seen[key]][i] = pair
            seen[key] += 1
        else:
            rest[i] = pair
    with scoring_mode(engine):
        for chosen in rounds.values():
            found |= zip(chosen, _score(engine, list(chosen.values())), strict=True)
    plain = [(p.context, p.target) if isinstance(p, CachedPair) else p for p in rest.values()]
    found |= zip(rest, sum_logprobs(engine, plain, batch_size), strict=True)
    return [found[i] for i in range(len(pairs))]


def fits(live: LiveCache, tokens: int) -> bool:
    """Whether no layer has dropped, or would have to drop, keys of the sampled rows."""
    windows = [layer.get_max_length() for layer in live.cache.layers if layer.get_max_length() > 0]
    return live.cache.get_seq_length() + tokens < min(windows, default=torch.inf)


def _score(engine: PeerTrainer, pairs: list[CachedPair]) -> list[float]:
    """Scores of at most one pair for each row of one cache, read in one batch."""
    live, device = pairs[0].live, pairs[0].live.prompt_mask.device
    rows = torch.tensor([pair.row for pair in pairs], device=device)
    cache = DynamicCache(config=engine.model.config)
    for i, layer in enumerate(live.cache.layers):
        cache.update(layer.keys[rows], layer.values[rows], i)  # type: ignore[index, union-attr]  # filled by sampling
    width = live.prompt_mask.size(1)
    longest = max(len(pair.target) for pair in pairs)
    known = torch.zeros(len(pairs), cache.get_seq_length(), dtype=torch.long)  # which cached columns a row reads
    known[:, :width] = live.prompt_mask[rows]
    ids = torch.full((len(pairs), 1 + longest), engine._tokenizer.pad_token_id)
    mask = torch.zeros(len(pairs), longest, dtype=torch.bool)
    for i, pair in enumerate(pairs):
        sampled = len(pair.context) - int(known[i].sum())
        known[i, width : width + sampled] = 1
        known[i, width + sampled - 1 :] = 0  # the context's last token predicts the target: it is read again
        ids[i, : 1 + len(pair.target)] = torch.tensor([pair.context[-1], *pair.target])
        mask[i, : len(pair.target)] = True
    known, ids, mask = known.to(device), ids.to(device), mask.to(device)
    with engine.accelerator.autocast():
        logits = engine.model(
            input_ids=ids,
            attention_mask=torch.cat([known, torch.ones_like(ids)], 1),
            position_ids=known.sum(1, keepdim=True) + torch.arange(1 + longest, device=device),
            past_key_values=cache,
            use_cache=True,
        ).logits  # (B, 1 + K, V)
    engine.tokens["scored"] += sum(1 + len(pair.target) for pair in pairs)
    logprobs = selective_log_softmax(logits[:, :-1].float(), ids[:, 1:])
    return torch.where(mask, logprobs, 0.0).sum(1).tolist()
