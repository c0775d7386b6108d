"""Whether a run can learn at all: what of the first responses ended, was read, voted, and made a difference."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pst_rl.progress.phases import say
from pst_rl.progress.words import folded, terminal_width

if TYPE_CHECKING:
    import torch

    from pst_rl.records import Group, Response
    from pst_rl.stages.evaluation import Evaluation

logger = logging.getLogger(__name__)

JUDGED = 64  # responses that the start of training is judged by, at least; our choice


@dataclass(frozen=True)
class Flags:
    """What a command calls the options that make more of its responses count.

    Attributes:
        room: For the tokens of a response.
        style: For the form of an answer.
    """

    room: str = "--max-completion-length"
    style: str = "--answer-style"


TRAIN = Flags()
MEASURE = Flags("--max-new-tokens", "--style")
"""Of `pst-rl train`, and of `pst-rl eval` and `gv-gap`."""


class NothingRead(ValueError):
    """No response of any peer ended, or none had an answer that could be read: training would move nothing."""


@dataclass(frozen=True)
class Shares:
    """Of one peer's responses, as fractions.

    Attributes:
        finished: Those that ended by themselves within the limit.
        read: Those in which an answer was found.
        length: Their mean length in tokens.
    """

    finished: float
    read: float
    length: float

    @classmethod
    def of(cls, responses: Sequence[Response]) -> Shares:
        """Of at least one response."""
        count = len(responses)
        return cls(
            sum(r.finished for r in responses) / count,
            sum(r.answer is not None for r in responses) / count,
            sum(r.length for r in responses) / count,
        )


def verdict(shares: Mapping[str, Shares], limit: int) -> list[str]:
    """One line on each peer, and after it what to change where little of what it wrote can be used, or nothing.

    Args:
        shares: By peer.
        limit: `max_completion_length`.
    """
    lines = []
    for name, own in shares.items():
        lines.append(
            f"{name}: {own.finished:.0%} of its responses ended within {limit} tokens (mean {own.length:.0f}), "
            f"{own.read:.0%} had an answer that was read"
        )
        if own.read == 0.0 and len(shares) > 1:
            lines.append(f"{name}: IT HAS NO VOTE, and no reward that reads answers moves it: {remedy(own, limit)}")
        elif own.read < 0.5 or own.finished < 0.5:
            lines.append(f"{name}: {advice(own.finished, own.read, limit)}")
    return lines


def unread(before: Mapping[str, Shares], after: Mapping[str, Shares], limit: int) -> dict[str, str]:
    """The peers of which nothing could be read after training, each with a sentence: what it means, what to change."""
    found = {}
    for name, own in after.items():
        if own.read == 0.0:
            was = before[name].read
            then = f" ({was:.0%} before it)" if was else " or before it: no reward that reads answers has moved it"
            found[name] = f"No answer of {name} could be read after training{then}. {_upper(remedy(own, limit))}"
    return found


def remedy(own: Shares, limit: int) -> str:
    """What to do about a peer of which nothing is read."""
    return f"{advice(own.finished, own.read, limit).removesuffix('.')}; or leave this peer out."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def advice(finished: float, read: float, limit: int, flags: Flags = TRAIN) -> str:
    """What to change where many responses have no vote.

    Args:
        finished, read: Shares of the responses: that ended by themselves, and with an answer that was read.
        limit: Tokens of a response.
        flags: The command's names of options.
    """
    if finished < 0.5:
        some = "most" if finished else "all"
        return (
            f"{some} responses are cut off, and what is cut off has no vote. Raise {flags.room} ({limit}), "
            "ask for shorter answers (--prompt-template), or end them at a string (--stop-strings)."
        )
    some = "most responses have no" if read else "no response has an"
    return (
        f"{some} answer that is read. Ask for it in a form that is (--prompt-template '{{question}} Put your final "
        f"answer within \\boxed{{}}.'), or say which form they have ({flags.style}; `text` for names and other "
        "words). `pst-rl answers` shows how a response is read."
    )


def judge_measurement(
    measured: Evaluation, providers: Mapping[str, object], limit: int, on_nothing_read: str
) -> list[str]:
    """`verdict` on the first measurement of a run.

    Args:
        measured: Greedy responses of all peers.
        providers: By name; those with `reads_answers = True` reward nothing without an answer.
        limit, on_nothing_read: As in `check_shares`.

    Raises:
        NothingRead: As `check_shares`.
    """
    shares = {name: Shares.of(rows) for name, rows in zip(measured.names, measured.greedy, strict=True)}
    if all(getattr(provider, "reads_answers", False) for provider in providers.values()):
        check_shares(shares, limit, "the first measurement", on_nothing_read)
    return verdict(shares, limit)


def check_shares(shares: Mapping[str, Shares], limit: int, when: str, on_nothing_read: str) -> None:
    """Stops, or warns, where nothing that any peer wrote can be used.

    Args:
        shares, limit: As in `verdict`.
        when: What the responses are those of, such as "the first measurement".
        on_nothing_read: "stop" or "warn".

    Raises:
        NothingRead: With "stop".
    """
    if any(own.read > 0.0 for own in shares.values()):
        return
    worst = next(iter(shares.values()))
    what = "ended" if all(own.finished == 0.0 for own in shares.values()) else "had an answer that could be read"
    change = advice(worst.finished, worst.read, limit)
    text = f"Of {when} no response of any peer {what}, so nothing would be learned: {change}"
    if on_nothing_read == "stop":
        raise NothingRead(f"{text} To go on all the same: --on-nothing-read warn.")
    logger.warning("%s", text)


class StartMonitor:
    """Judges the first generation batches of a run, once, by at least 64 responses of each peer.

    Later on a warning names each peer, once, of whose last 64 responses or more none was read: a peer that falls
    silent beside others that do not goes on without a vote, and nothing else would say so.

    Args:
        limit: `max_completion_length`.
        on_nothing_read: "stop" or "warn".
        speaks: Whether this process says what was found.

    Attributes:
        lines: What was found, for people; empty before that.
    """

    def __init__(self, limit: int, on_nothing_read: str = "stop", speaks: bool = True):
        self.limit, self.on_nothing_read, self.speaks = limit, on_nothing_read, speaks
        self.lines: list[str] = []
        self._responses: dict[str, list[Response]] = defaultdict(list)
        self._abstained: list[float] = []
        self._dead: list[float] = []
        self._silent: dict[str, int] = defaultdict(int)  # responses since one was read
        self._named: set[str] = set()

    def see(self, group: Group, reward: torch.Tensor) -> None:
        """Takes in a generation batch, the same on every process.

        Args:
            reward: `pst_rl.stages.vitals.mixed_reward`, (P, Q, G).

        Raises:
            NothingRead: No response could be used, and the run is to stop then.
        """
        self._listen(group)
        if self.lines:
            return
        for name, questions in zip(group.peers, group.responses, strict=True):
            self._responses[name] += [r for chains in questions for r in chains]
        self._abstained += [float(t is None) for rows in group.the_targets for row in rows for t in row]
        self._dead += (reward == reward[..., :1]).all(-1).float().flatten().tolist()
        if min(map(len, self._responses.values())) < JUDGED:
            return
        shares = {name: Shares.of(responses) for name, responses in self._responses.items()}
        without, dead = (sum(values) / len(values) for values in (self._abstained, self._dead))
        self.lines = [
            *verdict(shares, self.limit),
            f"{without:.0%} of the responses had no target to be compared with",
            f"{dead:.0%} of the groups (one peer's responses to one question) have equal rewards and teach nothing",
        ]
        self._named |= {name for name, own in shares.items() if own.read == 0.0}
        self._responses.clear()
        if self.speaks:
            width = terminal_width()
            say("\n".join(["the first generation batches:", *(folded(line, width) for line in self.lines)]))
        if dead == 1.0:
            check_shares(shares, self.limit, "the first generation batches", self.on_nothing_read)

    def _listen(self, group: Group) -> None:
        """Warns of peers that have fallen silent, once the first batches are judged."""
        for name, questions in zip(group.peers, group.responses, strict=True):
            responses = [r for chains in questions for r in chains]
            read = any(r.answer is not None for r in responses)
            self._silent[name] = 0 if read else self._silent[name] + len(responses)
            if self.lines and self.speaks and self._silent[name] >= JUDGED and name not in self._named:
                self._named.add(name)
                why = remedy(Shares.of(responses), self.limit)
                logger.warning("%s: none of its last %d responses was read, so %s", name, self._silent[name], why)
