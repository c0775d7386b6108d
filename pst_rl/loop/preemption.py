"""SIGTERM and Ctrl-C in training: the step is finished, a checkpoint is saved, training stops."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

PASSED_ON = 1.0  # seconds in which a launcher passes on the Ctrl-C that the terminal has sent to all; our choice


class Preemption(TrainerCallback):
    """Keeps the work of a run that is told to stop.

    SIGTERM is a scheduler's: heeded with `enable_jit_checkpoint`, in place of transformers' own callback, after which
    `train` returns. Ctrl-C (SIGINT) is a person's: heeded wherever checkpoints are saved, after which `train` raises
    `KeyboardInterrupt`; a second one raises it at once, in the middle of the step.

    transformers' callback also saves before an optimizer step, from where no bit-equal resume is possible (the
    gradients are lost, the random numbers drawn), and in each process for itself. Here all processes agree on one
    step, after its update.

    Args:
        accelerator: By which the processes agree.

    Attributes:
        stopped: Whether the last training was stopped by a signal.
        interrupted: Whether that signal was Ctrl-C.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.stopped = self.interrupted = self._heeds = False
        self._told = {signal.SIGTERM: False, signal.SIGINT: False}
        self._first = 0.0

    @contextlib.contextmanager
    def heeded(self, sigterm: bool, sigint: bool):
        """Handles these signals inside; outside, as in threads other than the main one, they do what they ever did.

        A handler of SIGINT that somebody else has set stays, as does ignoring it (a job in the background).
        """
        self.stopped = self.interrupted = False
        self._told = dict.fromkeys(self._told, False)
        self._heeds = sigterm or sigint
        sigint = sigint and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        handlers = {signal.SIGTERM: self._terminate} if sigterm else {}
        handlers |= {signal.SIGINT: self._interrupt} if sigint else {}
        if threading.current_thread() is not threading.main_thread():
            handlers = {}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _terminate(self, signum, frame) -> None:
        self._told[signal.SIGTERM] = True

    def _interrupt(self, signum, frame) -> None:
        now = time.monotonic()
        if self._told[signal.SIGINT]:
            if "TORCHELASTIC_RUN_ID" in os.environ and now - self._first < PASSED_ON:
                return
            raise KeyboardInterrupt
        self._told[signal.SIGINT], self._first = True, now
        if self.accelerator.is_main_process:  # written at once, past buffers that this may have interrupted
            os.write(2, b"\nCtrl-C: this step is finished and saved first; once more stops at once.\n")

    def _stops(self) -> bool:
        """Whether any process was told to stop; a collective operation."""
        if self._heeds and self.accelerator.num_processes > 1:
            flags = torch.tensor([float(told) for told in self._told.values()], device=self.accelerator.device)
            counts = self.accelerator.reduce(flags, reduction="sum").tolist()
            self._told = {number: count > 0 for number, count in zip(self._told, counts, strict=True)}
        self.stopped, self.interrupted = any(self._told.values()), self._told[signal.SIGINT]
        return self.stopped

    def on_step_end(self, args, state, control, **kwargs):
        if self._stops():
            why = "Ctrl-C" if self.interrupted else "SIGTERM"
            logger.warning("%s: saving step %d, then stopping.", why, state.global_step)
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args, state, control, **kwargs):
        if self._heeds and state.global_step and self._stops():  # it came while the step was evaluated
            control.should_save = control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        if self._stops():  # it came while this checkpoint was written: no need for another
            control.should_training_stop = True
