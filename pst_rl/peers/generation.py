"""How a peer generates: by the settings of its run alone, in one precision, each distinct prompt read once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import AutocastKwargs
from torch import nn
from transformers import DynamicCache, GenerationConfig
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import pad

from pst_rl.peers import vllm
from pst_rl.peers.shared_prompts import distinct_rows, prefill

if TYPE_CHECKING:
    from trl import GRPOTrainer

SAMPLING = ("temperature", "top_p", "top_k", "min_p")  # what greedy decoding leaves out


@dataclass
class LiveCache:
    """Keys and values of all prompts and sampled tokens of one `generate` call.

    Attributes:
        cache: Width W + T - 1: left-padded prompts (W) and completions but for the last token.
        prompt_mask: Which columns are prompt tokens, (B, W).
    """

    cache: DynamicCache
    prompt_mask: torch.Tensor


@torch.inference_mode()
def sample(engine: GRPOTrainer, prompt_ids: Sequence[Sequence[int]]) -> tuple[list[list[int]], LiveCache]:
    """Completions of token ids by `generate`, as TRL samples them, but each distinct prompt is read once.

    The draws are those of TRL up to rounding: the same settings on the same distributions.
    """
    pad_id = engine._tokenizer.pad_token_id
    rows = [torch.tensor(ids) for ids in prompt_ids]
    ids = pad(rows, padding_value=pad_id, padding_side="left").to(engine.accelerator.device)  # (B, W)
    mask = pad([torch.ones_like(r) for r in rows], padding_value=0, padding_side="left").to(ids.device)
    first, inverse = distinct_rows(ids, mask)
    settings = copy.copy(engine.generation_config)
    settings.return_dict_in_generate = True
    with unwrap_model_for_generation(
        engine.model_wrapped,
        engine.accelerator,
        generation_kwargs=engine.generation_kwargs,
        # Text only before the configuration has parsed it.
        gradient_checkpointing_kwargs=engine.args.gradient_checkpointing_kwargs,  # type: ignore[arg-type]
    ) as model:
        known = mask[first, :-1]
        positions = (known.cumsum(1) - 1).clamp(min=0)  # as `generate` counts them
        cache = prefill(model, ids[first, :-1], known, position_ids=positions)
        cache.batch_select_indices(inverse)
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=settings,
        )
    completions = [until_end(row, engine.eos_token_ids) for row in output.sequences[:, ids.size(1) :].tolist()]
    return completions, LiveCache(output.past_key_values, mask)


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to and with the first end-of-sequence token."""
    return next((ids[: i + 1] for i, token in enumerate(ids) if token in ends), ids)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode; each of its modules goes back to the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def bare_settings(model: Any) -> Iterator[None]:
    """Nothing of the model's own generation settings is used inside; afterwards they are what they were.

    `generate` fills what its caller leaves unset from them: `min_p`, `num_beams`, `suppress_tokens`, all that a
    `generation_config.json` may hold. The samples would then not come from the policy that the loss takes them to come
    from. The tokens that end a response are the caller's to give (`pst_rl.peers.reader.end_ids`).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT hands on its base model's
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own


@contextmanager
def one_policy(engine: GRPOTrainer) -> Iterator[None]:
    """Generation inside is by the run's settings alone, and in the run's precision whether or not training has begun.

    accelerate wraps the forward pass of a trained model in autocast when training begins; before that, and for a
    frozen peer always, the same weights would answer in another precision. Wrapped already, a model is left alone.
    """
    own_precision = engine.use_vllm or engine.use_transformers_continuous_batching
    wrapped = hasattr(engine.model, "_original_forward")  # accelerate's mark
    no_copies = AutocastKwargs(cache_enabled=False)  # else one of every weight would be kept until all is said
    autocast = nullcontext() if own_precision or wrapped else engine.accelerator.autocast(no_copies)
    with bare_settings(engine.model), autocast:
        yield


def keep_savable(model: Any) -> None:
    """Lets a model's own generation settings be saved as they came.

    TRL enters its padding token into them. transformers saves settings that it finds fault with (a temperature without
    sampling) only as long as they are unchanged, and would fail at the first checkpoint.
    """
    model.generation_config._original_object_hash = hash(model.generation_config)


@contextmanager
def greedy_decoding(engine: GRPOTrainer, active: bool) -> Iterator[None]:
    """Greedy decoding while active; a sampling engine otherwise untouched."""
    if not active:
        yield
    elif engine.use_vllm:
        with vllm.greedy(engine.vllm_generation):
            yield
    else:
        saved = engine.generation_config, engine.generation_kwargs
        greedy = {k: v for k, v in engine.generation_kwargs.items() if k not in SAMPLING} | {"do_sample": False}
        engine.generation_config = GenerationConfig(**greedy, disable_compile=True)
        engine.generation_kwargs = greedy | dict.fromkeys(SAMPLING)
        try:
            yield
        finally:
            engine.generation_config, engine.generation_kwargs = saved
