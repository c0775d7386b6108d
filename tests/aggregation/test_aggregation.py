from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from helpers import answers_of, group, response

from pst_rl.aggregation import LastPeer, LeaveOneOut, Majority, SupervisedGoldTarget, Weighted
from pst_rl.aggregation.base import spellings


def one(aggregator, answers, **fields):
    """The target of the first peer's first chain, one question asked."""
    return aggregator(group([[chains] for chains in answers], **fields))[0][0][0]


def test_the_most_common_answer_over_all_peers_wins():
    made = Majority()(group([[["1", "2"], ["5", "5"]], [["2", "3"], ["5", None]]]))
    assert answers_of(made) == [[["2", "2"], ["5", "5"]]] * 2


def test_an_answer_is_shown_as_most_write_it_then_the_shortest_then_the_first():
    rows = ["0.50", "1/2", "0.50", None, "2/4", "\\frac{3}{8}", "3/8", "0.375", "north east", "NORTH east"]
    expected = {"1/2": "0.50", "3/8": "3/8", "north east": "NORTH east"}
    assert spellings(map(response, rows)) == spellings(map(response, rows[::-1])) == expected
    assert spellings(map(response, ["2/4", "1/2"])) == {"1/2": "1/2"}


def test_votes_are_counted_by_equivalence_not_by_spelling():
    assert one(Majority(), [["0.5", "3"], ["1/2", "4"]]).answer.key == response("1/2").key


def test_the_share_is_of_all_samples_unparsed_ones_included():
    assert one(Majority(), [["7", "7"], [None, "1"]]).share == 0.5


@pytest.mark.parametrize(("quorum", "spoken"), [(0.5, True), (0.51, False)])
def test_unparsed_samples_count_against_the_quorum(quorum, spoken):
    assert (one(Majority(quorum), [["7", "7"], [None, None]]) is not None) is spoken


@pytest.mark.parametrize("quorum", [-0.1, 1.5, float("nan")])
def test_a_quorum_that_is_no_share_is_refused(quorum):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Majority(quorum)


def test_unparsed_never_wins():
    assert one(Majority(), [[None, None], [None, "4"]]).answer.text == "4"


@pytest.mark.parametrize("aggregator", [Majority(), Weighted({"a": 1, "b": 1}), LeaveOneOut(), LastPeer()])
def test_a_group_without_answers_abstains(aggregator):
    assert answers_of(aggregator(group([[[None, None]], [[None, None]]]))) == [[[None, None]]] * 2


def test_a_tie_does_not_depend_on_the_order_of_peers_and_chains():
    winners = {one(Majority(), [order[:2], order[2:]]).answer.text for order in permutations(["12", "7", "12", "7"])}
    assert len(winners) == 1


def test_a_tie_is_not_always_won_by_the_first_or_the_smallest():
    pairs = [(str(a), str(a + 1)) for a in range(20)]
    winners = [one(Majority(), [[a], [b]]).answer.text for a, b in pairs]
    assert 0 < sum(w == a for w, (a, _) in zip(winners, pairs, strict=True)) < len(pairs)


def test_the_text_is_the_most_common_finished_one_that_agrees():
    long, short = response("5", "2+3=5 #### 5"), response("5", "#### 5")
    cut = response("5", "so 5", finished=False)
    assert one(Majority(), [[long, short, cut, cut], [cut, long, response("6"), response("7")]]).text == long.text


def test_a_cut_text_serves_where_none_is_finished():
    assert one(Majority(), [[response("5", "so 5", finished=False)]]).text == "so 5"


def test_equally_common_texts_are_chosen_independently_of_order():
    texts = [response("5", text) for text in ("x #### 5", "y #### 5", "z #### 5")]
    assert len({one(Majority(), [order]).text for order in permutations(texts)}) == 1


def test_one_peer_alone_may_vote():
    assert one(Majority(), [["3", "3", "4"]]).answer.text == "3"


# Weighted


def test_weights_by_peer_can_outvote_a_majority():
    assert one(Weighted({"a": 3.0, "b": 1.0}), [["1", None], ["2", "2"]]).answer.text == "1"


def test_weights_may_come_from_a_function_of_the_response():
    score = lambda name, r: len(r.text) if name == "a" else 0.0
    assert (
        one(Weighted(score), [[response("1", "short"), response("2", "much longer")], ["1", "1"]]).answer.text == "2"
    )


def confident(probabilities):
    """A scorer in whose eyes peer p's only response has this mean token probability."""
    logprob = torch.tensor(probabilities).log().view(-1, 1, 1)
    return SimpleNamespace(statistics=lambda: SimpleNamespace(logprob=logprob))


def test_without_a_score_a_response_counts_by_its_confidence():
    assert one(Weighted(), [["1"], ["2"]], scorer=confident([0.9, 0.4])).answer.text == "1"
    assert one(Weighted(), [["1"], ["2"]], scorer=confident([0.4, 0.9])).answer.text == "2"


def test_the_weight_of_unparsed_responses_counts_against_the_quorum():
    assert one(Weighted({"a": 1.0, "b": 3.0}, quorum=0.5), [["1"], [None]]) is None
    assert one(Weighted({"a": 3.0, "b": 1.0}, quorum=0.5), [["1"], [None]]).share == 0.75


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match="peer 'a'"):
        one(Weighted({"a": weight, "b": 1.0}), [["1"], ["2"]])


def test_a_peer_without_a_weight_is_named():
    with pytest.raises(ValueError, match=r"no weight for the peers \['b'\]"):
        one(Weighted({"a": 1.0}), [["1"], ["2"]])


def test_votes_of_weight_zero_make_no_target():
    assert one(Weighted({"a": 0.0, "b": 0.0}), [["1"], ["2"]]) is None


@pytest.mark.parametrize(("three", "one_vote"), [("9", "8"), ("8", "9")])
def test_rounding_does_not_break_a_weighted_tie(three, one_vote):
    # 0.1 + 0.2 + 0.3 is 0.6 or a little more, depending on the order
    votes = {0.1: three, 0.2: three, 0.3: three, 0.6: one_vote}
    winners = {
        Majority().vote([(0, 0, response(votes[w])) for w in order], order).answer.text
        for order in permutations(votes)
    }
    assert len(winners) == 1


# The others


def test_no_peer_votes_on_its_own_target():
    made = LeaveOneOut()(group([[["1", "1", "1"]], [["2", "2", "3"]]]))
    assert answers_of(made) == [[["2"] * 3], [["1"] * 3]]


def test_leaving_oneself_out_takes_two():
    assert LeaveOneOut.min_peers == LastPeer.min_peers == 2


def test_each_chain_learns_from_its_own_last_peer():
    made = LastPeer()(group([[["1", "2"]], [["3", None]]]))
    assert answers_of(made) == [[["3", None]]] * 2
    assert (made[0][0][0].text, made[0][0][0].share) == ("#### 3", 1.0)


def test_the_last_peer_is_the_last_of_the_order():
    made = LastPeer()(group([[["1"], ["2"]], [["3"], ["4"]]], order=((0, 1), (1, 0))))
    assert answers_of(made) == [[["3"], ["2"]]] * 2
    three = group([[["1"]], [["2"]], [["3"]]], order=((1, 0, 2),))
    assert answers_of(LastPeer()(three)) == [[["3"]]] * 3


def test_the_gold_target_is_the_most_common_correct_text():
    best = response("5", "2+3=5 #### 5")
    made = SupervisedGoldTarget()(group([[[best, best]], [["5", "9"]]], gold=("5",)))
    assert made[1][0][1].text == best.text
    assert made[1][0][1].share == 0.75


def test_a_gold_target_must_be_declared():
    assert SupervisedGoldTarget.needs_labels


def test_the_gold_target_takes_answers_as_the_run_reads_and_compares_them():
    boxed = response("5", text="\\boxed{7} #### 5")  # read in the style "hash"
    made = SupervisedGoldTarget()(group([[[boxed, "7, 9"]]], gold=("5",)))
    assert answers_of(made) == [[["5", "5"]]]
    made = SupervisedGoldTarget()(group([[[boxed, "7, 9"]]], gold=("7",), answer_metric="first"))
    assert answers_of(made) == [[["7, 9", "7, 9"]]]


def test_the_gold_target_abstains_where_no_sample_is_correct():
    assert answers_of(SupervisedGoldTarget()(group([[["4", None]]], gold=("5",)))) == [[[None, None]]]


def test_the_gold_target_abstains_where_gold_is_unknown():
    assert answers_of(SupervisedGoldTarget()(group([[["4"]]], gold=(None,)))) == [[[None]]]
