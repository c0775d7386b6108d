"""Prompts: what a peer is shown, in the form its own chat template accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from pst_rl.peers.foreign_text import Guard, opening_words, quoted

Prompt = list | str  # TRL's two prompt-only forms: a list of messages, or plain text

BASE_TEMPLATE = "Question: {prompt}\nAnswer:"  # what a model without a chat template is shown
NEXT_QUESTION = ["\nQuestion:", "\nQ:", "\n\nQuestion", "\n\nQ:"]  # such a model inventing its next exercise


def show_peers(prompt: Prompt, previous: list[str], template: str) -> Prompt:
    """Appends earlier peers' texts to the last user message (or to the text).

    They go into the user's turn because some templates (Gemma) allow neither a system role nor two turns of one role.
    A line of a text that begins like the template's own words is quoted ("> "), so that no text can pose as another.

    >>> show_peers([{"role": "user", "content": "2+2?"}], ["4"], " Peer: {text}")
    [{'role': 'user', 'content': '2+2? Peer: 4'}]
    """
    own_words = opening_words(template, "{text}")
    shown = "".join(template.replace("{text}", quoted(text, own_words)) for text in previous)
    if isinstance(prompt, str):
        return prompt + shown
    last = max((i for i, message in enumerate(prompt) if message["role"] == "user"), default=len(prompt) - 1)
    return [*prompt[:last], {**prompt[last], "content": prompt[last]["content"] + shown}, *prompt[last + 1 :]]


def foreign_prompt(
    format: PromptFormat, build_prompt: Callable[[Prompt, list[str]], Prompt], prompt: Prompt, texts: Sequence[str]
) -> Prompt:
    """A prompt with texts of other models in it, as its reader may see them (`pst_rl.peers.foreign_text`).

    Nothing else in the package puts a model's text into a prompt.

    Args:
        format: The reader's.
        build_prompt: Hook `(prompt, texts) -> prompt`.
    """

    def built(shown: Sequence[str]) -> Prompt:
        return format.adapt(build_prompt(prompt, list(shown)))

    return built(format.guard.fill(lambda shown: prompt_text(built(shown)), texts))


def prompt_text(prompt: Prompt) -> str:
    """The words of a prompt without roles."""
    return prompt if isinstance(prompt, str) else "\n\n".join(m["content"] for m in prompt)


@dataclass(frozen=True)
class PromptFormat:
    """How one peer's tokenizer wants its prompts.

    Attributes:
        chat: Whether there is a chat template; without one, messages become `base_template`.
        system: Whether the template accepts a system role; if not, its text opens the next user message.
        base_template: Text around the prompt for models without a template.
        guard: What this peer must not find in others' texts.
    """

    chat: bool
    system: bool
    base_template: str
    guard: Guard = Guard()

    @classmethod
    def of(
        cls, tokenizer: Any, base_template: str, ends: Sequence[int] = (), /, **template_options: Any
    ) -> PromptFormat:
        """Finds out by asking the template itself.

        Args:
            ends: Tokens that end a response, beside the tokenizer's own.
            template_options: For `apply_chat_template`.
        """
        if not tokenizer.chat_template:
            guard = Guard.of(tokenizer, opening_words(base_template, "{prompt}"), ends)
            return cls(chat=False, system=False, base_template=base_template, guard=guard)
        guard = Guard.of(tokenizer, turn_words(tokenizer, **template_options), ends)
        probe = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
        try:
            rendered = tokenizer.apply_chat_template(
                probe, tokenize=False, add_generation_prompt=True, **template_options
            )
        except TemplateError:
            return cls(chat=True, system=False, base_template=base_template, guard=guard)
        return cls(chat=True, system="Be brief." in rendered, base_template=base_template, guard=guard)

    def adapt(self, prompt: Prompt) -> Prompt:
        """The prompt as messages this template accepts (roles alternating), or as text."""
        if isinstance(prompt, str):
            return prompt
        if not self.chat:
            return self.base_template.replace("{prompt}", prompt_text(prompt))
        messages: list[dict] = []
        carried = ""  # system text on its way into the next user message
        for message in prompt:
            if message["role"] == "system" and not self.system:
                carried += message["content"] + "\n\n"
                continue
            content = message["content"]
            if message["role"] == "user" and carried:
                content, carried = carried + content, ""
            if messages and messages[-1]["role"] == message["role"]:
                messages[-1] = {**messages[-1], "content": messages[-1]["content"] + "\n\n" + content}
            else:
                messages.append({**message, "content": content})
        if carried:  # system text behind the last user message
            messages[-1] = {**messages[-1], "content": messages[-1]["content"] + "\n\n" + carried.strip()}
        return messages


def turn_words(tokenizer: Any, **template_options: Any) -> list[str]:
    """How a chat template opens turns in plain words ("Q:"); lines with a control token in them cannot be forged."""
    mark, control = "\ue000", Guard.of(tokenizer)
    turns = [{"role": role, "content": mark} for role in ("user", "assistant", "user")]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **template_options)
    lines = "\n".join(rendered.split(mark)[1:]).splitlines()
    return [word for line in lines if not control.found(line) for word in opening_words(line, mark)]


def usual_stops(format: PromptFormat) -> list[str]:
    """Where a response ends unless the user says otherwise.

    A model with a chat template ends its turn itself. A base model goes on: with a next question, or with its own cue
    again ("\\nAnswer: 5\\nAnswer: 5") until the limit.

    >>> usual_stops(PromptFormat(chat=False, system=False, base_template="Task: {prompt}\\nResult:"))[-2:]
    ['\\nTask:', '\\nResult:']
    """
    if format.chat:
        return []
    before, _, after = format.base_template.partition("{prompt}")
    cues = ("\n" + text.splitlines()[-1].strip() for text in (before, after) if text.strip())
    return [*NEXT_QUESTION, *(cue for cue in cues if len(cue) > 1 and cue not in NEXT_QUESTION)]


def cut_at_stop(text: str, stop_strings: list[str]) -> int | None:
    """Where the first stop string begins, or `None`.

    >>> cut_at_stop("4\\nQuestion: 3+3?", ["\\nQuestion:"])
    1
    """
    found = [at for stop in stop_strings if (at := text.find(stop)) >= 0]
    return min(found, default=None)
