from random import Random
from types import SimpleNamespace

import pytest
import torch
from helpers import answers_of, group

from pst_rl.aggregation.votes import Majority, OtherPeer, OwnVote, Weighted

THREE = [[["1", "1", "2"]], [["2", "2", "1"]], [["3", "3", None]]]


# OwnVote


def test_each_peer_votes_on_its_own_target():
    assert answers_of(OwnVote()(group(THREE))) == [[["1"] * 3], [["2"] * 3], [["3"] * 3]]


def test_the_share_is_of_the_peers_own_samples():
    made = OwnVote()(group([[["1", "1", None, "2"]], [["1"] * 4]]))
    assert [made[p][0][0].share for p in range(2)] == [0.5, 1.0]


def test_a_peer_below_the_quorum_abstains_alone():
    assert answers_of(OwnVote(0.6)(group([[["1", "2"]], [["3", "3"]]]))) == [[[None, None]], [["3", "3"]]]


def test_for_one_peer_it_is_the_majority():
    one = group([[["4", "5", "5"], ["6", None, "7"]]])
    assert OwnVote()(one) == Majority()(one)


# OtherPeer


def test_the_next_peer_labels_and_the_first_labels_for_the_last():
    made = OtherPeer()(group(THREE))
    assert answers_of(made) == [[["2"] * 3], [["3"] * 3], [["1"] * 3]]


def test_a_target_carries_the_labellers_text_and_share():
    target = OtherPeer()(group(THREE))[1][0][0]
    assert (target.text, target.share) == ("#### 3", 2 / 3)


def test_with_next_the_order_in_which_peers_are_listed_matters():
    swapped = answers_of(OtherPeer()(group([THREE[1], THREE[0], THREE[2]])))
    assert swapped[1] == [["3"] * 3]  # peer 0 of THREE now learns from peer 2, before from peer 1


def test_a_random_labeller_is_another_peer_and_each_labels_once():
    answers = [[["1"] * 2] * 2, [["2"] * 2] * 2, [["3"] * 2] * 2]
    for seed in range(20):
        made = answers_of(OtherPeer(pick="random")(group(answers, rng=Random(seed))))
        assert all(own[0][0] != target[0][0] for own, target in zip(answers, made, strict=True))
        assert sorted(rows[0][0] for rows in made) == ["1", "2", "3"]
        assert all(rows[0] == rows[1] for rows in made)  # one labeller for the whole batch


def test_random_labellers_change_from_batch_to_batch():
    made = {str(answers_of(OtherPeer(pick="random")(group(THREE, rng=Random(s))))) for s in range(20)}
    assert len(made) == 2  # the two circles of three peers


def test_a_labeller_below_the_quorum_gives_no_target():
    assert answers_of(OtherPeer(0.6)(group([[["1", "2"]], [["3", "3"]]]))) == [[["3", "3"]], [[None, None]]]


def test_the_labeller_must_be_picked_in_a_known_way():
    with pytest.raises(ValueError, match="'next' or 'random', got 'best'"):
        OtherPeer(pick="best")


def test_another_peer_takes_two():
    assert OtherPeer.min_peers == 2


# all votes


def test_every_share_up_to_one_is_a_quorum():
    for quorum in (0.0, 1.0):
        assert Majority(quorum).quorum == quorum
    for quorum in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Majority(quorum)


# Weighted


def test_a_sample_whose_confidence_is_unknown_does_not_vote():
    unknown = torch.tensor([[[float("nan"), float("nan"), -0.5]]])
    statistics = SimpleNamespace(statistics=lambda: SimpleNamespace(logprob=unknown))
    made = Weighted()(group([[["1", "1", "2"]]], scorer=statistics))
    assert answers_of(made) == [[["2"] * 3]]
