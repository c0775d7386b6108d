"""After training: a peer discusses its answers with itself or another peer, and what that does to its accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from accelerate.utils import gather_object

from pst_rl.answers import is_correct
from pst_rl.data import split_labels
from pst_rl.discussion.saie import SAIERollout, Session
from pst_rl.discussion.stances import StancePolicy, make_stance, needs_target
from pst_rl.peers.prompts import Prompt
from pst_rl.records import Response, Rollout
from pst_rl.stages.evaluation import evaluating
from pst_rl.stages.rollout import roll_out

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset

    from pst_rl.config import PSTConfig
    from pst_rl.discussion.base import Discussion
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.stages.rollout import RolloutRequest

ALONE, SELF = "alone", "self"


class PeerHolder(Protocol):
    """What is read of a `PSTTrainer`, trained or not: its peers and the run's settings."""

    args: PSTConfig
    accelerator: Accelerator
    discussion: Discussion | None
    peers: dict[str, PeerTrainer]

    @property
    def trained(self) -> Mapping[str, PeerTrainer]:
        """The peers that are updated, by name."""
        ...

    def rollout_request(self, prompts: list[Prompt], greedy: bool = False) -> RolloutRequest:
        """The rollout stage's input for these prompts."""
        ...


def discuss(
    trainer: PeerHolder,
    questions: Sequence[Prompt],
    learner: str,
    partner: str = SELF,
    turns: int = 1,
    stance: str | StancePolicy = "neutral",
    rollout: SAIERollout | None = None,
) -> list[Response]:
    """Greedy answers of one peer, each discussed with a partner.

    Self-discussion and collaborative discussion are the two modes reported of SAIE (arXiv 2311.08107). No target is
    known here, so the stance cannot depend on one: by default the remark takes no side (our choice).

    Args:
        trainer: A `PSTTrainer`; it holds the peers and the run's settings.
        questions: Messages, or text, which becomes a user message.
        learner: The peer that answers, and answers again.
        partner: Another peer (collaborative discussion), or `"self"` (self-discussion).
        turns: Remarks, and revised answers, for each question.
        stance: `"neutral"`, `"random"`, `"support_only"`, `"adversarial_only"`, or a policy.
        rollout: Templates and form of the discussion; default that of the run, if it has one.

    Returns:
        One response per question: its first answer, with `turns`. A discussion that cannot go on (answer cut off, no
        room left) ends early. `final_answer` is what the peer says in the end. The same list on every process.

    Raises:
        ValueError: No peer of that name, or a stance that needs a target.
    """
    prompts: list[Prompt] = [[{"role": "user", "content": q}] if isinstance(q, str) else q for q in questions]
    return _held(trainer, prompts, learner, [partner], turns, stance, rollout)[partner]


def final_answer(response: Response):
    """The last answer of a discussion (the only one, where nothing was said), or `None`."""
    return response.turns[-1].answer if response.turns else response.answer


@dataclass(frozen=True)
class DiscussionResults:
    """What is right, alone and after discussion.

    Attributes:
        responses: `responses[learner][partner][q]`; the partners are `"self"` and the other peers.
        correct: `correct[learner][setting][q]`; the settings are `"alone"` and the partners.
    """

    responses: dict[str, dict[str, list[Response]]]
    correct: dict[str, dict[str, list[bool]]]

    def metrics(self) -> dict[str, float]:
        """Accuracies, `<learner>/accuracy/<setting>`."""
        return {
            f"{learner}/accuracy/{setting}": sum(hits) / len(hits)
            for learner, settings in self.correct.items()
            for setting, hits in settings.items()
        }


def measure_discussion(
    trainer: PeerHolder,
    dataset: Dataset,
    learners: Sequence[str] | None = None,
    turns: int = 1,
    stance: str | StancePolicy = "neutral",
    rollout: SAIERollout | None = None,
) -> DiscussionResults:
    """Exact match of each learner alone, after self-discussion, and after discussion with each other peer.

    Greedy throughout; the first answers are the same in all settings. Labels only score.

    Args:
        trainer: A `PSTTrainer`; it holds the peers, trained or not.
        dataset: Questions with a label column.
        learners: Peers to measure; default those that are trained.
        turns, stance, rollout: As in [`discuss`].

    Raises:
        ValueError: No labels, or as in [`discuss`].
    """
    dataset, gold = split_labels(dataset, trainer.args.label_columns)
    if not gold:
        raise ValueError("These questions have no label column, so no accuracy can be measured; see `label_columns`.")
    answers, metric = [gold[i] for i in dataset["question_id"]], trainer.args.answer_metric
    responses, correct = {}, {}
    for learner in trainer.trained if learners is None else learners:
        partners = [SELF, *(name for name in trainer.peers if name != learner)]
        held = _held(trainer, list(dataset["prompt"]), learner, partners, turns, stance, rollout)
        said = {ALONE: [response.answer for response in held[SELF]]}
        said |= {partner: [final_answer(response) for response in held[partner]] for partner in partners}
        responses[learner] = held
        correct[learner] = {
            setting: [
                a is not None and is_correct(a, right, metric=metric) for a, right in zip(given, answers, strict=True)
            ]
            for setting, given in said.items()
        }
    return DiscussionResults(responses, correct)


def _held(
    trainer: PeerHolder,
    prompts: list[Prompt],
    learner: str,
    partners: list[str],
    turns: int,
    stance: str | StancePolicy,
    rollout: SAIERollout | None,
) -> dict[str, list[Response]]:
    """Every question discussed with every partner, the questions shared out over the processes."""
    engines = _find(trainer, learner, partners)
    if rollout is None:
        rollout = trainer.discussion if isinstance(trainer.discussion, SAIERollout) else SAIERollout()
    form = replace(rollout, turns=turns, stance=stance, shuffle_remarks=False)
    if needs_target(make_stance(stance, form.support_share)):
        raise ValueError(
            f"stance={stance!r} compares answers with a target, and none is known outside training. Use 'neutral', "
            "'random', 'support_only' or 'adversarial_only'."
        )
    rank, world = trainer.accelerator.process_index, trainer.accelerator.num_processes
    # Questions of like length share a batch, so that little is spent on padding.
    mine = sorted(range(rank, len(prompts), world), key=lambda q: len(str(prompts[q])))
    size = trainer.args.per_device_eval_batch_size
    local: list[tuple[str, int, Response]] = []
    with evaluating(trainer.peers.values()):
        for start in range(0, len(mine), size):
            chunk = mine[start : start + size]
            request = trainer.rollout_request([prompts[q] for q in chunk], greedy=True)
            request = replace(request, orders=[(0,)] * len(chunk), sequential=False)
            first = roll_out([trainer.peers[learner]], request).rollouts[0]
            for partner, engine in engines.items():
                session = Session(trainer.peers[learner], engine, request, first, None, chunk, partner, chunk)
                held = form.hold(session)
                local += [(partner, q, _response(first, held, i)) for i, q in enumerate(chunk)]
    found = {(partner, q): response for partner, q, response in gather_object(local)}
    return {partner: [found[partner, q] for q in range(len(prompts))] for partner in partners}


def _find(trainer: PeerHolder, learner: str, partners: list[str]) -> dict[str, PeerTrainer]:
    """The partners' engines, by the name they were asked for."""
    for name in (learner, *partners):
        if name != SELF and name not in trainer.peers:
            raise ValueError(f"There is no peer {name!r}; the peers are {', '.join(trainer.peers)}.")
    return {partner: trainer.peers[learner if partner == SELF else partner] for partner in partners}


def _response(first: Rollout, held: Rollout, row: int) -> Response:
    length = len(first.completion_ids[row])
    turns = () if held.turns is None else held.turns[row]
    return Response(first.texts[row], first.answers[row], first.finished[row], length, turns=turns)
