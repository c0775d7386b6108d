"""What people who come from TRL type: its names of options that are others here, and `--flag true`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

# Options of TRL's own scripts (`ScriptArguments`, `trl grpo`) -> what says the same here.
TRL_NAMES = {
    "dataset_name": "--dataset NAME (a Hub id, a file, or the name of a benchmark)",
    "dataset_config": "--dataset OWNER/NAME:CONFIG",
    "dataset_train_split": "--dataset NAME: its training split, or a part of what there is, is trained on",
    "dataset_test_split": "--eval-split NAME",
    "dataset_streaming": "--train-questions N: data sets are read whole, so that every question has a number",
    "model_name_or_path": "--peers A B C (Hub ids or folders, two or more of them)",
    "reward_funcs": "--rewards NAME ... (a reward function of yours: examples/custom_reward.py)",
    "reward_model_name_or_path": "--rewards NAME ...: no reward model is needed",
    "ignore_bias_buffers": "nothing: leave it out",
}

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


def check_trl_names(argv: Sequence[str]) -> None:
    """Refuses flags that TRL's scripts have under another name, with ours.

    Raises:
        ValueError: There is one.
    """
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in TRL_NAMES:
            raise ValueError(f"--{name} of TRL's scripts is here: {TRL_NAMES[name]}")


def spelt_booleans(argv: Sequence[str], hints: Mapping[str, Any]) -> list[str]:
    """Words in which a switch has no value: `--use-peft true` is `--use-peft`, `--use-peft=false` is `--no-use-peft`.

    >>> spelt_booleans(["--use-peft", "false", "--bf16", "True"], {"use_peft": bool, "bf16": bool | None})
    ['--no-use-peft', '--bf16', 'True']

    Args:
        hints: The types of the options; a switch that may also be unset keeps its value, as `True` or `False`.
    """
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, is_set, value = word.partition("=")
        hint = hints.get(flag.removeprefix("--").replace("-", "_")) if flag.startswith("--") else None
        may_be_unset = bool in get_args(hint) and type(None) in get_args(hint)
        if hint is not bool and not may_be_unset:
            words.append(word)
            continue
        if not is_set and rest and rest[0].lower() in (*_TRUE, *_FALSE):
            value = rest.pop(0)
        said = value.lower() in _TRUE if value.lower() in (*_TRUE, *_FALSE) else None
        if said is None:
            words.append(word)
        elif may_be_unset:
            words += [flag, str(said)]
        else:
            words.append(flag if said else f"--no-{flag.removeprefix('--')}")
    return words
