"""What a peer is and where it lives: `PeerSpec`, and the checks that need no model in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from huggingface_hub import file_exists, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError
from torch import nn
from transformers import AutoConfig, PreTrainedModel, TrainingArguments

from pst_rl.hub.places import check_place
from pst_rl.peers.adapters import check_loaded, own_adapter, with_own_adapter
from pst_rl.peers.sources import GgufFile, adapter_base, adapter_config, first_line, gguf_on_hub, gguf_path, is_gguf

if TYPE_CHECKING:
    from peft import PeftModel

RESERVED_NAMES = {"vote", "pooled_vote", "peers", "aggregate", "rollout"}  # the first part of joint metrics' names
INIT_FIELDS = ("dtype", "attn_implementation", "revision")  # of a peer that are arguments of `from_pretrained`


@dataclass
class PeerSpec:
    """One peer, and where it differs from the trainer's defaults.

    Attributes:
        model: A Hub id or a local folder, of a model or of an adapter, which is then trained on; `file.gguf`, or
            `repo:file.gguf` on the Hub; a loaded model, or a `PeftModel`.
        name: Name in logs, folders and repositories; derived from `model` if unset.
        dtype: Weights' dtype, e.g. `"bfloat16"`; default float32, or bfloat16 with quantization.
        attn_implementation: E.g. `"eager"`; the model's own default if unset.
        peft_config, quantization_config: Override the trainer's defaults; `False` for none. A peer that comes with an
            adapter gets no new one (`pst_rl.peers.adapters`).
        learning_rate: Overrides `args.learning_rate` for this peer.
        trainable: `False` for a frozen partner or juror: it answers and scores, but is never updated or saved.
        revision: Hub revision.
        trust_remote_code: Off unless asked for here. It runs code from the model's repository.
        processing_class: Tokenizer; loaded with the model if unset.
        model_init_kwargs: Further keyword arguments of `from_pretrained`; they win over the above.
        use_vllm: `False` for a peer that answers without vLLM in a run with `use_vllm=True`.
        vllm_server_base_url, vllm_server_host, vllm_server_port, vllm_group_port: This peer's vLLM server, and the
            port over which it gets its weights; as in `GRPOConfig`. Each peer needs a server of its own.
    """

    model: str | PreTrainedModel | PeftModel
    name: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    peft_config: Any = None
    quantization_config: Any = None
    learning_rate: float | None = None
    trainable: bool = True
    revision: str | None = None
    trust_remote_code: bool = False
    processing_class: Any = None
    model_init_kwargs: dict[str, Any] = field(default_factory=dict)
    use_vllm: bool | None = None
    vllm_server_base_url: str | None = None
    vllm_server_host: str | None = None
    vllm_server_port: int | None = None
    vllm_group_port: int | None = None

    def init_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`. Weights are read from safetensors files, never from pickles."""
        dtype = self.dtype or ("bfloat16" if self.quantization_config is not None else "float32")
        chosen = {"dtype": dtype, "use_safetensors": True}
        chosen |= {"attn_implementation": self.attn_implementation, "revision": self.revision}
        if self.trust_remote_code:
            chosen["trust_remote_code"] = True
        return {k: v for k, v in chosen.items() if v is not None} | self.model_init_kwargs


def resolve_peers(
    peers: Sequence | Mapping[str, Any],
    *,
    peft_config: Any = None,
    quantization_config: Any = None,
    processing_classes: Mapping[str, Any] | None = None,
    model_init_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, PeerSpec]:
    """Names every peer, fills in the defaults, and refuses what cannot work before any weights are loaded.

    Raises:
        ValueError: No peers; two peers with one name (they would write to one folder); a model that cannot be found
            or read; 4- or 8-bit weights without LoRA; a LoRA configuration beside an adapter that differs from it.
    """
    if isinstance(peers, (str, nn.Module, PeerSpec)):
        peers = [peers]
    if not peers:
        raise ValueError("No peers were given: pass at least one model, e.g. peers=['org/model-a', 'org/model-b'].")
    entries = peers.items() if isinstance(peers, Mapping) else [(None, peer) for peer in peers]
    resolved: dict[str, PeerSpec] = {}
    for name, peer in entries:
        spec = peer if isinstance(peer, PeerSpec) else PeerSpec(model=peer)
        name = name or spec.name or default_name(spec.model)
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(
                f"A peer's name becomes a folder and a repository, so {name!r} may hold only [A-Za-z0-9_.-]."
            )
        if name in resolved:
            raise ValueError(
                f"Two peers are named {name!r} and would write to one folder. Give them different names: "
                f"peers={{'{name}-a': ..., '{name}-b': ...}}."
            )
        resolved[name] = replace(
            with_init_defaults(spec, model_init_kwargs or {}),
            name=name,
            peft_config=_chosen(spec.peft_config, peft_config) if spec.trainable else None,
            quantization_config=_chosen(spec.quantization_config, quantization_config),
            processing_class=spec.processing_class or (processing_classes or {}).get(name),
        )
    if unknown := set(processing_classes or {}) - set(resolved):
        raise ValueError(f"processing_classes names unknown peers {sorted(unknown)}; the peers are {list(resolved)}.")
    objects = [id(spec.model) for spec in resolved.values() if isinstance(spec.model, nn.Module)]
    if len(set(objects)) < len(objects):
        raise ValueError(
            "One model object was given as two peers; load it twice, so that each has weights of its own."
        )
    if taken := RESERVED_NAMES & set(resolved):
        raise ValueError(f"The names {sorted(taken)} are used for joint metrics; give these peers other names.")
    for spec in resolved.values():
        check_spec(spec)
    for name in with_own_adapter(resolved, peft_config):
        resolved[name] = replace(resolved[name], peft_config=None)
    if not any(spec.trainable for spec in resolved.values()):
        raise ValueError("Every peer is frozen (trainable=False): there is nothing to train.")
    return resolved


def with_init_defaults(spec: PeerSpec, defaults: Mapping[str, Any]) -> PeerSpec:
    """A peer that is loaded with these keyword arguments of `from_pretrained`, where it has none of its own.

    Raises:
        ValueError: One of them has a place of its own.
    """
    places = {
        "trust_remote_code": "PeerSpec(..., trust_remote_code=True)",
        "quantization_config": "the trainer's argument quantization_config",
    }
    if misplaced := [name for name in places if name in defaults]:
        raise ValueError(f"model_init_kwargs cannot have {misplaced[0]}: use {places[misplaced[0]]}.")
    if isinstance(spec.model, PreTrainedModel):
        return spec
    fields = {k: defaults[k] for k in INIT_FIELDS if k in defaults and getattr(spec, k) is None}
    rest = {k: value for k, value in defaults.items() if k not in INIT_FIELDS}
    return replace(spec, **fields, model_init_kwargs=rest | spec.model_init_kwargs)


def _chosen(own: Any, default: Any) -> Any:
    """A peer's own setting if it has one; `False` opts out of the default."""
    return (default if own is None else own) or None


def default_name(model: str | PreTrainedModel | PeftModel) -> str:
    """The last part of a Hub id or path, in lower case, without the ending of a GGUF file."""
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
    else:
        config = getattr(model, "config", None)
        path = getattr(config, "_name_or_path", "") or getattr(config, "model_type", type(model).__name__)
    last = os.path.basename(os.path.normpath((gguf_on_hub(path) or ("", path))[1]))
    return re.sub(r"[^\w.-]+", "-", last[:-5] if is_gguf(last) else last).lower()


def check_spec(spec: PeerSpec) -> None:
    """Checks one peer without loading its weights."""
    if not isinstance(spec.model, (str, os.PathLike)):
        check_loaded(spec.name, spec)
    if spec.quantization_config is not None and spec.trainable and not (spec.peft_config or own_adapter(spec)):
        raise ValueError(
            f"Peer {spec.name!r} is quantized but has no LoRA config: quantized weights cannot be trained directly. "
            "Pass peft_config=LoraConfig(...) (on the command line: --use-peft), or trainable=False."
        )
    if not isinstance(spec.model, (str, os.PathLike)):
        check_loaded_model(spec)
        return
    path, of = str(spec.model), f" of peer {spec.name!r}" if spec.name else ""
    if (is_gguf(path) or os.path.isdir(path)) and gguf_on_hub(path) is None and spec.revision not in (None, "main"):
        raise ValueError(
            f"The {'file' if is_gguf(path) else 'folder'} {path!r}{of} has no revision {spec.revision!r}: revisions "
            "are those of Hub repositories. Leave it out for this peer."
        )
    if is_gguf(path):
        check_gguf(path, spec)
    elif os.path.isdir(path):
        check_folder(path, of)
    else:
        check_place(path, of, spec.revision)
        if adapter_base(path, spec.revision) is None:
            check_hub_model(path, spec)
    if not is_gguf(path) and (adapter := adapter_config(path, spec.revision)) is not None:
        base = adapter["base_model_name_or_path"]
        if adapter_base(base, adapter.get("revision")) is not None:
            raise ValueError(f"The adapter {path!r}{of} is for {base!r}, which is an adapter itself: merge that.")
        try:
            check_spec(PeerSpec(base, revision=adapter.get("revision")))
        except ValueError as error:
            raise ValueError(
                f"The adapter {path!r}{of} is for the model {base!r}, which is not to be had: {first_line(error)}. "
                "Set base_model_name_or_path in its adapter_config.json to where that model is now."
            ) from error


def check_loaded_model(spec: PeerSpec) -> None:
    """Refuses what a spec asks `from_pretrained` for beside a model that is loaded already."""
    given = [name for name in (*INIT_FIELDS, "trust_remote_code", "model_init_kwargs") if getattr(spec, name)]
    if given:
        raise ValueError(
            f"Peer {spec.name!r} is a model that is loaded already, so its {', '.join(given)} would do nothing. "
            "Give them to from_pretrained, or name the model instead of loading it."
        )


def check_folder(path: str, of: str) -> None:
    """Refuses a folder without a model, or with one in pickles."""
    names = os.listdir(path)
    if "adapter_config.json" not in names and "config.json" not in names:
        found = [name for name in names if is_gguf(name)]
        found += [name for name in sorted(names) if os.path.isfile(os.path.join(path, name, "config.json"))]
        found += [name for name in sorted(names) if os.path.isfile(os.path.join(path, name, "adapter_config.json"))]
        advice = f" Name the model in it: {os.path.join(path, found[0])!r}." if found else ""
        raise ValueError(f"The folder {path!r}{of} holds no model: config.json is missing.{advice}")
    if any(name.endswith(".bin") for name in names) and not any(name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"The folder {path!r}{of} has its weights in .bin files only, which are pickles and "
            "are not read. Save the model once more where you trust it: model.save_pretrained(folder) writes "
            "safetensors."
        )


def check_gguf(path: str, spec: PeerSpec) -> None:
    """Refuses a GGUF file that is not there or cannot be a peer; one on the Hub is looked up, not fetched."""
    there = gguf_on_hub(path)
    if there is None or isinstance(try_to_load_from_cache(*there, revision=spec.revision), str):
        GgufFile.read(gguf_path(path, spec.revision))
        return
    try:
        found = file_exists(*there, revision=spec.revision)
    except OSError as error:
        raise ValueError(
            f"Cannot look up {path!r}: {first_line(error)}. Check the spelling and the connection, run `hf auth "
            "login` if it is private, or give a file on this machine."
        ) from error
    if not found:
        raise ValueError(f"The repository {there[0]!r} has no file {there[1]!r}.")


def check_hub_model(repo: str, spec: PeerSpec) -> None:
    """Reads the model's configuration from the Hub, or says in one line what to do."""
    try:
        AutoConfig.from_pretrained(repo, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError) as error:
        text = f"{error} {error.__cause__}".lower()
        # The Hub's words for a repository that is not there speak of gated ones, too.
        if isinstance(error.__cause__, GatedRepoError) or "gated" in str(error).lower() or "403" in text:
            advice = (
                f"the repository is gated: accept its terms at https://huggingface.co/{repo} and run `hf auth login`"
            )
        elif "401" in text or "not a valid model identifier" in text or "404" in text:
            advice = "no such folder or Hub repository; check the spelling, or run `hf auth login` if it is private"
        elif "connect" in text or "offline" in text:
            advice = "it is not in the local cache and the Hub cannot be reached; give a local folder instead"
        else:
            advice = str(error).strip().splitlines()[0]
        of = f"Peer {spec.name!r}: cannot" if spec.name else "Cannot"
        raise ValueError(f"{of} load {repo!r}: {advice}.") from error


def check_launch(args: TrainingArguments) -> None:
    """Refuses, before any model is loaded, a launch in which a peer would not be whole on its process's one device.

    Raises:
        ValueError: DeepSpeed or FSDP, which wrap one model; several GPUs visible to one process, over which the layers
            of every peer would be spread.
    """
    deepspeed = args.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    fsdp = args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if deepspeed or fsdp:
        kind = "DeepSpeed" if deepspeed else "FSDP"
        raise ValueError(
            f"{kind} is not supported: it wraps one model, and there are several peers. Launch with plain data "
            "parallelism (`accelerate launch --multi_gpu`); if the peers do not fit, use --load-in-4bit --use-peft "
            "and gradient checkpointing."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, and spreading peers over devices is not supported. Use "
            "all of them with `accelerate launch --multi_gpu`, or one with CUDA_VISIBLE_DEVICES=0."
        )
