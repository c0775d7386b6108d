"""Log-probabilities of many texts under one model, each beginning that they share read once.

What `pst_rl.scoring` and the verifiers of `pst_rl.benchmarks` compute, up to rounding, for studies on a CPU: hundreds
of prompts about one question differ in a few words at their end.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from pst_rl.benchmarks.model import LanguageModel

ROWS = 16  # of one forward pass
POSITIONS = 96  # that the output layer reads at a time
Pair = tuple[Sequence[int], Sequence[int]]  # (context token ids, target token ids)


def groups(contexts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """(shared tokens, indices) of contexts to read together, so that the fewest tokens are read.

    The last token of a context is never shared: it predicts what follows. Of all ways to cut the sorted contexts where
    they share least, the cheapest is taken.
    """
    order = sorted(range(len(contexts)), key=lambda i: list(contexts[i]))
    common = [_common(contexts[i], contexts[j]) for i, j in zip(order, order[1:], strict=False)]

    def best(first: int, last: int) -> tuple[int, list[tuple[int, list[int]]]]:
        """Tokens read for contexts `first` to `last` of the order, and their groups."""
        own = order[first : last + 1]
        lengths = [len(contexts[i]) for i in own]
        shared = min([*common[first:last], *(length - 1 for length in lengths)])
        whole = shared + sum(length - shared for length in lengths)
        if first == last:
            return whole, [(shared, own)]
        lowest = min(common[first:last])
        cuts = [i for i in range(first, last) if common[i] == lowest]
        parts = [best(a, b) for a, b in zip([first, *(c + 1 for c in cuts)], [*cuts, last], strict=True)]
        apart = sum(cost for cost, _ in parts)
        return (whole, [(shared, own)]) if whole <= apart else (apart, [one for _, found in parts for one in found])

    return best(0, len(order) - 1)[1] if order else []


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@torch.inference_mode()
def read(model, pad: int, pairs: Sequence[Pair]) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, hidden states) of each pair: those that predict its targets, and what follows where it has none.

    The output layer is left to `logits`: with a vocabulary of 262,144 it costs more than all else of a small model.
    """
    body = model.base_model
    for shared, own in groups([context for context, _ in pairs]):
        cache = None
        if shared:
            ids = torch.tensor([list(pairs[own[0]][0][:shared])])
            cache = body(input_ids=ids, past_key_values=DynamicCache(config=model.config), use_cache=True)
            cache = cache.past_key_values
        own = sorted(own, key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        for start in range(0, len(own), ROWS):
            chunk = own[start : start + ROWS]
            rows = [[*pairs[i][0][shared:], *pairs[i][1]] for i in chunk]
            width = max(map(len, rows))
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[1] * shared + [0] * (width - len(row)) + [1] * len(row) for row in rows])
            expanded = copy.deepcopy(cache)
            if expanded is not None:
                expanded.batch_repeat_interleave(len(chunk))
            hidden = body(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, shared:],
                past_key_values=expanded,
                use_cache=expanded is not None,
            ).last_hidden_state
            for row, i in enumerate(chunk):
                count = len(pairs[i][1])
                yield i, hidden[row, -count - 1 : -1] if count else hidden[row, -1:]


@torch.inference_mode()
def logits(model, hidden: torch.Tensor) -> torch.Tensor:
    """The output layer, float32: (N, D) to (N, V)."""
    found = model.get_output_embeddings()(hidden).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return found if cap is None else cap * torch.tanh(found / cap)


def token_logprobs(model, pad: int, pairs: Sequence[Pair]) -> list[list[float]]:
    """log p of each target token, nats; equal pairs are read once."""
    keys = list({(tuple(context), tuple(target)): None for context, target in pairs})
    found: dict[tuple, list[float]] = {}
    waiting: list[tuple[tuple, torch.Tensor]] = []

    def finish() -> None:
        own = logits(model, torch.cat([hidden for _, hidden in waiting])) if waiting else None
        for key, _ in waiting:
            target = torch.tensor(key[1])
            mine, own = own[: len(target)], own[len(target) :]
            chosen = mine.gather(1, target[:, None])[:, 0] - mine.logsumexp(-1)
            found[key] = chosen.tolist()
        waiting.clear()

    for i, hidden in read(model, pad, keys):
        waiting.append((keys[i], hidden))
        if sum(len(one) for _, one in waiting) >= POSITIONS:
            finish()
    finish()
    return [found[tuple(context), tuple(target)] for context, target in pairs]


class Sums:
    """In place of `pst_rl.scoring.logprobs.sum_logprobs`: what is asked is collected, read together, and then known.

    Until `read`, everything asked for the first time is answered by 0.
    """

    def __init__(self):
        self.known: dict[int, dict[tuple, float]] = {}
        self.asked: dict[int, tuple[Any, set[tuple]]] = {}

    def __call__(self, engine, pairs: Sequence[Pair], batch_size: int) -> list[float]:
        keys = [(tuple(context), tuple(target)) for context, target in pairs]
        known = self.known.setdefault(id(engine), {})
        self.asked.setdefault(id(engine), (engine, set()))[1].update(key for key in keys if key not in known)
        return [known.get(key, 0.0) for key in keys]

    def read(self) -> None:
        """Makes known what was asked."""
        for engine, keys in self.asked.values():
            own = sorted(keys)
            rows = token_logprobs(engine.model, engine.tokenizer.pad_token_id, own)
            self.known[id(engine)] |= zip(own, map(sum, rows), strict=True)
        self.asked.clear()


class SharedReader(LanguageModel):
    """A `LanguageModel` that verifies with each shared beginning read once; give it all rows at a time."""

    def log_probs(self, contexts, targets):
        return token_logprobs(self.model, self.pad_id, list(zip(contexts, targets, strict=True)))

    def next_logits(self, contexts):
        found = dict(read(self.model, self.pad_id, [(ids, []) for ids in contexts]))
        return logits(self.model, torch.cat([found[i] for i in range(len(contexts))]))
