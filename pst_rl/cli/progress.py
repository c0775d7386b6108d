"""What a person sees of training on the command line: its phase, a line per log, and at an early end how to go on."""

from __future__ import annotations

import shlex

from transformers import PrinterCallback, ProgressCallback

from pst_rl.loop.checkpoint_files import newest_complete
from pst_rl.loop.used_folder import earlier_run
from pst_rl.progress.phases import say
from pst_rl.progress.training import TrainingPhase
from pst_rl.trainer import PSTTrainer


class RichProgress(TrainingPhase):
    """The phase `training`, with what `pst-rl train` says when it ends early."""

    def __init__(self, trainer: PSTTrainer):
        super().__init__(tuple(trainer.peers))
        self.trainer = trainer

    @property
    def main(self) -> bool:
        """Whether this process is the one that speaks."""
        return self.trainer.is_world_process_zero()

    def stopped(self, reason: str, command: list[str]) -> None:
        """Before the program ends early: says why, what is kept, and how to go on with `command`, the one that ran."""
        self.close()
        if not self.main:
            return
        checkpoint, _ = newest_complete(self.trainer.args.output_dir, checksums=False)
        if checkpoint is not None:
            again = [word for word in command if word != "--overwrite"]
            resume = shlex.join([*again, "--resume-from-checkpoint", str(checkpoint)])
            say(f"{reason.rstrip('.')}. Resume with:\n  {resume}")
            return
        used = earlier_run(self.trainer.args.output_dir)
        again = " To begin anew in the same folder, add --overwrite." if used and "--overwrite" not in command else ""
        say(f"{reason}: no checkpoint yet, nothing to resume from.{again}")


def show_progress(trainer: PSTTrainer) -> RichProgress:
    """Replaces the trainer's default progress bar and printer by ours."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    progress = RichProgress(trainer)
    trainer.add_callback(progress)
    return progress
