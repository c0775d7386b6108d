"""From names in the configuration to the parts of a scheme, and what is refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pst_rl.aggregation import AGGREGATORS, Aggregator
from pst_rl.aggregation.votes import Majority
from pst_rl.compaction import check_compaction
from pst_rl.config import PSTConfig
from pst_rl.peers import PeerSpec
from pst_rl.rewards import REWARDS, RewardProvider, provider_name

if TYPE_CHECKING:
    from datasets import Dataset


def make_aggregator(args: PSTConfig) -> Aggregator:
    """The aggregator named in the configuration."""
    if args.aggregator not in AGGREGATORS:
        raise ValueError(f"Unknown aggregator {args.aggregator!r}; choose one of {', '.join(AGGREGATORS)}.")
    factory = AGGREGATORS[args.aggregator]
    return factory(quorum=args.quorum) if issubclass(factory, Majority) else factory()


def make_providers(providers: Sequence[RewardProvider | str]) -> dict[str, Callable]:
    """Reward providers by the name they have in logs."""
    named: dict[str, Callable] = {}
    for provider in [providers] if callable(providers) or isinstance(providers, str) else providers:
        if isinstance(provider, str):
            if provider not in REWARDS:
                raise ValueError(f"Unknown reward {provider!r}; choose from {', '.join(REWARDS)}.")
            provider = REWARDS[provider]()
        name = provider_name(provider)
        if name in named or name == "<lambda>":
            raise ValueError(f"Reward providers need distinct names, got {name!r}; set a `name` attribute.")
        named[name] = provider
    if not named:
        raise ValueError("No reward providers were given.")
    return named


def resolve_reward_weights(args: PSTConfig, providers: Mapping[str, Callable]) -> None:
    """Fills in one weight per provider, and how several are combined."""
    if args.reward_weights is None:
        args.reward_weights = [1.0] * len(providers)
    if len(args.reward_weights) != len(providers):
        raise ValueError(f"reward_weights has {len(args.reward_weights)} entries for {len(providers)} providers.")
    if not any(args.reward_weights):
        raise ValueError("Every reward weight is 0: there is nothing to learn from. Set at least one above 0.")
    if args.multi_objective_aggregation is None:
        several = sum(w != 0.0 for w in args.reward_weights) > 1
        args.multi_objective_aggregation = "normalize_then_sum" if several else "sum_then_normalize"


def check_scheme(
    args: PSTConfig,
    specs: Mapping[str, PeerSpec],
    aggregator: Aggregator,
    providers: Mapping[str, Callable],
    train_dataset: Dataset,
) -> None:
    """Refuses combinations that cannot work, before any model is loaded."""
    peers = len(specs)
    if not args.update_last_peer and args.order == "fixed":
        if not any(spec.trainable for spec in list(specs.values())[:-1]):
            raise ValueError("update_last_peer=False leaves no peer to update: only the last one is trainable.")
    if args.skip_zero_advantage:
        check_compaction(args)
    scheme = type(aggregator).__name__
    if peers < aggregator.min_peers:
        raise ValueError(
            f"The aggregator {scheme} needs at least {aggregator.min_peers} peers, got {peers}. Add peers, or use "
            "aggregator='majority', which also works for one peer alone."
        )
    if peers < 2 and (args.pmi == "on" and args.pmi_scorer == "other_peers"):
        raise ValueError("pmi_scorer='other_peers' needs at least 2 peers; use 'responder' for one peer alone.")
    readers = [name for name, p in providers.items() if getattr(p, "needs_labels", False)]
    readers += [scheme] if aggregator.needs_labels else []
    if readers and not args.supervised:
        raise ValueError(
            f"{', '.join(readers)} reads gold answers. This run is label-free; set supervised=True (on the command "
            "line: --supervised) to allow it, and it will be marked as supervised in its logs and card."
        )
    if len(train_dataset) == 0:
        raise ValueError("The training data set is empty.")
    if "prompt" not in train_dataset.column_names:
        raise ValueError(
            f"The training data set has no `prompt` column, only {train_dataset.column_names}. Load questions with "
            "pst_rl.load_questions, or rename the column."
        )
    needed = args.generation_batch_size // args.num_generations
    if len(train_dataset) < needed:
        raise ValueError(
            f"A generation batch takes {needed} questions, but the training set has only {len(train_dataset)}. Lower "
            "per_device_train_batch_size or steps_per_generation, or raise num_generations."
        )
