"""Output folders of measurements: the cache is for all of them, results are of one, and an earlier one's are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pst_rl.loop.lock import RunLock
from pst_rl.progress.phases import say
from pst_rl.report.results_file import FILE, WrongKind, read_results_file, write_results_file

KNOWN_BY = ("benchmark", "data", "split", "prompt", "scorings", "scoring", "questions", "peers", "judges", "settings")
"""What tells two measurements apart. The same one again has the same results, and replaces them."""


def take_folder(folder: Path, kind: str) -> None:
    """Holds a folder for this process, to its end.

    Args:
        kind: Of the results that will be written (`pst_rl.report.results_file.KINDS`).

    Raises:
        ValueError: Its results are of another command, which these would replace; another process holds it; or it
            cannot be written to.
    """
    try:
        read_results_file(folder, kind)
    except WrongKind as error:
        raise ValueError(f"{error} These results would replace it: choose another --output-dir.") from None
    except (FileNotFoundError, ValueError):
        pass
    RunLock(folder).hold()


def write_measurement(folder: Path, kind: str, results: Mapping[str, Any], beside: Sequence[str] = ()) -> Path:
    """Writes `results.json` and returns its path; those of another measurement are kept, which is said.

    Args:
        beside: Names of the files that belong to it, and are written afterwards.
    """
    if kept := keep_earlier(folder, kind, results, beside):
        say(f"Other results were in {folder}: they are in {kept} now.")
    return write_results_file(folder, kind, results)


def keep_earlier(folder: Path, kind: str, results: Mapping[str, Any], beside: Sequence[str] = ()) -> Path | None:
    """Moves the results of another measurement out of the way, to `earlier-1`, `earlier-2` ...

    Args:
        results: Those that are about to be written.
        beside: Names of the files that belong to `results.json`.

    Returns:
        Where they are now; `None` if there were none, or those of the same measurement.
    """
    try:
        there = read_results_file(folder, kind)
    except FileNotFoundError:
        return None
    except ValueError:
        there = {}  # of another version, or damaged: not to be lost all the same
    if there and all(there.get(name) == results.get(name) for name in KNOWN_BY):
        return None
    number = 1 + sum(path.is_dir() for path in folder.glob("earlier-*"))
    kept = folder / f"earlier-{number}"
    kept.mkdir()
    for path in [folder / name for name in (FILE, *beside)]:
        if path.is_file():
            path.rename(kept / path.name)
    return kept
