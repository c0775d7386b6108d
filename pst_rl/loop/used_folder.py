"""Output folders that an earlier run has used: what it left there, refused or taken away before another begins."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pst_rl.loop.checkpoint_files import UNFINISHED, checkpoints_of
from pst_rl.report.results_file import FILE, WrongKind, read_results_file

logger = logging.getLogger(__name__)

OWN_FILES = (FILE, "trainer_state.json", "report.png")
COMPLETIONS = "completions"
MEASURED = "measured_before.json"
"""What was measured before training, for a run that goes on. Alone it makes no folder used; a new run replaces it."""


def earlier_run(folder: str | os.PathLike) -> list[Path]:
    """What a training run left in a folder, and another one would mix with its own or replace.

    Results, logs, plot, checkpoints, the completions of generation batches, and saved peers: folders with a model card
    of ours. Nothing else in the folder is a run's.
    """
    run = Path(folder)
    found = [run / name for name in OWN_FILES if (run / name).is_file()]
    found += [*reversed(checkpoints_of(run)), *(path for path in [run / UNFINISHED] if path.is_dir())]
    found += sorted((run / COMPLETIONS).glob("completions_*.parquet"))
    return found + [path.parent for path in sorted(run.glob("*/training_args.bin")) if _is_peer(path.parent)]


def check_folder(folder: str | os.PathLike, sources: Iterable[str | os.PathLike], overwrite: bool) -> None:
    """Refuses a folder in which a new run would mix with an earlier one, or replace what it begins with.

    Args:
        sources: The peers' models, as far as they are folders.
        overwrite: Whether what an earlier run left may be taken away ([`clear_folder`]).

    Raises:
        ValueError: It is used and `overwrite` is unset; what is there is no training run's; or a peer would be loaded
            from what is replaced.
    """
    run, left = Path(folder), earlier_run(folder)
    if (run / FILE).is_file():
        try:
            read_results_file(run, "training")
        except WrongKind as error:
            raise ValueError(f"{error} Training would replace it: choose another --output-dir.") from None
        except ValueError:
            pass  # damaged, or of another version: a run's, as far as its place says
    if left and not overwrite:
        raise ValueError(
            f"{run} holds an earlier run ({_listed(run, left)}). Go on with it (--resume-from-checkpoint last), begin "
            "anew in its place (--overwrite), or choose another --output-dir."
        )
    for source in map(Path, filter(os.path.isdir, sources)):
        inside = [path for path in left if source.resolve().is_relative_to(path.resolve())]
        if inside or source.resolve().parent == run.resolve():
            raise ValueError(
                f"The peer {source} lies in the output folder, where its trained successor would replace it: choose "
                "another --output-dir."
            )


def check_start(
    folder: str | os.PathLike, resume: str | bool | None, sources: Iterable[str | os.PathLike], overwrite: bool
) -> None:
    """[`check_folder`], unless the run goes on from a checkpoint in this folder.

    Args:
        resume: As `resume_from_checkpoint` of [`~pst_rl.PSTConfig`].

    Raises:
        ValueError: As [`check_folder`], or the run is to go on and to begin anew.
    """
    if resume and overwrite:
        raise ValueError("--overwrite begins anew, and --resume-from-checkpoint goes on: leave one of them out.")
    word = str(resume).lower()
    if not resume:
        goes_on = False
    elif word in ("last", "true", "auto"):
        # One that ended before its first checkpoint leaves nothing to keep: `auto` begins anew.
        goes_on = word != "auto" or bool(checkpoints_of(folder)) or not (Path(folder) / FILE).is_file()
    else:
        goes_on = Path(str(resume)).resolve().parent == Path(folder).resolve()
    if not goes_on:
        check_folder(folder, sources, overwrite)


def clear_folder(folder: str | os.PathLike) -> None:
    """Takes away what [`earlier_run`] finds, and what was measured before; everything else stays."""
    for path in earlier_run(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (Path(folder) / MEASURED).unlink(missing_ok=True)
    completions = Path(folder) / COMPLETIONS
    if completions.is_dir() and not any(completions.iterdir()):
        completions.rmdir()


def warn_of_earlier_run(folder: str | os.PathLike) -> None:
    """Says in one line that a new run begins in a used folder: a notebook's cell may well be run twice."""
    if left := earlier_run(folder):
        logger.warning(
            "%s holds an earlier run (%s): this one replaces its files one by one, and those that it does not write "
            "itself stay among its own. Set another output_dir to keep the two apart.",
            folder,
            _listed(Path(folder), left),
        )


def _is_peer(folder: Path) -> bool:
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return re.search(r"^- pst-rl$", text, re.MULTILINE) is not None


def _listed(run: Path, left: list[Path]) -> str:
    names = list(dict.fromkeys(path.relative_to(run).parts[0] for path in left))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
