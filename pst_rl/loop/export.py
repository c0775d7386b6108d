"""Trained peers as they go out of a run: weights in the dtype that the model came in.

Checkpoints are exact instead, since a run goes on from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pst_rl.files import write_atomically
from pst_rl.peers.adapters import is_peft

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pst_rl.peers.peer_trainer import PeerTrainer


def save_peer(peer: PeerTrainer, folder: str, exact: bool) -> None:
    """Saves weights, configuration and tokenizer of a trained peer.

    Args:
        exact: The weights as they are in memory; otherwise a model that was loaded from 16-bit weights and trained in
            float32 is rounded to those 16 bits (`PeerTrainer.stored_dtype`). An adapter is always saved as it is.
    """
    dtype = None if exact else export_dtype(peer)
    if dtype is None or not peer.args.should_save:
        peer._save(folder)
        return
    peer._save(folder, state_dict=rounded(peer.model, dtype))
    config = Path(folder, "config.json")
    trained, stored = (str(kind).removeprefix("torch.") for kind in (peer.model.dtype, dtype))
    said = _renamed(json.loads(config.read_text(encoding="utf-8")), trained, stored)
    write_atomically(config, json.dumps(said, indent=2, sort_keys=True) + "\n")


def export_dtype(peer: PeerTrainer) -> torch.dtype | None:
    """The 16-bit dtype that a peer's float32 weights are rounded to; `None` where they stay as they are."""
    if is_peft(peer.model) or peer.stored_dtype not in ("bfloat16", "float16") or peer.model.dtype != torch.float32:
        return None
    return getattr(torch, peer.stored_dtype)


def rounded(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The model's state on the CPU, its float32 parameters in `dtype`; tied ones stay one tensor.

    Buffers, and parameters that transformers itself keeps in float32 in such a model, are not rounded.
    """
    exact = {*(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    if dtype == torch.float16:
        exact |= {*(getattr(model, "_keep_in_fp32_modules", None) or ())}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    made: dict[int, torch.Tensor] = {}
    state = {}
    for name, value in model.state_dict().items():
        plain = name not in parameters or value.dtype != torch.float32 or exact & set(name.split("."))
        if value.data_ptr() not in made:
            made[value.data_ptr()] = value.cpu() if plain else value.to("cpu", dtype)
        state[name] = made[value.data_ptr()]
    return state


def _renamed(config: Any, trained: str, stored: str) -> Any:
    """A configuration, and those inside it, with another dtype."""
    if not isinstance(config, dict):
        return config
    return {
        key: stored if key == "dtype" and value == trained else _renamed(value, trained, stored)
        for key, value in config.items()
    }
