"""An outside judge: a small frozen model that only says how likely texts are."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pst_rl.peers.prompts import Prompt, PromptFormat, end_of_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Placement:
    """Where a juror computes; stands where a peer has its accelerator."""

    device: torch.device

    def autocast(self) -> nullcontext:
        """A juror computes in the dtype of its own weights."""
        return nullcontext()


@dataclass(frozen=True)
class NoCheckpointing:
    """How scoring puts checkpointing back, had it been on; stands where a peer has its training arguments."""

    gradient_checkpointing_kwargs: None = None


class Juror:
    """A frozen model that judges and takes no part: never trained, never saved, and it answers no question.

    Pass it as a judge: `group.scorer.logprobs(juror, queries)`, or `MutualPrediction(jurors=Juror("org/small"))`.
    arXiv 2601.20299 reports that a juror of 0.135B parameters, not fine-tuned, suffices to train a model of 8B.
    Weights are read from safetensors files only, and code from a model repository is never run. Every process of a
    distributed run holds its own copy.

    Args:
        model: A Hub id, a local folder, or a loaded model. A loaded model is frozen in place, so it must not be one
            of the peers' own: load it a second time, or take the frozen peer of `PeerSpec(trainable=False)`.
        tokenizer: Loaded from the model's folder or repository if unset; needed with a loaded model.
        dtype: Weights' dtype of a model that is loaded here.
        revision: Hub revision.
        device: Where it computes. Unset: a loaded model stays where it is, another goes to this process's own device.
        base_template: Text around the prompt for a model without a chat template.

    Raises:
        ValueError: A loaded model without its tokenizer; a template without its place for the prompt.
        OSError: No safetensors weights under this name.
    """

    def __init__(
        self,
        model: str | os.PathLike | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        dtype: str = "float32",
        revision: str | None = None,
        device: str | torch.device | None = None,
        base_template: str = "Question: {prompt}\nAnswer:",
    ):
        if "{prompt}" not in base_template:
            raise ValueError(f"base_template must contain {{prompt}}, got {base_template!r}.")
        if isinstance(model, (str, os.PathLike)):
            from accelerate import PartialState
            from transformers import AutoModelForCausalLM, AutoTokenizer

            source = {"revision": revision, "trust_remote_code": False}
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(model, **source)
            model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, use_safetensors=True, **source)
            device = device or PartialState().device
        elif tokenizer is None:
            raise ValueError("A juror that is already loaded needs its tokenizer too: Juror(model, tokenizer).")
        self.model = (model if device is None else model.to(device)).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        if tokenizer.pad_token_id is None:  # padded places are masked, any token will do
            tokenizer.pad_token = tokenizer.eos_token
        self.format = PromptFormat.of(tokenizer, base_template)
        self.accelerator = Placement(self.model.device)
        self.args = NoCheckpointing()
        self.tokens: Counter[str] = Counter()  # "scored" on this process

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt that `format.adapt` has made acceptable."""
        if isinstance(prompt, str):
            return list(self._tokenizer(text=prompt)["input_ids"])
        return list(
            self._tokenizer.apply_chat_template(prompt, tokenize=True, return_dict=False, add_generation_prompt=True)
        )

    def text_ids(self, text: str) -> list[int]:
        """Token ids of text that continues a prompt or a response; no control token is among them."""
        return self._tokenizer.encode(self.format.guard.disarm(text), add_special_tokens=False)

    @property
    def end_of_turn(self) -> int:
        """The token that ends an assistant's turn in this model's chat template (or the end-of-sequence token)."""
        declared = self.model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(declared if isinstance(declared, list) else [declared])}
        return end_of_turn(self._tokenizer, self.format.chat, ends)
