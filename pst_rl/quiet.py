"""Lines of libraries that alarm and mean nothing here. Each is dropped by its words; everything else is shown."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

HARMLESS = {
    # An optional speed-up on CPUs is not installed.
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    # Checkpoints written within a second are sorted by their steps: the order that is wanted.
    "transformers.trainer_utils": "mtime may not be reliable on this filesystem",
}
"""Logger -> the words with which its harmless line begins."""


@cache
def _without(words: str) -> Callable[[logging.LogRecord], bool]:
    """A filter; the same one for the same words, as a logger takes each only once."""
    return lambda record: not record.getMessage().startswith(words)


def quiet_logs() -> None:
    """Drops the `HARMLESS` lines, and nothing else of these loggers. Runs when pst_rl is imported."""
    for name, words in HARMLESS.items():
        logging.getLogger(name).addFilter(_without(words))


def quiet_warnings() -> None:
    """Drops what only developers of TRL can do something about; for commands, as the filters are Python's own."""
    # TRL still uses the older names; transformers warns at each use.
    message = r".*gradient_checkpointing(_enable|_disable)?` is deprecated"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)


def without_tied(load_result: Any, tied: Any) -> Any:
    """What a checkpoint lacked (`missing_keys`), without weights that are tied to others: they are saved once.

    Args:
        load_result: As `torch.nn.Module.load_state_dict` returns it.
        tied: Names of the tied weights.
    """
    missing = [key for key in load_result.missing_keys if key not in set(tied)]
    return load_result._replace(missing_keys=missing)
