"""Adapter for ordinary TRL reward functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection

import torch

from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank


class TRLReward:
    """Runs a TRL `reward_funcs` entry on each peer's samples and withholds label columns.

    The function is called once per peer as `func(prompts=, completions=, completion_ids=, **columns)`, each a list of
    Q * G entries; it returns one float per sample, or `None` where it does not apply (that sample abstains).
    `columns` are the dataset's unlabelled columns: a function that asks for a label column fails with a TypeError
    unless the run is declared `supervised=True` and the adapter is built with `needs_labels=True`, in which case the
    gold answer is passed under `label_column`.

    Args:
        func: A synchronous TRL reward function.
        name: Its name in logs; defaults to the function's own.
        needs_labels: Pass gold answers (supervised runs only).
        label_column: The keyword under which gold answers are passed, e.g. `"solution"`.
    """

    needs_token_ids = True

    def __init__(
        self,
        func: Callable,
        *,
        name: str | None = None,
        needs_labels: bool = False,
        label_column: str = "solution",
    ):
        self.func = func
        self.name = name or func.__name__
        self.needs_labels = needs_labels
        self.label_column = label_column

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        peers, questions, chains = group.shape
        rows = [q for q in range(questions) for _ in range(chains)]
        columns = {name: [group.columns[q][name] for q in rows] for name in group.columns[0]}
        if self.needs_labels:
            columns[self.label_column] = [group.the_gold[q] for q in rows]
        prompts = [group.prompts[q] for q in rows]
        for p in range(peers):
            samples = [r for chain in group.responses[p] for r in chain]
            completions = [
                [{"role": "assistant", "content": r.text}] if isinstance(prompt, list) else r.text
                for prompt, r in zip(prompts, samples, strict=True)
            ]
            scores = self.func(
                prompts=prompts,
                completions=completions,
                completion_ids=[list(r.token_ids) for r in samples],
                **columns,
            )
            if len(scores) != len(samples):
                raise ValueError(
                    f"The reward function {self.name!r} returned {len(scores)} rewards for {len(samples)} samples; "
                    "it must return exactly one per completion."
                )
            abstain[p] = torch.tensor([s is None for s in scores]).view(questions, chains)
            values[p] = torch.tensor([0.0 if s is None else float(s) for s in scores]).view(questions, chains)
        return Rewards(values, abstain)


def is_trl_function(provider: Callable) -> bool:
    """Whether a callable has the form of TRL's reward functions: it takes `completions` where ours take a group."""
    try:
        return "completions" in inspect.signature(provider).parameters
    except (TypeError, ValueError):  # built-in
        return False


def adapt(function: Callable, labels: Collection[str]) -> TRLReward:
    """The adapter of a bare TRL reward function, if the function is one that reads no label.

    Args:
        labels: The names of columns that are labels.

    Raises:
        ValueError: It asks for a label, or must be awaited.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"The reward function {name!r} is asynchronous; rewards here are not. Write it with `def`.")
    asked = [n for n, p in inspect.signature(function).parameters.items() if n in labels and p.default is p.empty]
    if asked:
        raise ValueError(
            f"The reward function {name!r} asks for {asked[0]!r}, which is a label, and this run reads none. Allow it "
            f"by TRLReward({name}, needs_labels=True, label_column={asked[0]!r}) and supervised=True: the run then "
            "says that it is supervised."
        )
    return TRLReward(function, name=name)
