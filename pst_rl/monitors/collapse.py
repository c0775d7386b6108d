"""Watches for a collapse while training, and warns, stops, or goes back to the best checkpoint. Reads no label."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from statistics import fmean, median, pvariance
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from pst_rl.monitors.probe import AgreementProbe
from pst_rl.stages.vitals import Vitals, agreement_beyond_chance, copying, payoffs, vitals, vote_shares

if TYPE_CHECKING:
    import torch

    from pst_rl.records import Group

logger = logging.getLogger(__name__)

POOLED = 64  # questions that one judgement is made from, at least
PAYOFF, PAID = 0.4, 48  # correlation; questions at least


class CollapseMonitor(TrainerCallback):
    """Compares each peer with what it was at the start of training.

    A peer is found collapsing when, over the last batches that hold 64 questions,

        concentration   its most common answer takes a share s of all questions' samples with
                        s - b > max(0.1 (1 - b), 4 sqrt(b (1 - b) / Q)), b being that share at the start
        copying         of its disagreements with the speaker before across chains, the share that is none within its
                        chain rose by 0.25 (sequential rollouts)
        parsing         its share of parsed answers fell by 0.25
        length          its mean length fell to a third, or tripled
        entropy         the mean entropy of its tokens is above 3 times, and 0.5 nats more than, that at the start
        update norm     a gradient norm above 20 times their median so far, three logs in a row

    and all peers together, when what they are paid for parts from what they agree on:

        divergence      their vote share fell, and their reward rose, each by more than 1.5 standard errors of the
                        difference between the last 64 questions and the first
        payoff          what a sample earns hardly depends on how many agree with it: over the last 48 to 128
                        questions, the mean correlation (`pst_rl.stages.vitals.payoffs`) with twice its standard error
                        is below 0.4; not where the reward is gold
        agreement       their answers to fixed questions move away from what they voted for at the start
                        (`collapse_probe`; see `pst_rl.monitors.probe`)

    Every threshold is our choice (docs/trust.md has how early they catch planted collapses). Low entropy is none: a
    peer that learns grows certain.

    Args:
        peers: Names of the peers.
        record: Takes `peers/payoff` for the logs.
        restore: Loads all peers from a checkpoint's folder.
        action: `"warn"` once per peer and sign; `"stop"` ends training; `"restore"` ends it and loads the checkpoint
            with the highest agreement with the first vote, without a probe the highest agreement beyond chance
            (`pst_rl.stages.vitals`), that was saved before.
        probe: Fixed questions to ask between generation batches.
        probe_steps: Every how many steps.
        supervised: Whether the reward reads gold answers, and so need not follow what the peers agree on.

    Attributes:
        alarms: What was found, in order: `"step 12: llama: concentration ..."`.
    """

    def __init__(
        self,
        peers: Collection[str],
        record: Callable[[dict[str, float]], None],
        restore: Callable[[str], None],
        action: str = "warn",
        probe: AgreementProbe | None = None,
        probe_steps: int = 1,
        supervised: bool = False,
    ):
        if action not in ("off", "warn", "stop", "restore"):
            raise ValueError(f"on_collapse must be 'off', 'warn', 'stop' or 'restore', got {action!r}.")
        self.peers = tuple(peers)
        self.record = record
        self.restore = restore
        self.action = action
        self.probe = probe
        self.probe_steps = probe_steps
        self.supervised = supervised
        self.alarms: list[str] = []
        self.best: tuple[float, str] | None = None  # (criterion, checkpoint)
        self._start: dict[str, list[Vitals]] = defaultdict(list)
        self._recent: dict[str, list[Vitals]] = defaultdict(list)
        self._entropy: dict[str, float] = {}
        self._norms: dict[str, list[float]] = defaultdict(list)
        self._scores: list[float] = []
        self._shares: list[float] = []  # vote share and reward of each question, in the order they were asked
        self._rewards: list[float] = []
        self._payoffs: list[float] = []
        self._shown: tuple[Group, torch.Tensor] | None = None

    # ---- what it sees ----

    def show(self, group: Group, reward: torch.Tensor) -> None:
        """Shows it a generation batch and its mixed reward, (P, Q, G), which it judges when the step ends."""
        self._shown = group, reward

    def on_train_begin(self, args, state, control, **kwargs):
        if self.probe is not None and not self.probe.history:
            self.probe.ask(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        if self._shown is not None:
            (group, reward), self._shown = self._shown, None
            self._see(group, reward, state, control)
        if self.probe is not None and state.global_step % self.probe_steps == 0:
            if (sign := self.probe.ask(state.global_step)) is not None:
                self._alarm("all peers", sign, state, control)

    def _see(self, group: Group, reward: torch.Tensor, state, control) -> None:
        self._scores.append(agreement_beyond_chance(group))
        self._shares += vote_shares(group)
        self._rewards += reward.mean((0, 2)).tolist()
        if paid := payoffs(group, reward):
            self._payoffs = [*self._payoffs, *paid][-2 * POOLED :]
            self.record({"peers/payoff": fmean(paid)})
        for sign in (self._divergence(), self._payoff()):
            if sign is not None:
                self._alarm("all peers", sign, state, control)
        for name, seen in vitals(group).items():
            if sum(v.questions for v in self._start[name]) < POOLED:
                self._start[name].append(seen)
            self._recent[name] = _last(([*self._recent[name], seen]), POOLED)
            for sign in self._signs(name):
                self._alarm(name, sign, state, control)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs):
        for name in self.peers:
            entropy, norm = (logs or {}).get(f"{name}/entropy"), (logs or {}).get(f"{name}/grad_norm")
            if entropy is not None:
                first = self._entropy.setdefault(name, float(entropy))
                if float(entropy) > max(3 * first, first + 0.5):
                    self._alarm(name, f"entropy {float(entropy):.2f} nats, {first:.2f} at the start", state, control)
            if norm is not None:
                norms = self._norms[name]
                usual = median(norms) if len(norms) >= 5 else math.inf
                norms.append(float(norm))
                if min(norms[-3:]) > 20 * usual:
                    self._alarm(name, f"update norm {float(norm):.3g}, usually {usual:.3g}", state, control)

    def on_save(self, args, state, control, **kwargs):
        if self._scores and not self.alarms:
            folder = f"{args.output_dir}/checkpoint-{state.global_step}"
            score = self.probe.history[-1][1] if self.probe is not None else fmean(self._scores)
            if self.best is None or score > self.best[0]:
                self.best = (score, folder)
                if not args.load_best_model_at_end:  # else it is the user's metric that chooses
                    state.best_model_checkpoint = folder  # the rotation of checkpoints spares it
        self._scores.clear()

    # ---- what it concludes ----

    def _signs(self, name: str) -> list[str]:
        start, recent = self._start[name], self._recent[name]
        signs = []
        before = _pooled(start)
        answer, share = max(_pooled(recent).items(), key=lambda item: item[1], default=("", 0.0))
        usual = max(before.values(), default=0.0)
        count = sum(v.questions for v in recent)
        if share - usual > max(0.1 * (1 - usual), 4 * math.sqrt(usual * (1 - usual) / count)):
            written = next((v.spellings[answer] for v in reversed(recent) if answer in v.spellings), answer)
            signs.append(
                f"concentration: {100 * share:.0f} % of its answers are {written!r}, {100 * usual:.0f} % before"
            )
        old, new = (fmean(v.parsed for v in some) for some in (start, recent))
        if new < old - 0.25:
            signs.append(f"parsed: {new:.2f}, {old:.2f} at the start")
        old, new = copying(start), copying(recent)
        if new > old + 0.25:
            signs.append(f"copying: {new:.2f}, {old:.2f} at the start")
        old, new = (fmean(v.length for v in some) for some in (start, recent))
        if not old / 3 <= new <= 3 * old:
            signs.append(f"length: {new:.0f} tokens, {old:.0f} at the start")
        return signs

    def _divergence(self) -> str | None:
        if len(self._shares) < 2 * POOLED:
            return None
        fell, rose = -_z(self._shares), _z(self._rewards)
        if min(fell, rose) <= 1.5:
            return None
        return f"divergence: the reward rose by {rose:.1f} standard errors, the vote share fell by {fell:.1f}"

    def _payoff(self) -> str | None:
        seen = self._payoffs
        if len(seen) < PAID or self.supervised:
            return None
        mean, error = fmean(seen), math.sqrt(pvariance(seen) / len(seen))
        if mean + 2 * error >= PAYOFF:
            return None
        return f"payoff: the reward hardly follows what the peers agree on (correlation {mean:.2f}, +-{2 * error:.2f})"

    def _alarm(self, name: str, sign: str, state, control) -> None:
        kind = sign.split()[0]
        if not any(f": {name}: {kind}" in alarm for alarm in self.alarms):
            self.alarms.append(f"step {state.global_step}: {name}: {sign}")
            logger.warning("collapse? %s", self.alarms[-1])
        if self.action != "warn":
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        if self.action != "restore" or not self.alarms:
            return
        if self.best is None or not os.path.isdir(self.best[1]):
            logger.warning("No checkpoint from before the alarm is left: the peers stay as they are now.")
            return
        self.restore(self.best[1])
        logger.warning("Restored %s, the best checkpoint before the alarm.", self.best[1])

    # ---- checkpoints ----

    def state_dict(self) -> dict[str, Any]:
        as_rows = lambda kept: {name: [v.__dict__ for v in some] for name, some in kept.items()}  # noqa: E731
        return {
            "start": as_rows(self._start),
            "recent": as_rows(self._recent),
            "entropy": dict(self._entropy),
            "norms": {name: list(norms) for name, norms in self._norms.items()},
            "shares": list(self._shares),
            "rewards": list(self._rewards),
            "payoffs": list(self._payoffs),
            "best": self.best,
            "alarms": list(self.alarms),
            "probe": None if self.probe is None else self.probe.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for kept, rows in ((self._start, state["start"]), (self._recent, state["recent"])):
            kept.update({name: [Vitals(**row) for row in some] for name, some in rows.items()})
        self._entropy = dict(state["entropy"])
        self._norms.update({name: list(norms) for name, norms in state["norms"].items()})
        self._shares, self._rewards = list(state["shares"]), list(state["rewards"])
        self._payoffs = list(state["payoffs"])
        self.best = None if state["best"] is None else tuple(state["best"])
        self.alarms = list(state["alarms"])
        if self.probe is not None and state.get("probe") is not None:
            self.probe.load_state_dict(state["probe"])


def _z(values: Sequence[float]) -> float:
    """By how many standard errors the mean of the last `POOLED` values is above that of the first."""
    first, last = values[:POOLED], values[-POOLED:]
    error = math.sqrt((pvariance(first) + pvariance(last)) / POOLED)
    return (fmean(last) - fmean(first)) / error if error > 0 else 0.0


def _pooled(some: Sequence[Vitals]) -> dict[str, float]:
    """Share of each answer over several batches, which count by their questions."""
    total = sum(v.questions for v in some)
    shares: dict[str, float] = defaultdict(float)
    for v in some:
        for answer, share in v.shares.items():
            shares[answer] += share * v.questions / total
    return shares


def _last(some: list[Vitals], questions: int) -> list[Vitals]:
    """The fewest last batches with that many questions."""
    while sum(v.questions for v in some[1:]) >= questions:
        some = some[1:]
    return some
