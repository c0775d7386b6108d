"""Stage 1: every peer answers every row. Runs on this process's rows; no communication."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pst_rl.peers.foreign_text import one_line
from pst_rl.peers.prompts import Prompt, foreign_prompt
from pst_rl.peers.vllm import shares_engine
from pst_rl.records import Rollout

if TYPE_CHECKING:
    from pst_rl.answers import Answer
    from pst_rl.peers.peer_trainer import PeerTrainer

UNPARSED = "(no answer)"
MAX_SHOWN = 2_000  # characters of an answer; also the most that is read of one box


@dataclass(frozen=True)
class RolloutRequest:
    """What the rollout stage needs.

    Attributes:
        prompts: The dataset prompt of each local row (already repeated for each generation).
        orders: The speaking order of each row, as peer indices.
        build_prompt: Hook `(prompt, previous_texts) -> prompt`.
        extract_answer: Hook `text -> Answer | None`.
        sequential: Whether peers read the peers before them.
        peer_context: `"answers"` or `"responses"`.
        answer_template: How an answer is shown; `{answer}` is filled.
        parse_truncated: Whether answers in responses that were cut off count.
        greedy: Greedy decoding instead of sampling.
    """

    prompts: list[Prompt]
    orders: list[tuple[int, ...]]
    build_prompt: Callable[[Prompt, list[str]], Prompt]
    extract_answer: Callable[[str], Answer | None]
    sequential: bool
    peer_context: str
    answer_template: str
    parse_truncated: bool
    greedy: bool = False


@dataclass(frozen=True)
class JointRollout:
    """One `Rollout` per peer, in the peers' own order, with the counts of what was shortened or cut."""

    rollouts: list[Rollout]
    shortened: int
    overlong: int


def speaking_orders(kind: str, peers: int, questions: int, block: int, seed: int) -> list[tuple[int, ...]]:
    """The speaking order of each question, the same on every process.

    Args:
        kind: `"fixed"`, `"rotating"` (starts one peer later in each generation batch) or `"random"`.
        block: Index of the generation batch.
    """
    if kind == "rotating":
        return [tuple((block + i) % peers for i in range(peers))] * questions
    if kind == "random":
        return [
            tuple(random.Random(f"order/{seed}/{block}/{q}").sample(range(peers), peers)) for q in range(questions)
        ]
    return [tuple(range(peers))] * questions


def roll_out(engines: list[PeerTrainer], request: RolloutRequest) -> JointRollout:
    """Position by position, each peer answers the rows in which it is its turn.

    An engine that processes share is called also where this one has no row for it.
    """
    count = len(request.prompts)
    cells: list[list[Any]] = [[None] * count for _ in engines]
    previous: list[list[str]] = [[] for _ in range(count)]
    shortened = overlong = 0
    for position in range(len(engines)):
        for p, engine in enumerate(engines):
            rows = [i for i, order in enumerate(request.orders) if order[position] == p]
            if not rows and not shares_engine(engine):
                continue
            fitted = [fit_prompt(engine, request, request.prompts[i], previous[i]) for i in rows]
            shortened += sum(f.shortened for f in fitted)
            overlong += sum(f.overlong for f in fitted)
            rollout = parse(engine.answer([f.prompt for f in fitted], request.greedy), request)
            for k, i in enumerate(rows):
                cells[p][i] = (rollout, k)
                if request.sequential:
                    previous[i].append(shown_text(rollout, k, request))
    return JointRollout([_join(row) for row in cells], shortened, overlong)


def parse(rollout: Rollout, request: RolloutRequest) -> Rollout:
    """Fills in the answers; a response that was cut off has none unless `parse_truncated`."""
    answers = [
        request.extract_answer(text) if finished or request.parse_truncated else None
        for text, finished in zip(rollout.texts, rollout.finished, strict=True)
    ]
    return Rollout(**{**rollout.__dict__, "answers": answers})


def shown_text(rollout: Rollout, row: int, request: RolloutRequest) -> str:
    """What later peers read of this response: all of it, or its answer on one line of bounded length."""
    if request.peer_context == "responses":
        return rollout.texts[row].strip() or UNPARSED
    answer = rollout.answers[row]
    if answer is None:
        return UNPARSED
    return request.answer_template.replace("{answer}", one_line(answer.text[:MAX_SHOWN])).strip()


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt that leaves room for the completion; `overlong` if the question alone does not."""

    prompt: Prompt
    shortened: int = 0
    overlong: int = 0


def fit_prompt(engine: PeerTrainer, request: RolloutRequest, prompt: Prompt, previous: list[str]) -> FittedPrompt:
    """Builds the prompt, shortening the oldest peers' texts first, and never the question, until it fits.

    A shortened text keeps its end, where the answer stands.
    """
    room = engine.prompt_room
    texts = list(previous)
    built = foreign_prompt(engine.format, request.build_prompt, prompt, texts)
    excess = engine.count_tokens(built) - room
    if excess <= 0:
        return FittedPrompt(built)
    oldest = 0
    while excess > 0 and oldest < len(texts):
        kept = engine.keep_last_tokens(texts[oldest], excess)
        texts[oldest] = kept
        if not kept:
            oldest += 1
        built = foreign_prompt(engine.format, request.build_prompt, prompt, texts)
        excess = engine.count_tokens(built) - room
    return FittedPrompt(built, shortened=int(bool(previous)), overlong=int(excess > 0))


def _join(row: list[tuple[Rollout, int]]) -> Rollout:
    """Collects one peer's cells, which may come from several calls, in row order."""
    if not row:
        return Rollout([], [], [], None, [], [], [])
    if len({id(rollout) for rollout, _ in row}) == 1:
        return row[0][0]
    pick = lambda name: [getattr(rollout, name)[k] for rollout, k in row]  # noqa: E731
    names = ("prompts", "prompt_ids", "completion_ids", "texts", "answers", "finished")
    logprobs = None if row[0][0].logprobs is None else pick("logprobs")
    return Rollout(**{name: pick(name) for name in names}, logprobs=logprobs)
