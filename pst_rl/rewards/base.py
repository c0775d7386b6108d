"""What every reward shares: the contract, and who is compared with whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from pst_rl.records import Group, Response, Rewards

Scope = Literal["pooled", "own"]


class RewardProvider(Protocol):
    """Any callable from a complete group to rewards."""

    def __call__(self, group: Group) -> Rewards: ...


@runtime_checkable
class Stateful(Protocol):
    """A provider or aggregator with a memory: its state is saved in and restored from every checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def provider_name(provider: RewardProvider) -> str:
    """The provider's name in logs: a `name` attribute, a function's own name, or its class name in snake case."""
    name = getattr(provider, "name", None) or getattr(provider, "__name__", None)
    return name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(provider).__name__).lower()


def blank(group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero rewards and an all-False abstention mask, both (P, Q, G)."""
    return torch.zeros(group.shape), torch.zeros(group.shape, dtype=torch.bool)


# ---- rewards that count agreement ----


def check_scope(scope: str) -> None:
    """Refuses an unknown scope."""
    if scope not in ("pooled", "own"):
        raise ValueError(f"scope must be 'pooled' (all peers' samples) or 'own' (each peer's alone), got {scope!r}.")


def electorates(group: Group, scope: Scope) -> list[list[int]]:
    """The peers that are counted together: all of them, or each alone."""
    peers = range(len(group.peers))
    return [list(peers)] if scope == "pooled" else [[p] for p in peers]


def others(group: Group, peer: int, question: int) -> list[Response]:
    """All other peers' responses to a question."""
    return [response for p, _, response in group.pooled(question) if p != peer]


def shares(responses: Sequence[Response]) -> dict[str, float]:
    """Share of each canonical key among all the responses; those without an answer count as samples that disagree."""
    counts = Counter(r.key for r in responses if r.key is not None)
    return {key: count / len(responses) for key, count in counts.items()}


def need_peers(group: Group, scheme: str) -> None:
    """Refuses a peer on its own.

    Raises:
        ValueError: The group has one peer.
    """
    if len(group.peers) < 2:
        raise ValueError(
            f"The reward {scheme!r} compares a peer with the others, but there is only {group.peers[0]!r}. Add peers, "
            "or use 'vote_share', which also works for one peer alone."
        )
