"""What every aggregator shares: the contract, and how a winner becomes a target."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pst_rl.records import Group, Response, Target, Targets

if TYPE_CHECKING:
    from pst_rl.discussion import View


class Aggregator:
    """Turns a complete group into targets: `aggregator(group)[p][q][g]` is a `Target`, or `None` to abstain.

    Attributes:
        min_peers: The smallest number of peers it makes sense for; checked when the trainer is constructed.
        needs_labels: Whether it reads gold answers; such an aggregator runs only with `supervised=True`.
        views: Further rollouts it wants to see, as `group.views[view.name]`.
    """

    min_peers = 1
    views: Sequence[View] = ()
    needs_labels = False

    def __call__(self, group: Group) -> Targets:
        """Pools every peer's samples of a question and gives all its chains the same target."""
        peers, questions, chains = group.shape
        pooled = [self.vote(group.pooled(q)) for q in range(questions)]
        return tuple(tuple((pooled[q],) * chains for q in range(questions)) for _ in range(peers))

    def metrics(self) -> dict[str, float]:
        """Scalars to log after a group, for an aggregator that has something to say about itself."""
        return {}

    def vote(self, ballots: list[tuple[int, int, Response]]) -> Target | None:
        """The target of one question from its (peer, chain, response) ballots."""
        raise NotImplementedError(f"{type(self).__name__} must define `vote` or `__call__`.")


def break_tie(keys: Iterable[str]) -> str:
    """Picks one of several equally good keys, whatever their order.

    The smallest SHA-256 digest wins: deterministic, the same on every process, and favouring neither small nor short
    answers.
    """
    return min(keys, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())


def spellings(responses: Iterable[Response]) -> dict[str, str]:
    """How each answer is written, by its key, which is for comparing only: as most of the responses write it.

    Of several such ways the shortest, then the first by its characters: the same on every process.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for response in responses:
        if response.answer is not None:
            counts[response.answer.key][response.answer.text] += 1
    best = lambda own: min(own, key=lambda text: (-own[text], len(text), text))  # noqa: E731
    return {key: best(own) for key, own in counts.items()}


def make_target(key: str, share: float, responses: Iterable[Response]) -> Target:
    """A target for the winning `key`; its text is the most common finished response that ends in that answer."""
    agreeing = [r for r in responses if r.key == key]
    texts = Counter(r.text for r in agreeing if r.finished) or Counter(r.text for r in agreeing)
    most = max(texts.values())
    text = break_tie(t for t, n in texts.items() if n == most)
    answer = next(r.answer for r in agreeing if r.text == text and r.answer is not None)
    return Target(answer=answer, text=text, share=share)
