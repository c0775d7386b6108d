"""Callbacks of a trainer: the phase of its steps, and logs that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from pst_rl.progress.log_lines import log_line, peers_line
from pst_rl.progress.phases import Phase, phase, say
from pst_rl.progress.words import folded, terminal_width


class ReadableProgress(ProgressCallback):
    """transformers' bar, with a line for each log (`log_line`) where it writes all of it as a dict."""

    def __init__(self, peers: Sequence[str]):
        super().__init__()
        self.peers = tuple(peers)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is not None and logs:
            self.training_bar.write(log_line(logs, state.global_step, state.max_steps, self.peers, terminal_width()))


class ReadablePrinter(PrinterCallback):
    """The same without a bar (`disable_tqdm`)."""

    def __init__(self, peers: Sequence[str]):
        self.peers = tuple(peers)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_local_process_zero and logs:
            print(log_line(logs, state.global_step, state.max_steps, self.peers, terminal_width()), flush=True)


class TrainingPhase(TrainerCallback):
    """Opens the phase `training` while a trainer's loop runs, and says a line for each log."""

    def __init__(self, peers: Sequence[str]):
        self.peers = tuple(peers)
        self.steps: Phase | None = None
        self._open = ExitStack()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            say(folded(peers_line(self.peers), terminal_width()))
        self.steps = self._open.enter_context(phase("training", state.max_steps, "steps", found=state.global_step))

    def on_step_end(self, args, state, control, **kwargs):
        if self.steps is not None:
            self.steps.reach(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.steps is not None and state.is_world_process_zero and logs:
            say(log_line(logs, state.global_step, state.max_steps, self.peers, terminal_width()))

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Ends the phase, also where training was cut short."""
        if self.steps is not None:
            self.steps.broken = self.steps.whole is not None and self.steps.all_done < self.steps.whole
        self.steps = None
        self._open.close()


def readable_logs(trainer: Trainer, peers: Sequence[str]) -> None:
    """Lets the callback that shows a trainer's logs, if it is one of transformers' plain ones, show readable lines."""
    readable: dict[type, type] = {ProgressCallback: ReadableProgress, PrinterCallback: ReadablePrinter}
    callbacks = trainer.callback_handler.callbacks
    callbacks[:] = [readable[type(c)](peers) if type(c) in readable else c for c in callbacks]
