"""Seconds and tokens of every phase of a training step, on any side of the benchmark."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback
from trl import GRPOTrainer

PHASES = ("generate", "pmi", "reference", "aggregate and reward", "loss and backward", "optimizer", "overhead")
UPDATE = "loss and backward"


class Stopwatch:
    """Exclusive seconds by phase: what runs inside an inner phase is not charged to the outer one."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.marks: list[tuple[float, float, Counter, Counter]] = []  # the beginning of each step
        self._stack: list[str] = ["overhead"]
        self._since = self._now()

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _charge(self) -> None:
        now = self._now()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def enter(self, phase: str) -> None:
        self._charge()
        # The log-probabilities asked for inside the loss are part of the loss.
        self._stack.append(UPDATE if phase == "reference" and UPDATE in self._stack else phase)

    def leave(self) -> None:
        self._charge()
        self._stack.pop()

    @contextmanager
    def phase(self, name: str):
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    @property
    def current(self) -> str:
        return self._stack[-1]

    def mark(self) -> None:
        """A step begins."""
        self._charge()
        self.marks.append((self._since, time.process_time(), self.seconds.copy(), self.tokens.copy()))

    def wrap(self, owner: Any, name: str, phase: str, count: Callable[..., None] | None = None) -> None:
        """Replaces a method by one that charges its phase, and calls `count(result, *arguments)` afterwards."""
        inner = getattr(owner, name)

        @wraps(inner)
        def timed(*args, **kwargs):
            with self.phase(phase):
                result = inner(*args, **kwargs)
                if count is not None:
                    count(result, *args)
            return result

        setattr(owner, name, timed)

    def result(self, warmup: int, steps: int) -> dict[str, Any]:
        """Median seconds, and CPU seconds, of the steps after the warm-up; mean seconds and tokens of their phases."""
        marks = self.marks[warmup : warmup + steps + 1]
        if len(marks) != steps + 1:
            raise RuntimeError(f"{len(self.marks)} steps were begun, {warmup + steps + 1} are needed.")
        between = lambda column: median(b[column] - a[column] for a, b in zip(marks, marks[1:], strict=False))  # noqa: E731
        (*_, seconds, tokens), (*_, last_seconds, last_tokens) = marks[0], marks[-1]
        return {
            "step": between(0),
            "cpu_step": between(1),
            "seconds": {p: (last_seconds[p] - seconds[p]) / steps for p in last_seconds},
            "tokens": {p: (last_tokens[p] - tokens[p]) / steps for p in last_tokens},
        }


class StepClock(TrainerCallback):
    """Marks the steps of a Hugging Face training loop, and the optimizer's share of them."""

    def __init__(self, watch: Stopwatch):
        self.watch = watch

    def on_step_begin(self, args, state, control, **kwargs):
        self.watch.mark()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.watch.enter("optimizer")

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.watch.leave()


def watch_models(watch: Stopwatch) -> None:
    """Counts, for each phase, the positions that models read, padding included."""
    inner = torch.nn.Embedding.forward

    def counted(self, ids):
        watch.tokens[watch.current] += ids.numel()
        return inner(self, ids)

    torch.nn.Embedding.forward = counted


def watch_grpo(watch: Stopwatch, trainer: type[GRPOTrainer] = GRPOTrainer) -> None:
    """Times what GRPO does in TRL's class, or in one that extends it."""

    def count_trained(_, trainer, model, inputs, *__):
        watch.tokens["trained"] += int(inputs["completion_mask"].sum())

    watch.wrap(trainer, "_get_per_token_logps_and_entropies", "reference")
    watch.wrap(trainer, "compute_loss", UPDATE, count_trained)
    watch.wrap(Accelerator, "backward", UPDATE)
