"""Runs independent jobs in parallel, each in a fresh process forked from this one.

The imports are paid once, and no run leaves state behind for the next. A finished result is never computed again.
"""

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


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
            result = job.work()
    except Exception:
        error = job.file.with_suffix(".error")
        error.write_text(traceback.format_exc())
        return f"{job.label}: failed, see {error}", False
    job.file.write_text(json.dumps(result))
    return f"{job.label}: {job.headline(result):+.2f}", True
