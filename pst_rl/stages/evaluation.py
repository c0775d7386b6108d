"""Greedy exact match of every peer, the greedy vote, and the pooled vote of samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from pst_rl.aggregation.votes import Majority
from pst_rl.answers import is_correct
from pst_rl.progress.phases import phase
from pst_rl.records import Response
from pst_rl.stages.rollout import RolloutRequest, roll_out

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pst_rl.answers.score import Metric
    from pst_rl.peers.peer_trainer import PeerTrainer


@dataclass(frozen=True)
class EvaluationRequest:
    """Attributes:
    engines, names: The peers.
    prompts: One per question.
    gold: Gold answer per question, or `None` if there are no labels.
    rollout: Template of the rollout request (hooks and switches); prompts and orders are filled in here.
    samples: Samples per peer and question for the pooled vote; 0 for none.
    pooled_questions: How many questions, from the first, are sampled.
    batch_size: Questions generated at a time.
    metric: How an answer is compared with gold (`pst_rl.answers.is_correct`).
    """

    engines: list[PeerTrainer]
    names: tuple[str, ...]
    prompts: list[Any]
    gold: list[Any] | None
    rollout: RolloutRequest
    samples: int
    pooled_questions: int
    batch_size: int
    accelerator: Accelerator
    metric: Metric = "whole"


@dataclass(frozen=True)
class Evaluation:
    """Responses `greedy[p][q]` and `sampled[p][q]` (tuples, empty without samples), and what is correct.

    `correct[name][q]` for each peer, `"vote"` and, with samples, `"pooled_vote"`; `None` without labels.
    """

    names: tuple[str, ...]
    greedy: list[list[Response]]
    sampled: list[list[tuple[Response, ...]]]
    correct: dict[str, list[bool]] | None

    def metrics(self) -> dict[str, float]:
        """Shares under the names used in logs, without the `eval_` prefix; of greedy answers, but for `pooled_vote`.

        - `<peer>/parsed`: of the questions, those with an answer.
        - `peers/pairwise_agreement`: of all pairs of peers at all questions, those that give the same answer; not for
          one peer. (`peers/agreement` is another quantity, of the samples in training: see `joint_metrics`.)
        - `<peer>/accuracy`, `vote/accuracy`, `pooled_vote/accuracy`: exact match; only with labels.
        - `peers/unanimous_wrong`: questions at which all peers give the same wrong answer; only with labels.
        """
        count = len(self.greedy[0])
        values = {
            f"{name}/parsed": sum(r.answer is not None for r in rows) / count
            for name, rows in zip(self.names, self.greedy, strict=True)
        }
        pairs = [
            (a[q].key, b[q].key) for q in range(count) for i, a in enumerate(self.greedy) for b in self.greedy[i + 1 :]
        ]
        if pairs:
            values["peers/pairwise_agreement"] = sum(a is not None and a == b for a, b in pairs) / len(pairs)
        if self.correct is not None:
            values |= {f"{name}/accuracy": sum(hits) / len(hits) for name, hits in self.correct.items()}
            unanimous = [q for q in range(count) if len({rows[q].key for rows in self.greedy}) == 1]
            wrong = sum(self.greedy[0][q].key is not None and not self.correct["vote"][q] for q in unanimous)
            values["peers/unanimous_wrong"] = wrong / count
        return values


def metric_names(peers: Collection[str], *, labels: bool, pooled: bool) -> list[str]:
    """The names of [`Evaluation.metrics`], before anything is measured.

    Args:
        labels: Whether there are gold answers.
        pooled: Whether samples are drawn for the pooled vote.
    """
    names = [f"{peer}/parsed" for peer in peers]
    if len(peers) > 1:
        names.append("peers/pairwise_agreement")
    if labels:
        counted = [*peers, "vote", *(["pooled_vote"] if pooled else [])]
        names += [*(f"{name}/accuracy" for name in counted), "peers/unanimous_wrong"]
    return names


def evaluate_peers(request: EvaluationRequest) -> Evaluation:
    """Asks every question of every peer, the questions shared out over the processes."""
    count = len(request.prompts)
    greedy = _ask(request, count, 1, greedy=True)
    pooled = request.pooled_questions if request.samples else 0
    sampled = _ask(request, pooled, request.samples, greedy=False) if pooled else []
    first = [[rows[0] for rows in peer] for peer in greedy]
    correct = None
    if request.gold is not None:
        correct = {
            name: [is_right(r, g, request.metric) for r, g in zip(rows, request.gold, strict=True)]
            for name, rows in zip(request.names, first, strict=True)
        }
        correct["vote"] = _vote(greedy, request.gold, request.metric)
        if sampled:
            correct["pooled_vote"] = _vote(sampled, request.gold[:pooled], request.metric)
    return Evaluation(request.names, first, sampled, correct)


@contextmanager
def evaluating(engines: Collection[PeerTrainer]) -> Iterator[None]:
    """All peers in evaluation mode; afterwards, also after an error, in the mode they were in."""
    models = [engine.model for engine in engines if engine.model is not None]
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)


def is_right(response: Response, gold: Any, metric: Metric = "whole") -> bool:
    """Exact match of one finished, parsed response."""
    return response.answer is not None and is_correct(response.answer, gold, metric=metric)


def _vote(rows: list[list[tuple[Response, ...]]], gold: Sequence[Any], metric: Metric) -> list[bool]:
    majority, hits = Majority(), []
    for q, answer in enumerate(gold):
        target = majority.vote([(p, g, r) for p, peer in enumerate(rows) for g, r in enumerate(peer[q])])
        hits.append(target is not None and is_correct(target.answer, answer, metric=metric))
    return hits


def _ask(request: EvaluationRequest, questions: int, copies: int, greedy: bool) -> list[list[tuple[Response, ...]]]:
    """`copies` responses of each peer to each of the first `questions`: [peer][question] -> tuple."""
    rank, world = request.accelerator.process_index, request.accelerator.num_processes
    # Questions of like length share a batch, so that little is spent on padding.
    mine = sorted(range(rank, questions, world), key=lambda q: len(str(request.prompts[q])))
    size = max(1, request.batch_size // copies)
    peers = len(request.engines)
    local: list[tuple[int, list[tuple[Response, ...]]]] = []
    kind, unit = ("greedy", "questions") if greedy else ("samples", "responses")
    asked = phase(kind, questions * copies, unit, parts=request.names, share=world)
    with asked, evaluating(request.engines):
        for start in range(0, -(-questions // world), size):  # as many batches on every process, the last may be empty
            chunk = mine[start : start + size]
            prompts = [request.prompts[q] for q in chunk for _ in range(copies)]
            orders = [tuple(range(peers))] * len(prompts)
            filled = replace(request.rollout, prompts=prompts, orders=orders, greedy=greedy)
            rollouts = roll_out(request.engines, filled).rollouts
            for k, q in enumerate(chunk):
                rows = range(k * copies, (k + 1) * copies)
                local.append((q, [tuple(_response(r, i) for i in rows) for r in rollouts]))
    by_question = dict(gather_object(local))
    return [[by_question[q][p] for q in range(questions)] for p in range(peers)]


def _response(rollout, row: int) -> Response:
    return Response(rollout.texts[row], rollout.answers[row], rollout.finished[row], len(rollout.completion_ids[row]))
