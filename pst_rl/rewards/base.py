"""The contract of a reward provider."""

from __future__ import annotations

import re
from typing import Any, Protocol, runtime_checkable

import torch

from pst_rl.records import Group, Rewards


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
