"""`--dry-run`: prompts as a peer would read them, from its tokenizer alone. No weights, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from pst_rl.benchmarks.model import adapted_model
from pst_rl.peers.prompts import Prompt, PromptFormat


@dataclass(frozen=True)
class Prompts:
    """A peer's prompts: the first one as text, and the lengths of all in tokens."""

    first: str
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        low, middle, high = min(self.lengths), median(self.lengths), max(self.lengths)
        return f"{self.first}\n{len(self.lengths)} prompts of {low} to {high} tokens, median {middle:g}"


def read_prompts(path: str, prompts: Sequence[Prompt], base_template: str, **template_options: Any) -> Prompts:
    """Prompts as the tokenizer of a Hub id or folder writes them.

    Args:
        base_template: Text around a prompt for a model without a chat template.
        template_options: For the chat template.
    """
    tokenizer = load_tokenizer(path)
    form = PromptFormat.of(tokenizer, base_template)
    texts = []
    for prompt in map(form.adapt, prompts):
        if not isinstance(prompt, str):
            options = {"tokenize": False, "add_generation_prompt": True}
            prompt = tokenizer.apply_chat_template(prompt, **options, **template_options)
        texts.append(prompt)
    ids = tokenizer(texts, add_special_tokens=not form.chat)["input_ids"]
    return Prompts(texts[0], tuple(map(len, ids)))


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model, or of what an adapter without one adapts."""
    base = adapted_model(path)
    has_own = base is None or (Path(path) / "tokenizer_config.json").is_file()
    return AutoTokenizer.from_pretrained(path if has_own else base)
