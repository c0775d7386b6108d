from itertools import permutations
from math import exp, inf, log, nan

import pytest
from helpers import answers_of, group, response

from pst_rl.aggregation.joint_likelihood import JointLikelihood
from pst_rl.records import Query, Score


class Judges:
    """`Judges({text: log p}, ...)`: one table per peer; a token is a word; remembers what it was asked."""

    def __init__(self, *tables):
        self.tables, self.calls = tables, []

    def logprobs(self, judge, queries):
        self.calls.append((judge, list(queries)))
        return [Score(self.tables[judge][q.given + q.target], len(q.target.split())) for q in queries]


def table(**scores):
    """Log-probabilities of the plain responses `#### 1`, `#### 2`, ... given as `_1=...`."""
    return {f"#### {name[1:]}": value for name, value in scores.items()}


def one(answers, *tables, **options):
    """The target of the only question, whose samples are `answers[peer]`."""
    return JointLikelihood(**options)(group([[chains] for chains in answers], scorer=Judges(*tables)))[0][0][0]


TWO = table(_1=-1.0, _2=-3.0), table(_1=-9.0, _2=-3.0)  # peer a believes in 1, peer b rules it out


def test_the_class_with_the_highest_mean_log_likelihood_wins():
    made = one([["1", "1"], ["1", "2"]], *TWO)
    assert made.answer.text == "2"  # -3 against (-1 - 9) / 2 = -5
    assert made.share == pytest.approx(1 / (1 + exp(-2)))


def test_in_a_mixture_one_believer_is_enough():
    made = one([["1", "1"], ["1", "2"]], *TWO, combine="mixture")
    ones, twos = (exp(-1) + exp(-9)) / 2, exp(-3)
    assert made.answer.text == "1"
    assert made.share == pytest.approx(ones / (ones + twos))


@pytest.mark.parametrize(("votes", "winner"), [(0.0, "2"), (0.9, "2"), (0.92, "1")])
def test_votes_may_outweigh_the_likelihood(votes, winner):
    tables = [table(_1=-3.0, _2=-2.0)] * 2  # even where votes * log(3/4 : 1/4) = 1, at votes = 0.910
    assert one([["1", "1"], ["1", "2"]], *tables, votes=votes).answer.text == winner


def test_the_share_with_votes_is_their_posterior():
    made = one([["1", "1"], ["1", None]], table(_1=-3.0), table(_1=-3.0), votes=1.0)
    assert made.share == 1.0
    made = one([["1", "1"], ["2", None]], *[table(_1=log(0.2), _2=log(0.4))] * 2, votes=1.0)
    assert made.share == pytest.approx(0.5)  # 0.2 * 2/4 against 0.4 * 1/4


@pytest.mark.parametrize(("reduction", "winner"), [("sum", "1"), ("per_token", "2")])
def test_per_token_forgives_length(reduction, winner):
    long = response("2", "so by hand #### 2")
    scores = {"#### 1": -4.0, long.text: -5.0}  # 2 and 5 tokens: -2 and -1 each
    assert one([["1", long]], scores, reduction=reduction).answer.text == winner


def test_pmi_asks_how_much_the_reasoning_says_about_its_conclusion():
    def argued(answer, reasoning):
        made = response(answer, f"{reasoning} #### {answer}")
        return response(answer, made.text).__class__(
            **{**made.__dict__, "answer": made.answer.__class__(answer, answer, len(reasoning) + 1)}
        )

    scores = {"2+3=5 #### 5": -1.0, " #### 5": -6.0, "hm #### 6": -2.0, " #### 6": -2.5}
    judges = Judges(scores)
    made = JointLikelihood(score="pmi")(group([[[argued("5", "2+3=5"), argued("6", "hm")]]], scorer=judges))
    assert made[0][0][0].answer.text == "5"  # 5 nats against 0.5
    assert made[0][0][0].share == pytest.approx(1 / (1 + exp(-4.5)))
    assert judges.calls[0][1][:2] == [Query(0, " #### 5", given="2+3=5"), Query(0, " #### 5")]


def test_whole_responses_are_scored_with_their_end():
    judges = Judges(table(_1=-1.0, _2=-2.0))
    JointLikelihood()(group([[["1", "2"]]], scorer=judges))
    assert judges.calls == [(0, [Query(0, "#### 1", whole=True), Query(0, "#### 2", whole=True)])]


# Who judges


def test_authors_of_the_text_may_be_left_out():
    other = response("1", "one #### 1")
    answers = [["1", "1"], [other, "2"]]  # "#### 1" represents 1; b wrote "#### 2" and another text for 1
    tables = {"#### 1": 0.0, "#### 2": -5.0}, {"#### 1": -7.0, "#### 2": 0.0}
    assert one(answers, *tables).share == pytest.approx(1 / (1 + exp(-1.0)))  # -2.5 against -3.5
    assert one(answers, *tables, exclude_authors="text").share == pytest.approx(1 / (1 + exp(-2.0)))  # -5, -7


def test_a_class_that_everybody_wrote_is_judged_by_everybody():
    other = response("1", "one #### 1")
    tables = {"#### 1": -2.0, "#### 2": -3.0}, {"#### 1": -6.0, "#### 2": 0.0}
    made = one([["1", "1"], [other, "2"]], *tables, exclude_authors="class")
    assert made.answer.text == "2"  # by a alone: -3; 1 by both: -4
    assert made.share == pytest.approx(1 / (1 + exp(-1.0)))


@pytest.mark.parametrize(("exclude", "peers"), [("none", 1), ("text", 2), ("class", 2)])
def test_leaving_authors_out_takes_two_peers(exclude, peers):
    assert JointLikelihood(exclude_authors=exclude).min_peers == peers


def test_one_peer_alone_verifies_itself():
    assert one([["1", "1", "2"]], table(_1=-3.0, _2=-1.0)).answer.text == "2"


# How much is asked


def test_every_peer_is_asked_once_about_every_distinct_response():
    answers = [[["1", "1"], ["3", "4"], ["7", "7"]], [["2", "1"], ["4", None], ["7", None]]]
    judges = Judges(*[table(_1=-1.0, _2=-2.0, _3=-1.0, _4=-2.0)] * 2)
    JointLikelihood()(group(answers, scorer=judges))
    assert [(judge, [(q.question, q.target) for q in queries]) for judge, queries in judges.calls] == [
        (judge, [(0, "#### 1"), (0, "#### 2"), (1, "#### 3"), (1, "#### 4")]) for judge in (0, 1)
    ]


def test_a_single_class_wins_unasked_and_nothing_parsed_abstains():
    judges = Judges({}, {})
    made = JointLikelihood()(group([[["1", None], [None, None]]] * 2, scorer=judges))
    assert answers_of(made) == [[["1", "1"], [None, None]]] * 2
    assert made[0][0][0].share == 1.0
    assert judges.calls == []


# What cannot be decided


@pytest.mark.parametrize("broken", [nan, -inf, inf])
@pytest.mark.parametrize("combine", ["product", "mixture"])
def test_a_class_whose_score_is_not_finite_is_impossible(broken, combine):
    tables = [table(_1=broken, _2=-50.0)] * 2
    made = one([["1", "1"], ["1", "2"]], *tables, combine=combine, votes=1.0)
    assert (made.answer.text, made.share) == ("2", 1.0)


def test_one_peers_veto_holds_in_a_product_and_not_in_a_mixture():
    tables = table(_1=nan, _2=-9.0), table(_1=-1.0, _2=-9.0)
    assert one([["1"], ["2"]], *tables).answer.text == "2"
    assert one([["1"], ["2"]], *tables, combine="mixture").answer.text == "1"


@pytest.mark.parametrize("combine", ["product", "mixture"])
def test_where_every_class_is_impossible_the_question_abstains(combine):
    assert one([["1"], ["2"]], *[table(_1=nan, _2=-inf)] * 2, combine=combine) is None


@pytest.mark.parametrize(("quorum", "spoken"), [(0.25, True), (0.26, False)])
def test_the_quorum_counts_votes_of_all_samples(quorum, spoken):
    made = one([["1", "1"], ["2", None]], *[table(_1=-9.0, _2=-1.0)] * 2, quorum=quorum)
    assert (made is not None) is spoken


# Order


def test_a_tie_does_not_depend_on_the_order_of_peers_and_samples():
    same = [table(_12=-1.1, _7=-1.1, _30=-1.1)] * 2
    winners = {one([order[:2], order[2:]], *same).answer.text for order in permutations(["12", "7", "30", "7"])}
    assert len(winners) == 1


def test_permuting_peers_and_samples_changes_no_target():
    answers = [["1", "2"], ["2", "3"], [None, "3"]]
    tables = [table(_1=-0.1, _2=-0.7, _3=-2.3), table(_1=-3.3, _2=-0.3, _3=-0.2), table(_1=-1.9, _2=-2.2, _3=-0.6)]
    for options in ({}, {"combine": "mixture", "votes": 0.3}, {"exclude_authors": "class"}):
        made = set()
        for order in permutations(range(3)):
            for turn in (1, -1):
                found = one([answers[p][::turn] for p in order], *[tables[p] for p in order], **options)
                made.add((found.answer.text, found.share))
        assert len(made) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "votes"}, "score must be one of likelihood, pmi"),
        ({"reduction": "mean"}, "reduction must be one of sum, per_token"),
        ({"combine": "sum"}, "combine must be one of product, mixture"),
        ({"exclude_authors": True}, "exclude_authors must be one of none, text, class"),
        ({"votes": -1.0}, "finite weight >= 0"),
        ({"votes": nan}, "finite weight >= 0"),
        ({"quorum": 1.5}, "between 0 and 1"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JointLikelihood(**options)
