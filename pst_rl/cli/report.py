"""`pst-rl report`: runs in, one page and its pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from pst_rl.progress.phases import phase


@dataclass
class Report:
    """Show runs, evaluations and gaps: one HTML page that needs nothing else, and a PNG of each chart.

    Reads what the folders of `train`, `eval` and `gv-gap` hold: results.json, the newest trainer state, the
    completions, the monitor of collapse, responses.jsonl. What is missing is named on the page.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Output folders of train, eval and gv-gap, in any mixture; runs are shown side by side."""
    output_dir: Path | None = None
    """Folder for report.html and the PNGs; by default `report` in the first of the folders."""
    steps: tuple[int, ...] | None = None
    """Steps in the table of questions; by default six of the recorded ones, evenly spaced."""
    questions: int | None = None
    """Questions shown of a generation batch (by default 64), and of an evaluation (by default 200)."""
    characters: int = 4000
    """Characters shown of a completion or response."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Writes the page.

        Raises:
            FileNotFoundError: A folder holds nothing to show.
            ValueError: No folder, one named twice, or a limit below 1.
        """
        from pst_rl.report.measured import read_folders
        from pst_rl.report.page import write_page
        from pst_rl.report.questions import Limits

        if not self.runs:
            raise ValueError("Name the output folder of at least one run, evaluation or measurement of gaps.")
        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise ValueError("A folder is named twice.")
        if self.characters < 1 or (self.questions is not None and self.questions < 1):
            raise ValueError("--questions and --characters must be at least 1.")
        with phase("reading the runs", brief=True):
            runs, measured = read_folders(self.runs)
        chosen = {} if self.questions is None else {"questions": self.questions, "measured": self.questions}
        limits = Limits(self.steps, characters=self.characters, **chosen)
        with phase("drawing"):
            page = write_page(runs, self.output_dir or self.runs[0] / "report", limits, measured)
        lacking = [(one.name, one.missing) for one in runs] + [(one.name, one.missing) for one in measured]
        for name, parts in lacking:
            for part in parts:
                print(f"{name}: missing {part}")
        print(f"The page is {page}; its charts are beside it as PNGs.")
