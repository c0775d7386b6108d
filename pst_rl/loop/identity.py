"""What makes a run that run: its peers, data, seeds and settings, kept in each checkpoint and compared on resume."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.config import PSTConfig
from pst_rl.files import edges_digest, json_digest
from pst_rl.options import OLD_FIELDS, new_spelling
from pst_rl.options.best_metric import follows_metric
from pst_rl.options.table import TRAINER, may_change
from pst_rl.peers.adapters import COMPARED, own_adapter, set_as_list
from pst_rl.peers.sources import gguf_on_hub, gguf_path, hub_commit
from pst_rl.stages.pmi import PMIWeights

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.peers.spec import PeerSpec

IDENTITY = "run.json"
# Of a peer, since `run.json` has all settings; earlier checkpoints do not say.
LATER = ("dtype", "attention", "chat_template", "tokenizer", "generation")

# What a model's configuration says about this machine and this version of transformers, not about the model.
VOLATILE = {"_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "use_cache"}


def run_identity(
    specs: Mapping[str, PeerSpec], peers: Mapping[str, PeerTrainer], args: PSTConfig, train_dataset: Dataset
) -> dict[str, Any]:
    """The identity of a run, as JSON values; it names no folder of this machine beyond a model folder's last part."""
    identity = {
        "peers": {name: peer_identity(spec, peers[name].model) | asked(peers[name]) for name, spec in specs.items()},
        "data": {"questions": len(train_dataset), "prompts": prompts_fingerprint(train_dataset)},
        "seeds": {"seed": args.seed, "data_seed": args.data_seed},
        "settings": settings_identity(args),
    }
    return json.loads(json.dumps(identity, default=_plain))


def settings_identity(args: PSTConfig) -> dict[str, Any]:
    """All settings but those that the table of options lets change (`pst_rl.options.table.may_change`).

    Two depend on others: how answers are compared with gold matters to a supervised run only, and what is evaluated to
    one whose learning rate follows it.
    """
    names = {f.name for f in fields(PSTConfig)} - {"seed", "data_seed"}
    kept = {name for name in names if not may_change(name)}
    kept -= {name for name, option in TRAINER.items() if option.fate == "refused"}  # always the default
    if args.supervised:
        kept |= {"answer_metric"}
    if follows_metric(args):
        kept |= {"eval_strategy", "eval_steps", "eval_delay", "metric_for_best_model", "greater_is_better"}
    return {name: getattr(args, name) for name in sorted(kept)}


def asked(peer: PeerTrainer) -> dict[str, Any]:
    """How a peer reads and is asked: dtype, attention, and digests of its chat template, tokenizer and sampling."""
    tokenizer = peer._tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    words = {key: value for key, value in words.items() if key not in ("padding", "truncation")}  # of the last call
    ends = [tokenizer.bos_token_id, tokenizer.pad_token_id, *peer.eos_token_ids]
    sampling = getattr(peer, "generation_config", None)  # not with vLLM, which samples by the settings
    known = {
        "chat_template": peer.chat_template or tokenizer.chat_template,
        "tokenizer": [words, ends],
        "generation": sampling and {k: v for k, v in sampling.to_dict().items() if k != "transformers_version"},
    }
    digests = {name: json_digest(what, 16, sort_keys=True, default=_plain) for name, what in known.items()}
    return {"dtype": str(peer.model.dtype), "attention": peer.model.config._attn_implementation} | digests


def renewed(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity in a checkpoint as this version reads it.

    Earlier ones had a field for each option of PMI, and a `data_seed` without effect.
    """
    settings = dict(identity.get("settings", {}))
    if "generation_kwargs" not in settings:  # written when `data_seed` was read by nobody
        identity = identity | {"seeds": identity.get("seeds", {}) | {"data_seed": None}}
    old = {name: settings.pop(name) for name in OLD_FIELDS if name in settings}
    if not old:
        return identity
    defaults = {f"pmi_{f.name}": f.default for f in fields(PMIWeights)}
    said = {name: value for name, value in old.items() if name == "pmi" or value != defaults[name]}
    settings |= {"weighting_options": None} | new_spelling(said)
    return identity | {"settings": settings, "weighting": settings["weighting"]}


def peer_identity(spec: PeerSpec, model: PreTrainedModel) -> dict[str, Any]:
    """Where a peer's model comes from, and what was made of it."""
    known: dict[str, Any] = {"trainable": spec.trainable, "learning_rate": spec.learning_rate}
    source = spec.model if isinstance(spec.model, (str, os.PathLike)) else model.config._name_or_path
    known |= _where(source, spec.revision)
    config = {key: value for key, value in model.config.to_dict().items() if key not in VOLATILE}
    known["config"] = json_digest(config, 16, sort_keys=True, default=_plain)
    if spec.peft_config is not None:
        lora = {key: value for key, value in spec.peft_config.to_dict().items() if value is not None}
        known["adapter"] = {
            key: lora[key] for key in sorted(lora.keys() - {"base_model_name_or_path", "peft_version"})
        }
    elif (own := own_adapter(spec)) is not None:
        if base := own["base_model_name_or_path"]:
            known["base"] = _where(base, own.get("revision"))
        known["adapter"] = {key: set_as_list(own.get(key)) for key in ("target_modules", *COMPARED)}
    if spec.quantization_config is not None:
        known["quantization"] = spec.quantization_config.to_dict()
    return known


def _where(source: str | os.PathLike, revision: str | None) -> dict[str, Any]:
    """A model's name and what its weights are known by."""
    if os.path.isdir(source):
        return {"model": Path(source).resolve().name, "weights": weights_fingerprint(Path(source))}
    if os.path.isfile(source):
        return {"model": Path(source).name, "weights": edges_digest([Path(source)])}
    if gguf_on_hub(source) is not None:
        return {"model": str(source), "weights": edges_digest([gguf_path(source, revision)])}
    return {"model": str(source), "revision": hub_commit(source, revision) or revision}


def weights_fingerprint(folder: Path) -> str:
    """A hash of the lengths, beginnings and ends (1 MiB each) of a model folder's weight files: fast at any size."""
    return edges_digest([*folder.glob("*.safetensors"), *folder.glob("*.bin")])


def prompts_fingerprint(dataset: Dataset) -> str:
    """A hash of all prompts in their order."""
    found = hashlib.sha256()
    for prompt in dataset["prompt"]:
        found.update(json.dumps(prompt, default=_plain).encode() + b"\n")
    return found.hexdigest()[:16]


def compared(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The [`differences`] of two identities, and the names in `now` that an older version did not write."""
    then, now = copy.deepcopy(dict(then)), copy.deepcopy(dict(now))
    unknown: list[str] = []
    old, new = then.get("settings", {}), now.get("settings", {})
    unknown += sorted(new.keys() - old.keys())
    for name in old.keys() ^ new.keys():
        old.pop(name, None), new.pop(name, None)
    for name in then.get("peers", {}).keys() & now.get("peers", {}).keys():
        for key in LATER:
            if key not in then["peers"][name] and now["peers"][name].pop(key, None):
                unknown.append(f"peers.{name}.{key}")
    return differences(then, now), unknown


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two identities differ, one line each: `seeds.seed: 42 in the checkpoint, 7 now`."""
    lines = []
    for key in sorted(then.keys() | now.keys()):
        a, b = then.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {_shown(a)} in the checkpoint, {_shown(b)} now")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "model" in value:  # a peer
        return f"model {value['model']!r}"
    return "nothing" if value is None else json.dumps(value)


def _plain(value: Any) -> Any:
    """Sets as sorted lists; everything else that JSON lacks as its name."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return getattr(value, "value", None) or str(value)
