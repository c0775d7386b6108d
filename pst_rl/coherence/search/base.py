"""The loop that all searches share: start, steps, restarts, saving, and what is returned."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, get_args

from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import coherence, leave_one_out
from pst_rl.coherence.search.run import Run
from pst_rl.coherence.search.state import State, load, pack, unpack
from pst_rl.progress.phases import phase
from pst_rl.progress.show import showing

Start = Literal["zero_shot", "random", "few", "empty"]


@dataclass(frozen=True, kw_only=True)
class Searcher(ABC):
    """A search for labels that predict each other: chain-rule coherence is what its restarts are compared by.

    Attributes:
        start: The labels to begin with. "zero_shot": each item's most probable label given the clamped ones alone.
            "random": every block draws from its consistent labels. "few": `initial` random items have random labels,
            the others grow from them. "empty": clamped labels alone; the first sweep of `Gibbs` then *samples* a
            labelling, each item given those before it. From wrong labels a search tends to settle on a labelling that
            forgives them, which may be far less coherent than the best: "empty" with many restarts avoids that.
        initial: K, the number of labelled items of the start "few".
        restarts: Searches one after the other, of which the most coherent labelling without violations is kept.
        keep: "best": the most coherent of the labellings that were measured on the way; "last": a restart's last one.
        orders: R, the orders over which coherence is averaged, the same in all searches of n items; each measurement
            reads R n units. One is exact for an exchangeable predictor. Our choice: 2.

    Raises:
        ValueError: an option outside its range.
    """

    name: ClassVar[str]
    fine_tunes: ClassVar[bool] = False  # whether it trains copies of the model

    start: Start = "zero_shot"
    initial: int = 8
    restarts: int = 1
    keep: Literal["best", "last"] = "best"
    orders: int = 2

    def __post_init__(self):
        check(self.start in get_args(Start), "start", f"one of {', '.join(get_args(Start))}", self.start)
        check(self.keep in ("best", "last"), "keep", '"best" or "last"', self.keep)
        for option in ("initial", "restarts", "orders"):
            check(getattr(self, option) >= 1, option, "at least 1", getattr(self, option))

    def search(
        self,
        predictor: Predictor,
        problem: Problem,
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        save_every: int = 1,
        progress: bool = False,
    ) -> Labelling:
        """Labels all items of the problem.

        Args:
            folder: Where `search.json` is kept. If a state is there, the search goes on from it, and returns what
                it would have returned without the interruption: labels, probabilities, counted cost and all.
            save_every: Steps between two writes of it, each of which waits for the disk. What was not written is done
                again.
            progress: Show the phase on the standard output, where nothing shows phases already: a bar with the time
                left on a terminal, else lines.

        Raises:
            ValueError: The predictor is not one of these items and labels, or the folder has the state of a search
                with other settings, another seed, problem or predictor (`Predictor.identity`).
        """
        if (predictor.n_items, predictor.n_labels) != (problem.n_items, problem.n_labels):
            raise ValueError(
                f"The predictor knows {predictor.n_items} items with {predictor.n_labels} labels, "
                f"the problem has {problem.n_items} with {problem.n_labels}."
            )
        check(save_every >= 1, "save_every", "at least 1", save_every)
        run = self._open(predictor, problem, seed, folder)
        state, last = run.state, self._steps(problem)
        done = lambda: state.restart * (last + 2) + state.step + 1  # noqa: E731
        with ExitStack() as shown:
            if progress:
                shown.enter_context(showing(self.name, sys.stdout))
            note = lambda: _noted(run)  # noqa: E731
            with phase(self.name, self.restarts * (last + 2), "steps", found=done(), note=note) as searching:
                while state.restart < self.restarts:
                    with run.counted():
                        self._advance(run, last)
                    if folder is not None and (state.step % save_every == 0 or state.step < 0):
                        state.save(Path(folder))
                    searching.reach(done())
            with phase("confidences", note=lambda: _noted(run)):
                return self._labelling(run, seed)

    @abstractmethod
    def _steps(self, problem: Problem) -> int:
        """Number of steps of a restart."""

    @abstractmethod
    def _step(self, run: Run, step: int) -> None:
        """Makes step number 1, 2, ... of a restart: new labels go through `run.take`."""

    def _begin(self, run: Run) -> None:
        """Once a restart has its start labels: sets `extra`, what this kind of search keeps beside them."""
        run.state.extra = {}

    def _measured_every(self, problem: Problem) -> int:
        """Steps between two measurements of coherence."""
        return 1

    def _open(self, predictor: Predictor, problem: Problem, seed: int, folder: str | Path | None) -> Run:
        settings = {"method": self.name, **asdict(self), "seed": seed, **problem.description(), **predictor.identity()}
        settings = json.loads(json.dumps(settings))  # as they are read back
        state = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            state = load(Path(folder), settings)
        state = state or State(settings, pack(Random(seed)))
        return Run(predictor, problem, state, unpack(state.rng))

    def _advance(self, run: Run, last: int) -> None:
        """One start, step or end of a restart."""
        state, problem = run.state, run.problem
        if state.step < 0:
            state.labels = [problem.clamped.get(item) for item in range(problem.n_items)]
            state.changed_at = [0] * problem.n_items
            run.take(self._start(run), 0)
            self._begin(run)
            state.step = 0
        elif state.step < last:
            self._step(run, state.step + 1)
            state.step += 1
        else:
            if None in state.labels:
                self._fill(run, last + 1)
            self._measure(run)
            state.restart, state.step = state.restart + 1, -1
        if self.keep == "best" and 0 <= state.step < last and state.step % self._measured_every(problem) == 0:
            self._measure(run)
        state.rng = pack(run.rng)

    def _start(self, run: Run) -> list[int | None]:
        problem, rng, labels = run.problem, run.rng, list(run.state.labels)
        if self.start == "empty":
            return labels
        if self.start == "zero_shot":
            return run.relabelled(sorted(problem.clamped), problem.blocks)
        free = [item for item in range(problem.n_items) if item not in problem.clamped]
        chosen = rng.sample(free, min(self.initial, len(free))) if self.start == "few" else free
        wanted = set(chosen)
        for index in dict.fromkeys(problem.block_of[item] for item in chosen):
            block, options = problem.blocks[index], problem.assignments(problem.blocks[index])
            for item, label in zip(block, options[rng.randrange(len(options))].tolist(), strict=True):
                if item in wanted:
                    labels[item] = label
        return labels

    def _fill(self, run: Run, step: int) -> None:
        """Gives every item that is still without a label its most probable one, given all the others."""
        labelled = [item for item in orders_of(run.problem.n_items, 1)[0] if run.state.labels[item] is not None]
        blocks = [block for block in run.problem.blocks if any(run.state.labels[item] is None for item in block)]
        run.take(run.relabelled(labelled, blocks, fill=True), step)

    def _measure(self, run: Run) -> None:
        """Measures the current labels, and keeps them if they are the best so far."""
        state = run.state
        if None in state.labels:
            return
        nats = coherence(run.predictor, state.labels, orders_of(run.problem.n_items, self.orders)).nats
        violations = len(run.problem.violations(state.labels))
        state.history.append([state.restart, state.step, nats, violations])
        best = state.best
        if best is None or (-violations, nats) > (-best["violations"], best["coherence"]):
            kept = {"labels": list(state.labels), "changed_at": list(state.changed_at)}
            state.best = {**kept, "coherence": nats, "violations": violations}

    def _labelling(self, run: Run, seed: int) -> Labelling:
        state, best = run.state, run.state.best
        assert best is not None, "the end of a restart measures its labelling"
        blocks = list(run.problem.blocks)
        Random(0).shuffle(blocks)
        with run.counted():
            scores = leave_one_out(run.predictor, best["labels"], blocks)
        return Labelling(
            labels=tuple(best["labels"]),
            probabilities=tuple(map(tuple, scores.exp().tolist())),
            changed_at=tuple(best["changed_at"]),
            coherence=best["coherence"],
            violations=best["violations"],
            units=state.units,
            tokens=state.tokens,
            seed=seed,
            method=self.name,
        )


def orders_of(n_items: int, count: int) -> list[list[int]]:
    """The orders of items over which searches measure coherence: a function of n alone, so that seeds compare."""
    rng = Random(0)
    return [rng.sample(range(n_items), n_items) for _ in range(count)]


def halves(blocks: Sequence[Sequence[int]], rng: Random) -> list[tuple[list, list]]:
    """(relabelled, shown) for both halves of the blocks, shuffled."""
    shuffled = list(blocks)
    rng.shuffle(shuffled)
    middle = len(shuffled) // 2
    return [(shuffled[middle:], shuffled[:middle]), (shuffled[:middle], shuffled[middle:])]


def check(fits: bool, option: str, wanted: str, value: Any) -> None:
    """Raises a ValueError that says what an option must be, unless it fits."""
    if not fits:
        raise ValueError(f"`{option}` must be {wanted}, got {value!r}.")


def _noted(run: Run) -> str:
    """What is said of a search beside its steps, which may be long: what it has read, and the best so far."""
    best = run.state.best
    read = f"{run.predictor.tokens:,} tokens read"
    return read if best is None else f"{read}, best {best['coherence']:.1f} nats"
