"""The discussion of SAIE: a partner remarks on the learner's answer, and the learner answers again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Literal

from pst_rl.discussion.base import RolloutContext
from pst_rl.discussion.conversation import Conversation, Hearing, Remarks, exchange
from pst_rl.discussion.stances import ATTACK, SUPPORT, StancePolicy, make_stance
from pst_rl.peers.prompts import Prompt, show_peers
from pst_rl.records import Rollout, Target
from pst_rl.stages.rollout import UNPARSED, FittedPrompt, RolloutRequest, fit_prompt, parse

if TYPE_CHECKING:
    from pst_rl.answers import Answer
    from pst_rl.peers.peer_trainer import PeerTrainer

SHOWN = "\n\nA student answered:\n{draft}\n\n"


@dataclass(frozen=True)
class Session:
    """One learner's rows on this process, to be discussed with one partner.

    Attributes:
        learner, partner: The peers; the same one twice is self-discussion.
        request: The rollout request: `request.prompts` are the rows' questions.
        rollout: The learner's first answers.
        targets: Target of each row; `None` altogether where no target is known (after training).
        questions: Index of each row's question.
        seed: Seed of all that is drawn at random; row i draws from `seed`, its `places` entry and the turn.
        places: What tells the rows of all processes apart.
    """

    learner: PeerTrainer
    partner: PeerTrainer
    request: RolloutRequest
    rollout: Rollout
    targets: list[Target | None] | None
    questions: list[int]
    seed: str
    places: Sequence[int]

    def has_target(self, row: int) -> bool:
        """Whether the row can be discussed: with a target, or where none is known of any row."""
        return self.targets is None or self.targets[row] is not None

    def agrees(self, row: int, answer: Answer | None) -> bool | None:
        """Whether an answer is the row's target; `None` where no target is known."""
        if self.targets is None:
            return None
        target = self.targets[row]
        return answer is not None and target is not None and answer.key == target.answer.key


@dataclass(frozen=True)
class SAIERollout:
    """
    Later turns in which every trainable peer, as a learner, hears a remark on its answer and answers again.

        turn t:  s_t = stance(is the learner's current answer the target?)
                 m_t ~ partner( . | question, current response, s_t)
                 r_t ~ learner( . | question, r_0, m_1, r_1, ..., m_t)        in the learner's own context

    Source: SAIE (arXiv 2311.08107). Stated: on-policy supportive and adversarial remarks on a learner's answer, and a
    learner that is updated on the discussion. The rule for the stance, all prompts, the number of turns, and that
    every trainable peer is a learner, are our choice; a fixed partner (reported of the paper) is a peer with
    `PeerSpec(trainable=False)`. The remark is the partner's whole response; the partner reads the current response
    only, not the earlier turns (our choice).

    Each row stays one sequence: r_0, m_1, r_1, ... The token that ended an answer stays in it, as the learner sampled
    it. A row goes on only while there is a target, its last answer was finished, the partner said something, and the
    next turn fits: a remark that is too long loses its beginning, and the row ends there if nothing of it fits.

    Args:
        turns: Later turns, at least 1. Each one costs a remark and a revised answer.
        partner: `"next"` (the next peer; a single peer discusses with itself), `"random"` (another peer for each
            learner and generation batch), `"self"`, or the name of a peer.
        stance: `"by_agreement"`, `"inverse"`, `"random"`, `"support_only"`, `"adversarial_only"`, `"neutral"`, or a
            callable (see `pst_rl.discussion.stances`).
        support_share: Probability of support for `stance="random"`.
        support_template, attack_template, neutral_template: What follows the question in the partner's prompt;
            `{draft}` is the learner's current response.
        form: How the learner hears a remark: `"chat"` (a user's turn of its chat template), `"text"` (plain text after
            its tokens), or `"auto"` (chat where the learner has a template).
        revise_message: The user's turn for `"chat"`; `{remark}` is the remark.
        revise_template: The text for `"text"`.
        max_row_tokens: No later turn that could make a row longer than this many tokens after the prompt. Unset: only
            the model's window limits it.
        warmup_steps: No discussion before this optimizer step.
        shuffle_remarks: The control: remarks are exchanged between questions of one process, with their stances, so
            that they tell nothing about the row that hears them. Where all rows left have one question, none is heard.

    Raises:
        ValueError: An option that cannot work.
    """

    turns: int = 1
    partner: str = "next"
    stance: str | StancePolicy = "by_agreement"
    support_share: float = 0.5
    support_template: str = SHOWN + "Write a short remark that supports this answer and says why it is right."
    attack_template: str = SHOWN + "Write a short remark that argues against this answer and says what is wrong."
    neutral_template: str = SHOWN + "Write a short remark on this answer: check it and say what you find."
    form: Literal["auto", "chat", "text"] = "auto"
    revise_message: str = "{remark}\n\nTake this remark for what it is worth and answer the question again."
    revise_template: str = "\nR: {remark}\nA:"
    max_row_tokens: int | None = None
    warmup_steps: int = 0
    shuffle_remarks: bool = False

    def __post_init__(self):
        if self.turns < 1:
            raise ValueError(f"A discussion needs at least 1 later turn, got turns={self.turns}.")
        if self.form not in ("auto", "chat", "text"):
            raise ValueError(f"form must be 'auto', 'chat' or 'text', got {self.form!r}.")
        if self.max_row_tokens is not None and self.max_row_tokens < 1:
            raise ValueError(f"max_row_tokens must be at least 1, got {self.max_row_tokens}.")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}.")
        shown = {
            "{draft}": ("support_template", "attack_template", "neutral_template"),
            "{remark}": ("revise_message", "revise_template"),
        }
        for mark, names in shown.items():
            for name in names:
                if mark not in getattr(self, name):
                    raise ValueError(f"{name} must contain {mark}, got {getattr(self, name)!r}.")
        make_stance(self.stance, self.support_share)

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """The first answers, extended by later turns where the peer is trained.

        Raises:
            ValueError: There is no peer of the partner's name.
        """
        group, local = context.group, context.local
        if group.step < self.warmup_steps:
            return context.rollouts
        seed = str(group.rng.random())
        questions = [q for q, _ in local.cells]
        rollouts = []
        for p, (learner, rollout) in enumerate(zip(context.engines, context.rollouts, strict=True)):
            if learner.spec.trainable:
                targets = local.take(group.the_targets[p])
                partner = context.engines[self.partner_of(p, group.peers, Random(f"{seed}/{p}"))]
                session = Session(
                    learner, partner, context.request, rollout, targets, questions, f"{seed}/{p}", local.places
                )
                rollout = self.hold(session)
            rollouts.append(rollout)
        return rollouts

    def check(self, peers: Sequence[str]) -> None:
        """Refuses the name of a partner that is not among the peers.

        Raises:
            ValueError: There is no peer of this name.
        """
        if self.partner not in ("next", "random", "self", *peers):
            raise ValueError(
                f"The partner {self.partner!r} is not one of the peers {', '.join(peers)}. Name one of them, or use "
                "'next', 'random' or 'self'."
            )

    def partner_of(self, learner: int, peers: tuple[str, ...], rng: Random) -> int:
        """Index of the peer that remarks on this learner's answers."""
        if self.partner == "next":
            return (learner + 1) % len(peers)
        if self.partner == "self" or (self.partner == "random" and len(peers) == 1):
            return learner
        if self.partner == "random":
            return rng.choice([p for p in range(len(peers)) if p != learner])
        self.check(peers)
        return peers.index(self.partner)

    def hold(self, session: Session) -> Rollout:
        """All later turns of a session; the rows without one keep their first answer alone."""
        first, learner = session.rollout, session.learner
        rows = [Conversation.start(first, i) for i in range(len(first.texts))]
        hearing = Hearing(self.form, self.revise_message, self.revise_template, self.max_row_tokens)
        live = [i for i, finished in enumerate(first.finished) if finished and session.has_target(i)]
        for turn in range(1, self.turns + 1):
            heard: dict[int, tuple[str, str, list[int]]] = {}
            for i, (remark, stance) in self._remarks(session, rows, live, turn).items():
                if (fitted := hearing.fit(learner, rows[i], remark)) is not None:
                    heard[i] = (fitted[0], stance, fitted[1])
            if not heard:
                break
            contexts = [[*rows[i].prompt_ids, *rows[i].ids, *ids] for i, (_, _, ids) in heard.items()]
            said = learner.complete([first.prompts[i] for i in heard], contexts, session.request.greedy)
            said = parse(said, session.request)
            for k, (i, turn_heard) in enumerate(heard.items()):
                rows[i].add(*turn_heard, said, k)
            live = [i for i, finished in zip(heard, said.finished, strict=True) if finished]
        return replace(
            first,
            completion_ids=[row.ids for row in rows],
            logprobs=None if first.logprobs is None else [row.logprobs or [] for row in rows],
            turns=[tuple(row.turns) for row in rows],
        )

    def _remarks(self, session: Session, rows: list[Conversation], live: list[int], turn: int) -> Remarks:
        """What the partner says to each live row, and the stance it was asked to take; silence is left out."""
        policy = make_stance(self.stance, self.support_share)
        asked: dict[int, tuple[Prompt, str]] = {}
        for i in live:
            rng = Random(f"{session.seed}/{session.places[i]}/{turn}")
            stance = policy(session.agrees(i, rows[i].answer), rng)
            fitted = self._instruct(session, i, rows[i].text.strip() or UNPARSED, stance)
            if not fitted.overlong:
                asked[i] = (fitted.prompt, stance)
        if not asked:
            return {}
        said = session.partner.answer([prompt for prompt, _ in asked.values()], session.request.greedy)
        remarks = {i: (text.strip(), stance) for text, (i, (_, stance)) in zip(said.texts, asked.items(), strict=True)}
        if self.shuffle_remarks:
            remarks = exchange(remarks, session.questions, Random(f"{session.seed}/exchange/{turn}"))
        return {i: remark for i, remark in remarks.items() if remark[0]}

    def _instruct(self, session: Session, row: int, draft: str, stance: str) -> FittedPrompt:
        """The partner's prompt: the plain question, the draft (shortened if it must be), and the instruction."""
        template = {SUPPORT: self.support_template, ATTACK: self.attack_template}.get(stance, self.neutral_template)
        plain = session.request.build_prompt

        def build(prompt: Prompt, texts: list[str]) -> Prompt:
            return show_peers(plain(prompt, []), texts, template.replace("{draft}", "{text}"))

        request = replace(session.request, build_prompt=build)
        return fit_prompt(session.partner, request, session.request.prompts[row], [draft])
