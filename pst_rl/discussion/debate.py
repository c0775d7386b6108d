"""Debate: in each later round, every peer reads what the others said in the round before and answers again."""

from __future__ import annotations

from pst_rl.discussion.base import RolloutContext
from pst_rl.records import Rollout
from pst_rl.stages.rollout import fit_prompt, parse, shown_text


class DebateRollout:
    """The last round of a debate, as a view named `"debate"`.

        round 1:    the first answers
        round t+1:  y_i ~ p_i( . | question, {shown(y_j of round t, same chain) : j != i})     all peers at once

    What is shown of a response is the run's `peer_context` (the answer, or the whole response), through the
    `build_prompt` hook, in the row's speaking order; texts that are too long are shortened as in a sequential rollout.

    Source: multi-agent fine-tuning (arXiv 2501.05707), after multi-agent debate (2305.14325). Stated, as notes on the
    paper report it: in a later round an agent builds on its own prior response and on a summary of the others'. Our
    choice: no summary, and the own response only with `include_self`.

    Args:
        rounds: Rounds in all, the first answers included; at least 2. Each one after the first is a whole rollout.
        include_self: Whether a peer also reads its own response of the previous round, worded as another peer's.
    """

    name = "debate"

    def __init__(self, rounds: int = 2, include_self: bool = False):
        if rounds < 2:
            raise ValueError(
                f"A debate needs at least 2 rounds, got rounds={rounds}: the first one is the first answers. For a "
                "vote over those alone use the `majority` aggregator."
            )
        self.rounds = rounds
        self.include_self = include_self

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """The last round's rollouts, one per peer.

        Raises:
            ValueError: There is only one peer, and so nobody to read.
        """
        if len(context.engines) < 2:
            raise ValueError("A debate needs at least 2 peers, got 1: there is nobody whose answer it could read.")
        rollouts = context.rollouts
        for _ in range(self.rounds - 1):
            rollouts = self._round(context, rollouts)
        return rollouts

    def _round(self, context: RolloutContext, previous: list[Rollout]) -> list[Rollout]:
        request = context.request
        said = [[shown_text(r, i, request) for i in range(len(request.prompts))] for r in previous]
        rollouts = []
        for p, engine in enumerate(context.engines):
            prompts = []
            for i, (prompt, order) in enumerate(zip(request.prompts, request.orders, strict=True)):
                texts = [said[j][i] for j in order if j != p or self.include_self]
                prompts.append(fit_prompt(engine, request, prompt, texts).prompt)
            rollouts.append(parse(engine.answer(prompts, request.greedy), request))
        return rollouts
