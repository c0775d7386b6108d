"""Peers as they are written on a command line or in a file: `path`, `name=path`, or names with their own options."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The fields of `PeerSpec` that words can say.
PEER_OPTIONS = (
    "model", "dtype", "attn_implementation", "learning_rate", "trainable", "revision", "trust_remote_code",
    "model_init_kwargs", "peft_config", "quantization_config",
)  # fmt: skip


@dataclass(frozen=True)
class PeerWords:
    """A peer as it was written.

    Attributes:
        model: A Hub id or a path.
        name: What it is to be called, or `None`.
        options: Further fields of `PeerSpec`.
    """

    model: str
    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def read_peers(words: Sequence[str] | Mapping[str, Any]) -> list[PeerWords]:
    """The peers that words, or the `peers` of a YAML file, stand for.

    >>> read_peers(["org/model-a", "small=runs/b"])[1]
    PeerWords(model='runs/b', name='small', options={})
    >>> read_peers({"big": {"model": "org/model-a", "trainable": False}})[0].options
    {'trainable': False}

    Raises:
        ValueError: Options that are not those of a peer, or that name no model.
    """
    if isinstance(words, Mapping):
        return [_with_options(str(name), value) for name, value in words.items()]
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            return read_peers(json.loads(words[0]))
        except json.JSONDecodeError as error:
            raise ValueError(f"--peers is neither names nor JSON: {error}") from error
    return [_of_word(str(word)) for word in words]


def _of_word(word: str) -> PeerWords:
    """`path` or `name=path`; a path that has an equals sign in it and exists is a path."""
    found = re.match(r"(\w[\w.-]*)=(.+)", word)
    if found is None or os.path.exists(word):
        return PeerWords(word)
    return PeerWords(found[2], found[1])


def _with_options(name: str, value: Any) -> PeerWords:
    if isinstance(value, str):
        return PeerWords(value, name)
    if not isinstance(value, Mapping) or not isinstance(value.get("model"), str):
        raise ValueError(f"The peer {name!r} must be a Hub id, a path, or options with a `model`, got {value!r}.")
    for option in value:
        if option not in PEER_OPTIONS:
            near = difflib.get_close_matches(option, PEER_OPTIONS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; it may have {', '.join(PEER_OPTIONS)}."
            raise ValueError(f"The peer {name!r} has no option {option!r}{meant}")
    return PeerWords(value["model"], name, {k: v for k, v in value.items() if k != "model"})
