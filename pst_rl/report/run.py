"""What the folder of a run holds: results, logs, completions, alarms; and what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from pst_rl.report.results import RunResults, read_results
from pst_rl.report.results_file import FILE, WrongKind

if TYPE_CHECKING:
    import pandas

NEEDED = ("step", "peer", "question", "completion")  # columns of a completions table


@dataclass(frozen=True)
class Run:
    """One run, as far as its folder knows it.

    Attributes:
        name: What it is called on the page.
        folder: Where it lies.
        results: Of `results.json`, if it is there.
        history: The logs of the newest trainer state, oldest first; empty without one.
        tables: The completions tables by step.
        alarms: What the monitor of collapse found; `None` if that is not known.
        missing: One sentence for each part that is not there or cannot be read.
    """

    name: str
    folder: Path
    results: RunResults | None
    history: list[dict[str, Any]]
    tables: dict[int, list[Path]] = field(default_factory=dict)
    alarms: list[str] | None = None
    missing: tuple[str, ...] = ()

    @property
    def peers(self) -> list[str]:
        """Names of the peers, in the run's order where it is known."""
        if self.results is not None:
            return list(self.results.peers)
        logged = {key.removesuffix("/parsed"): None for entry in self.history for key in entry if _is_peers(key)}
        if logged or not self.tables:
            return list(logged)
        return list(dict.fromkeys(self.completions([min(self.tables)])["peer"]))

    def completions(
        self, steps: Sequence[int] | None = None, columns: Sequence[str] | None = None
    ) -> pandas.DataFrame:
        """The rows of these steps (default: all), one under the other, with these columns only, if any are named."""
        import pandas

        wanted = set(self.tables if steps is None else steps)
        paths = sorted({path for step in wanted for path in self.tables[step]})
        frames = [frame[frame["step"].isin(wanted)] for frame in map(_read_table, paths)]
        frames = [frame if columns is None else frame[[c for c in frame if c in columns]] for frame in frames]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=list(NEEDED))


def read_run(folder: str | Path, name: str | None = None) -> Run:
    """Reads what the folder holds of a run; a part that is missing or broken is named in `Run.missing`.

    Raises:
        FileNotFoundError: The folder is not there, or holds nothing of a run.
        WrongKind: All it holds is the results of another command.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r}.")
    missing: list[str] = []
    results, foreign = _results(folder, missing)
    state = _newest_state(folder, missing)
    tables = _tables(folder, missing)
    if results is None and state is None and not tables:
        if foreign is not None:
            raise foreign
        raise FileNotFoundError(_no_run(folder, missing))
    alarms = _alarms(folder, results, state, missing)
    history = [] if state is None else state[1]["log_history"]
    return Run(name or folder.resolve().name, folder, results, history, tables, alarms, tuple(missing))


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Reads several runs; folders of one name are called by what was typed.

    Raises:
        FileNotFoundError, WrongKind: As `read_run`.
    """
    names = [Path(folder).resolve().name for folder in folders]
    return [
        read_run(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def _is_peers(key: str) -> bool:
    return key.count("/") == 1 and key.endswith("/parsed") and not key.startswith(("eval_", "peers/"))


def _results(folder: Path, missing: list[str]) -> tuple[RunResults | None, WrongKind | None]:
    """The results, or why those that are there are not a run's."""
    path = folder / FILE
    if not path.is_file():
        missing.append(f"{FILE}: accuracy before and after, cost by phase and options are not known.")
        return None, None
    try:
        return read_results(path), None
    except WrongKind as error:
        missing.append(f"{FILE} of a training run: {error}")
        return None, error
    except (ValueError, TypeError) as error:
        missing.append(f"{FILE} cannot be read ({error}).")
        return None, None


def _newest_state(folder: Path, missing: list[str]) -> tuple[Path, dict[str, Any]] | None:
    """The trainer state with the most steps, and its path."""
    found = None
    for path in [*sorted(folder.glob("checkpoint-*/trainer_state.json")), folder / "trainer_state.json"]:
        if not path.is_file():
            continue
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            state["log_history"] = [entry for entry in state["log_history"] if "step" in entry]
            steps = int(state["global_step"])
        except (ValueError, KeyError, TypeError) as error:
            missing.append(f"{path.relative_to(folder)} cannot be read ({type(error).__name__}: {error}).")
            continue
        if found is None or steps >= found[1]["global_step"]:
            found = (path, state)
    if found is None:
        missing.append("trainer_state.json, also in a checkpoint: the curves over training are not known.")
    return found


def _tables(folder: Path, missing: list[str]) -> dict[int, list[Path]]:
    """The completions tables by step. Each is opened, so that a broken one is named here and not met later."""
    tables: dict[int, list[Path]] = {}
    paths = sorted(path for kind in ("parquet", "jsonl") for path in folder.glob(f"completions/*.{kind}"))
    for path in paths:
        try:
            frame = _read_table(path)
        except (ValueError, OSError) as error:
            missing.append(f"{path.relative_to(folder)} cannot be read ({str(error).splitlines()[0]}).")
            continue
        if lacking := [column for column in NEEDED if column not in frame]:
            missing.append(f"{path.relative_to(folder)} is no table of pst_rl: it has no column {', '.join(lacking)}.")
            continue
        for step in frame["step"].unique():
            tables.setdefault(int(step), []).append(path)
    if not paths:
        missing.append("completions: the questions are not known. Train with --log-completions to keep them.")
    return tables


def _read_table(path: Path) -> pandas.DataFrame:
    import pandas

    if path.suffix == ".parquet":
        return pandas.read_parquet(path)
    return pandas.read_json(path, lines=True, dtype=False, convert_dates=False)  # "12" stays text


def _alarms(folder: Path, results: RunResults | None, state, missing: list[str]) -> list[str] | None:
    """From the results, or from the monitor's own state beside the newest trainer state."""
    if results is not None and results.alarms is not None:
        return results.alarms
    path = None if state is None else state[0].parent / "joint_state_0.pt"
    if path is not None and path.is_file():
        import torch

        try:
            return list(
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)["parts"]["collapse"]["alarms"]
            )
        except (RuntimeError, OSError, KeyError, EOFError, UnpicklingError) as error:  # broken, or of an older version
            missing.append(f"{path.relative_to(folder)} does not say ({type(error).__name__}).")
    missing.append("the monitor of collapse: whether it raised an alarm is not known.")
    return None


def _no_run(folder: Path, missing: list[str]) -> str:
    broken = [sentence for sentence in missing if "cannot be read" in sentence or "no table" in sentence]
    message = f"{str(folder)!r} holds no run: no results.json, no trainer_state.json, no completions."
    if broken:
        message += f" {' '.join(broken)}"
    parts = ("results.json", "checkpoint-*/trainer_state.json", "completions/*.parquet")
    inside = sorted({str(found.parents[part.count("/")]) for part in parts for found in folder.glob(f"*/{part}")})
    if inside:
        message += f" These hold one: {', '.join(inside[:5])}{', ...' if len(inside) > 5 else ''}."
    return message
