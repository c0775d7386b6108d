"""The schemes printed in docs/extending.md and docs/extending-peers.md, run as they are printed."""

import re

import pytest
from helpers import group, response, targets
from pages import DOCS

from pst_rl import REWARDS, WEIGHTINGS
from pst_rl.records import Score, Turn

PAGES = [(DOCS / name).read_text() for name in ("extending.md", "extending-peers.md")]
SMALL = {"max_steps": 1, "per_device_train_batch_size": 8, "max_completion_length": 24}


@pytest.fixture
def printed(monkeypatch):
    """The names that the pages' Python defines, one block after the other; no page needs the other's."""
    monkeypatch.setitem(REWARDS, "soft_vote", None)  # what a page registers is gone again after the test
    monkeypatch.setitem(WEIGHTINGS, "consensus", None)
    of_pages = [{}, {}]
    for page, names in zip(PAGES, of_pages, strict=True):
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(block, names)
    return of_pages[0] | of_pages[1]


def classes():
    return re.findall(r"^class .*?(?=\n\n\n|\n```)", "\n".join(PAGES), re.DOTALL | re.MULTILINE)


def test_every_scheme_is_under_40_lines():
    assert [text.split("\n")[0] for text in classes() if len(text.splitlines()) >= 40] == [] and len(classes()) == 7


def test_the_shorter_of_two_right_answers_earns_more(printed):
    answers = [[[response("1", length=4), response("1", length=8), response("2", length=2)]]]
    rewards = printed["brief"](group(answers, targets=targets([[["1", "1", None]]])))
    assert rewards.values.tolist() == [[[0.5, 0.25, 0.0]]]
    assert rewards.abstain.tolist() == [[[False, False, True]]]


def test_the_soft_vote_is_the_answers_share(printed):
    rewards = printed["SoftVote"](2.0)(group([[["1", "1"]], [["2", None]]]))
    assert rewards.values.tolist() == [[[0.25, 0.25]], [[0.0625, 0.0625]]]
    assert rewards.abstain.tolist() == [[[False, False]], [[False, True]]]
    assert REWARDS["soft_vote"] is printed["SoftVote"]


def test_an_answer_is_as_plausible_as_all_other_peers_find_it(printed):
    class Judges:
        def logprobs(self, judge, queries):
            return [Score(-float(query.target[2:]) * (judge + 1), 2) for query in queries]

    batch = group([[["1", None]], [["2", "2"]], [["3", "3"]]], scorer=Judges())
    rewards = printed["Plausible"]("= {answer}")(batch)
    assert rewards.values[:, 0, 0].tolist() == [-1.25, -2.0, -2.25]
    assert rewards.abstain[0].tolist() == [[False, True]]


def test_the_second_answer_is_rewarded_like_the_first(printed):
    batch = group([[["1", "2"]]], targets=targets([[["1", "1"]]]))
    first = batch.responses[0][0][0]
    turn = Turn("Are you sure?", "", "#### 1", first.answer, True, 4, 8)
    batch = group([[[type(first)(**first.__dict__ | {"turns": (turn,)}), "2"]]], targets=batch.targets)
    rewards = printed["StandsBy"]()(batch)
    assert rewards.values.tolist() == [[[1.0, 0.0]]]
    assert rewards.later[0, 0, 0].tolist() == [1.0] and rewards.later[0, 0, 1].isnan().all()


def test_all_of_them_train_together(trainer, printed):
    providers = [printed["brief"], printed["SoftVote"](), printed["Plausible"]("#### {answer}"), printed["StandsBy"]()]
    settings = SMALL | {"weighting": "consensus", "weighting_options": {"power": 2.0}}
    run = trainer(reward_providers=providers, aggregator=printed["GreedyVote"](), **settings)
    run.train()
    logs = run.state.log_history[0]
    rewards = {f"llama/reward/{name}" for name in ("brief", "soft_vote", "plausible", "stands_by")}
    assert rewards | {"soft_vote/unparsed", "consensus/mean"} <= set(logs)
    shares = [[t.share**2 if t else 0.0 for chains in peer for t in chains] for peer in run.last_group.targets]
    assert [engine.update.weights.tolist() for engine in run.engines] == [pytest.approx(of_peer) for of_peer in shares]
    batch = run.last_group
    assert all(len({r.text for r in chains}) == 1 for peer in batch.views["greedy"] for chains in peer)
    asked = [bool(r.turns) == r.finished for *_, r in batch.cells()]
    assert all(asked) and any(r.turns for *_, r in batch.cells())
