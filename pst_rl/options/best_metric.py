"""The metric by which the best model is chosen, and which some learning rates follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainingArguments

DEFAULT_METRIC = "vote/accuracy"
FOLLOWING = ("reduce_lr_on_plateau", "greedy")  # schedules that step by the metric of an evaluation


def follows_metric(config: TrainingArguments) -> bool:
    """Whether the learning rate depends on what an evaluation measures."""
    return str(getattr(config.lr_scheduler_type, "value", config.lr_scheduler_type)) in FOLLOWING


def choose_metric(config: TrainingArguments) -> None:
    """Sets `metric_for_best_model` where one is needed and none is given; transformers would take a loss.

    Raises:
        ValueError: One is needed, and nothing is ever evaluated.
    """
    needs = {
        "load_best_model_at_end=True": config.load_best_model_at_end,
        "save_strategy='best'": config.save_strategy == "best",
        f"lr_scheduler_type={config.lr_scheduler_type!r}": follows_metric(config),
    }
    asking = [said for said, asks in needs.items() if asks]
    if not asking:
        return
    if config.eval_strategy in (None, "no"):
        raise ValueError(f"{asking[0]} needs evaluations: set eval_strategy='steps' and eval_steps.")
    if config.metric_for_best_model is None:
        config.metric_for_best_model = DEFAULT_METRIC


def follow_upwards(config: TrainingArguments) -> None:
    """Lets a schedule that follows a metric know whether more of it is better.

    transformers hands it `lr_scheduler_kwargs` only, and both schedules take a metric for a loss unless told: they
    would lower the learning rate because the accuracy rises.
    """
    if follows_metric(config):
        given: Any = config.lr_scheduler_kwargs or {}
        config.lr_scheduler_kwargs = {"mode": "max" if config.greater_is_better else "min"} | given


def check_metric(config: TrainingArguments, names: Mapping[str, Sequence[str]]) -> None:
    """Refuses a metric that no evaluation of this run has.

    Args:
        names: What is measured on each evaluation set; `""` is the name of a single one.

    Raises:
        ValueError: Names what there is, and what labels would add.
    """
    wanted = config.metric_for_best_model
    if wanted is None or not names:
        return
    there = [f"{name}_{metric}" if name else metric for name, metrics in names.items() for metric in metrics]
    if wanted.removeprefix("eval_") in there:
        return
    unlabelled = [name for name, metrics in names.items() if DEFAULT_METRIC not in metrics]
    why = ""
    if unlabelled:
        of = ", ".join(map(repr, filter(None, unlabelled)))
        why = f" Accuracies need labels, which {f'the evaluation set {of}' if of else 'the evaluation set'} lacks."
    raise ValueError(
        f"metric_for_best_model={wanted!r} is not among what an evaluation measures here.{why} Set it to one of: "
        f"{', '.join(there)}."
    )
