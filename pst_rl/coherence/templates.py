"""The text that an item is shown as, up to its label word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from pst_rl.peers.foreign_text import COMMON, Guard, opening_words, quoted

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Spare(str):
    """A label word that nobody asked for: `LabelWords` leaves it out where it begins like a word of another label."""


def _variants(words: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(words.split("|")) if isinstance(words, str) else tuple(words)


def _spelled(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([f" {name}", Spare(f" {name.lower()}")])) if len(name) > 1 else (f" {name}",)


@dataclass(frozen=True)
class Template:
    """A format string that ends right before the label word.

    Attributes:
        text: With `{question}`, `{claim}` and other columns in braces; `{{` and `}}` stand for braces.
        label_names: What the labels are called, by index.
        label_words: For each label the words that may be read after the text. The first is what is written; their
            probabilities are added. A text, or texts with "|" between them, stand for a tuple. By default the name
            with a space before it and, unless it is one letter, the same in lower case (our choice).

    Raises:
        ValueError: A text that is no format string or has nothing to fill in, a blank at its end before words that
            begin with one, fewer than two labels, or labels that are equal.
    """

    text: str
    label_names: tuple[str, ...] = ("False", "True")
    label_words: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self):
        words = tuple(map(_variants, self.label_words)) or tuple(map(_spelled, self.label_names))
        object.__setattr__(self, "label_names", tuple(self.label_names))
        object.__setattr__(self, "label_words", words)
        if len(words) < 2 or len(words) != len(self.label_names):
            raise ValueError(
                f"A labelling needs two or more labels and a word for each, got the names {list(self.label_names)} "
                f"and the words {list(words)}."
            )
        for labels in (self.label_names, [word for variants in words for word in variants]):
            if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
                raise ValueError(f"Labels must be different and not empty, got {list(labels)}.")
        if not self.placeholders:
            raise ValueError(
                f"The template {self.text!r} has nothing to fill in: write a column in braces, such as {{question}}."
            )
        if self.text[-1:].isspace() and any(variants[0][0].isspace() for variants in words):
            raise ValueError(
                f"The template {self.text!r} ends with a blank, and so would be read with two: end it before the "
                f"label word, which brings its own blank ({words[0][0]!r})."
            )

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The columns that are filled in, in order, each once."""
        try:
            fields = [field for _, field, _, _ in Formatter().parse(self.text) if field is not None]
        except ValueError as error:
            raise ValueError(
                f"The template {self.text!r} is no format string ({error}); write {{{{ and }}}} for braces."
            ) from error
        return tuple(dict.fromkeys(fields))

    @property
    def content_free(self) -> str:
        """The prompt of an item that says "N/A" everywhere, to measure a prior over labels with."""
        return self.render(dict.fromkeys(self.placeholders, "N/A"))

    def check(self, columns: Sequence[str]) -> None:
        """Whether everything in braces is one of these.

        Raises:
            ValueError: For the first one that is not.
        """
        if unknown := [name for name in self.placeholders if name not in columns]:
            raise ValueError(
                f"The template has an unknown placeholder {{{unknown[0]}}}; it may use "
                f"{', '.join(f'{{{name}}}' for name in columns)}."
            )

    def guarded(self, values: Mapping[str, Any], foreign: Sequence[str], guard: Guard = COMMON) -> dict[str, Any]:
        """The values of one item, of which a model wrote those named `foreign`, as they may be rendered.

        Nothing that a model wrote makes a control token, alone or with the words around it, and none of its lines
        opens like a line of the template (`pst_rl.peers.foreign_text`).

        Args:
            guard: Of the model that will read the prompt; by default of the common families.
        """
        foreign = [name for name in foreign if values[name] is not None]
        around = {name: str(values.get(name, "")) for name in self.placeholders}

        def write(texts: Sequence[str]) -> str:
            return self.text.format_map(around | {n: t.strip() for n, t in zip(foreign, texts, strict=True)})

        texts = guard.fill(write, [values[name] for name in foreign])
        openings = opening_words(re.sub(r"\{\w+\}", "{}", self.text), "{}")
        return {**values, **{n: quoted(text, openings) for n, text in zip(foreign, texts, strict=True)}}

    def render(self, values: Mapping[str, Any]) -> str:
        """The prompt of one item.

        Raises:
            ValueError: If a value is missing or empty.
        """
        texts = {name: as_text(values[name]) for name in self.placeholders}
        if empty := [name for name, text in texts.items() if not text]:
            raise ValueError(f"{{{empty[0]}}} is empty")
        return self.text.format_map(texts)


TEMPLATES: dict[str, Template] = {
    "correctness": Template("Question: {question}\nClaim: {claim}\nI think this claim is"),
    "truthfulness": Template("Question: {question}\nAnswer: {claim}\nI think the answer given here is"),
    "comparison": Template(
        "Query: {question}\nResponse A: {response_a}\nResponse B: {response_b}\n"
        "Claim: Response A is better than Response B.\nI think this claim is"
    ),
    "multiple_choice": Template("Question: {question}\n{claim}\nAnswer:", label_names=tuple("ABCD")),
}
"""Named templates. The form of `correctness` (question, claim, "I think this claim is") is the one of ICM, arXiv
2506.10139; the wording of the others is our choice. In `multiple_choice` the claim is the list of choices."""


def find_template(
    template: str | Template,
    label_names: Sequence[str] | None = None,
    label_words: Sequence[str | Sequence[str]] | None = None,
) -> Template:
    """A template by its name in `TEMPLATES`, from a format string, or as it is; names and words replace its own.

    Raises:
        ValueError: For a name that is unknown, and as `Template` does.
    """
    if isinstance(template, str):
        if "{" not in template and template not in TEMPLATES:
            near = difflib.get_close_matches(template, TEMPLATES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(TEMPLATES)}."
            raise ValueError(f"Unknown template {template!r}: {hint} Or write one, with {{question}} and {{claim}}.")
        template = TEMPLATES[template] if template in TEMPLATES else Template(template)
    if label_names is None and label_words is None:
        return template
    words = tuple(map(_variants, label_words)) if label_words else ()
    if not words and label_names is None:
        words = template.label_words
    return Template(template.text, tuple(template.label_names if label_names is None else label_names), words)


def choices_of(value: Any) -> list[str] | None:
    """The choices of a question, given as a list of texts or as `{"label": [...], "text": [...]}`; else `None`."""
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    return [str(choice).strip() for choice in value] if isinstance(value, (list, tuple)) else None


def as_text(value: Any) -> str:
    """A value as it is read: choices one a line with letters, everything else stripped; nothing for `None`.

    >>> print(as_text(["red", "blue"]))
    A. red
    B. blue

    Raises:
        ValueError: For a conversation.
    """
    if isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        raise ValueError("a conversation cannot be filled in: make it plain text")
    if (choices := choices_of(value)) is not None:
        return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return "" if value is None else str(value).strip()
