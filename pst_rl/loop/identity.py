"""What makes a run that run: its peers, data, seeds and settings, kept in each checkpoint and compared on resume."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig

from pst_rl.config import PSTConfig
from pst_rl.files import edges_digest, json_digest
from pst_rl.options import OLD_FIELDS, new_spelling
from pst_rl.peers.adapters import COMPARED, own_adapter, set_as_list
from pst_rl.peers.sources import gguf_on_hub, gguf_path, hub_commit
from pst_rl.stages.pmi import PMIWeights

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from pst_rl.peers.spec import PeerSpec

IDENTITY = "run.json"

# Settings of TRL's that change what is computed. The number of steps is not among them: a run may be made longer.
TRL_SETTINGS = """
    per_device_train_batch_size gradient_accumulation_steps steps_per_generation num_iterations num_generations
    max_completion_length temperature top_p top_k min_p repetition_penalty use_vllm shuffle_dataset
    learning_rate lr_scheduler_type warmup_steps weight_decay optim max_grad_norm bf16 fp16
    beta loss_type scale_rewards importance_sampling_level epsilon epsilon_high delta mask_truncated_completions
    top_entropy_quantile entropy_coef reward_weights
""".split()
NEUTRAL = {
    "eval_samples",
    "label_columns",
    "resume_anyway",
    "fault_patience",
    "on_collapse",
    "collapse_probe",
    "collapse_probe_steps",
}  # of ours: nothing trained depends on it

# What a model's configuration says about this machine and this version of transformers, not about the model.
VOLATILE = {"_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "use_cache"}


def run_identity(
    specs: Mapping[str, PeerSpec], models: Mapping[str, PreTrainedModel], args: PSTConfig, train_dataset: Dataset
) -> dict[str, Any]:
    """The identity of a run, as JSON values; it names no folder of this machine beyond a model folder's last part."""
    own = {f.name for f in fields(PSTConfig)} - {f.name for f in fields(GRPOConfig)} - NEUTRAL
    if not args.supervised:
        own -= {"answer_metric"}  # nothing trained reads gold
    identity = {
        "peers": {name: peer_identity(spec, models[name]) for name, spec in specs.items()},
        "data": {"questions": len(train_dataset), "prompts": prompts_fingerprint(train_dataset)},
        "seeds": {"seed": args.seed, "data_seed": args.data_seed},
        "settings": {name: getattr(args, name) for name in [*TRL_SETTINGS, *sorted(own)]},
    }
    return json.loads(json.dumps(identity, default=_plain))


def renewed(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity in a checkpoint as this version writes it: earlier ones had a field for each option of PMI."""
    settings = dict(identity.get("settings", {}))
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
