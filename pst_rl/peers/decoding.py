"""Greedy decoding with an engine that samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import GenerationConfig

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer

SAMPLING = ("temperature", "top_p", "top_k", "min_p")


@contextmanager
def greedy_decoding(engine: PeerTrainer, active: bool) -> Iterator[None]:
    """Greedy decoding while active; a sampling engine otherwise untouched."""
    if not active:
        yield
    elif engine.use_vllm:
        saved = engine.vllm_generation.temperature
        engine.vllm_generation.temperature = 0.0
        try:
            yield
        finally:
            engine.vllm_generation.temperature = saved
    else:
        saved = engine.generation_config, engine.generation_kwargs
        greedy = {k: v for k, v in engine.generation_kwargs.items() if k not in SAMPLING} | {"do_sample": False}
        engine.generation_config = GenerationConfig(**greedy, disable_compile=True)
        engine.generation_kwargs = greedy | dict.fromkeys(SAMPLING)
        try:
            yield
        finally:
            engine.generation_config, engine.generation_kwargs = saved
