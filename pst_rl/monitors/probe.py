"""Asks the peers the same questions again and again while they train: do they still say what they once voted for?"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from datasets import Dataset

    from pst_rl.stages.evaluation import Evaluation

SAMPLES = 4  # of each peer, for the vote at the start
FALL = 2.0  # standard errors
POINTS = 0.012  # of agreement: smaller falls are nothing, however sure


class AgreementProbe:
    """The share of greedy answers that are what the peers voted for before they were trained, on fixed questions.

    Before the first step every peer answers Q of the training questions, drawn once with the run's seed, four times;
    v(q) is the most common answer of all samples. Later every peer p answers them greedily, a_t(p, q), and

        A_t(q) = mean over trained peers p of [a_t(p, q) = v(q)]

    Peers that learn from each other move towards their vote, or stay; a reward that leads away from what they know
    moves them away, whatever else it does. The fall since the best t* is judged in pairs, question by question:

        mean(A_t* - A_t) > max(0.012, 2 sqrt(var(A_t* - A_t) / Q))

    Each of these is our choice. No label is read, and the random numbers of the run are left as they were. Every peer
    answers alone, also where it is trained with `context="sequential"`.

    Args:
        questions: The Q questions ([`draw_questions`]).
        measure: Asks all peers, as `PSTTrainer.measure` does.
        record: Takes `peers/probe_agreement` for the logs.
        trained: Names of the peers that are updated.
        device: Where answers are sampled: its generator is left as it was.

    Attributes:
        history: `(step, mean of A_t, its fall since the best in standard errors)`, from step 0.
    """

    def __init__(
        self,
        questions: Dataset,
        measure: Callable[..., Evaluation],
        record: Callable[[dict[str, float]], None],
        trained: Collection[str],
        device: torch.device,
    ):
        self.questions = questions
        self.measure = measure
        self.record = record
        self.trained = frozenset(trained)
        self.device = device
        self.history: list[tuple[int, float, float]] = []
        self._vote: list[str | None] = []
        self._best: list[float] = []

    def ask(self, step: int) -> str | None:
        """Asks all peers; returns what is wrong, if their agreement fell. Call it on every process."""
        first = not self._vote
        with _own_randomness(self.device):
            answers = self.measure(self.questions, samples=SAMPLES if first else 0)
        if first:
            self._vote = [
                _most_common([r.key for peer in answers.sampled for r in peer[q]])
                for q in range(len(answers.greedy[0]))
            ]
        voted = [(q, vote) for q, vote in enumerate(self._vote) if vote is not None]
        trained = [rows for name, rows in zip(answers.names, answers.greedy, strict=True) if name in self.trained]
        agreement = [fmean(rows[q].key == vote for rows in trained) for q, vote in voted]
        best = self._best or agreement
        fell = [before - after for before, after in zip(best, agreement, strict=True)]
        error = math.sqrt(pvariance(fell) / len(fell)) if fell else 0.0
        errors = fmean(fell) / error if error else 0.0
        now = fmean(agreement) if agreement else 0.0
        self.history.append((step, now, errors))
        self.record({"peers/probe_agreement": now})
        if errors <= 0:
            self._best = agreement
        if errors <= FALL or fmean(fell) <= POINTS:
            return None
        return f"agreement with the first vote: {100 * now:.1f} %, {100 * fmean(best):.1f} % before"

    def state_dict(self) -> dict[str, Any]:
        return {"history": list(self.history), "vote": list(self._vote), "best": list(self._best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = [tuple(entry) for entry in state["history"]]
        self._vote, self._best = list(state["vote"]), list(state["best"])


def draw_questions(dataset: Dataset, count: int, seed: int) -> Dataset:
    """The questions a probe asks, without labels: the same `count` for each seed, in the order of the data set.

    Raises:
        ValueError: There are fewer.
    """
    if count > len(dataset):
        raise ValueError(f"collapse_probe={count}, but there are {len(dataset)} training questions.")
    chosen = random.Random(f"probe/{seed}").sample(range(len(dataset)), count)
    return dataset.select_columns(["prompt"]).select(sorted(chosen))


def _own_randomness(device: torch.device):
    """Sampling inside leaves the generators as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _most_common(keys: list[str | None]) -> str | None:
    """The first of the most common answers; `None` if there is none."""
    counts = Counter(key for key in keys if key is not None)
    return counts.most_common(1)[0][0] if counts else None
