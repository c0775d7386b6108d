"""What is read of a trainer to say what a run is and what it measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pst_rl.config import PSTConfig


class RunFacts(Protocol):
    """A [`~pst_rl.trainer.PSTTrainer`], as far as header and results read it.

    Attributes:
        args: Its configuration.
        seconds: Wall-clock seconds by phase.
        accelerator, collapse, aggregator, mix, build_prompt, train_dataset: As the trainer's.
    """

    args: PSTConfig
    seconds: Any
    accelerator: Any
    collapse: Any
    aggregator: Any
    mix: Any
    train_dataset: Any
    build_prompt: Callable[..., Any]

    @property
    def peers(self) -> Mapping[str, Any]:
        """The engines by name."""
        ...

    @property
    def specs(self) -> Mapping[str, Any]:
        """The `PeerSpec`s by name."""
        ...

    @property
    def trained(self) -> Mapping[str, Any]:
        """The engines that are trained."""
        ...
