"""Votes over another rollout than the first answers: Co-rewarding's cross-view labels, and a debate's last round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.aggregation.base import make_target
from pst_rl.aggregation.votes import Ballot, Majority
from pst_rl.discussion.cross_view import EMAView, ParaphraseView
from pst_rl.discussion.debate import DebateRollout
from pst_rl.records import Group, Target, Targets

if TYPE_CHECKING:
    from pst_rl.discussion import View


class ViewVote(Majority):
    """Plurality vote over the responses of a view, for each peer alone or pooled over all of them.

    The target's text is a first answer of the same voters that agrees, since those answer the question as it was asked
    and alone; where there is none, a response of the view.

    Args:
        view: The further rollout whose responses vote.
        pooled: Whether all peers' responses vote on one target, or each peer's on its own.
        quorum: As in `Majority`, of the view's responses that vote.
    """

    def __init__(self, view: View, pooled: bool, quorum: float = 0.0):
        super().__init__(quorum)
        self.views = [view]
        self.pooled = pooled

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        seen = replace(group, responses=group.views[self.views[0].name])
        voters = [range(peers)] if self.pooled else [[p] for p in range(peers)]
        rows = []
        for those in voters:
            chosen = [self._target(_ballots(seen, q, those), _ballots(group, q, those)) for q in range(questions)]
            rows.append(tuple((target,) * chains for target in chosen))
        return tuple(rows * peers if self.pooled else rows)

    def _target(self, view: list[Ballot], first: list[Ballot]) -> Target | None:
        target = self.vote(view)
        if target is None:
            return None
        agreeing = [r for _, _, r in first if r.key == target.answer.key]
        return make_target(target.answer.key, target.share, agreeing) if agreeing else target


def _ballots(group: Group, question: int, peers: Sequence[int]) -> list[Ballot]:
    return [ballot for ballot in group.pooled(question) if ballot[0] in peers]


class CrossView(ViewVote):
    """Each peer's label for a question is the vote of its answers in another view of it.

        a*_p = argmax_a  sum_g 1[view_pg = a]        share = count(a*_p) / G        pooled: over all peers' answers

    Source: Co-rewarding (arXiv 2508.00410). Stated, in its abstract and in notes on it: the label of a question is
    the majority of the policy's answers to a paraphrase (Co-rewarding-I), or of the answers of a slowly updated
    teacher (Co-rewarding-II). In the first, the paraphrase's answers are trained too, with the question's vote as
    their label; here only first answers are trained. For the paper's form put both wordings into the data set, each as
    the other's paraphrase. Our choice: as many view responses as first answers, `pooled`, and `quorum`.

    Args:
        view: `"paraphrase"` or `"ema"`, see `ParaphraseView` and `EMAView`.
        pooled: Vote over all peers' view responses instead of the peer's own.
        quorum: As in `Majority`, of the view's responses that vote.
        decay, final_decay, anneal: As in `EMAView`, with `view="ema"` only; unset: its defaults.
    """

    def __init__(
        self,
        view: Literal["paraphrase", "ema"] = "ema",
        pooled: bool = False,
        quorum: float = 0.0,
        decay: float | None = None,
        final_decay: float | None = None,
        anneal: int | None = None,
    ):
        options: dict[str, Any] = {"decay": decay, "final_decay": final_decay, "anneal": anneal}
        given = {name: value for name, value in options.items() if value is not None}
        if view not in ("paraphrase", "ema"):
            raise ValueError(f"view must be 'paraphrase' or 'ema', got {view!r}.")
        if given and view == "paraphrase":
            raise ValueError(f"{', '.join(given)} has no effect with view='paraphrase'; it belongs to view='ema'.")
        super().__init__(EMAView(**given) if view == "ema" else ParaphraseView(), pooled, quorum)

    def state_dict(self) -> dict[str, Any]:
        """The slow copies, so that a resumed run goes on with them."""
        return {v.name: v.state_dict() for v in self.views if isinstance(v, EMAView)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for view in self.views:
            if isinstance(view, EMAView):
                view.load_state_dict(state[view.name])


class Debate(ViewVote):
    """Plurality vote over the answers of a debate's last round, pooled over all peers and chains.

        a* = argmax_a  sum_{p,g} 1[answer of p in chain g, last round = a]        share = count(a*) / (P G)

    With `MatchesAggregate` it rewards the *first* answers that agree with the consensus; on those, multi-agent
    fine-tuning (arXiv 2501.05707) trains its generation agents. Stated: the majority of the last round is the label,
    and each of these agents learns from its own first-round responses only. The paper's critics, which are trained on
    later rounds, are not built here. Our choice: a vote pooled over several chains, each a debate of its own.

    Args:
        rounds, include_self: As in `DebateRollout`.
        quorum: As in `Majority`, of the last round's responses.
    """

    min_peers = 2

    def __init__(self, rounds: int = 2, quorum: float = 0.0, include_self: bool = False):
        super().__init__(DebateRollout(rounds, include_self), pooled=True, quorum=quorum)
