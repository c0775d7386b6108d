"""Gold answers: what stood there, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from pst_rl.questions.table import Written

Answer = str | list[str]

EXACT = 2**53
"""From here on a float may stand for another whole number than was written."""


def read_gold(value: Any) -> Answer | None:
    """Return a gold answer as text, or as a list of texts where the row lists several solutions.

    The text is the one that stood there: "007", `1.50` and whole numbers of any length stay as they are. But text is
    stripped, whole numbers lose their `.0`, and GSM8K's worked solutions give what follows the last `####`, without
    thousands commas. `None`, empty text and an empty list give `None`; empty entries of a list are left out.

    Of an object two forms are known, and each gives one answer, since a list means that all of it is asked for:
    TriviaQA's `value`, and the first of SQuAD's `text`.

    >>> read_gold({"value": "5", "aliases": ["five"]}), read_gold({"text": ["7", "seven"], "answer_start": [0, 9]})
    ('5', '7')

    Raises:
        ValueError: For what is no answer: another object, a list in a list, NaN, a float too large to be exact.
    """
    if isinstance(value, Mapping):
        value = _accepted(value)[:1]
        return _text(value[0]) or None if value else None
    if isinstance(value, (list, tuple)):
        return [gold for gold in map(_text, value) if gold] or None
    return _text(value) or None


def has_other_forms(value: Any) -> bool:
    """Whether an object lists forms of its answer that differ from the one that `read_gold` takes."""
    if not isinstance(value, Mapping):
        return False
    return len({_text(form).casefold() for form in [*_accepted(value), *(value.get("aliases") or [])]}) > 1


def _accepted(value: Mapping[str, Any]) -> list[Any]:
    if "value" in value:
        return [value["value"]]
    if "text" in value:
        return list(value["text"]) if isinstance(value["text"], (list, tuple)) else [value["text"]]
    raise ValueError(f"an object with {', '.join(map(str, value)) or 'nothing'}, and neither `value` nor `text`")


def _text(value: Any) -> str:
    """One answer as text; nothing for `None`."""
    if value is None:
        return ""
    if isinstance(value, str):
        if "####" in value:
            value = value.rpartition("####")[2].replace(",", "")
        return checked_text(value).strip()
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()  # what readers of typed files make of "2020-01-05"
    if isinstance(value, (bool, Decimal, date, time)):
        return str(value)
    if isinstance(value, Written):
        whole, _, rest = value.text.partition(".")
        return value.text if rest.strip("0") else whole
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return _number(float(value))
    raise ValueError(f"a {type(value).__name__}")


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value}, which is no number")
    if abs(value) >= EXACT:
        raise ValueError(f"{value}, which was rounded when it was read as a float (store it as text)")
    return str(int(value)) if value.is_integer() else str(value)


def checked_text(text: str) -> str:
    """The text, if it is text.

    Raises:
        ValueError: For half of a character (a surrogate alone), which no tokenizer reads.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text with half of a character, {text[error.start]!r}") from error
    return text
