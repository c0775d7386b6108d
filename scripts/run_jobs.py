"""What the studies share: their options, and independent jobs in parallel, each in a process forked from this one.

The imports are paid once, and no run leaves state behind for the next. A finished result is never computed again.
"""

import argparse
import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pst_rl.quiet import quiet_output


@dataclass(frozen=True)
class Job:
    """One result to make.

    Attributes:
        label: What is printed when it is done.
        file: Where the result goes, as JSON; `.log` and `.error` beside it.
        work: Makes the result.
        headline: The one number to print.
    """

    label: str
    file: Path
    work: Callable[[], dict]
    headline: Callable[[dict], float]


def study_parser(text: str, name: str, arms: str, choices: Sequence[str], **defaults: Any) -> argparse.ArgumentParser:
    """The options of a study: which arms at which seeds, on which questions, and where the results go.

    Args:
        text: The script's docstring.
        name: Of the folder of single results in `runs/`.
        arms, choices: Name of the option that chooses arms, and all of them; no such option where there are none.
        defaults: Of `seeds`, `split` and, where the number of held-out questions can be chosen, `questions`;
            `settings=False` where there are no shared settings to change.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    if choices:
        metavar = arms.removesuffix("s").upper()
        parser.add_argument(f"--{arms}", nargs="+", default=list(choices), choices=list(choices), metavar=metavar)
    parser.add_argument("--seeds", nargs="+", type=int, default=defaults.get("seeds", [0, 1, 2, 3, 4]))
    split = defaults.get("split", "test")
    parser.add_argument("--split", default=split, choices=["validation", "test"], help="questions to measure on")
    if "questions" in defaults:
        parser.add_argument("--questions", type=int, default=defaults["questions"], help="how many of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="folder of the single results")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="folder of what is written of them")
    if defaults.get("settings", True):
        parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="change the shared settings")
    return parser


def with_changes(settings: dict[str, Any], items: Sequence[str]) -> dict[str, Any]:
    """The shared settings with those of `--set`."""
    return settings | {name: json.loads(value) for name, value in (item.split("=", 1) for item in items)}


def result_file(folder: Path, name: str, seed: int) -> Path:
    """Where the result of a named run goes: `<name>.seed<seed>.json`."""
    return folder / f"{''.join(c if c.isalnum() or c == '.' else '_' for c in name)}.seed{seed}.json"


_jobs: Sequence[Job] = ()  # set before the processes are forked, since closures cannot be sent to them


def run_jobs(jobs: Sequence[Job], processes: int) -> int:
    """Runs the jobs whose result is missing and returns how many failed."""
    global _jobs
    _jobs = [job for job in jobs if not job.file.is_file()]
    failed = 0
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for message, worked in pool.imap_unordered(_run, range(len(_jobs)), chunksize=1):
            print(message, flush=True)
            failed += not worked
    return failed


def _run(index: int) -> tuple[str, bool]:
    job = _jobs[index]
    job.file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(job.file.with_suffix(".log"), "w") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
            quiet_output()
            result = job.work()
    except Exception:
        error = job.file.with_suffix(".error")
        error.write_text(traceback.format_exc())
        return f"{job.label}: failed, see {error}", False
    job.file.write_text(json.dumps(result))
    return f"{job.label}: {job.headline(result):+.2f}", True
