"""What every reward shares: the contract, and who is compared with whom."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from pst_rl.records import Group, Response, Rewards

Scope = Literal["pooled", "own"]


class RewardProvider(Protocol):
    """Any callable from a complete group to rewards.

    Attributes it may have: `name` (in logs), `min_peers`, `needs_labels`, `needs_token_ids`, `discussion`, and
    `reads_answers`, which says that a response without an answer that is read earns nothing.
    """

    def __call__(self, group: Group) -> Rewards: ...


@runtime_checkable
class Stateful(Protocol):
    """A provider or aggregator with a memory: its state is saved in and restored from every checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def provider_name(provider: Callable[..., Any]) -> str:
    """The provider's name in logs: a `name` attribute, a function's own name, or its class name in snake case."""
    name = getattr(provider, "name", None) or getattr(provider, "__name__", None)
    return name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(provider).__name__).lower()


def blank(group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero rewards and an all-False abstention mask, both (P, Q, G)."""
    return torch.zeros(group.shape), torch.zeros(group.shape, dtype=torch.bool)


# ---- rewards of one response ----

# What a reward of one response may ask for, and how it is found in a group.
_ARGUMENTS: dict[str, Callable[[Group, int, int, int], Any]] = {
    "response": lambda group, p, q, g: group.responses[p][q][g],
    "target": lambda group, p, q, g: group.the_targets[p][q][g],
    "gold": lambda group, p, q, g: group.the_gold[q],
    "samples": lambda group, p, q, g: [response for _, _, response in group.pooled(q)],
    "prompt": lambda group, p, q, g: group.prompts[q],
    "columns": lambda group, p, q, g: group.columns[q],
    "peer": lambda group, p, q, g: group.peers[p],
    "cell": lambda group, p, q, g: (p, q, g),
    "group": lambda group, p, q, g: group,
}


class PerSample:
    """The reward provider that [`per_sample`] makes; in logs it has the function's name.

    Attributes:
        name: The function's name.
        needs_labels: Whether the function asks for `gold`.
    """

    def __init__(self, function: Callable[..., float | None]):
        self.function = function
        self.name = function.__name__
        self.wanted = [name for name in inspect.signature(function).parameters if name != "self"]
        self.needs_labels = "gold" in self.wanted
        self.__doc__ = function.__doc__
        if unknown := [name for name in self.wanted if name not in _ARGUMENTS]:
            raise TypeError(
                f"The reward {self.name!r} asks for {', '.join(unknown)}, but a reward of one response may only ask "
                f"for {', '.join(_ARGUMENTS)}."
            )

    def __get__(self, instance: Any, owner: type | None = None) -> RewardProvider:
        return self if instance is None else partial(self._score, partial(self.function, instance))

    def __call__(self, group: Group) -> Rewards:
        return self._score(self.function, group)

    def _score(self, function: Callable[..., float | None], group: Group) -> Rewards:
        values, abstain = blank(group)
        for p, q, g, _ in group.cells():
            found = {name: _ARGUMENTS[name](group, p, q, g) for name in self.wanted}
            if any(name in found and found[name] is None for name in ("target", "gold")):
                abstain[p, q, g] = True
                continue
            try:
                reward = function(**found)
                values[p, q, g] = 0.0 if reward is None else float(reward)
            except Exception as error:
                raise RuntimeError(
                    f"peer {group.peers[p]!r}, question {q}, chain {g}: {type(error).__name__}: {error}"
                ) from error
            abstain[p, q, g] = reward is None
        return Rewards(values, abstain)


def per_sample(function: Callable[..., float | None]) -> PerSample:
    """Makes a reward provider of a function, or of a method, that scores one response.

    >>> @per_sample
    ... def short(response, target):
    ...     return -response.length / 100
    >>> short.name
    'short'

    The function asks by name for what it needs, and is called for each (peer, question, chain):

    - `response`: the `Response` to score. `samples`: all peers' responses to its question, itself included.
    - `target`: its `Target`; where the aggregate abstained, so does the reward.
    - `prompt`, `columns`: the question as in the data set, and its unlabelled columns.
    - `peer`: the responder's name. `cell`: the indices (p, q, g). `group`: the complete `Group`.
    - `gold`: the gold answer; where there is none the reward abstains. Runs only with `supervised=True`; a class whose
      method asks for it sets `needs_labels = True`.

    It returns a number, or `None` to abstain.

    Raises:
        TypeError: When decorated: a parameter that is none of these.
        RuntimeError: When called: the function raised, or returned no number. The message names the sample.
    """
    return PerSample(function)


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
