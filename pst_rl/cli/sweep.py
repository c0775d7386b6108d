"""`pst-rl sweep`: a recipe in, runs over seeds and options out, and one table of them."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
import yaml

from pst_rl.cli.config_file import read_config
from pst_rl.options import OLD_FIELDS, new_spelling

CONFIG, LOG, RESULTS = "run.yaml", "train.log", "results.json"


@dataclass
class Sweep:
    """Train by one recipe at several seeds and with several values of options, and compare the gains.

    Each run has a folder of its own. What is finished is not run again, and what was interrupted goes on from its last
    checkpoint, so the same command resumes a sweep. Without gold answers in the data there are no gains to compare.
    """

    recipe: Annotated[Path, tyro.conf.Positional]
    """YAML or JSON file with options of `pst-rl train`."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds; every setting is run at each of them."""
    set: list[str] = field(default_factory=list)
    """NAME=VALUE,VALUE ...: the values of an option, written as in YAML. Several options are crossed."""
    output_dir: Path = Path("runs/sweep")
    """Folder of the runs, and of sweep.md, sweep.json and sweep.png."""
    jobs: int = 1
    """Runs at a time."""
    dry_run: bool = False
    """Only list the runs."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> int:
        """Runs what is not finished, then writes the table; returns 1 if a run failed.

        Raises:
            FileNotFoundError, ValueError: There is no such recipe, or it or an option cannot be read.
        """
        if self.jobs < 1 or not self.seeds:
            raise ValueError("A sweep needs at least one seed, and --jobs of at least 1.")
        runs = plan(read_config(str(self.recipe)), self.set, self.seeds, self.output_dir)
        for one in runs:
            one.check()
        print(f"{len(runs)} runs in {self.output_dir}, {sum(one.finished for one in runs)} of them finished.")
        if self.dry_run:
            print("\n".join(f"  {one.folder.name}: {shlex.join(one.command())}" for one in runs))
            return 0
        failed = run_all([one for one in runs if not one.finished], self.jobs)
        finished = [one for one in runs if one.finished]
        if finished:
            from pst_rl.report.sweep import write_sweep

            print(write_sweep(self.output_dir, [(one.setting, one.seed, one.folder) for one in finished]))
        return int(failed > 0)


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One run of a sweep.

    Attributes:
        setting: What is set beyond the recipe, such as `weighting=pmi`; "recipe" where nothing is.
        seed: Its seed.
        folder: Its output folder.
        options: All options of `pst-rl train`.
    """

    setting: str
    seed: int
    folder: Path
    options: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it has written its results."""
        return (self.folder / RESULTS).is_file()

    def check(self) -> None:
        """Refuses a folder that holds a run with other options.

        Raises:
            ValueError: It does.
        """
        file = self.folder / CONFIG
        if not file.is_file():
            return
        there = read_config(str(file))
        changed = sorted(k for k in there.keys() | self.options.keys() if there.get(k) != self.options.get(k))
        if changed:
            raise ValueError(
                f"{self.folder} holds a run with another {', '.join(changed)}. Remove it, or name another "
                "--output-dir."
            )

    def command(self) -> list[str]:
        """The command line that makes it, or goes on with it."""
        return [sys.executable, "-m", "pst_rl.cli", "train", "--config", str(self.folder / CONFIG)] + (
            ["--resume-from-checkpoint", "last"] if any(self.folder.glob("checkpoint-*")) else ["--overwrite"]
        )

    def start(self) -> subprocess.Popen:
        """Starts it, its words going to a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CONFIG).write_text(yaml.safe_dump(self.options, sort_keys=False), encoding="utf-8")
        with open(self.folder / LOG, "a", encoding="utf-8") as log:
            return subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT)


def plan(recipe: dict[str, Any], sets: Sequence[str], seeds: Iterable[int], folder: Path) -> list[SweepRun]:
    """All runs of a sweep: every combination of values at every seed.

    Raises:
        ValueError: `NAME=VALUE,...` is not of that form, or names an option twice, or one that a sweep sets itself.
    """
    axes = [_axis(text) for text in sets]
    if len({name for name, _ in axes}) < len(axes):
        raise ValueError("--set names an option twice: give all its values at once, as in NAME=1,2.")
    if taken := {"seed", "output_dir"} & {name for name, _ in axes}:
        raise ValueError(
            f"--set {taken.pop()} has no effect: name seeds with --seeds, and a folder with --output-dir."
        )
    runs = []
    for values in itertools.product(*(values for _, values in axes)):
        chosen = {name: value for (name, _), value in zip(axes, values, strict=True)}
        setting = " ".join(f"{name}={_shown(value)}" for name, value in chosen.items()) or "recipe"
        old = {name: value for name, value in chosen.items() if name in OLD_FIELDS}
        options = recipe | {n: v for n, v in chosen.items() if n not in old} | (new_spelling(old) if old else {})
        for seed in seeds:
            name = "".join(c if c.isalnum() or c in "=.-_" else "_" for c in f"{setting} seed={seed}")
            own = {"seed": seed, "output_dir": str(folder / name)}
            runs.append(SweepRun(setting, seed, folder / name, options | own))
    return runs


def _axis(text: str) -> tuple[str, list[Any]]:
    """The name of an option and its values.

    >>> _axis("rewards=[vote_share],[random]")
    ('rewards', [['vote_share'], ['random']])
    """
    name, is_set, values = text.partition("=")
    try:
        found = yaml.safe_load(f"[{values}]") if is_set and values else []
    except yaml.YAMLError:
        found = []
    if not name or not found:
        raise ValueError(f"--set takes NAME=VALUE,VALUE such as learning_rate=1e-5,2e-5, got {text!r}.")
    return name.replace("-", "_"), [_number(value) for value in found]


def _number(value: Any) -> Any:
    """YAML reads 1e-5 as a word."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_all(runs: Sequence[SweepRun], jobs: int, interval: float = 0.5) -> int:
    """Runs them, so many at a time, a line when one ends; returns how many failed.

    After Ctrl-C or SIGTERM those that run are asked to save and stop, and waited for.
    """
    waiting, failed = list(runs), 0
    running: dict[SweepRun, subprocess.Popen] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                one = waiting.pop(0)
                print(f"{one.folder.name}: started, its words go to {one.folder / LOG}", flush=True)
                running[one] = one.start()
            for one, process in _ended(running):
                del running[one]
                failed += process.returncode != 0 or not one.finished
                print(f"{one.folder.name}: {_ending(one, process.returncode)}", flush=True)
            time.sleep(interval)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _ended(running: dict[SweepRun, subprocess.Popen]) -> Iterator[tuple[SweepRun, subprocess.Popen]]:
    yield from [(one, process) for one, process in running.items() if process.poll() is not None]


def _ending(one: SweepRun, status: int) -> str:
    if status == 0 and one.finished:
        return "finished"
    lines = (one.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"ended with status {status}: {lines[-1] if lines else 'no word'}"
