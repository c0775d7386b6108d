"""A model to measure: loaded once, known by a digest of its weights, asked and scored in batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, GenerationConfig

from pst_rl.answers.tags import TAG
from pst_rl.files import files_digest, json_digest
from pst_rl.peers.asked import FILE as ASKED
from pst_rl.peers.asked import Asked
from pst_rl.peers.generation import bare_settings
from pst_rl.peers.loading import load_model
from pst_rl.peers.positions import reading_window
from pst_rl.peers.prompts import (
    BASE_TEMPLATE,
    NEXT_QUESTION,
    Prompt,
    cut_at_stop,
    foreign_prompt,
    show_peers,
    usual_stops,
)
from pst_rl.peers.reader import PromptReader, end_ids, load_tokenizer
from pst_rl.peers.sources import adapter_config, adapter_folder, gguf_path, hub_commit, is_gguf, read_config

# Of a model's own generation settings: what an evaluation always set itself, or what no response depends on.
_SET_ANYWAY = """
    max_new_tokens max_length do_sample temperature top_p top_k repetition_penalty bos_token_id eos_token_id
    pad_token_id decoder_start_token_id use_cache transformers_version _from_model_config _commit_hash disable_compile
""".split()
_WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model")


@dataclass(frozen=True)
class Decoding:
    """How a response is made. Greedy at temperature 0; nothing of a model's own generation settings is used."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """Attributes:
    text: The response.
    finished: Whether it ended by itself; cut off at `max_new_tokens` otherwise.
    length: Its tokens.
    """

    text: str
    finished: bool
    length: int


class LanguageModel(PromptReader):
    """A causal language model with its tokenizer.

    Args:
        model, tokenizer: As `from_pretrained` gives them.
        name: What it is called in results.
        digest: What its results are known by; see `model_digest`.
        asked: How it is asked, and whether it computes under autocast.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, digest: str, asked: Asked | None = None):
        asked = asked or Asked()
        super().__init__(
            tokenizer,
            asked.base_template,
            ends=end_ids(model, tokenizer),
            chat_template_kwargs=asked.chat_template_kwargs,
            template_date=asked.template_date,
        )
        in_4bit = bool(getattr(model, "is_loaded_in_4bit", False))
        self.how = replace(asked, dtype=str(model.dtype).removeprefix("torch."), load_in_4bit=in_4bit)
        self.model, self.name = model, name
        self.stop_strings = usual_stops(self.format) if asked.stop_strings is None else asked.stop_strings
        # An older cache knows nothing of these: its responses are found where they would be made again.
        own = model.generation_config.to_diff_dict().keys() - set(_SET_ANYWAY)
        self.digest = digest + (f"+{asked.autocast}" if asked.autocast else "") + ("/bare" if own else "")
        if self.stop_strings != ([] if self.format.chat else NEXT_QUESTION):
            self.digest += f"/stops {json_digest(self.stop_strings, 16)}"
        self.pad_id = next(i for i in (tokenizer.pad_token_id, *self.eos_token_ids, 0) if i is not None)

    @classmethod
    def load(
        cls,
        path: str,
        name: str,
        dtype: str | None = None,
        load_in_4bit: bool = False,
        asked: Asked | None = None,
    ) -> LanguageModel:
        """Loads a folder, a Hub id or a GGUF file, a LoRA adapter included, onto the GPU if there is one.

        Args:
            dtype: Of the weights; unset, that of `asked`, else float32 on a CPU and as they are stored on a GPU.
        """
        cuda = torch.cuda.is_available()
        chosen = dtype or (asked and asked.dtype) or ("auto" if cuda else "float32")
        settings: dict[str, Any] = {"dtype": chosen}
        if load_in_4bit:
            settings["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        if cuda:
            settings["device_map"] = {"": 0}
        model = load_model(path, **settings)
        tokenizer = load_tokenizer(path)
        digest = f"{model_digest(path)}/{model.dtype}{'/nf4' if load_in_4bit else ''}"
        if any(token.special and TAG.fullmatch(token.content) for token in tokenizer.added_tokens_decoder.values()):
            digest += "/tags"  # an older cache holds its responses without them
        return cls(model, tokenizer, name, digest, asked)

    # ---- prompts ----

    @property
    def rendering(self) -> dict[str, Any]:
        """What changes the form of its prompts: empty if nothing does."""
        found: dict[str, Any] = {
            "chat_template_kwargs": self.chat_template_kwargs,
            "template_date": self.template_date,
        }
        if not self.format.chat and self.format.base_template != BASE_TEMPLATE:
            found["base_template"] = self.format.base_template
        return {name: value for name, value in found.items() if value}

    def asking(self, shown: Sequence[str]) -> dict[str, Any]:
        """How it is asked these messages, for the results: a digest of the prompts' tokens, and what made them so."""
        prompts = json_digest([self.prompt_ids(self.asked(text)) for text in shown], 16)
        how = {"prompts": prompts, "stop_strings": self.stop_strings, "precision": self.how.precision}
        return how | self.rendering

    def asked(self, shown: str, previous: Sequence[str] = (), peer_template: str = "") -> Prompt:
        """A user's message, with what earlier peers said, as this model may read it."""
        texts = [text.strip() or "(no answer)" for text in previous]
        question = [{"role": "user", "content": shown}]
        return foreign_prompt(self.format, lambda asked, said: show_peers(asked, said, peer_template), question, texts)

    @property
    def window(self) -> int:
        """How many tokens the model reads, prompt and response together; `sys.maxsize` where there is no limit."""
        return reading_window(self.model.config)

    def fit(self, shown: str, previous: Sequence[str], peer_template: str, room: int) -> list[int]:
        """Tokens of `asked`, at most `room`: the oldest responses are shortened from their beginning.

        Raises:
            ValueError: The message alone is too long.
        """
        texts = list(previous)
        while len(ids := self.prompt_ids(self.asked(shown, texts, peer_template))) > room:
            if not texts:
                raise ValueError(
                    f"{self.name} reads {self.window} tokens, too few for {shown[:60]!r}... with its response: the "
                    f"prompt has {len(ids)}, and {room} are left. Lower --max-new-tokens."
                )
            texts[0] = self.keep_last_tokens(texts[0], len(ids) - room)
            if not texts[0]:
                texts.pop(0)
        return ids

    # ---- answering and scoring ----

    @torch.inference_mode()
    def complete(self, prompt_ids: Sequence[Sequence[int]], decoding: Decoding, seed: int = 0) -> list[Completion]:
        """One response for each prompt of a batch; `seed` fixes the samples of this batch."""
        self.model.eval()
        width = max(map(len, prompt_ids))
        device = self.model.device
        ids = torch.tensor([[self.pad_id] * (width - len(row)) + list(row) for row in prompt_ids], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompt_ids], device=device)
        sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        settings = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=decoding.temperature > 0,
            eos_token_id=self.eos_token_ids or None,
            pad_token_id=self.pad_id,
            repetition_penalty=1.0,
            disable_compile=True,
            **(sampling if decoding.temperature > 0 else {}),
        )
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), bare_settings(self.model), self._autocast():
            torch.manual_seed(seed)
            output = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return [self._completion(row) for row in output[:, width:].tolist()]

    def _completion(self, ids: list[int]) -> Completion:
        """The tokens up to the first that ends a response; what follows is padding."""
        ids = next((ids[: i + 1] for i, token in enumerate(ids) if token in self.eos_token_ids), ids)
        text = self.response_text(ids)
        if (at := cut_at_stop(text, self.stop_strings)) is not None:
            return Completion(text[:at], True, len(ids))
        return Completion(text, bool(ids) and ids[-1] in self.eos_token_ids, len(ids))

    @torch.inference_mode()
    def log_probs(self, contexts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of every target token after its context, in nats, for each row of a batch."""
        self.model.eval()
        rows = [[*context, *target] for context, target in zip(contexts, targets, strict=True)]
        width = max(map(len, rows))
        device = self.model.device
        # Padding on the right needs no mask: no token looks ahead.
        ids = torch.tensor([row + [self.pad_id] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        first = min(map(len, contexts)) - 1
        with self._autocast():
            logits = self.model(ids, attention_mask=mask, logits_to_keep=width - first).logits.float()
        found = []
        for row, (context, target) in enumerate(zip(contexts, targets, strict=True)):
            begin = len(context) - 1 - first
            own = logits[row, begin : begin + len(target)].log_softmax(-1)
            found.append(own[range(len(target)), list(target)].tolist())
        return found

    @torch.inference_mode()
    def next_logits(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of the next token of each row, (B, V), float32."""
        self.model.eval()
        width = max(map(len, contexts))
        ids = [[self.pad_id] * (width - len(row)) + list(row) for row in contexts]
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in contexts], device=self.model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}
        with self._autocast():
            return self.model(torch.tensor(ids, device=self.model.device), **inputs).logits[:, -1].float()

    def _autocast(self) -> AbstractContextManager:
        """The precision that it is measured in."""
        if self.how.autocast is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, getattr(torch, self.how.autocast), cache_enabled=False)


def model_digest(path: str, revision: str | None = None) -> str:
    """What a model is known by: the SHA-256 of its files in a folder or of its GGUF file, or the commit of a Hub
    repository.

    An adapter's digest includes its base model's.
    """
    if is_gguf(path):
        return files_digest([gguf_path(path, revision)])
    adapter = adapter_config(path, revision)
    if adapter is None and not Path(path).is_dir():
        read_config(path, revision=revision)  # it is in the cache then
        return f"{path}@{hub_commit(path, revision)}"
    base = [] if adapter is None else [model_digest(adapter["base_model_name_or_path"], adapter.get("revision"))]
    folder = adapter_folder(path, revision)
    files = (file for pattern in _WEIGHTS for file in folder.glob(pattern) if file.name != ASKED)
    return files_digest(files, *base)


def describe(decoding: Decoding) -> dict[str, Any]:
    """The settings of a response, as a cache knows them; a greedy one does not depend on a seed."""
    return asdict(decoding) | ({} if decoding.temperature > 0 else {"seed": None, "top_p": None})
