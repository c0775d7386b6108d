"""One way from words to what a model reads: prompts, texts that continue them, and the end of a turn.

Peers, jurors, measured models and the preview of a dry run render prompts, tokenise other models' texts and find the
end of a turn here. Text of another model comes in by two doors, both guarded (`pst_rl.peers.foreign_text`): into a
prompt by `pst_rl.peers.prompts.foreign_prompt`, and behind one by `text_ids`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pst_rl.peers.prompts import BASE_TEMPLATE, Prompt, PromptFormat
from pst_rl.peers.sources import adapter_config, adapter_folder, gguf_path, is_gguf
from pst_rl.peers.template_date import TEMPLATE_DATE, check_date, reads_date, with_date

# What we say to `apply_chat_template` ourselves: as a word for the template it would be said twice.
_OURS = """
    conversation messages add_generation_prompt continue_final_message tokenize padding truncation max_length
    return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs
""".split()
_SILENT = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")  # what a tokenizer names for its own use


class Reader(Protocol):
    """A model that reads prompts: a peer, a juror, a model that is measured.

    Attributes:
        model: The causal language model.
        tokenizer: Its tokenizer.
        format: The form of its prompts, and the guard before them.
    """

    model: Any
    format: PromptFormat

    @property
    def tokenizer(self) -> Any: ...

    @property
    def end_of_turn(self) -> int:
        """The token that ends an assistant's turn."""
        ...

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; texts of other models are in it by `foreign_prompt` only."""
        ...

    def text_ids(self, text: str, trusted: bool = False) -> list[int]:
        """Token ids of text that continues a prompt or a response."""
        ...


class PromptReader:
    """What every `Reader` does with its tokenizer.

    Args:
        tokenizer: The model's.
        base_template: Text around the prompt for a tokenizer without a chat template; `{prompt}` is filled.
        ends: Tokens that end a response.
        chat_template: Instead of the tokenizer's own.
        chat_template_kwargs: For the chat template, such as `enable_thinking`.
        template_date: What a chat template writes that writes today's date, as YYYY-MM-DD; unset: `TEMPLATE_DATE`.

    Attributes:
        format: The form of its prompts, and the guard before them.
        eos_token_ids: `ends`.
        template_date: The date that the chat template writes; `None` if it writes none.

    Raises:
        ValueError: Words for the chat template that are none, or no date.
    """

    def __init__(
        self,
        tokenizer: Any,
        base_template: str = BASE_TEMPLATE,
        *,
        ends: Sequence[int] = (),
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        template_date: str | None = None,
    ):
        self._tokenizer = tokenizer
        self.eos_token_ids = list(ends)
        self.chat_template_kwargs = check_template_words(chat_template_kwargs)
        self.chat_template = self.chat_template_kwargs.pop("chat_template", chat_template)
        day = check_date(template_date or TEMPLATE_DATE)
        text = None
        if self.chat_template or tokenizer.chat_template:
            text = tokenizer.get_chat_template(self.chat_template, self.chat_template_kwargs.get("tools"))
        self.template_date = day if reads_date(text) else None
        if text is not None and self.template_date is not None:
            self.chat_template = with_date(text, day)
        self.format = PromptFormat.of(tokenizer, base_template, self.eos_token_ids, **self._template_options)

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @property
    def _template_options(self) -> dict[str, Any]:
        own = {} if self.chat_template is None else {"chat_template": self.chat_template}
        return own | self.chat_template_kwargs

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, up to where the answer begins; `format.adapt` makes it acceptable."""
        prompt = self.format.adapt(prompt)
        if not isinstance(prompt, str):
            return self.message_ids(prompt)
        ids, plain = list(self._tokenizer(text=prompt)["input_ids"]), plain_ids(self._tokenizer, [prompt])[0]
        for front in range(len(ids) - len(plain), -1, -1):  # some tokenizers put an end behind it, too
            if ids[front : front + len(plain)] == plain:
                return ids[: front + len(plain)]
        return ids

    def message_ids(self, messages: list[dict[str, str]], answer_next: bool = True) -> list[int]:
        """Token ids of messages in the chat template; with `answer_next`, the header of the answer comes behind."""
        return list(
            self._tokenizer.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=False,
                add_generation_prompt=answer_next,
                **self._template_options,
            )
        )

    def render(self, prompt: Prompt, answer_next: bool = True) -> str:
        """The text that a prompt becomes, without the tokens that the tokenizer itself puts in front."""
        prompt = self.format.adapt(prompt)
        if isinstance(prompt, str):
            return prompt
        return self._tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=answer_next, **self._template_options
        )

    def text_ids(self, text: str, trusted: bool = False) -> list[int]:
        """Token ids of text that continues a prompt or a response: what stands in this model's own turn.

        No control token is among them, except tags of thinking and answering, unless the text is `trusted`: then
        nothing in it was written by a model, or it has passed the guard.
        """
        return plain_ids(self._tokenizer, [text if trusted else self.format.guard.disarm(text, keep_tags=True)])[0]

    @property
    def end_of_turn(self) -> int:
        """The token that ends an assistant's turn in this model's chat template (or the end-of-sequence token)."""
        if self.format.chat:
            turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            if found := [i for i in self.message_ids(turn, answer_next=False) if i in self.eos_token_ids]:
                return found[-1]
        return self._tokenizer.eos_token_id

    def response_text(self, ids: Sequence[int]) -> str:
        """What the tokens of a response say, without those that begin, end or pad one, or stand for nothing.

        Other special tokens stay, as they are written: without a tag of thinking or answering, what it parts would be
        one number ("42</think>42").
        """
        silent = {*self.eos_token_ids, *(getattr(self._tokenizer, f"{name}_token_id") for name in _SILENT)}
        return self._tokenizer.decode([token for token in ids if token not in silent], skip_special_tokens=False)

    def keep_last_tokens(self, text: str, drop: int) -> str:
        """`text` without its first `drop` tokens (and two more, since its end may tokenise differently alone)."""
        ids = plain_ids(self._tokenizer, [self.format.guard.disarm(text)])[0]
        kept = self.response_text(ids[drop + 2 :])
        # A cut inside a character's bytes leaves marks that are longer than the bytes: the text might never fit.
        return kept.lstrip("\N{REPLACEMENT CHARACTER}")


def check_template_words(words: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of what a chat template is told.

    Raises:
        ValueError: Something is not the template's to be told.
    """
    if words is not None and not isinstance(words, Mapping):
        raise ValueError(
            f'chat_template_kwargs must be names with values, such as {{"enable_thinking": false}}, got {words!r}.'
        )
    if ours := sorted(set(words or {}) & set(_OURS)):
        raise ValueError(f"chat_template_kwargs has {', '.join(ours)}, which is not for the template: leave it out.")
    return dict(words or {})


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as it is, with nothing in front and nothing behind."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def start_ids(tokenizer: Any) -> list[int]:
    """What plain text begins with: the beginning-of-sequence token, or nothing."""
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: those of the model's generation settings, and the tokenizer's."""
    declared = model.generation_config.eos_token_id
    ends = declared if isinstance(declared, list) else [declared]
    return sorted({token for token in (*ends, tokenizer.eos_token_id) if token is not None})


def load_tokenizer(model: str | os.PathLike, *, revision: str | None = None, **settings: Any) -> Any:
    """The tokenizer of a Hub id, folder or GGUF file, or that of its base model for an adapter without one.

    Args:
        revision: Of the Hub repository.
        settings: For `from_pretrained`, such as `padding_side`.
    """
    from transformers import AutoTokenizer

    if is_gguf(model):
        path = gguf_path(model, revision)
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **settings)
    adapter = adapter_config(model, revision)
    if adapter is None:
        return AutoTokenizer.from_pretrained(model, revision=revision, **settings)
    folder = adapter_folder(model, revision)
    if (folder / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(folder, **settings)
    return load_tokenizer(adapter["base_model_name_or_path"], revision=adapter.get("revision"), **settings)
