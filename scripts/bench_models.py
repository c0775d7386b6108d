"""Randomly initialised peers for the speed benchmark: three architectures, the tiny peers' tokenizers, no download."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from bench_shapes import TRUE_SHAPES
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging

from pst_rl.tiny import TINY_PEERS

ARCHITECTURES = {
    "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def small(hidden: int, layers: int) -> dict[str, dict]:
    """One small shape for all three architectures; the vocabulary is that of the tiny peer of the same family."""
    shape = {
        "hidden_size": hidden,
        "intermediate_size": hidden * 5 // 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "initializer_range": 0.05,
    }
    scale = {"query_pre_attn_scalar": hidden // 4}
    return {"gemma2": shape | scale, "llama": shape, "qwen2": shape}


SIZES = {"tiny": small(64, 3), "hidden256": small(256, 4), "1b": TRUE_SHAPES}


def build_peers(size: str, count: int, folder: Path, seed: int = 0) -> list[str]:
    """Saves `count` peers, the three architectures in turn, and returns their folders.

    Every side of the benchmark loads these folders, so all start from the same weights.
    """
    logging.disable_progress_bar()
    names = list(ARCHITECTURES)
    return [build_peer(size, names[i % 3], folder / f"{names[i % 3]}-{i}", seed + i) for i in range(count)]


def build_peer(size: str, name: str, folder: Path, seed: int) -> str:
    """Saves one randomly initialised model with its tokenizer; float32, or bfloat16 at true size."""
    folder.mkdir(parents=True)
    for file in TOKENIZER_FILES:
        shutil.copy(TINY_PEERS[name] / file, folder)
    shape = SIZES[size][name]
    if "vocab_size" in shape:
        widen_vocabulary(folder / "tokenizer.json", shape["vocab_size"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    config_class, model_class = ARCHITECTURES[name]
    torch.manual_seed(seed)
    config = config_class(**{"vocab_size": len(tokenizer)} | shape | special)
    config.dtype = torch.bfloat16 if size == "1b" else torch.float32
    model: PreTrainedModel = model_class._from_config(config)
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(folder)
    return str(folder)


def widen_vocabulary(file: Path, size: int) -> None:
    """Adds tokens that no text is encoded to, so that every id a model of true size samples can be decoded."""
    data = json.loads(file.read_text())
    vocabulary = data["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in data["added_tokens"])}
    vocabulary |= {f"w{i}": i for i in range(size) if i not in taken}
    file.write_text(json.dumps(data))


def parameters(folders: Sequence[str]) -> list[int]:
    """How many parameters each saved model has, from the headers of its files (tied weights count once)."""
    counts = []
    for folder in folders:
        total = 0
        for file in Path(folder).glob("*.safetensors"):
            with open(file, "rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            header.pop("__metadata__", None)
            total += sum(torch.Size(tensor["shape"]).numel() for tensor in header.values())
        counts.append(total)
    return counts
