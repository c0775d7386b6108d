"""Data sets for a trainer: which forms are taken, and prompts as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pst_rl.questions.golds import checked_text
from pst_rl.questions.table import place

if TYPE_CHECKING:
    from datasets import Dataset

_IMAGES = ("image", "images")


def check_form(dataset: Any, name: str) -> None:
    """Refuses what is no `datasets.Dataset`, or what acts like one, with what to do instead.

    Raises:
        TypeError: For a stream, several splits, a list of rows and the like.
        ValueError: For images, which no peer sees.
    """
    from datasets import IterableDataset, IterableDatasetDict

    if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
        raise TypeError(
            f"{name} is a stream. Questions are numbered and drawn in an order that a resumed run repeats: load them, "
            "with Dataset.from_list(list(stream.take(10_000)))."
        )
    if isinstance(dataset, Mapping):
        raise TypeError(f"{name} is several: {', '.join(map(str, dataset))}. Pass one of them, dataset[...].")
    if not hasattr(dataset, "column_names"):
        raise TypeError(f"{name} is a {type(dataset).__name__}: make it a Dataset, with Dataset.from_list(rows).")
    if images := [column for column in _IMAGES if column in dataset.column_names]:
        raise ValueError(f"{name} has a column {images[0]!r}, but peers read text only: remove the column.")


def with_plain_prompts(dataset: Dataset, name: str) -> Dataset:
    """The data set with every content of its prompts as text; the same one if that is so already.

    Raises:
        ValueError: For a prompt without text, or with what is none; the message names the row.
    """
    if "prompt" not in dataset.column_names:
        return dataset
    changed = False
    for index, prompt in enumerate(dataset["prompt"][:]):
        try:
            changed = plain_prompt(prompt) is not prompt or changed
        except ValueError as error:
            raise ValueError(f"{place(dataset, index, name)} has {error}. Remove or fix the row.") from error
    if not changed:
        return dataset
    plain = [plain_prompt(prompt) for prompt in dataset["prompt"][:]]
    return dataset.add_column("plain prompt", plain).remove_columns("prompt").rename_column("plain prompt", "prompt")


def plain_prompt(prompt: Any) -> Any:
    """A prompt whose messages have their content as text; the same object if they have already.

    >>> plain_prompt([{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}])
    [{'role': 'user', 'content': '2+2?'}]

    Raises:
        ValueError: For what is neither text nor messages with text.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError("an empty prompt")
        checked_text(prompt)
        return prompt
    if not isinstance(prompt, list) or not prompt:
        raise ValueError(f"the prompt {prompt!r}, which is neither text nor a list of messages")
    for message in prompt:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"the message {message!r}, which has no role")
    texts = [_plain(message) for message in prompt]
    if all(text is message["content"] for text, message in zip(texts, prompt, strict=True)):
        return prompt
    return [{**message, "content": text} for text, message in zip(texts, prompt, strict=True)]


def _plain(message: Mapping[str, Any]) -> str:
    content, role = message.get("content"), message["role"]
    if isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        others = [part.get("type") for part in content if part.get("type") != "text"]
        if others:
            raise ValueError(f"a part of type {others[0]!r} in a message of the {role}, and peers read text only")
        content = "".join(str(part.get("text") or "") for part in content)
    if not isinstance(content, str):
        raise ValueError(f"a message of the {role} without text (leave the message out)")
    return checked_text(content)
