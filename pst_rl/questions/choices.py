"""Questions with choices: the lines that show them, and the letter that is right."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHOICE_COLUMNS = ("choices", "options")


@dataclass(frozen=True)
class Choices:
    """Choices by their labels, usually letters."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def lines(self) -> str:
        """The choices one a line.

        >>> print(Choices(("A", "B"), ("red", "blue")).lines)
        (A) red
        (B) blue
        """
        return "\n".join(f"({label}) {text}" for label, text in zip(self.labels, self.texts, strict=True))

    def label_of(self, gold: Any) -> str | None:
        """The label of the right choice, given by label, by number (from 0) or by its text; `None` if none is given.

        >>> choices = Choices(("A", "B", "C"), ("3", "4", "5"))
        >>> choices.label_of("B"), choices.label_of(1), choices.label_of("4"), choices.label_of(None)
        ('B', 'B', 'B', None)

        Raises:
            ValueError: If it is none of them.
        """
        if gold is None or str(gold).strip() == "":
            return None
        whole = isinstance(gold, float) and gold.is_integer() or type(gold) is int
        said = str(int(gold)) if whole else str(gold).strip()
        if said in self.labels:
            return said
        fitting = [int(gold)] if whole else [i for i, text in enumerate(self.texts) if text.strip() == said]
        if len(fitting) == 1 and 0 <= fitting[0] < len(self.labels):
            return self.labels[fitting[0]]
        raise ValueError(f"the answer {gold!r}, but the choices {', '.join(self.labels)}")


def read_choices(value: Any) -> Choices | None:
    """Choices given as a list of texts, as CommonsenseQA's `{label, text}`, or as texts by letter; `None` for nothing.

    >>> read_choices({"A": "red", "B": "blue"}) == read_choices(["red", "blue"])
    True

    Raises:
        ValueError: For anything else, and for more than 26 or empty ones.
    """
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, Mapping) and {"label", "text"} <= set(value):
        labels, texts = value["label"], value["text"]
    elif isinstance(value, Mapping):
        found = {label: text for label, text in value.items() if text is not None}  # Arrow adds those of other rows
        labels, texts = list(found), list(found.values())
    elif isinstance(value, (list, tuple)):
        labels, texts = string.ascii_uppercase[: len(value)], value
    else:
        raise ValueError(f"choices that are no list but {value!r}")
    return Choices(tuple(map(str, labels)), _texts(labels, texts))


def _texts(labels: Sequence[Any], texts: Sequence[Any]) -> tuple[str, ...]:
    if len(labels) != len(texts) or len(set(map(str, labels))) < len(labels):
        raise ValueError(f"{len(texts)} choices, but the labels {', '.join(map(str, labels))}")
    for text in texts:
        if not isinstance(text, (str, int, float)) or not str(text).strip():
            raise ValueError(f"the choice {text!r}, which is no text")
    return tuple(map(str, texts))
