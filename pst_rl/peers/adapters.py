"""Peers that come with an adapter: which they are, and what a LoRA configuration given beside it means."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

from transformers import PreTrainedModel

from pst_rl.peers.sources import adapter_config, is_gguf

logger = logging.getLogger(__name__)

# What makes two adapters different ones. `target_modules` is compared where both are names: saved, "all-linear" and
# PEFT's own choice have become the names they stood for.
COMPARED = ("peft_type", "r", "lora_alpha", "lora_dropout", "bias", "use_dora", "use_rslora", "modules_to_save")


class Given(Protocol):
    """What is read here of a `PeerSpec`."""

    model: Any
    trainable: bool
    peft_config: Any
    revision: str | None


def is_peft(model: Any) -> bool:
    """Whether this is a `PeftModel`; PEFT, which is slow to load, is not loaded to find out."""
    return any(kind.__name__ == "PeftModel" for kind in type(model).__mro__)


def own_adapter(spec: Given) -> dict[str, Any] | None:
    """The configuration of the adapter that a peer comes with: a folder's or repository's, or a `PeftModel`'s."""
    if is_peft(spec.model):
        return dict(spec.model.peft_config[spec.model.active_adapter].to_dict())
    if not isinstance(spec.model, (str, os.PathLike)) or is_gguf(spec.model):
        return None
    return adapter_config(spec.model, spec.revision)


def with_own_adapter(specs: Mapping[str, Given], default: Any) -> set[str]:
    """Peers that come with an adapter go on with that one: a LoRA configuration is for those that have none.

    Args:
        default: The configuration for all peers, or `None`.

    Returns:
        The names of the peers that get no new adapter, though a configuration was given.

    Raises:
        ValueError: A configuration that differs from the adapter is given for this peer itself, or for all where no
            peer is without an adapter: then nothing would come of it.
    """
    own = {name: own_adapter(spec) if spec.trainable else None for name, spec in specs.items()}
    used = any(spec.peft_config is default and own[name] is None for name, spec in specs.items())
    kept = set()
    for name, adapter in own.items():
        given = specs[name].peft_config
        if adapter is None or given is None:
            continue
        differing = _differences(adapter, given.to_dict())
        if differing and not (used and given is default):
            raise ValueError(
                f"Peer {name!r} comes with a LoRA adapter, which is trained on, and the LoRA config given differs "
                f"from it ({differing}). Leave peft_config (--use-peft) out; or, for a new one, merge this one into "
                "a model first (merge_and_unload, save_pretrained)."
            )
        if differing:
            logger.warning(
                "Peer %r goes on with the adapter that it has; the LoRA config is for the peers without one (%s).",
                name,
                differing,
            )
        kept.add(name)
    return kept


def _differences(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Where two configurations differ, three settings at most: `r: 4 in the adapter, 16 given`."""
    rows = [(key, set_as_list(own.get(key)), set_as_list(given.get(key))) for key in COMPARED]
    targets = [set_as_list(config.get("target_modules")) for config in (own, given)]
    if all(isinstance(names, list) for names in targets):
        rows.append(("target_modules", *targets))
    return "; ".join([f"{key}: {a} in the adapter, {b} given" for key, a, b in rows if a != b][:3])


def set_as_list(value: Any) -> Any:
    """A value of an adapter's configuration as JSON has it, collections in order, nothing for an empty one."""
    if isinstance(value, (set, frozenset, list, tuple)):
        return sorted(map(str, value)) or None
    return None if value is False else getattr(value, "value", value)


def check_loaded(name: str | None, spec: Given) -> None:
    """Refuses a model object that could not be trained, or not be saved so that it can be loaded again.

    Raises:
        ValueError: No model of transformers' or PEFT's; nothing in it is trainable; an adapter that transformers has
            put into the model itself, or one that is not PEFT's "default".
    """
    model, peer = spec.model, f"Peer {name!r}"
    if not isinstance(model, PreTrainedModel) and not is_peft(model):
        raise ValueError(
            f"{peer} is of type {type(model).__name__}: a peer is a Hub id, a folder, a .gguf file, a model of "
            "transformers, or a PeftModel."
        )
    if not spec.trainable:
        return
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            f"{peer} is a model into which transformers has loaded an adapter. Give the adapter's folder as the peer, "
            "or PeftModel.from_pretrained(base, folder, is_trainable=True)."
        )
    if is_peft(model) and model.active_adapter != "default":
        raise ValueError(
            f"{peer} is a PeftModel whose active adapter is {model.active_adapter!r}: PEFT would save it in a folder "
            "of that name. Load it with adapter_name='default'."
        )
    if spec.peft_config is None and not any(parameter.requires_grad for parameter in model.parameters()):
        how = "load it with is_trainable=True" if is_peft(model) else "call model.requires_grad_(True)"
        raise ValueError(f"{peer} has no trainable weights: {how}, or give PeerSpec(model, trainable=False).")
