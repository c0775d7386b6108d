"""A training run from the command line: questions, trainer, measure, train, measure, save.

`examples/pst_math.py` has the same steps in its own lines.
"""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trl import get_peft_config, get_quantization_config

from pst_rl.cli.exit_status import INTERRUPTED, NOT_WRITTEN, NUMERIC_FAULT, TERMINATED, Terminated
from pst_rl.cli.parse import Arguments, check_resume
from pst_rl.cli.progress import RichProgress, show_progress
from pst_rl.data import load_questions
from pst_rl.loop.checkpoint_files import CheckpointError
from pst_rl.loop.faults import NumericFault
from pst_rl.loop.lock import RunLock
from pst_rl.report import plot_report, print_table, write_results
from pst_rl.report.compare import compare
from pst_rl.tiny import TINY_PEERS
from pst_rl.trainer import PSTTrainer

if TYPE_CHECKING:
    from datasets import Dataset

    from pst_rl.cli.train import TrainOptions
    from pst_rl.report import RunResults


def run_training(arguments: Arguments, command: list[str]) -> int:
    """Does it all; returns the exit status (`pst_rl.cli.exit_status`).

    Args:
        command: The words that started this run, to say how to go on.

    Raises:
        FileNotFoundError, ValueError: For anything that does not fit, before training.
    """
    script, args, model = arguments.script, arguments.config, arguments.model
    check_resume(args)
    train, test = load_splits(script)
    RunLock(args.output_dir, active=args.should_save).hold()  # one run in a folder, from here to the end
    trainer = PSTTrainer(
        named_peers(script.peers),
        args,
        train_dataset=train,
        eval_dataset=test,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    wanted = args.resume_from_checkpoint
    checkpoint = trainer.checkpoint_to_resume(wanted) if wanted else None

    pooled = {"samples": script.pooled_samples, "pooled_questions": script.pooled_questions}
    progress = show_progress(trainer)
    with Ending(progress, command) as ending:
        with progress.phase("measuring before training"):
            before = trainer.measure(**pooled)
        trainer.train(resume_from_checkpoint=checkpoint)
        if not trainer.preemption.stopped:
            with progress.phase("measuring after training"):
                after = trainer.measure(**pooled)
    if ending.status:
        return ending.status
    save(trainer, compare(before, after, trainer, script.dataset, settings(arguments)))
    return 0


def load_splits(options: TrainOptions) -> tuple[Dataset, Dataset]:
    """The questions to train on, and those to measure on."""
    columns = {"question_column": options.question_column, "answer_column": options.answer_column}
    train, test = (
        load_questions(options.dataset, split=split, limit=limit, prompt_template=options.prompt_template, **columns)
        for split, limit in (("train", options.train_questions), (options.eval_split, options.test_questions))
    )
    return train, test


def named_peers(peers: list[str]) -> list[str] | dict[str, str]:
    """What `PSTTrainer` takes as its peers; `tiny` stands for the embedded ones."""
    return {name: str(folder) for name, folder in TINY_PEERS.items()} if peers == ["tiny"] else peers


class Ending(AbstractContextManager):
    """Where measuring and training may end early: on Ctrl-C, SIGTERM, a numeric fault, or a disk that is full.

    Says what is kept and how to go on instead of showing a traceback. Everything else is raised as it is.

    Args:
        command: The words that started the run.

    Attributes:
        status: Why it ended, as an exit status; 0 where nothing went wrong.
    """

    def __init__(self, progress: RichProgress, command: list[str]):
        self.progress, self.command = progress, command
        self.status = 0

    def __exit__(self, kind, error, traceback) -> bool:
        if kind is None:
            if self.progress.trainer.preemption.stopped:
                self._end(TERMINATED, "Stopped by SIGTERM, after a checkpoint")
            return False
        if issubclass(kind, KeyboardInterrupt):
            return self._end(INTERRUPTED, "Interrupted")
        if issubclass(kind, Terminated):
            return self._end(TERMINATED, "Stopped by SIGTERM")
        if issubclass(kind, NumericFault):
            return self._end(NUMERIC_FAULT, str(error))
        return issubclass(kind, CheckpointError) and self._end(NOT_WRITTEN, str(error))

    def _end(self, status: int, reason: str) -> bool:
        self.status = status
        self.progress.stopped(reason, self.command)
        return True


def settings(arguments: Arguments) -> dict[str, Any]:
    """Everything that was set, for the results."""
    return asdict(arguments.script) | arguments.config.to_dict() | {"model": asdict(arguments.model)}


def save(trainer: PSTTrainer, results: RunResults) -> None:
    """Shows and writes the results, draws them, and saves (or pushes) the peers with them in their cards."""
    folder = trainer.args.output_dir
    main = trainer.is_world_process_zero()
    if main:
        trainer.results = results
        print_table(results)
        write_results(results, folder)
        trainer.save_state()  # the logs, also those after the last checkpoint: `pst-rl report` shows them
        plot_report(results, trainer.state.log_history, f"{folder}/report.png")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()  # saves them too
    else:
        trainer.save_model()
    if main:
        names = ", ".join(results.peers)
        print(f"Results, plot and the trained peers are in {folder}: results.json, report.png, {names}")
        print(f"A page of it: {shlex.join(['pst-rl', 'report', str(folder)])}")
