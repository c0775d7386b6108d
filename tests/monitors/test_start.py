"""What is said of, and done about, the start of a run."""

import pytest
import torch
from helpers import group, targets

from pst_rl.monitors.start import NothingRead, Shares, StartMonitor, check_shares, judge_measurement, unread, verdict
from pst_rl.records import Response
from pst_rl.rewards import MatchesAggregate, SelfCertainty
from pst_rl.stages.evaluation import Evaluation

CUT, UNREAD = Response("so we", None, False, 48), Response("hm", None, True, 2)


def batch(chains, target="7"):
    """Two peers, two questions, the same chains each."""
    shown = group([[chains, chains]] * 2)
    return shown.__class__(**vars(shown) | {"targets": targets([[[target] * len(chains)] * 2] * 2)})


def test_shares_are_of_all_responses_of_a_peer():
    shares = Shares.of([Response("7", None, True, 1), CUT, UNREAD, UNREAD])
    assert shares == Shares(finished=0.75, read=0.0, length=(1 + 48 + 2 + 2) / 4)


@pytest.mark.parametrize(
    ("shares", "advised"),
    [
        (Shares(0.4, 0.4, 40.0), "--max-completion-length"),
        (Shares(1.0, 0.4, 4.0), "--answer-style"),
        (Shares(0.5, 0.5, 4.0), None),
    ],
)
def test_little_that_can_be_used_comes_with_what_to_change(shares, advised):
    first, *advice = verdict({"a": shares}, 48)
    assert first.startswith(f"a: {shares.finished:.0%} of its responses ended within 48 tokens")
    assert [advised in line for line in advice] == ([True] if advised else [])


def test_nothing_read_stops_or_warns(caplog):
    with pytest.raises(NothingRead, match="no response of any peer ended.*--max-completion-length.*--on-nothing-read"):
        check_shares({"a": Shares(0.0, 0.0, 48.0)}, 48, "the first measurement", "stop")
    check_shares({"a": Shares(1.0, 0.0, 4.0)}, 48, "the first measurement", "warn")
    assert "had an answer that could be read" in caplog.messages[0]


def test_one_peer_that_is_read_is_enough():
    check_shares({"a": Shares(0.0, 0.0, 48.0), "b": Shares(0.1, 0.1, 40.0)}, 48, "here", "stop")


def test_the_first_measurement_is_judged_only_where_rewards_need_answers():
    measured = Evaluation(("a",), [[CUT, CUT]], [], None)
    with pytest.raises(NothingRead):
        judge_measurement(measured, {"matches_aggregate": MatchesAggregate()}, 48, "stop")
    lines = judge_measurement(measured, {"self_certainty": SelfCertainty()}, 48, "stop")
    assert lines[0].startswith("a: 0%")


def test_the_first_batches_are_judged_together_and_once():
    monitor = StartMonitor(48, "stop")
    reward = torch.zeros(2, 2, 8)
    reward[0, 0, 0] = 1.0
    for _ in range(3):
        monitor.see(batch(["7"] * 8), reward)
        assert monitor.lines == []
    monitor.see(batch(["7"] * 8, target=None), reward)
    first = monitor.lines
    assert first[-2].startswith("25% of the responses had no target") and first[-1].startswith("75% of the groups")
    monitor.see(batch([CUT] * 64), reward)
    assert monitor.lines is first


def test_batches_in_which_nothing_is_read_stop_only_if_the_reward_makes_no_difference():
    reward = torch.zeros(2, 2, 32)
    with pytest.raises(NothingRead):
        StartMonitor(48, "stop").see(batch([UNREAD] * 32, target=None), reward)
    StartMonitor(48, "warn").see(batch([UNREAD] * 32, target=None), reward)
    reward[0, 0, 0] = 1.0  # such as a reward for being sure
    StartMonitor(48, "stop").see(batch([UNREAD] * 32, target=None), reward)


@pytest.mark.parametrize(
    ("own", "change"), [(Shares(0.0, 0.0, 48.0), "--max-completion-length"), (Shares(1.0, 0.0, 2.0), "--answer-style")]
)
def test_a_peer_of_which_nothing_is_read_beside_one_that_is_read_is_named_at_the_start_and_at_the_end(own, change):
    alive = Shares(1.0, 0.9, 5.0)
    lines = verdict({"a": alive, "b": own}, 48)
    assert [line.split(":")[0] for line in lines] == ["a", "b", "b"]
    assert "NO VOTE" in lines[2] and change in lines[2] and lines[2].endswith("or leave this peer out.")
    ends = unread({"a": alive, "b": own}, {"a": alive, "b": own}, 48)
    assert list(ends) == ["b"] and "or before it" in ends["b"] and change in ends["b"]
    assert "(90% before it)" in unread({"a": alive}, {"a": own}, 48)["a"]


def test_a_peer_that_falls_silent_later_is_warned_of_once(caplog):
    monitor, reward = StartMonitor(48, "stop"), torch.rand(2, 2, 32)
    one_silent = group([[["7"] * 32] * 2, [[UNREAD] * 32] * 2], targets=targets([[["7"] * 32] * 2] * 2))
    for shown in [batch(["7"] * 32), one_silent, one_silent]:
        monitor.see(shown, reward)
    assert [message.split(":")[0] for message in caplog.messages] == ["b"]
    assert "64 responses" in caplog.messages[0] and "--answer-style" in caplog.messages[0]
