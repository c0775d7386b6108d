import math

import pytest
from helpers import group

from pst_rl.rewards.semantic_entropy import SemanticEntropy


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


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match="'pooled'.*'own'.*got 'all'"):
        SemanticEntropy(scope="all")
