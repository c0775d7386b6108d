"""SIGTERM: a scheduler wants the machine back. The step is finished, a checkpoint is saved, training stops."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


class Preemption(TrainerCallback):
    """What `enable_jit_checkpoint` switches on here, in place of transformers' own callback.

    That one also saves before an optimizer step, from where no bit-equal resume is possible (the gradients are lost,
    the random numbers drawn), and in each process for itself. Here all processes agree on one step, after its update.

    Args:
        accelerator: By which the processes agree.

    Attributes:
        stopped: Whether the last training was stopped by a signal.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.stopped = False
        self._told = False

    @contextlib.contextmanager
    def heeded(self):
        """Handles SIGTERM inside; outside, as in threads other than the main one, it ends the process as ever."""
        self.stopped = self._told = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._tell)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _tell(self, signum, frame) -> None:
        self._told = True

    def _stops(self) -> bool:
        """Whether any process was told to stop; a collective operation."""
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(float(self._told), device=self.accelerator.device)
            self._told = self.accelerator.reduce(flag, reduction="sum").item() > 0
        self.stopped = self._told
        return self.stopped

    def on_step_end(self, args, state, control, **kwargs):
        if self._stops():
            logger.warning("SIGTERM: saving step %d, then stopping.", state.global_step)
            control.should_save = control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        if self._stops():  # it came while this checkpoint was written: no need for another
            control.should_training_stop = True
