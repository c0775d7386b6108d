"""Log-probabilities of many texts under one model, each beginning that they share read once.

What `pst_rl.scoring` and the verifiers of `pst_rl.benchmarks` compute, up to rounding, for studies on a CPU: hundreds
of prompts about one question differ in a few words at their end.
"""

import copy
from collections.abc import Iterator, Sequence

import torch

from pst_rl.benchmarks.model import LanguageModel
from pst_rl.peers.shared_prompts import prefill

ROWS = 16  # of one forward pass
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
    """(index, logits) of each pair: those that predict its targets and what follows them, (K + 1, V), float32."""
    for shared, own in groups([context for context, _ in pairs]):
        cache = None
        if shared:
            ids = torch.tensor([list(pairs[own[0]][0][:shared])])
            cache = prefill(model, ids, torch.ones_like(ids))
        own = sorted(own, key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        for start in range(0, len(own), ROWS):
            chunk = own[start : start + ROWS]
            rows = [[*pairs[i][0][shared:], *pairs[i][1]] for i in chunk]
            width, keep = max(map(len, rows)), max(len(pairs[i][1]) for i in chunk) + 1
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[1] * shared + [0] * (width - len(row)) + [1] * len(row) for row in rows])
            expanded = copy.deepcopy(cache)
            if expanded is not None:
                expanded.batch_repeat_interleave(len(chunk))
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, shared:],
                past_key_values=expanded,
                use_cache=expanded is not None,
                logits_to_keep=keep,
            ).logits
            for row, i in enumerate(chunk):
                yield i, logits[row, -len(pairs[i][1]) - 1 :].float()


def token_logprobs(model, pad: int, pairs: Sequence[Pair]) -> list[list[float]]:
    """log p of each target token, nats; equal pairs are read once."""
    keys = list({(tuple(context), tuple(target)): None for context, target in pairs})
    found: dict[tuple, list[float]] = {}
    for i, logits in read(model, pad, keys):
        target = list(keys[i][1])
        found[keys[i]] = logits[:-1].log_softmax(-1)[range(len(target)), target].tolist()
    return [found[tuple(context), tuple(target)] for context, target in pairs]


def sum_logprobs(engine, pairs: Sequence[Pair], batch_size: int) -> list[float]:
    """In place of `pst_rl.scoring.logprobs.sum_logprobs`."""
    return [sum(row) for row in token_logprobs(engine.model, engine.tokenizer.pad_token_id, pairs)]


class SharedReader(LanguageModel):
    """A `LanguageModel` that verifies with each shared beginning read once; give it all rows at a time."""

    def log_probs(self, contexts, targets):
        return token_logprobs(self.model, self.pad_id, list(zip(contexts, targets, strict=True)))

    def next_logits(self, contexts):
        found = {i: logits[-1] for i, logits in read(self.model, self.pad_id, [(ids, []) for ids in contexts])}
        return torch.stack([found[i] for i in range(len(contexts))])
