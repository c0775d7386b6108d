"""An outside judge: a small frozen model that only says how likely texts are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pst_rl.hub.places import check_place
from pst_rl.peers.loading import load_model
from pst_rl.peers.prompts import BASE_TEMPLATE
from pst_rl.peers.reader import PromptReader, end_ids, load_tokenizer
from pst_rl.peers.sources import is_gguf

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


class Juror(PromptReader):
    """A frozen model that judges and takes no part: never trained, never saved, and it answers no question.

    Pass it as a judge: `group.scorer.logprobs(juror, queries)`, or `MutualPrediction(jurors=Juror("org/small"))`.
    arXiv 2601.20299 reports that a juror of 0.135B parameters, not fine-tuned, suffices to train a model of 8B.
    Weights are read from safetensors files only, and code from a model repository is never run. Every process of a
    distributed run holds its own copy.

    Args:
        model: A Hub id, a local folder, a GGUF file, or a loaded model. A loaded model is frozen in place, so it must
            not be one of the peers' own: load it a second time, or take the frozen peer of
            `PeerSpec(trainable=False)`.
        tokenizer: Loaded from the model's folder or repository if unset; needed with a loaded model.
        dtype: Weights' dtype of a model that is loaded here.
        revision: Hub revision.
        device: Where it computes. Unset: a loaded model stays where it is, another goes to this process's own device.
        base_template: Text around the prompt for a model without a chat template.
        chat_template_kwargs: For its chat template, such as `enable_thinking`.
        template_date: The day that its chat template writes as today's, as YYYY-MM-DD; unset: a fixed one.

    Raises:
        ValueError: A loaded model without its tokenizer; a folder that is not there; a template without its place for
            the prompt.
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
        base_template: str = BASE_TEMPLATE,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        template_date: str | None = None,
    ):
        if "{prompt}" not in base_template:
            raise ValueError(f"base_template must contain {{prompt}}, got {base_template!r}.")
        if isinstance(model, (str, os.PathLike)):
            from accelerate import PartialState

            if not is_gguf(model):
                check_place(model, revision=revision)
            tokenizer = tokenizer or load_tokenizer(model, revision=revision, trust_remote_code=False)
            model = load_model(model, revision=revision, dtype=dtype, trust_remote_code=False)
            device = device or PartialState().device
        elif tokenizer is None:
            raise ValueError("A juror that is already loaded needs its tokenizer too: Juror(model, tokenizer).")
        if device is not None:
            model.to(device)  # type: ignore[arg-type]  # its decorator forgets the types
        self.model = model.eval().requires_grad_(False)
        if tokenizer.pad_token_id is None:  # padded places are masked, any token will do
            tokenizer.pad_token = tokenizer.eos_token
        super().__init__(
            tokenizer,
            base_template,
            ends=end_ids(self.model, tokenizer),
            chat_template_kwargs=chat_template_kwargs,
            template_date=template_date,
        )
        self.accelerator = Placement(self.model.device)
        self.args = NoCheckpointing()
        self.tokens: Counter[str] = Counter()  # "scored" on this process
