"""Warns once where too many votes are only the last quantity of responses that announce no answer."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pst_rl.answers.reading import MANY_FALLBACKS
from pst_rl.stages.metrics import reason_counts

if TYPE_CHECKING:
    from pst_rl.records import Group

logger = logging.getLogger(__name__)

JUDGED = 64  # votes that one judgement is made from, at least


class ReadingMonitor:
    """Watches for which reasons the answers are read that vote.

    The vote is the reward, and the last quantity of a response is often none that was meant as its answer. Where it
    decides more than a fifth of at least 64 votes, of all peers together, a warning says so, once. Both numbers are
    our choice.

    Args:
        style: The run's `answer_style`. Only "auto" has a fallback; any other was asked for.
    """

    def __init__(self, style: str = "auto"):
        self.style, self.warned = style, False
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def see(self, group: Group) -> None:
        """Counts a generation batch, and judges once enough votes are counted."""
        if self.style != "auto" or self.warned:
            return
        for name, questions in zip(group.peers, group.responses, strict=True):
            self._counts[name] += reason_counts(r for chains in questions for r in chains)
        votes = sum(counts.total() for counts in self._counts.values())
        if votes < JUDGED:
            return
        fallen = sum(counts["last_number"] for counts in self._counts.values())
        if fallen > MANY_FALLBACKS * votes:
            self._warn(fallen, votes)
        self._counts.clear()

    def _warn(self, fallen: int, votes: int) -> None:
        self.warned = True
        each = ", ".join(
            f"{name} {counts['last_number'] / counts.total():.0%}" for name, counts in self._counts.items() if counts
        )
        logger.warning(
            "%d of %d votes (%.0f %%) are only the last quantity of a response that announces no answer: %s. Ask for "
            "the answer in a box or a tag (--prompt-template), or let announced answers alone vote (--answer-style "
            "boxed). `pst-rl answers` shows how responses are read.",
            fallen,
            votes,
            100 * fallen / votes,
            each,
        )
