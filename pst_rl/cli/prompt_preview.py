"""`--dry-run`: prompts as a peer would read them, from its tokenizer alone. No weights, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pst_rl.peers.prompts import Prompt
from pst_rl.peers.reader import PromptReader, load_tokenizer


@dataclass(frozen=True)
class Prompts:
    """A peer's prompts: the first one as text, and the lengths of all in tokens."""

    first: str
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        low, middle, high = min(self.lengths), median(self.lengths), max(self.lengths)
        return f"{self.first}\n{len(self.lengths)} prompts of {low} to {high} tokens, median {middle:g}"


def read_prompts(
    path: str,
    prompts: Sequence[Prompt],
    base_template: str,
    template_date: str | None = None,
    /,
    **template_options: Any,
) -> Prompts:
    """Prompts as the tokenizer of a Hub id or folder writes them.

    Args:
        base_template: Text around a prompt for a model without a chat template.
        template_date: What a chat template writes as today's date.
        template_options: For the chat template.
    """
    tokenizer = load_tokenizer(path)
    reader = PromptReader(tokenizer, base_template, chat_template_kwargs=template_options, template_date=template_date)
    return Prompts(reader.render(prompts[0]), tuple(len(reader.prompt_ids(prompt)) for prompt in prompts))
