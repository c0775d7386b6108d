"""Lines of libraries that alarm and mean nothing here. Each is dropped by its words; everything else is shown."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
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


def quiet_output() -> None:
    """What a command or a script says where nobody watches: `quiet_warnings`, and no bars of libraries.

    Bars ("Loading weights", "Writing model shards", downloads, GGUF blocks) fill a log file, and the phases of
    `pst_rl.progress` say there what is being done. On a terminal they stay, and so they do where a user sets
    HF_HUB_DISABLE_PROGRESS_BARS or TQDM_DISABLE otherwise. To be called before the libraries are imported: of those
    that are there already, transformers, datasets and the Hub's client are told, but tqdm no longer listens.
    """
    quiet_warnings()
    if sys.stderr.isatty():
        return
    os.environ.setdefault("TQDM_DISABLE", "1")
    if os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1") != "1":
        return
    switches = {
        "huggingface_hub.utils": "disable_progress_bars",
        "transformers.utils.logging": "disable_progress_bar",
        "datasets.utils.logging": "disable_progress_bar",
    }
    for module, switch in switches.items():
        if module in sys.modules:
            getattr(sys.modules[module], switch)()


@contextmanager
def no_gguf_bar() -> Iterator[None]:
    """No bar of transformers over a GGUF file's tensors, which no switch of its own turns off: loading is a phase."""
    from transformers import modeling_gguf_pytorch_utils as gguf

    bar = gguf.tqdm
    gguf.tqdm = partial(bar, disable=True)  # put back below
    try:
        yield
    finally:
        gguf.tqdm = bar


def without_tied(load_result: Any, tied: Any) -> Any:
    """What a checkpoint lacked (`missing_keys`), without weights that are tied to others: they are saved once.

    Args:
        load_result: As `torch.nn.Module.load_state_dict` returns it.
        tied: Names of the tied weights.
    """
    missing = [key for key in load_result.missing_keys if key not in set(tied)]
    return load_result._replace(missing_keys=missing)
