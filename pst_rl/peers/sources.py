"""What the name of a model stands for: a model, an adapter on another one, or a GGUF file. No weights are read.

A name is a Hub id, a local folder, `file.gguf`, or `repo:file.gguf` on the Hub.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from transformers import AutoConfig
from transformers.utils import is_gguf_available
from transformers.utils.peft_utils import find_adapter_config_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_FILE = re.compile(rf"(?P<repo>{HUB_ID.pattern}):(?P<file>[^:]+\.gguf)", re.IGNORECASE)
ADAPTER_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "README.md")
SAME_MATRIX = 0.2  # relative distance; unrelated matrices are sqrt(2) apart, and two 4-bit copies of one at most 0.12


def first_line(error: BaseException, most: int = 200) -> str:
    """What an error says, as part of one line."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return text if len(text) <= most else f"{text[:most]} ..."


# ---- adapters ----


def adapter_config(model: str | os.PathLike, revision: str | None = None) -> dict[str, Any] | None:
    """The configuration of an adapter's folder or Hub repository; `None` for a model, also one that has an adapter
    beside weights of its own, and for what cannot be found.

    Raises:
        ValueError: It is broken, or does not say what it adapts.
    """
    folder, name = Path(model), os.fspath(model)
    if folder.is_dir():
        file = folder / "adapter_config.json"
        alone = (folder / "adapter_model.safetensors").is_file() and not any(folder.glob("model*.safetensors"))
        if not file.is_file() or ((folder / "config.json").is_file() and not alone):
            return None
    elif HUB_ID.fullmatch(name) and not isinstance(
        try_to_load_from_cache(name, "config.json", revision=revision), str
    ):
        try:
            found = find_adapter_config_file(name, revision=revision)
        except OSError:  # no such repository: who loads it says so
            return None
        if found is None:
            return None
        file = Path(found)
    else:
        return None
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"The adapter {name!r} has a broken adapter_config.json: {first_line(error)}.") from error
    if not isinstance(read, dict) or not read.get("base_model_name_or_path"):
        raise ValueError(
            f"The adapter {name!r} does not say what model it is for: set base_model_name_or_path in its "
            "adapter_config.json."
        )
    return read


def adapter_base(model: str | os.PathLike, revision: str | None = None) -> str | None:
    """What an adapter adapts; `None` where [`adapter_config`] is."""
    found = adapter_config(model, revision)
    return None if found is None else found["base_model_name_or_path"]


def adapter_folder(model: str | os.PathLike, revision: str | None = None) -> Path:
    """The folder of an adapter's files; fetched from the Hub where they are there, pickles left out."""
    if Path(model).is_dir():
        return Path(model)
    return Path(snapshot_download(os.fspath(model), revision=revision, allow_patterns=list(ADAPTER_FILES)))


def hub_commit(model: str | os.PathLike, revision: str | None = None) -> str | None:
    """The commit of a Hub model, or adapter, that is in the cache; `None` for what is not on the Hub.

    The configurations of transformers no longer carry it.
    """
    name = os.fspath(model)
    if os.path.exists(name) or not HUB_ID.fullmatch(name):
        return None
    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found).parent.name
    return None


# ---- GGUF files ----


def is_gguf(model: Any) -> bool:
    """Whether a name is that of a GGUF file."""
    return isinstance(model, (str, os.PathLike)) and os.fspath(model).lower().endswith(".gguf")


def gguf_on_hub(model: str | os.PathLike) -> tuple[str, str] | None:
    """(repository, file) of `repo:file.gguf`; `None` for a file on this machine."""
    found = None if os.path.isfile(model) else _HUB_FILE.fullmatch(os.fspath(model))
    return None if found is None else (found["repo"], found["file"])


def gguf_path(model: str | os.PathLike, revision: str | None = None) -> Path:
    """Where a GGUF file is on this machine; fetched from the Hub where it is named as `repo:file.gguf`.

    Raises:
        ValueError: There is no such file, or the package `gguf` is missing.
    """
    name = os.fspath(model)
    if not is_gguf_available():
        raise ValueError(f"{name!r} is a GGUF file: reading it needs the package gguf; pip install 'pst-rl[gguf]'.")
    there = gguf_on_hub(name)
    if there is None:
        if not os.path.isfile(name):
            raise ValueError(f"The file {name!r} does not exist. A file on the Hub is named repo:file.gguf.")
        return Path(name).absolute()
    try:
        return Path(hf_hub_download(*there, revision=revision))
    except OSError as error:  # the Hub's refusals, too
        raise ValueError(
            f"Cannot fetch {there[1]!r} from {there[0]!r}: {first_line(error)}. Check the names, run `hf auth login` "
            "if it is private, or give a file on this machine."
        ) from error


@dataclass(frozen=True)
class GgufFile:
    """What the head of a GGUF file says.

    Attributes:
        path: The file.
        dtype: Of its floats; `None` if its weights are quantized.
        kind: Of most weights: "Q4_K", "F16" ...
        metadata: Its keys and values, without lists.
        tied: Whether the output head is the embedding: there is no other one, or it is a copy.
        head_is_finer: Whether that copy has more bits an element than the embedding.
    """

    path: Path
    dtype: str | None
    kind: str
    metadata: dict[str, Any]
    tied: bool
    head_is_finer: bool

    @classmethod
    def read(cls, path: Path) -> GgufFile:
        """Reads the head, and a few rows of the embedding; a file that was read is remembered.

        Raises:
            ValueError: It is no language model that can be trained: broken, one of several parts, an adapter, a
                projector.
        """
        found = path.stat()
        return _read_gguf(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_gguf(path: Path, size: int, changed: int) -> GgufFile:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    except Exception as error:  # whatever numpy makes of a file that is none, or cut off
        raise ValueError(f"{path.name} cannot be read as GGUF, or is cut off: {first_line(error)}.") from error
    if (kind := fields.get("general.type", "model")) != "model" or not reader.tensors:
        raise ValueError(f"{path.name} holds no model (its type is {kind!r}) and cannot be a peer.")
    if (parts := fields.get("split.count", 1)) > 1:
        raise ValueError(
            f"{path.name} is one of {parts} parts, and transformers reads one file: join them with llama.cpp's "
            "llama-gguf-split --merge."
        )
    sizes: Counter[str] = Counter()
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_bytes)
    kind = sizes.most_common(1)[0][0]
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    tied, finer = _head({tensor.name: tensor for tensor in reader.tensors})
    return GgufFile(path, plain.get(kind) if set(sizes) <= set(plain) else None, kind, fields, tied, finer)


def _head(tensors: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the output head is the embedding or a copy of it, and if that copy is the finer one.

    llama.cpp writes a tied head once or twice, and quantizes the two differently, so that copies are only alike: here
    by the relative distance of 256 rows, ||E - H|| / ||H|| < 0.2.
    """
    import numpy as np
    from gguf import dequantize

    embedding, head = tensors.get("token_embd.weight"), tensors.get("output.weight")
    if head is None or embedding is None:
        return head is None, False
    if list(embedding.shape) != list(head.shape):
        return False, False
    count = len(embedding.data)
    rows = np.linspace(0, count - 1, min(256, count)).astype(int)
    one, other = (dequantize(tensor.data[rows], tensor.tensor_type) for tensor in (embedding, head))
    distance = np.linalg.norm(one - other) / np.linalg.norm(other)
    return bool(distance < SAME_MATRIX), bool(head.n_bytes > embedding.n_bytes)


# ---- both ----


def read_config(model: str | os.PathLike, *, revision: str | None = None, **settings: Any) -> PretrainedConfig:
    """The configuration of a model, of an adapter's base model, or of a GGUF file.

    Args:
        settings: For `AutoConfig.from_pretrained`, such as `trust_remote_code`.
    """
    if is_gguf(model):
        path = gguf_path(model, revision)
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, **settings)
        config.tie_word_embeddings = GgufFile.read(path).tied
        return config
    found = adapter_config(model, revision)
    if found is not None:
        return read_config(found["base_model_name_or_path"], revision=found.get("revision"), **settings)
    return AutoConfig.from_pretrained(model, revision=revision, **settings)
