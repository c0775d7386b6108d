"""`pst-rl report`: runs in, one page and its pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from pst_rl.progress.phases import phase


@dataclass
class Report:
    """Show runs: one HTML page that needs nothing else, and a PNG of each chart.

    Reads what the folders hold: results.json, the newest trainer state, the completions, the monitor of collapse. What
    is missing is named on the page.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Output folders of runs; several are shown side by side."""
    output_dir: Path | None = None
    """Folder for report.html and the PNGs; by default `report` in the first run's folder."""
    steps: tuple[int, ...] | None = None
    """Steps in the table of questions; by default six of the recorded ones, evenly spaced."""
    questions: int = 64
    """Questions shown of a generation batch."""
    characters: int = 4000
    """Characters shown of a completion."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Writes the page.

        Raises:
            FileNotFoundError: A folder holds no run.
            ValueError: No run, one named twice, or a limit below 1.
        """
        from pst_rl.report.page import write_page
        from pst_rl.report.questions import Limits
        from pst_rl.report.run import read_runs

        if not self.runs:
            raise ValueError("Name the output folder of at least one run.")
        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise ValueError("A run is named twice.")
        if min(self.questions, self.characters) < 1:
            raise ValueError("--questions and --characters must be at least 1.")
        with phase("reading the runs", brief=True):
            runs = read_runs(self.runs)
        limits = Limits(self.steps, questions=self.questions, characters=self.characters)
        with phase("drawing"):
            page = write_page(runs, self.output_dir or self.runs[0] / "report", limits)
        for run in runs:
            for part in run.missing:
                print(f"{run.name}: missing {part}")
        print(f"The page is {page}; its charts are beside it as PNGs.")
