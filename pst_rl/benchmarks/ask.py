"""Ask models in batches, and never twice for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pst_rl.benchmarks.cache import Cache, cache_key
from pst_rl.benchmarks.model import Completion, Decoding, LanguageModel, describe
from pst_rl.progress.phases import phase


def ask(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    cache: Cache,
    *,
    copies: int = 1,
    batch_size: int = 16,
    doing: str = "answers",
) -> list[list[Completion]]:
    """`copies` responses to each prompt, `[prompt][copy]`; those in the cache are not made again.

    Prompts of like length share a batch. A batch is sampled from a seed of its own, made of the keys of its rows, so
    an interrupted run goes on to the same samples.

    Args:
        doing: What the phase is called, behind the model's name.
    """
    settings = describe(decoding)
    keys = [[cache_key(model.digest, list(ids), settings, c) for c in range(copies)] for ids in prompts]
    rows = sorted({(len(ids), key): ids for ids, own in zip(prompts, keys, strict=True) for key in own}.items())
    missing = [(key, ids) for (_, key), ids in rows if key not in cache]
    with phase(f"{model.name}, {doing}", len(rows), "responses", found=len(rows) - len(missing)) as asking:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            own = [key for key, _ in batch]
            seed = int(cache_key(*own), 16) % 2**63
            made = model.complete([ids for _, ids in batch], decoding, seed)
            cache.put({key: asdict(completion) for key, completion in zip(own, made, strict=True)})
            asking.advance(len(batch))
    return [[Completion(**cache[key]) for key in own] for own in keys]


def ask_in_turn(
    models: Sequence[LanguageModel],
    shown: Sequence[str],
    decoding: Decoding,
    cache: Cache,
    *,
    peer_template: str,
    batch_size: int = 16,
) -> list[list[Completion]]:
    """Collaborative inference: each model reads the responses of those before it, `[model][question]`."""
    said: list[list[Completion]] = []
    for model in models:
        room = model.window - decoding.max_new_tokens
        earlier = [[row.text for row in column] for column in zip(*said, strict=True)] if said else [[]] * len(shown)
        prompts = [model.fit(text, before, peer_template, room) for text, before in zip(shown, earlier, strict=True)]
        made = ask(model, prompts, decoding, cache, batch_size=batch_size, doing="in turn")
        said.append([copies[0] for copies in made])
    return said
