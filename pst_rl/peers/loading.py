"""One way to load a model by its name, for peers, judges and measured models: plain, an adapter, or a GGUF file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM

from pst_rl.peers.contiguous_head import contiguous_head
from pst_rl.peers.reader import load_tokenizer
from pst_rl.peers.sources import (
    GgufFile,
    adapter_config,
    adapter_folder,
    first_line,
    gguf_on_hub,
    gguf_path,
    is_gguf,
    read_config,
)
from pst_rl.quiet import no_gguf_bar

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    from pst_rl.config import PSTConfig
    from pst_rl.peers.spec import PeerSpec


def load_model(
    model: str | os.PathLike,
    *,
    trainable: bool = False,
    revision: str | None = None,
    create: Callable[..., Any] = AutoModelForCausalLM.from_pretrained,
    **settings: Any,
) -> Any:
    """Loads a Hub id or folder, an adapter on its base model (a `PeftModel`), or a GGUF file. Pickles are never read.

    Args:
        trainable: Whether an adapter's weights get gradients.
        revision: Of the Hub repository that is named; an adapter says itself which revision of its base it is for.
        create: What loads a plain model from its name.
        settings: For `create`: `dtype`, `device_map`, `quantization_config` ...

    Raises:
        ValueError: An adapter that does not fit its base model; a GGUF file that cannot be read.
    """
    settings = {"use_safetensors": True} | settings
    if is_gguf(model):
        return contiguous_head(_load_gguf(model, gguf_path(model, revision), settings))
    adapter = adapter_config(model, revision)
    if adapter is None:
        return contiguous_head(create(os.fspath(model), revision=revision, **settings))
    base = adapter["base_model_name_or_path"]
    loaded = load_model(base, revision=adapter.get("revision"), create=create, **settings)
    return _put_on(loaded, adapter_folder(model, revision), base, trainable)


def _put_on(model: Any, folder: Path, base: str, trainable: bool) -> PeftModel:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ValueError(f"The adapter {str(folder)!r} has no adapter_model.safetensors; pickles are not read.")
    with warnings.catch_warnings():
        # PEFT only warns of it, and would go on with random weights.
        warnings.filterwarnings("error", "Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, os.fspath(folder), is_trainable=trainable)
        except (RuntimeError, ValueError, UserWarning) as error:
            raise ValueError(
                f"The adapter {str(folder)!r} does not fit its base model {base!r}: {first_line(error)}."
            ) from error


def _load_gguf(name: str | os.PathLike, path: Path, settings: dict[str, Any]) -> PreTrainedModel:
    """A GGUF file as a plain model: its blocks are unpacked, a head that was tied is tied again."""
    from transformers import GgufConfig

    file = GgufFile.read(path)
    settings = dict(settings)
    settings.pop("use_safetensors", None)
    quantization = settings.pop("quantization_config", None)
    if quantization is not None:  # transformers refuses to read GGUF and to quantize at once
        with TemporaryDirectory() as plain:
            _load_gguf(name, path, settings | {"device_map": None}).save_pretrained(plain)
            settings["quantization_config"] = quantization
            model = AutoModelForCausalLM.from_pretrained(plain, use_safetensors=True, **settings)
        return _named(model, name)
    try:
        with no_gguf_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                use_safetensors=True,
                output_loading_info=True,
                **settings,
            )
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"transformers cannot read {path.name}: {first_line(error)}. Use the model as it was before it was "
            "converted to GGUF."
        ) from error
    model, found = loaded
    absent = sorted(key for key in found["missing_keys"] if not (file.tied and key == "lm_head.weight"))
    if absent:
        raise ValueError(f"{path.name} lacks {len(absent)} of the model's tensors, such as {absent[0]}.")
    forget_gguf(model)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if file.tied and head is not None and head.weight is not embedding.weight:
        if file.head_is_finer:
            embedding.weight.data = head.weight.data
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return _named(model, name)


def _named(model: Any, name: str | os.PathLike) -> Any:
    """Under the name of the file: an adapter on this model will name its base by it."""
    named = os.fspath(name) if gguf_on_hub(name) else os.path.abspath(name)
    model.config._name_or_path = model.name_or_path = named
    return model


def from_gguf(model: Any) -> bool:
    """Whether transformers has read this model from a GGUF file and says so in it."""
    method = getattr(getattr(model, "hf_quantizer", None), "quantization_config", None)
    return str(getattr(getattr(method, "quant_method", None), "value", "")) == "gguf"


def forget_gguf(model: Any) -> None:
    """Takes away the mark of GGUF, with which transformers (5.23) refuses to save or train the weights.

    Raises:
        ValueError: The weights are packed blocks, not numbers.
    """
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        raise ValueError(
            "This model's weights are GGUF blocks, which cannot be trained: load it with "
            "quantization_config=GgufConfig(dequantize=True), or give the file's name as the peer."
        )
    vars(model.config).pop("quantization_config", None)
    for mark in ("hf_quantizer", "quantization_method"):
        vars(model).pop(mark, None)
    model.is_quantized = False
    model.config.architectures = [type(model).__name__]


# ---- a peer's ----


def peer_model(spec: PeerSpec, args: PSTConfig) -> tuple[Any, Any, dict[str, Any] | None]:
    """What `GRPOTrainer` takes as a peer's model, its tokenizer and its `model_init_kwargs`.

    TRL loads a plain model by its name. An adapter is put on its base model here, and goes on as it is; a GGUF file is
    unpacked here. Base models are loaded as TRL would load them.
    """
    from trl.trainer.utils import create_model_from_path

    model = spec.model
    if not isinstance(model, (str, os.PathLike)):
        if from_gguf(model):
            forget_gguf(model)
        return model, spec.processing_class, None
    settings, name = spec.init_kwargs(), os.fspath(model)
    if not is_gguf(name) and adapter_config(name, spec.revision) is None:
        return name, spec.processing_class, settings
    source: dict[str, Any] = {"revision": settings.pop("revision", None)}
    if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        settings["device_map"] = None
    elif is_gguf(name) and args.device.type == "cuda":
        settings.setdefault("device_map", "auto")
    if spec.quantization_config is not None:
        settings["quantization_config"] = spec.quantization_config
    loaded = load_model(name, trainable=spec.trainable, create=create_model_from_path, **source, **settings)
    if spec.processing_class is not None:
        return loaded, spec.processing_class, None
    source["trust_remote_code"] = spec.trust_remote_code
    return loaded, load_tokenizer(name, truncation_side="left", padding_side="left", **source), None


def adapter_weights(model: Any) -> dict[str, Any]:
    """The trainable weights of a given adapter, in float32: TRL rounds those of quantized models to bfloat16."""
    if not hasattr(model, "peft_config") or isinstance(model, (str, os.PathLike)):
        return {}
    return {name: p.data.float() for name, p in model.named_parameters() if p.requires_grad}


def repair_model(model: nn.Module, spec: PeerSpec, given: dict[str, Any]) -> None:
    """Undoes what TRL and bitsandbytes do to a peer's weights, and readies its head.

    Args:
        given: `adapter_weights` of before.
    """
    contiguous_head(model)
    for module in model.modules():
        # bitsandbytes on CPUs with AVX512-BF16: one eval-mode forward repacks a Linear4bit for a kernel without
        # backward, and later training gradients are silently wrong.
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]  # Linear4bit's own, no module
    for name, parameter in model.named_parameters():
        if not spec.trainable:
            parameter.requires_grad_(False)
        elif parameter.requires_grad and (given or spec.peft_config is not None):
            # TRL casts adapters of quantized models to bfloat16, but a resume reloads them in float32.
            parameter.data = given.get(name, parameter.data).to(parameter.device).float()


def stored_dtype(spec: PeerSpec) -> str | None:
    """The dtype that a peer's own checkpoint has its weights in, such as "bfloat16".

    `None` where there is none to keep: a model that is already loaded, quantized GGUF, an adapter (whose base model is
    not saved), a configuration that does not say.
    """
    if not isinstance(spec.model, (str, os.PathLike)):
        return None
    if is_gguf(spec.model):
        return GgufFile.read(gguf_path(spec.model, spec.revision)).dtype
    if adapter_config(spec.model, spec.revision) is not None:
        return None
    dtype = read_config(spec.model, revision=spec.revision, trust_remote_code=spec.trust_remote_code).dtype
    return None if dtype is None else str(dtype).removeprefix("torch.")
