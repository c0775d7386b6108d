"""From names in the configuration to the parts of a scheme, and what is refused before a model is loaded."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pst_rl.aggregation import AGGREGATORS, Aggregator
from pst_rl.config import PSTConfig
from pst_rl.data import DEFAULT_LABEL_COLUMNS
from pst_rl.discussion import Discussion, check_discussion
from pst_rl.peers.spec import PeerSpec
from pst_rl.questions.prompts import check_form
from pst_rl.records import Group, Rewards, Target, Targets, Weights
from pst_rl.rewards import REWARDS, RewardProvider, provider_name
from pst_rl.rewards.base import PerSample
from pst_rl.rewards.trl_reward import adapt, is_trl_function
from pst_rl.stages.compaction import check_compaction
from pst_rl.stages.pmi import PMIWeights, WeightFunction
from pst_rl.stages.reward_mix import RewardMix
from pst_rl.stages.weighting import Unweighted, Weighting

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHTINGS: dict[str, Callable[..., Weighting]] = {"none": Unweighted, "pmi": PMIWeights}
"""The weightings by name; add your own."""


def make_aggregator(args: PSTConfig) -> Aggregator:
    """The aggregator named in the configuration."""
    if args.aggregator not in AGGREGATORS:
        raise ValueError(f"Unknown aggregator {args.aggregator!r}; choose one of {', '.join(AGGREGATORS)}.")
    return _build("aggregator", args.aggregator, AGGREGATORS[args.aggregator], args.aggregator_options or {}, args)


def make_weighting(
    args: PSTConfig, given: Weighting | None = None, function: WeightFunction | None = None
) -> Weighting:
    """The weighting that the trainer was given, or the one named in the configuration.

    Args:
        function: Takes the place of the sigmoid in the PMI weights.
    """
    if given is not None and not callable(given):
        raise TypeError(f"The weighting must be callable, got {given!r}; name one in PSTConfig(weighting=...).")
    if given is None and args.weighting not in WEIGHTINGS:
        raise ValueError(f"Unknown weighting {args.weighting!r}; choose one of {', '.join(WEIGHTINGS)}.")
    options = args.weighting_options or {}
    made = given or _build("weighting", args.weighting, WEIGHTINGS[args.weighting], options, args)
    if function is None:
        return made
    if not isinstance(made, PMIWeights):
        raise ValueError("weight_function maps PMI to weights, but PMI is not used: set weighting='pmi'.")
    return replace(made, function=function)


def _build(kind: str, name: str, factory: Callable, options: Mapping[str, Any], args: PSTConfig) -> Any:
    """A scheme's part with its options; a misspelt option is answered with the ones there are, a lacking one named."""
    whole = isinstance(factory, PerSample)  # a provider itself, registered as it is
    parameters = {} if whole else inspect.signature(factory).parameters
    known = {o: p for o, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if unknown := sorted(set(options) - set(known)):
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ValueError(f"The {kind} {name!r} has no option {', '.join(unknown)}; {takes}.")
    # Settings of the run that a part may share; its own options come first.
    shared = {"quorum": args.quorum, "answer_template": args.answer_template}
    options = {o: value for o, value in shared.items() if o in known} | dict(options)
    if missing := [o for o, p in known.items() if p.default is p.empty and o not in options]:
        raise ValueError(f"The {kind} {name!r} needs the option {', '.join(missing)}; set it in {kind}_options.")
    return factory if whole else factory(**options)


def make_providers(providers: Sequence[RewardProvider | str], args: PSTConfig) -> dict[str, Callable]:
    """Reward providers by the name they have in logs; those given by their registry name get their options here."""
    options = args.reward_options or {}
    given = [providers] if callable(providers) or isinstance(providers, str) else list(providers)
    if unused := sorted(set(options) - {p for p in given if isinstance(p, str)}):
        raise ValueError(f"reward_options names {', '.join(unused)}, which is not among the rewards by name.")
    named: dict[str, Callable] = {}
    for provider in given:
        if isinstance(provider, str):
            if provider not in REWARDS:
                raise ValueError(f"Unknown reward {provider!r}; choose from {', '.join(REWARDS)}.")
            provider = _build("reward", provider, REWARDS[provider], options.get(provider, {}), args)
        elif is_trl_function(provider):
            labels = DEFAULT_LABEL_COLUMNS if args.label_columns is None else args.label_columns
            provider = adapt(provider, labels)
        name = provider_name(provider)
        if name in named or name == "<lambda>":
            raise ValueError(f"Reward providers need distinct names, got {name!r}; set a `name` attribute.")
        named[name] = provider
    if not named:
        raise ValueError("No reward providers were given.")
    return named


def mix_rewards(args: PSTConfig, providers: Mapping[str, Callable]) -> RewardMix:
    """One weight per provider, with its schedule; also fills in how several rewards are combined."""
    weights = [1.0] * len(providers) if args.reward_weights is None else args.reward_weights
    if len(weights) != len(providers):
        raise ValueError(f"reward_weights has {len(weights)} entries for {len(providers)} providers.")
    if not any(weights):
        raise ValueError("Every reward weight is 0: there is nothing to learn from. Set at least one above 0.")
    mix = RewardMix(dict(zip(providers, weights, strict=True)), args.reward_schedules or {})
    if args.multi_objective_aggregation is None:
        args.multi_objective_aggregation = "normalize_then_sum" if len(mix.trained) > 1 else "sum_then_normalize"
    return mix


def find_discussion(providers: Mapping[str, Callable]) -> Discussion | None:
    """The discussion that a provider declares; there can be only one, since it becomes part of the trained rows."""
    declared = {name: getattr(provider, "discussion", None) for name, provider in providers.items()}
    found = {name: discussion for name, discussion in declared.items() if discussion is not None}
    if len(found) > 1:
        raise ValueError(f"Only one reward provider may declare a discussion, but {', '.join(found)} all do.")
    return next(iter(found.values()), None)


def ask_provider(name: str, provider: Callable, group: Group, seed: int) -> tuple[Rewards, dict[str, str]]:
    """One provider's checked rewards, and the peers left out for a reward that is not finite, with the reason.

    Raises:
        RuntimeError: The provider failed.
        TypeError, ValueError: It returned what it must not, see [`check_rewards`].
    """
    group = replace(group, rng=random.Random(f"{name}/{seed}/{group.block}"))
    try:
        reward = provider(group)
    except Exception as error:
        raise RuntimeError(
            f"The reward provider {name!r} failed at step {group.step}: {type(error).__name__}: {error}"
        ) from error
    reward, broken = leave_out_broken_peers(name, reward, group)
    check_rewards(name, reward, group)
    return reward, broken


def check_rewards(name: str, reward: Rewards, group: Group) -> None:
    """Refuses what a provider must not return.

    Raises:
        TypeError: Not a `Rewards`, or one whose values are no float tensor, or whose `abstain` is no bool tensor.
        ValueError: A wrong shape, or a value that is not a number on a sample that is not abstained on.
    """
    if not isinstance(reward, Rewards):
        raise TypeError(f"The reward provider {name!r} returned {type(reward).__name__}; it must return Rewards.")
    _check_tensor(name, "values", reward.values, "float")
    _check_tensor(name, "abstain", reward.abstain, "bool")
    if reward.later is not None:
        _check_tensor(name, "later", reward.later, "float")
    if reward.values.shape != group.shape or reward.abstain.shape != group.shape:
        shapes = f"{tuple(reward.values.shape)} and abstain of {tuple(reward.abstain.shape)}"
        raise ValueError(
            f"The reward provider {name!r} returned values of {shapes}; both must have the shape (peers, questions, "
            f"chains) = {group.shape}."
        )
    if reward.later is not None and reward.later.shape[:-1] != group.shape:
        raise ValueError(
            f"The reward provider {name!r} returned rewards of later turns of shape {tuple(reward.later.shape)}; it "
            f"must be (peers, questions, chains, turns), that is {group.shape} and the number of turns."
        )
    if reward.later is not None and reward.later.isinf().any():
        raise ValueError(
            f"The reward provider {name!r} returned an infinite reward of a later turn; it must be finite, or NaN "
            "where there is no turn."
        )
    broken = ~reward.values.isfinite() & ~reward.abstain
    if broken.any():
        p, q, g = broken.nonzero()[0].tolist()
        raise ValueError(
            f"The reward provider {name!r} returned {reward.values[p, q, g].item()} for {int(broken.sum())} samples, "
            f"the first of them peer {group.peers[p]!r}, question {q}, chain {g}. Return a finite reward, or set "
            "`abstain` to True there."
        )


def leave_out_broken_peers(name: str, reward: Rewards, group: Group) -> tuple[Rewards, dict[str, str]]:
    """Abstains for peers with a reward that is not finite, so that the others learn on; with the reason by peer.

    If no peer is sound the provider is at fault, and nothing is changed: [`check_rewards`] then says so.
    """
    whole = isinstance(reward, Rewards) and all(isinstance(t, torch.Tensor) for t in (reward.values, reward.abstain))
    if not whole or reward.values.shape != group.shape or reward.abstain.shape != group.shape:
        return reward, {}
    broken = (~reward.values.isfinite() & ~reward.abstain.bool()).flatten(1).any(1)
    if not broken.any() or broken.all():
        return reward, {}
    abstain = reward.abstain | broken[:, None, None]
    faults = {
        peer: f"its reward {name!r} is not finite"
        for peer, wrong in zip(group.peers, broken.tolist(), strict=True)
        if wrong
    }
    return replace(reward, abstain=abstain), faults


def _check_tensor(name: str, field: str, value: Any, kind: str) -> None:
    found = type(value).__name__
    if isinstance(value, torch.Tensor):
        fits = value.is_floating_point() if kind == "float" else value.dtype == torch.bool
        if fits and value.device.type == "cpu":
            return
        found = f"a tensor of {value.dtype} on {value.device}"
    raise TypeError(
        f"The reward provider {name!r} returned {found} as `{field}`; it must be a {kind} tensor on the CPU."
    )


def check_targets(name: str, targets: Targets, group: Group) -> None:
    """Refuses targets that do not cover the group.

    Raises:
        TypeError: An entry that is neither a `Target` nor `None`.
        ValueError: Not one entry per peer, question and chain.
    """
    peers, questions, chains = group.shape
    whole = _is_list(targets, peers) and all(
        _is_list(rows, questions) and all(_is_list(row, chains) for row in rows) for rows in targets
    )
    if not whole:
        raise ValueError(
            f"The aggregator {name} must return targets[peer][question][chain] for all of (peers, questions, chains) "
            f"= {group.shape}."
        )
    for entry in (entry for rows in targets for row in rows for entry in row):
        if entry is not None and not isinstance(entry, Target):
            raise TypeError(
                f"The aggregator {name} returned {type(entry).__name__} among its targets; each must be a Target, or "
                "None to abstain."
            )


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def check_weighting(args: PSTConfig, weighting: Weighting, peers: int) -> None:
    """Refuses a weighting that cannot work with so many peers, or with the way they sample."""
    name = provider_name(weighting)
    if peers < (needed := getattr(weighting, "min_peers", 1)):
        raise ValueError(f"The weighting {name!r}, as it is set up, needs at least {needed} peers, got {peers}.")
    if getattr(weighting, "needs_caches", False) and not args.shared_prefill:
        raise ValueError(
            f"The weighting {name!r}, as it is set up, reads the keys and values that sampling has left: it needs "
            "shared_prefill=True."
        )


def check_weights(name: str, weights: Weights, group: Group) -> None:
    """Refuses what a weighting must not return.

    Raises:
        TypeError: Not `Weights`.
        ValueError: A wrong shape, or a weight that is not a number.
    """
    if not isinstance(weights, Weights):
        raise TypeError(f"The weighting {name!r} returned {type(weights).__name__}; it must return Weights.")
    if weights.values.shape != group.shape or weights.pmi.shape != group.shape:
        shapes = f"{tuple(weights.values.shape)} and pmi of {tuple(weights.pmi.shape)}"
        raise ValueError(
            f"The weighting {name!r} returned values of {shapes}; both must have the shape (peers, questions, chains) "
            f"= {group.shape}."
        )
    if not weights.values.isfinite().all():
        raise ValueError(f"The weighting {name!r} returned a weight that is not finite; 0 keeps a sample out.")


def check_scheme(
    args: PSTConfig,
    specs: Mapping[str, PeerSpec],
    aggregator: Aggregator,
    providers: Mapping[str, Callable],
    train_dataset: Dataset,
    weighting: Weighting,
) -> None:
    """Refuses combinations that cannot work, before any model is loaded."""
    if not isinstance(aggregator, Aggregator):
        raise TypeError(
            f"The aggregator must be a pst_rl.aggregation.Aggregator, got {aggregator!r}. Subclass it, or name a "
            "registered one in PSTConfig(aggregator=...)."
        )
    peers = len(specs)
    if not args.update_last_peer and args.order == "fixed":
        if not any(spec.trainable for spec in list(specs.values())[:-1]):
            raise ValueError("update_last_peer=False leaves no peer to update: only the last one is trainable.")
    if args.skip_zero_advantage:
        check_compaction(args)
    check_discussion(find_discussion(providers), args, tuple(specs))
    scheme = type(aggregator).__name__
    if peers < aggregator.min_peers:
        raise ValueError(
            f"The aggregator {scheme} needs at least {aggregator.min_peers} peers, got {peers}. Add peers, or use "
            "aggregator='majority', which also works for one peer alone."
        )
    for name, provider in providers.items():
        if peers < (needed := getattr(provider, "min_peers", 1)):
            raise ValueError(f"The reward {name!r}, as it is set up, needs at least {needed} peers, got {peers}.")
        if hasattr(provider, "check_peers"):
            provider.check_peers(specs)
    check_weighting(args, weighting, peers)
    readers = [name for name, p in providers.items() if getattr(p, "needs_labels", False)]
    readers += [scheme] if aggregator.needs_labels else []
    if readers and not args.supervised:
        raise ValueError(
            f"{', '.join(readers)} reads gold answers. This run is label-free; set supervised=True (on the command "
            "line: --supervised) to allow it, and it will be marked as supervised in its logs and card."
        )
    check_form(train_dataset, "The training data set")
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
