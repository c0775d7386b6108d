"""What a person sees while training: one rich bar with ETA on a terminal, one line per log elsewhere."""

from __future__ import annotations

import shlex
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from pst_rl.loop.checkpoint_files import newest_complete
from pst_rl.stages.pmi import PMIWeights
from pst_rl.trainer import PSTTrainer

SHOWN = ("peers/agreement", "peers/distinct_answers", "peers/abstained", "aggregate/accuracy")


class RichProgress(TrainerCallback):
    """Shows the step, the time left, and a few joint metrics."""

    def __init__(self, trainer: PSTTrainer):
        self.trainer = trainer
        self.console = Console()
        self.bar: Progress | None = None

    @contextmanager
    def phase(self, title: str):
        """Announces a phase outside the training loop and says how long it took."""
        before = self.trainer.seconds["evaluate"]
        with self.console.status(title) if self.main else _silence():
            yield
        if self.main:
            self.console.print(f"{title}: {self.trainer.seconds['evaluate'] - before:.0f} s")

    @property
    def main(self) -> bool:
        """Whether this process is the one that speaks."""
        return self.trainer.is_world_process_zero()

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.main:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=self.console)
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        if self.console.is_terminal:
            self.bar.start()

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None or not logs or "loss" not in logs:
            return
        parts = [f"{name.split('/', 1)[1]} {float(logs[name]):.3f}" for name in SHOWN if name in logs]
        for name in self.trainer.peers:
            shown = {"reward": logs.get(f"{name}/reward"), "pmi": logs.get(f"{name}/pmi/mean")}
            if not isinstance(self.trainer.weighting, PMIWeights):
                del shown["pmi"]
            parts.append(f"{name}: " + " ".join(f"{key} {_number(value)}" for key, value in shown.items()))
        self.console.print(
            f"step {state.global_step}/{state.max_steps}  " + "  ".join(parts), highlight=False, soft_wrap=True
        )

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def stopped(self, reason: str, command: list[str]) -> None:
        """Before the program ends early: says why, what is kept, and how to go on with `command`, the one that ran."""
        self.on_train_end(None, None, None)
        if not self.main:
            return
        checkpoint, _ = newest_complete(self.trainer.args.output_dir, checksums=False)
        if checkpoint is None:
            self.console.print(f"{reason}: no checkpoint yet, nothing to resume from.", soft_wrap=True)
        else:
            again = shlex.join([*command, "--resume-from-checkpoint", str(checkpoint)])
            self.console.print(f"{reason.rstrip('.')}. Resume with:\n  {again}", soft_wrap=True)


def show_progress(trainer: PSTTrainer) -> RichProgress:
    """Replaces the trainer's default progress bar and printer by ours."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    progress = RichProgress(trainer)
    trainer.add_callback(progress)
    return progress


def _number(value) -> str:
    return "-" if value is None else f"{float(value):.3f}"


@contextmanager
def _silence():
    yield
