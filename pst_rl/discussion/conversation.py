"""One sequence that holds a whole discussion: a peer's own answers, and what it hears in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from pst_rl.peers.prompts import foreign_prompt, prompt_text, show_peers
from pst_rl.records import Rollout, Turn

if TYPE_CHECKING:
    from pst_rl.answers import Answer
    from pst_rl.peers.peer_trainer import PeerTrainer

Remarks = dict[int, tuple[str, str]]  # by row: the remark, and the stance it was asked to take


@dataclass
class Conversation:
    """One row as it grows: its prompt, all tokens after it, and the peer's last answer."""

    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float] | None
    text: str
    answer: Answer | None
    turns: list[Turn] = field(default_factory=list)

    @classmethod
    def start(cls, rollout: Rollout, row: int) -> Conversation:
        """A conversation of which only the first answer has been given."""
        logprobs = None if rollout.logprobs is None else list(rollout.logprobs[row])
        ids = list(rollout.completion_ids[row])
        return cls(rollout.prompt_ids[row], ids, logprobs, rollout.texts[row], rollout.answers[row])

    def add(self, remark: str, stance: str, heard: list[int], said: Rollout, row: int) -> None:
        """Adds what was heard, as foreign tokens, and the answer to it."""
        start = len(self.ids) + len(heard)
        self.ids += [*heard, *said.completion_ids[row]]
        if self.logprobs is not None:
            assert said.logprobs is not None  # the same engine returned some with the first answer
            self.logprobs += [0.0] * len(heard) + said.logprobs[row]  # foreign tokens are masked out of the loss
        self.text, self.answer = said.texts[row], said.answers[row]
        self.turns.append(Turn(remark, stance, self.text, self.answer, said.finished[row], start, len(self.ids)))


@dataclass(frozen=True)
class Hearing:
    """How a learner hears a remark: the foreign tokens between two of its answers.

    Attributes:
        form: `"chat"`, `"text"`, or `"auto"`: chat where the learner has a chat template.
        message: The user's turn for chat; `{remark}` is filled.
        template: Plain text that follows the learner's tokens; `{remark}` is filled.
        max_row_tokens: Most tokens a row may have after its prompt; `None`: only the model's window limits it.
    """

    form: str
    message: str
    template: str
    max_row_tokens: int | None

    def fit(self, learner: PeerTrainer, row: Conversation, remark: str) -> tuple[str, list[int]] | None:
        """The remark, without as much of its beginning as must go for the next answer to fit, and its tokens.

        `None` if nothing of it fits.
        """
        room = learner.prompt_room - len(row.prompt_ids) - len(row.ids)
        if self.max_row_tokens is not None:
            room = min(room, self.max_row_tokens - len(row.ids) - learner.max_completion_length)
        while remark:
            ids = self._ids(learner, row, remark)
            if len(ids) <= room:
                return remark, ids
            remark = learner.keep_last_tokens(remark, len(ids) - room)
        return None

    def _ids(self, learner: PeerTrainer, row: Conversation, remark: str) -> list[int]:
        if self.form == "text" or (self.form == "auto" and not learner.format.chat):
            return learner.text_ids(self._words(learner, self.template, remark), trusted=True)
        # An answer that was cut at a stop string has not ended its turn; the template needs that.
        closing = [] if row.ids[-1] in learner.eos_token_ids else [learner.end_of_turn]
        return closing + learner.user_turn_ids(self._words(learner, self.message, remark))

    def _words(self, learner: PeerTrainer, template: str, remark: str) -> str:
        """A template with the remark as the learner may hear it (`pst_rl.peers.foreign_text`)."""
        template = template.replace("{remark}", "{text}")
        heard = foreign_prompt(learner.format, lambda prompt, texts: show_peers(prompt, texts, template), "", [remark])
        return prompt_text(heard)


def exchange(remarks: Remarks, questions: list[int], rng: Random) -> Remarks:
    """Gives each row a remark made on another question; where all rows have one question, there is none to give."""
    rows: dict[int, list[int]] = {}
    for i in remarks:
        rows.setdefault(questions[i], []).append(i)
    if len(rows) < 2:
        return {}
    circle = list(rows.values())
    rng.shuffle(circle)
    pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
    return {i: remarks[donors[k % len(donors)]] for own, donors in pairs for k, i in enumerate(own)}
