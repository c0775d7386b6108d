import pytest
from helpers import group

from pst_rl.rewards.vote_share import VoteShare


def rewards(provider, answers):
    return provider(group(answers)).values.tolist()


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


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match="'pooled'.*'own'.*got 'all'"):
        VoteShare(scope="all")
