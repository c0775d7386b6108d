import math
from random import Random
from types import SimpleNamespace

import pytest
import torch
from helpers import answers_of, group

from pst_rl.aggregation.votes import Majority, OtherPeer, OwnVote, Weighted
from pst_rl.rewards.semantic_entropy import SemanticEntropy
from pst_rl.rewards.vote_share import VoteShare

THREE = [[["1", "1", "2"]], [["2", "2", "1"]], [["3", "3", None]]]


def rewards(provider, answers):
    return provider(group(answers)).values.tolist()


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


# VoteShare


def test_a_sample_earns_its_answers_share_of_all_samples():
    assert rewards(VoteShare(), [[["1", "1"]], [["1", "2"]]]) == [[[0.75, 0.75]], [[0.75, 0.25]]]


def test_each_peer_alone_counts_only_itself():
    assert rewards(VoteShare(scope="own"), [[["1", "1"]], [["1", "2"]]]) == [[[1.0, 1.0]], [[0.5, 0.5]]]


def test_an_unparsed_sample_earns_nothing_and_disagrees():
    assert rewards(VoteShare(), [[["1", None]], [["1", None]]]) == [[[0.5, 0.0]], [[0.5, 0.0]]]


def test_leaving_oneself_out_a_lone_answer_earns_nothing():
    made = rewards(VoteShare(leave_self_out=True), [[["1", "1", "1", "2", None]]])
    assert made == [[[0.5, 0.5, 0.5, 0.0, 0.0]]]


def test_leaving_oneself_out_a_single_sample_abstains():
    assert VoteShare(leave_self_out=True)(group([[["1"]]])).abstain.item()


@pytest.mark.parametrize(("threshold", "silent"), [(0.5, False), (0.51, True)])
def test_a_question_without_a_large_enough_share_abstains(threshold, silent):
    made = VoteShare(threshold)(group([[["1", "1"], ["5", "5"]], [["2", None], ["5", "5"]]]))
    assert made.abstain.tolist() == [[[silent] * 2, [False] * 2]] * 2


def test_the_threshold_counts_the_peers_that_vote_together():
    made = VoteShare(0.6, scope="own")(group([[["1", "1"]], [["2", "3"]]]))
    assert made.abstain.tolist() == [[[False, False]], [[True, True]]]


def test_a_spelling_is_not_an_answer():
    assert rewards(VoteShare(), [[["0.5", "1/2", "2"]]])[0][0][0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        VoteShare(threshold)


@pytest.mark.parametrize("provider", [VoteShare, SemanticEntropy])
def test_an_unknown_scope_is_refused(provider):
    with pytest.raises(ValueError, match="'pooled'.*'own'.*got 'all'"):
        provider(scope="all")


# SemanticEntropy


def test_an_answer_earns_the_probability_of_its_cluster():
    made = SemanticEntropy()(group([[["1", "1"]], [["1", "2"]]]))
    assert made.values.tolist() == [[[0.75, 0.75]], [[0.75, 0.25]]]
    assert made.metrics["entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_an_unparsed_sample_is_a_cluster_of_its_own_and_earns_nothing():
    made = SemanticEntropy()(group([[["1", "1", None, None]]]))
    assert made.values.tolist() == [[[0.5, 0.5, 0.0, 0.0]]]
    assert made.metrics["entropy"] == pytest.approx(1.5 * math.log(2))  # 1/2, 1/4, 1/4


@pytest.mark.parametrize("answers", [["3"] * 6, ["1", "2", "3", "4", "5", "6"], [None] * 6, ["1", "2", None, "3"]])
def test_settled_and_chaotic_questions_abstain(answers):
    assert SemanticEntropy()(group([[answers]])).abstain.all()


@pytest.mark.parametrize(("low", "high", "silent"), [(0.4, 0.6, False), (0.51, 1.0, True), (0.0, 0.49, True)])
def test_the_gate_is_on_the_share_of_the_largest_entropy(low, high, silent):
    made = SemanticEntropy(low, high)(group([[["1", "1", "2", "2"]]]))  # H = log 2 is half of log 4
    assert made.abstain.all() == silent


def test_a_bound_itself_is_outside():
    pair = group([[["1", "1", "2", "2"]]])
    assert SemanticEntropy(low=0.5)(pair).abstain.all()
    assert SemanticEntropy(high=0.5)(pair).abstain.all()


def test_the_top_of_the_gate_may_be_left_open():
    assert not SemanticEntropy(high=2.0)(group([[["1", "2", "3"]]])).abstain.any()


def test_clusters_of_each_peer_alone():
    made = SemanticEntropy(scope="own")(group([[["1", "1", "2"]], [["2", "2", "2"]]]))
    assert made.values[0].flatten().tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert made.abstain.tolist() == [[[False] * 3], [[True] * 3]]


@pytest.mark.parametrize("bounds", [(0.5, 0.5), (-0.1, 1.0), (1.0, 2.0), (float("nan"), 1.0), (0.0, float("nan"))])
def test_a_gate_that_never_opens_is_refused(bounds):
    with pytest.raises(ValueError, match="0 <= low < high"):
        SemanticEntropy(*bounds)


def test_every_share_up_to_one_is_a_quorum():
    for quorum in (0.0, 1.0):
        assert Majority(quorum).quorum == quorum
    for quorum in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Majority(quorum)


def test_a_sample_whose_confidence_is_unknown_does_not_vote():
    unknown = torch.tensor([[[float("nan"), float("nan"), -0.5]]])
    statistics = SimpleNamespace(statistics=lambda: SimpleNamespace(logprob=unknown))
    made = Weighted()(group([[["1", "1", "2"]]], scorer=statistics))
    assert answers_of(made) == [[["2"] * 3]]
