"""`pst-rl train`: peers and questions in, better peers out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pst_rl.cli.parse import Arguments


@dataclass
class TrainOptions:
    """What a training run is about; how it is trained is in `PSTConfig` and TRL's `ModelConfig`."""

    preset: str = "demo"
    """Named options to start from: demo, qlora or paper."""
    config: str | None = None
    """YAML or JSON file with options; flags override it."""
    peers: list[str] = field(default_factory=lambda: ["tiny"])
    """Hub ids or folders of the models; `tiny` stands for the three embedded ones."""
    dataset: str = "tiny"
    """`tiny`, multiarith, simuleq, math500, gsm8k, a Hub id, or a .jsonl, .json, .csv or .parquet file."""
    question_column: str | None = None
    """Column with the questions, if it cannot be guessed."""
    answer_column: str | None = None
    """Column with gold answers (used to measure only), if it cannot be guessed."""
    prompt_template: str = "{question}"
    """Prompt around each question."""
    train_questions: int | None = None
    """Unlabelled questions to train on; unset: all of the training split."""
    eval_split: str = "test"
    """Split to measure on; choose settings on `validation`."""
    test_questions: int = 900
    """Held-out questions to measure greedy exact match on."""
    pooled_questions: int = 300
    """How many of them are also answered by samples, for the pooled vote; 0 to leave it out."""
    pooled_samples: int = 8
    """Samples per peer and question for the pooled vote."""


@dataclass
class Train(TrainOptions):
    """Let several models train each other on questions without labels, and measure them before and after.

    All options of `PSTConfig` (a `GRPOConfig`) and of TRL's `ModelConfig` are flags, too: `pst-rl train --help` lists
    them. For several processes: `accelerate launch --num_processes N -m pst_rl.cli train ...`.
    """

    dry_run: bool = False
    """Show the first prompt of each peer, and estimate tokens, memory and time; load no weights, write nothing."""
    tokens_per_second: float | None = None
    """For the time in a dry run: completion tokens of all peers per second of training, from a short run of yours."""


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
        """Reads the words after `pst-rl train`; raises as [`pst_rl.cli.parse.parse`] does."""
        from pst_rl.cli.parse import parse
        from pst_rl.cli.presets import PRESETS, TINY_STYLE

        return cls(parse(Train, PRESETS, TINY_STYLE, argv, prog="pst-rl train"), ("train", *argv))

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
        from pst_rl.cli.training import run_training

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
