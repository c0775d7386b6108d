"""The contract of a declared rollout. Aggregators and reward providers never generate; they name who does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pst_rl.records import Group, LocalRows, Rollout
from pst_rl.stages.gather import gather_responses, with_turns

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.stages.rollout import RolloutRequest


@dataclass(frozen=True)
class RolloutContext:
    """What a further rollout may look at.

    Attributes:
        engines: The peers.
        request: The first rollout's request; `request.prompts` are this process's rows, each question repeated for
            each of its chains.
        rows: The data set rows behind them (unlabelled columns).
        rollouts: This process's first answers, one `Rollout` per peer.
        group: The complete group so far. Its targets are set for a `Discussion`, and `None` for a `View`.
        local: Which questions and chains the rows are.
    """

    engines: list[PeerTrainer]
    request: RolloutRequest
    rows: list[dict[str, Any]]
    rollouts: list[Rollout]
    group: Group
    local: LocalRows


def with_views(views: Sequence[View], context: RolloutContext) -> Group:
    """The group with what the views answered, by their names."""
    answered = {view.name: checked(view, view.respond(context), context) for view in views}
    chains = context.local.chains
    return replace(context.group, views={name: gather_responses(rows, chains) for name, rows in answered.items()})


def with_discussion(discussion: Discussion, context: RolloutContext) -> tuple[Group, list[Rollout]]:
    """The group with the later turns of a discussion, and this process's rollouts that hold them."""
    rollouts = checked(discussion, discussion.respond(context), context)
    return with_turns(context.group, gather_responses(rollouts, context.local.chains)), rollouts


def checked(part: View | Discussion, rollouts: list[Rollout], context: RolloutContext) -> list[Rollout]:
    """The rollouts of a view or discussion, if there is one per peer with one row per sample.

    Raises:
        ValueError: Another number of rollouts or rows.
    """
    if len(rollouts) != len(context.engines) or any(len(r.texts) != len(context.rows) for r in rollouts):
        raise ValueError(
            f"{type(part).__name__}.respond returned {len(rollouts)} rollouts of {[len(r.texts) for r in rollouts]} "
            f"rows; it must return one for each of the {len(context.engines)} peers, of {len(context.rows)} rows each."
        )
    return rollouts


class View(Protocol):
    """A further rollout whose answers only inform the aggregate; an aggregator lists its views in `views`."""

    name: str

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """One rollout per peer, with parsed answers, aligned with `context.rows`."""


class Discussion(Protocol):
    """Later turns of the samples that are trained on; a reward provider names its own in `discussion`."""

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """The first answers, extended by `Rollout.turns` and by the tokens of those turns."""
        ...

    def check(self, peers: Sequence[str]) -> None:
        """Refuses peers (their names) it cannot work with, by a `ValueError`; a class without this takes any."""


def check_discussion(discussion: Discussion | None, args: PSTConfig, peers: Sequence[str]) -> None:
    """Refuses what cannot work with this discussion, or without one, before any model is loaded.

    Raises:
        ValueError: A cross-entropy objective of single answers, which would not read the discussion; `discussion_sft`
            without one; peers that the discussion itself refuses; vLLM on several processes.
    """
    if discussion is None:
        if args.objective == "discussion_sft":
            raise ValueError(
                "objective='discussion_sft' needs a reward provider that declares a discussion, such as 'saie'. "
                "Without one use objective='aggregate_sft'."
            )
        return
    if args.objective in ("weighted_sft", "aggregate_sft"):
        raise ValueError(
            f"objective={args.objective!r} trains single answers and would throw the discussion away. Use "
            "objective='grpo' or 'discussion_sft', or rewards without a discussion."
        )
    if hasattr(discussion, "check"):
        discussion.check(peers)
    if args.use_vllm and args.world_size > 1:
        raise ValueError(
            "A discussion leaves each process its own number of rows to continue, which vLLM cannot serve with "
            "several processes. Use one process, or use_vllm=False."
        )
