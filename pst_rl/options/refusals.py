"""Refuses options that nothing would act on, by the table of options. It loads no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from pst_rl.options.table import Option

# Optimizers that need more than groups of parameters: the model, hooks in it, or switching between two modes.
_OPTIMIZERS = ("lomo", "adalomo", "galore", "apollo", "schedule_free")

# What the libraries look at only in a step, after models are loaded and answers are sampled, or not at all.
_ONE_OF: Mapping[str, tuple[str | None, ...]] = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
_NUMBERS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": ("above 0", lambda value: value > 0),
    "top_p": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "max_completion_length": ("at least 1", lambda value: value >= 1),
    "learning_rate": ("at least 0", lambda value: value >= 0),
    "epsilon": ("at least 0", lambda value: value >= 0),
}
_ONE_OF_MODEL: Mapping[str, tuple[str | None, ...]] = {
    "dtype": ("auto", "bfloat16", "float16", "float32", None),
    "bnb_4bit_quant_type": ("nf4", "fp4"),
}
_NUMBERS_MODEL: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "lora_r": ("at least 1", lambda value: value >= 1),
    "lora_dropout": ("at least 0 and below 1", lambda value: 0 <= value < 1),
}

# Options that others set: (a condition under which a value is none of the user's).
_SET_BY: Mapping[str, Callable[[Any], bool]] = {"do_eval": lambda config: config.eval_strategy not in (None, "no")}


def check_options(config: Any, table: Mapping[str, Option]) -> None:
    """Refuses every option of a dataclass that the table refuses and that is not at its default.

    Raises:
        ValueError: Names each of them, and what to do instead.
    """
    wrong = {}
    for field in fields(config):
        option, value = table.get(field.name), getattr(config, field.name)
        if option is None or option.fate != "refused" or value in (_default(field), *option.also):
            continue
        if field.name not in _SET_BY or not _SET_BY[field.name](config):
            wrong[f"{field.name}={value!r}"] = option.note
    _refuse(wrong)


def check_values(config: Any) -> None:
    """Refuses values of options that are passed on otherwise: some optimizers, batches that are torn apart, and what
    would only be found wrong in the first step, or not at all.

    Raises:
        ValueError: As [`check_options`].
    """
    wrong = _out_of_range(config, _ONE_OF, _NUMBERS)
    optimizer = str(getattr(config.optim, "value", config.optim))
    if optimizer.startswith(_OPTIMIZERS):
        wrong[f"optim={optimizer!r}"] = (
            "it needs more than the peers' parameters (hooks in one model, or a mode of its own at evaluation). Use "
            "an AdamW, such as 'adamw_torch_fused' or 'adamw_8bit'."
        )
    for name in ("split_batches", "dispatch_batches"):
        if getattr(config.accelerator_config, name):
            wrong[f"accelerator_config={{{name!r}: True}}"] = (
                "each process reads its own whole groups of samples. Leave it out."
            )
    if "tpu_metrics_debug" in config.debug:
        wrong["debug='tpu_metrics_debug'"] = "it is read in an evaluation that is not ours. Leave it out."
    if config.shared_prefill and config.cache_implementation is not None:
        wrong[f"cache_implementation={config.cache_implementation!r}"] = (
            "shared_prefill=True brings a cache of its own. Leave one of them out."
        )
    _refuse(wrong)


def check_model_values(model: Any) -> None:
    """Refuses values of TRL's `ModelConfig` that would only be found wrong when the models are loaded.

    Raises:
        ValueError: As [`check_options`].
    """
    _refuse(_out_of_range(model, _ONE_OF_MODEL, _NUMBERS_MODEL))


def _out_of_range(config: Any, choices: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, str]:
    wrong = {}
    for name, values in choices.items():
        if (value := getattr(config, name)) not in values:
            wrong[f"{name}={value!r}"] = f"it must be one of {', '.join(filter(None, values))}."
    for name, (rule, holds) in numbers.items():
        if not holds(value := getattr(config, name)):
            wrong[f"{name}={value!r}"] = f"it must be {rule}."
    return wrong


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _refuse(wrong: Mapping[str, str]) -> None:
    lines = [f"{said} is refused: {why}" for said, why in wrong.items()]
    if len(lines) > 1:
        lines.insert(0, f"{len(lines)} options are refused:")
    if lines:
        raise ValueError("\n  ".join(lines))
