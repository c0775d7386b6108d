"""Numeric faults: a peer whose loss, gradient or reward is not finite is left out of that update, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

logger = logging.getLogger(__name__)


class NumericFault(RuntimeError):
    """A peer's updates failed too many times in a row; training stopped after a checkpoint."""


class FaultMonitor:
    """Who may be updated in each optimizer step, and for how long something has been wrong.

    Args:
        peers: Names of the peers that are updated.
        patience: Steps in a row in which a peer was left out, before [`exhausted`] names it; and dead steps in a row
            before a warning.

    Attributes:
        skipped: Updates each peer was left out of, since the run began.
        dead: Steps since the run began in which no peer had a gradient.
    """

    def __init__(self, peers: Iterable[str], patience: int):
        self.patience = patience
        self.skipped = dict.fromkeys(peers, 0)
        self.dead = 0
        self._now: dict[str, str] = {}  # what is wrong in this step
        self._batch: dict[str, str] = {}  # what is wrong in every step on this generation batch
        self._streak = dict.fromkeys(peers, 0)
        self._dead_streak = 0
        self._last: dict[str, str] = {}

    def new_batch(self, faults: Mapping[str, str]) -> None:
        """Begins a generation batch, on all of which these peers are left out, each with the reason."""
        self._batch = {name: fault for name, fault in faults.items() if name in self.skipped}

    def note(self, peer: str, fault: str) -> None:
        """Leaves a peer out of the optimizer step that is being prepared."""
        self._now.setdefault(peer, fault)

    @property
    def left_out(self) -> dict[str, str]:
        """The peers that this step must not update, each with the reason."""
        return self._batch | self._now

    def close_step(self, step: int, gradients: bool) -> None:
        """Ends an optimizer step.

        Args:
            step: Its number, for messages.
            gradients: Whether any peer that is not left out has a gradient other than zero.
        """
        for name, fault in self.left_out.items():
            self.skipped[name] += 1
            logger.warning("Step %d: %s is not updated, because %s.", step, name, fault)
        self._last = self.left_out
        self._streak = {name: streak + 1 if name in self._last else 0 for name, streak in self._streak.items()}
        self._dead_streak = 0 if gradients else self._dead_streak + 1
        self.dead += not gradients
        if self._dead_streak and self._dead_streak % self.patience == 0:
            logger.warning(
                "The last %d steps up to %d updated nothing: no peer had a gradient. Either all samples of a question "
                "get the same reward, or everything abstains (see peers/unanimous, peers/abstained).",
                self._dead_streak,
                step,
            )
        self._now = {}

    @property
    def exhausted(self) -> dict[str, str]:
        """The peers that were left out of the last `patience` steps, with the last reason."""
        return {name: self._last[name] for name, streak in self._streak.items() if streak >= self.patience}

    def metrics(self) -> dict[str, float]:
        """`<peer>/skipped_updates` where there are any, and `peers/dead_steps`: both since the run began."""
        counts = {f"{name}/skipped_updates": float(n) for name, n in self.skipped.items() if n}
        return counts | {"peers/dead_steps": float(self.dead)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": dict(self.skipped),
            "dead": self.dead,
            "batch": dict(self._batch),
            "streak": dict(self._streak),
            "dead_streak": self._dead_streak,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped, self.dead = dict(state["skipped"]), state["dead"]
        self._batch, self._dead_streak = dict(state["batch"]), state["dead_streak"]
        # A run that is resumed after it stopped for a fault gets its patience anew.
        self._streak = {name: n if n < self.patience else 0 for name, n in state["streak"].items()}


class StopOnFaults(TrainerCallback):
    """Ends training, after a checkpoint, when a peer's updates have failed too many times in a row."""

    def __init__(self, monitor: FaultMonitor):
        self.monitor = monitor

    def on_step_end(self, args, state, control, **kwargs):
        if self.monitor.exhausted:
            control.should_save = args.save_strategy != SaveStrategy.NO
            control.should_training_stop = True
