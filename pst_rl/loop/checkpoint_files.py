"""Checkpoints on disk: whole or not there at all, with a checksum of every file.

A checkpoint is written in `.unfinished/` beside its final place; the manifest, written last, holds the SHA-256 of
every file; all is synced to disk, and one rename brings it to its place. A kill at any moment leaves the earlier ones.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pst_rl.files import file_digest

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the earlier ones are as they were."""


def seal(folder: Path) -> None:
    """Writes the manifest of a checkpoint whose other files are all there, and syncs everything to disk.

    Raises:
        OSError: The disk is full or broken.
    """
    files = {}
    for path in files_of(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    with open(folder / MANIFEST, "w") as file:
        json.dump({"version": 1, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(inner)


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a checkpoint, without its manifest, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)


def publish(unfinished: Path, final: Path) -> None:
    """Seals a checkpoint and moves it to its place; one that is there under its name is replaced.

    Raises:
        OSError: The disk is full or broken; what stood in its place still does.
    """
    seal(unfinished)
    if final.exists():  # a run that went on from an earlier checkpoint comes by here again
        final.rename(unfinished.with_name(f"replaced-{final.name}"))
    unfinished.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(unfinished.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder, and new names, survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fault_of(folder: Path, checksums: bool = True) -> str | None:
    """Why a checkpoint cannot be trusted; `None` if it is complete.

    Args:
        checksums: Read every file and compare its SHA-256, not only its length.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}, so it is incomplete, or was written by an older version"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} cannot be read"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"it is incomplete: {name} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{name} has {size} bytes instead of {expected['bytes']}"
        if checksums and file_digest(path) != expected["sha256"]:
            return f"{name} does not match its checksum"
    return None


def checkpoints_of(run: str | os.PathLike) -> list[Path]:
    """The checkpoint folders of a run, newest (highest step) first, complete or not."""
    found: dict[int, Path] = {}
    for path in Path(run).glob("checkpoint-*"):
        if path.is_dir() and (match := re.fullmatch(r"checkpoint-(\d+)", path.name)):
            found[int(match[1])] = path
    return [found[step] for step in sorted(found, reverse=True)]


def newest_complete(run: str | os.PathLike, checksums: bool = True) -> tuple[Path | None, dict[Path, str]]:
    """The newest complete checkpoint of a run, and the newer ones that were skipped, each with the reason."""
    skipped: dict[Path, str] = {}
    for folder in checkpoints_of(run):
        fault = fault_of(folder, checksums)
        if fault is None:
            return folder, skipped
        skipped[folder] = fault
    return None, skipped


def find_checkpoint(
    run: str | os.PathLike, wanted: str | os.PathLike | Literal[True], anyway: bool = False
) -> str | None:
    """The checkpoint to resume from; newer ones that are damaged are named in a warning.

    Args:
        run: The output folder.
        wanted: A checkpoint folder; `"last"` or `True` for the newest complete one of the run; `"auto"` for the same,
            or a new start where the run has none.
        anyway: Go on from a folder given by name even if it is damaged, or has no manifest.

    Returns:
        Its folder; `None` only with `"auto"`, where there is nothing to go on from.

    Raises:
        FileNotFoundError: There is no such checkpoint, or none that is complete.
        ValueError: The folder given is damaged.
    """
    word = str(wanted).lower()
    if wanted is True or word in ("last", "true", "auto"):
        found, skipped = newest_complete(run)
        for folder, fault in skipped.items():
            logger.warning("Skipped %s: %s.", folder, fault)
        if found is not None:
            logger.warning("Resuming from %s.", found)
            return str(found)
        if word == "auto" and not skipped:
            return None
        faults = "".join(f"\n  {folder.name}: {fault}" for folder, fault in skipped.items())
        raise FileNotFoundError(
            f"There is no {'complete ' if skipped else ''}checkpoint in {str(run)!r} to resume from.{faults}"
        )
    folder = Path(wanted)
    if not folder.is_dir():
        raise FileNotFoundError(f"{str(wanted)!r} is no checkpoint.")
    if (fault := fault_of(folder)) is not None:
        if not anyway:
            raise ValueError(
                f"{folder} cannot be trusted: {fault}. Resume from another checkpoint (`last` takes the newest "
                "complete one), or set resume_anyway=True (on the command line: --resume-anyway) to load it as it is."
            )
        logger.warning("Resuming from %s although %s.", folder, fault)
    return str(folder)
