"""`pst-rl train`: peers and questions in, better peers out. Parsing is light; a run imports what it needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pst_rl.cli.exit_status import INTERRUPTED, NOT_WRITTEN, NUMERIC_FAULT, TERMINATED, Terminated
from pst_rl.cli.options import Train, data_note, load_splits, named_peers, scoring_note
from pst_rl.cli.parse import Arguments, check_resume, parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.cli.progress import RichProgress
    from pst_rl.trainer import PSTTrainer

LOOKED_AT = 64  # prompts that the header's estimate of memory is made from


@dataclass(frozen=True)
class TrainRun:
    """A parsed `pst-rl train`.

    Attributes:
        arguments: What the command line says.
        words: The command line without its program.
    """

    arguments: Arguments
    words: tuple[str, ...]

    resume_flag: ClassVar[str] = ""

    @classmethod
    def parse(cls, argv: Sequence[str]) -> TrainRun:
        """Reads the words after `pst-rl train`, and the prompt that they name.

        Raises:
            ValueError, FileNotFoundError, SystemExit: As [`pst_rl.cli.parse.parse`] does; or there is no such prompt.
        """
        from pst_rl.benchmarks.prompts import load_prompt

        arguments = parse(Train, PRESETS, TINY_STYLE, argv, prog="pst-rl train")
        arguments.script.prompt_template = load_prompt(arguments.script.prompt_template).text
        return cls(arguments, ("train", *argv))

    def run(self) -> int:
        """Measures, trains, measures and saves; returns the exit status.

        Raises:
            FileNotFoundError, ValueError: For anything that does not fit, before training.
        """
        script = self.arguments.script
        speed = script.tokens_per_second
        if speed is not None and not script.dry_run:
            raise ValueError("--tokens-per-second is for an estimate: add --dry-run.")
        if speed is not None and speed <= 0:
            raise ValueError(f"--tokens-per-second must be above 0, got {speed}.")
        if script.dry_run:
            from pst_rl.cli.train_dry_run import plan_training

            print("\n".join(plan_training(self.arguments)))
            return 0
        return run_training(self.arguments, self.command())

    def command(self) -> list[str]:
        """How this run was started, as far as it can be known."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return [
                "accelerate",
                "launch",
                "--num_processes",
                os.environ["WORLD_SIZE"],
                "-m",
                "pst_rl.cli",
                *self.words,
            ]
        return ["pst-rl", *self.words]


def run_training(arguments: Arguments, command: list[str]) -> int:
    """Does it all; returns the exit status (`pst_rl.cli.exit_status`).

    Args:
        command: The words that started this run, to say how to go on.

    Raises:
        FileNotFoundError, ValueError: For anything that does not fit, before training.
    """
    from trl import get_peft_config, get_quantization_config

    from pst_rl.cli.progress import show_progress
    from pst_rl.loop.lock import RunLock
    from pst_rl.loop.reporters import check_reporters
    from pst_rl.loop.used_folder import check_start, clear_folder
    from pst_rl.loop.whole_run import whole_run
    from pst_rl.peers.words import read_peers
    from pst_rl.trainer import PSTTrainer

    script, args, model = arguments.script, arguments.config, arguments.model
    check_resume(args)
    check_reporters(args.report_to)
    if args.should_save:
        sources = [peer.model for peer in read_peers(script.peers)]
        check_start(args.output_dir, args.resume_from_checkpoint, sources, script.overwrite)
    with phase("loading the questions", brief=True):
        train, test = load_splits(script)
    if args.should_log:
        print("".join(f"{line}\n" for line in scoring_note(script, args.answer_metric)), end="")
    RunLock(args.output_dir, active=args.should_save).hold()  # one run in a folder, from here to the end
    trainer = PSTTrainer(
        named_peers(script.peers, model),
        args,
        train_dataset=train,
        eval_dataset=test,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    trainer.prompt_template = script.prompt_template
    wanted = args.resume_from_checkpoint
    checkpoint = trainer.checkpoint_to_resume(wanted) if wanted else None
    if args.should_save and checkpoint is None:
        clear_folder(args.output_dir)  # only now that all that was asked for fits

    ending = Ending(show_progress(trainer), command)
    whole_run(
        trainer,
        script.dataset,
        checkpoint=checkpoint,
        samples=script.pooled_samples,
        pooled_questions=script.pooled_questions,
        notes=arguments.notes,
        more=_of_the_command(arguments, trainer),
        config=settings(arguments),
        ending=ending,
    )
    return ending.status


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
        from pst_rl.loop.checkpoint_files import CheckpointError
        from pst_rl.loop.faults import NumericFault

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


def _of_the_command(arguments: Arguments, trainer: PSTTrainer) -> list[tuple[str, str]]:
    """Lines of the header about what only the command line knows."""
    from pst_rl.cli.train_dry_run import memory_of

    script = arguments.script
    method = f", method {script.method}" if script.method else ""
    prompts = trainer.train_dataset["prompt"][:LOOKED_AT]
    longest = max(len(engine.prompt_ids(prompt)) for engine in trainer.engines for prompt in prompts)
    return [
        ("preset", f"{script.preset}{method}"),
        ("data", data_note(script)),
        ("memory", memory_of(arguments, trainer.specs.values(), longest)),
    ]


def settings(arguments: Arguments) -> dict[str, Any]:
    """Everything that was set, for the results."""
    return asdict(arguments.script) | arguments.config.to_dict() | {"model": asdict(arguments.model)}
