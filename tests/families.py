"""The real families' own chat templates, on the tiny architectures with random weights."""

from pathlib import Path

import trl
from tiny_models.models import build_model
from transformers import AutoTokenizer

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
FAMILIES = {  # tiny peer -> template, the special tokens it writes, the one that ends a turn
    "gemma2": ("gemma", ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>"),
    "llama": ("llama3_2", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    "qwen2": ("qwen2_5", ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
}


def build_tokenizer(peer, folder):
    """The tokenizer in this folder with the chat template and the special tokens of the peer's family."""
    template, special, _ = FAMILIES[peer]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    return tokenizer


def random_model(peer, tokenizer):
    """A model of the peer's architecture for this tokenizer, which may end its turn as its family does."""
    model = build_model(peer, tokenizer, seed=1)
    end = tokenizer.convert_tokens_to_ids(FAMILIES[peer][2])
    model.generation_config.eos_token_id = sorted({tokenizer.eos_token_id, end})
    return model
