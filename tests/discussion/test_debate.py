"""Debate: who reads whom, the consensus of the last round, and what the target says."""

from itertools import permutations

import pytest
from helpers import answers_of, chat, group, response
from speakers import request, speakers

from pst_rl.aggregation.views import Debate
from pst_rl.discussion import RolloutContext
from pst_rl.discussion.debate import DebateRollout
from pst_rl.records import LocalRows
from pst_rl.rewards import MatchesAggregate
from pst_rl.stages.rollout import roll_out


def context(peers, asked):
    """The context of peers that have just given their first answers."""
    first = roll_out(peers, asked).rollouts
    for peer in peers:
        peer.seen.clear()
        peer.calls.clear()
    rows = [{"prompt": prompt} for prompt in asked.prompts]
    return RolloutContext(peers, asked, rows, first, group([[["1"]]] * len(peers)), LocalRows(0, len(rows), 1))


def seen(rounds=2, names="abc", include_self=False, room=1000, **fields):
    """What each peer is asked in the later rounds of a debate."""
    peers = speakers(names, room=room)
    fields = {"sequential": False, "orders": [tuple(range(len(names)))]} | fields
    DebateRollout(rounds, include_self).respond(context(peers, request(**fields)))
    return [peer.seen for peer in peers]


def debated(first, last, **options):
    """The targets of a debate with these first and last answers."""
    return Debate(**options)(group(first, views={"debate": group(last).responses}))


# ---- who reads whom ------------------------------------------------------------------------------------------------


def test_every_peer_reads_the_others_in_speaking_order():
    texts = seen(peer_context="responses", orders=[(2, 0, 1)])
    a, b, c = (f"|{name} says #### 0" for name in "abc")
    assert texts == [["2+2?" + c + b], ["2+2?" + c + a], ["2+2?" + a + b]]


def test_a_peer_may_read_itself_too():
    assert seen(names="ab", include_self=True, peer_context="responses") == [
        ["2+2?|a says #### 0|b says #### 0"],
        ["2+2?|a says #### 0|b says #### 0"],
    ]


def test_answers_only_are_shown_where_the_run_says_so():
    assert seen(names="ab") == [["2+2?|= 0"]] * 2


def test_a_third_round_reads_the_second():
    # In round 2 a speaker has seen one peer, and says so.
    assert seen(rounds=3, names="ab") == [["2+2?|= 0", "2+2?|= 1"]] * 2


def test_peers_in_one_round_do_not_read_each_other():
    assert seen(sequential=True, names="ab") == [["2+2?|= 1"], ["2+2?|= 0"]]


def test_chains_do_not_mix():
    peers = speakers("ab")
    asked = request(["p?", "p?"], orders=[(0, 1), (0, 1)], sequential=False, peer_context="responses")
    told = context(peers, asked)
    told.rollouts[0].texts[:] = ["first", "second"]
    DebateRollout().respond(told)
    assert peers[1].seen == ["p?|first", "p?|second"]


def test_a_text_that_is_too_long_loses_its_beginning_oldest_first():
    assert seen(room=10)[0] == ["2+2?|0|= 0"]


def test_each_later_round_is_one_call_a_peer_and_the_last_is_returned_parsed():
    peers = speakers("ab")
    last = DebateRollout(3).respond(context(peers, request(["p?", "q?"], orders=[(0, 1)] * 2)))
    assert [peer.calls for peer in peers] == [[(2, False)] * 2] * 2
    assert [[a.text for a in r.answers] for r in last] == [["1", "1"]] * 2
    assert last[0].prompts == [chat("p?|= 1"), chat("q?|= 1")]


def test_one_round_is_refused():
    with pytest.raises(ValueError, match="at least 2 rounds, got rounds=1"):
        Debate(rounds=1)


def test_one_peer_is_refused():
    with pytest.raises(ValueError, match="at least 2 peers"):
        DebateRollout().respond(context(speakers("a"), request(orders=[(0,)])))
    assert Debate.min_peers == 2


# ---- the consensus -------------------------------------------------------------------------------------------------


def test_the_last_round_votes_and_the_first_does_not():
    made = debated([[["1", "1"]], [["1", "2"]]], [[["1", "2"]], [["2", "2"]]])
    assert answers_of(made) == [[["2", "2"]]] * 2
    assert made[0][0][0].share == 0.75


def test_first_answers_are_rewarded_for_the_consensus():
    whole = group([[["1", "1"]], [["1", "2"]]], views={"debate": group([[["1", "2"]], [["2", "2"]]]).responses})
    told = group([[["1", "1"]], [["1", "2"]]], targets=Debate()(whole))
    assert MatchesAggregate()(told).values.tolist() == [[[0.0, 0.0]], [[0.0, 1.0]]]


@pytest.mark.parametrize(("quorum", "spoken"), [(0.5, True), (0.51, False)])
def test_unparsed_last_answers_count_against_the_quorum(quorum, spoken):
    made = debated([[["7", "7"]], [["7", "7"]]], [[["7", "7"]], [[None, None]]], quorum=quorum)
    assert (made[0][0][0] is not None) is spoken


def test_the_text_is_a_first_answer_that_agrees():
    alone, told = response("2", "1+1=2 #### 2"), response("2", "they say #### 2")
    made = debated([[["1", alone]], [["1", "3"]]], [[[told, told]], [[told, told]]])
    assert (made[0][0][0].text, made[0][0][0].share) == (alone.text, 1.0)


def test_the_text_is_a_last_answer_where_no_first_one_agrees():
    told = response("2", "they say #### 2")
    assert debated([[["1", "1"]], [["1", "3"]]], [[[told, told]], [[told, told]]])[1][0][1].text == told.text


@pytest.mark.parametrize("order", permutations(range(3)))
def test_the_order_of_peers_and_chains_changes_nothing(order):
    first, last = [[["1", "2"]], [["3", "2"]], [["4", "4"]]], [[["5", "6"]], [["6", "5"]], [["7", None]]]
    shuffled = [[[chains[::-1] for chains in rows[p]] for p in order] for rows in (first, last)]
    assert debated(*shuffled)[0][0][0] == debated(first, last)[0][0][0]


def test_gold_changes_nothing():
    views = {"debate": group([[["1", "2"]], [["2", "2"]]]).responses}
    told = [Debate()(group([[["1", "1"]], [["1", "2"]]], views=views, gold=gold)) for gold in (("1",), ("9",), None)]
    assert told[0] == told[1] == told[2]


# ---- real peers ----------------------------------------------------------------------------------------------------


def test_real_peers_debate_and_learn(trainer):
    run = trainer(aggregator=Debate(), peer_context="responses")
    run.train()
    told = run.last_group
    assert [len(told.views["debate"][p]) for p in range(2)] == [len(told.prompts)] * 2
    assert any(target is not None for rows in told.targets for chains in rows for target in chains)
    assert run.state.global_step == 2


def test_one_real_peer_is_refused_at_construction(trainer, tiny):
    with pytest.raises(ValueError, match="Debate needs at least 2 peers"):
        trainer(peers={"alone": tiny["llama"]}, aggregator=Debate())
