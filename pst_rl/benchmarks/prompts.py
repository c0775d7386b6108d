"""Prompts as versioned files: a result says which one it was made with, and a file is never changed, only followed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pst_rl.files import digest
from pst_rl.peers.foreign_text import opening_words

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class PromptFile:
    """A prompt with `{column}`s to fill in.

    Attributes:
        name: `boxed.v1`, or the path of a file.
        text: Its text.
    """

    name: str
    text: str

    @property
    def digest(self) -> str:
        """The first 16 digits of the SHA-256 of the text."""
        return digest(self.text, 16)

    @property
    def opening_words(self) -> tuple[str, ...]:
        """How its lines begin; text of a model that is filled in must not begin one of its own lines like that."""
        return opening_words(re.sub(r"\{\w+\}", "{}", self.text), "{}")

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with every `{name}` of `values` replaced, and other braces as they are.

        >>> PromptFile("p", r"{question} Write \\boxed{}.").fill({"question": "2+{x}?"})
        '2+{x}? Write \\\\boxed{}.'
        """
        names = "|".join(map(re.escape, values))
        return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], self.text)


def load_prompt(name: str, needs: tuple[str, ...] = ("question",)) -> PromptFile:
    """A prompt of the package by its name, a text file, or a text with placeholders itself.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The text lacks one of the placeholders it `needs`.
    """
    if any(f"{{{placeholder}}}" in name for placeholder in needs):
        return _whole(PromptFile(f"text {digest(name, 8)}", name), needs)
    path = next((path for path in (FOLDER / f"{name}.txt", Path(name)) if os.path.isfile(path)), None)
    if path is None:  # `os.path.isfile` takes a text that is too long for a path, too
        known = ", ".join(sorted(file.name.removesuffix(".txt") for file in FOLDER.glob("*.txt")))
        raise FileNotFoundError(
            f"There is no prompt {name!r}: choose one of {known}, or give a text file, or a "
            f"text with {' and '.join(f'{{{placeholder}}}' for placeholder in needs)}."
        )
    return _whole(PromptFile(name, path.read_text(encoding="utf-8")), needs)


def _whole(prompt: PromptFile, needs: tuple[str, ...]) -> PromptFile:
    if missing := [placeholder for placeholder in needs if f"{{{placeholder}}}" not in prompt.text]:
        raise ValueError(f"The prompt {prompt.name!r} must contain {{{missing[0]}}}.")
    return prompt
