"""Peers that are less different than they should be: only different models know different things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TOGETHER = "a vote of such peers says less, as they are wrong together"
"""What that means."""


@dataclass(frozen=True)
class Kin:
    """What a peer is told from others by.

    Attributes:
        name: In logs and folders.
        weights: What its weights are known by: the same text for the same weights.
        family: Its `model_type`.
    """

    name: str
    weights: str
    family: str


def alike(peers: Sequence[Kin]) -> Iterator[str]:
    """A clause for each set of peers with the same weights, then for each set of different ones of one family.

    >>> list(alike([Kin("a", "1", "llama"), Kin("b", "2", "llama"), Kin("c", "1", "llama"), Kin("d", "3", "gpt2")]))
    ['a and c have the same weights', 'a and b are of one family (llama)']
    """
    families: dict[str, list[str]] = {}
    weights: dict[str, list[str]] = {}
    for peer in peers:
        if peer.weights not in weights:
            families.setdefault(peer.family, []).append(peer.name)
        weights.setdefault(peer.weights, []).append(peer.name)
    for names in weights.values():
        if len(names) > 1:
            yield f"{_listed(names)} have the same weights"
    for family, names in families.items():
        if len(names) > 1:
            yield f"{_listed(names)} are of one family ({family})"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
