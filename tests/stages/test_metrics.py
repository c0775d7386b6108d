"""The joint metrics as numbers: small groups by hand, each expected value worked out beside it."""

import math
import pickle

import pytest
import torch
from helpers import group, response, targets

from pst_rl.answers import find_answer
from pst_rl.answers.reading import REASONS
from pst_rl.records import Response, Rewards, Rollout, Weights
from pst_rl.rewards.vote_share import VoteShare
from pst_rl.stages.evaluation import Evaluation
from pst_rl.stages.gather import gather_responses
from pst_rl.stages.metrics import joint_metrics

# Two peers, four questions, two chains each; `None` is a sample without an answer.
#   question  a        b           votes               top / 4   distinct
#   0         7, 7     7, 7        7: 4                1         1
#   1         1, 2     1, None     1: 2, 2: 1          1/2       2
#   2         None ... None        none                0         0
#   3         5, 5     5, None     5: 3                3/4       1
ANSWERS = [
    [["7", "7"], ["1", "2"], [None, None], ["5", "5"]],
    [["7", "7"], ["1", None], [None, None], ["5", None]],
]
# Question 0 has the target 7 in every chain, 1 has 1 for peer a and 7 for peer b, 2 has none, 3 has 7 in one chain.
TARGETS = [
    [["7", "7"], ["1", "1"], [None, None], [None, "7"]],
    [["7", "7"], ["7", "7"], [None, None], [None, None]],
]


def measured(answers=ANSWERS, rewards=None, mix=None, gold=None, **fields):
    peers, questions, chains = len(answers), len(answers[0]), len(answers[0][0])
    none = targets([[[None] * chains] * questions] * peers)
    made = group(answers, **{"targets": none} | fields)
    rewards = {"none": Rewards(torch.zeros(made.shape), torch.zeros(made.shape, dtype=torch.bool))} | (rewards or {})
    weights = Weights(torch.ones(made.shape), torch.full(made.shape, math.nan), {"a/weight/mean": 1.5})
    return joint_metrics(made, rewards, {"none": 1.0} if mix is None else mix, weights, gold)


@pytest.fixture
def found():
    return measured(targets=targets(TARGETS))


# Agreement in training


def test_agreement_is_the_mean_share_of_the_most_common_answer(found):
    # An unparsed sample is in the denominator and agrees with nothing.
    assert found["peers/agreement"] == pytest.approx((4 / 4 + 2 / 4 + 0 / 4 + 3 / 4) / 4)


def test_unanimous_counts_questions_where_every_sample_gives_one_answer(found):
    # Question 0 only: in 3 one sample is unparsed, and in 2 nobody says anything, which is no agreement.
    assert found["peers/unanimous"] == 1 / 4


def test_distinct_answers_are_counted_per_question_without_the_unparsed(found):
    assert found["peers/distinct_answers"] == (1 + 2 + 0 + 1) / 4


def test_answers_that_are_written_differently_are_one_answer():
    spelt = measured([[["1/2"], ["3"]], [["0.5"], ["4"]]])
    assert spelt["peers/agreement"] == (1 + 1 / 2) / 2 and spelt["peers/distinct_answers"] == (1 + 2) / 2


# Targets


def test_distinct_targets_are_divided_by_the_pairs_of_question_and_target(found):
    # Pairs: (0, 7), (1, 1), (1, 7), (3, 7); distinct targets: 7, 1.
    assert found["peers/distinct_targets"] == 2 / 4


def test_one_target_everywhere_is_the_sign_of_a_collapse():
    same = targets([[["7"], ["7"], ["7"]]])
    assert measured([[["7"], ["7"], ["1"]]], targets=same)["peers/distinct_targets"] == 1 / 3


def test_abstained_is_the_share_of_questions_without_any_target(found):
    assert found["peers/abstained"] == 1 / 4  # question 2; question 3 has one in one chain


def test_without_any_target_all_abstain_and_nothing_is_distinct():
    nothing = measured(targets=targets([[[None, None]] * 4] * 2))
    assert (nothing["peers/abstained"], nothing["peers/distinct_targets"]) == (1, 0)


# One peer's samples


def test_parsed_is_the_share_of_a_peers_samples_with_an_answer(found):
    assert (found["a/parsed"], found["b/parsed"]) == (6 / 8, 4 / 8)


def test_finished_and_mean_length_count_every_sample():
    samples = [[[response("7", length=3), response(None, length=10, finished=False)]], [["7", "7"]]]
    found = measured(samples)
    assert (found["a/finished"], found["b/finished"]) == (1 / 2, 2 / 2)
    assert (found["a/completions/mean_length"], found["b/completions/mean_length"]) == ((3 + 10) / 2, 3)


def test_nobody_says_anything():
    nothing = measured([[[None, None]], [[None, None]]], targets=targets([[[None, None]], [[None, None]]]))
    expected = {"agreement": 0, "unanimous": 0, "distinct_answers": 0, "distinct_targets": 0, "abstained": 1}
    assert {name: nothing[f"peers/{name}"] for name in expected} == expected
    assert nothing["a/parsed"] == nothing["b/parsed"] == 0


# Rewards


def rewards_of(values, abstain):
    return Rewards(torch.tensor(values), torch.tensor(abstain))


def test_a_reward_is_the_weighted_sum_over_the_samples_that_some_trained_provider_scored():
    found = measured(
        [[["1", "1", "1"]], [["1", "1", "1"]]],
        rewards={
            "x": rewards_of([[[1.0, 2.0, 9.0]], [[3.0, 4.0, 5.0]]], [[[False, False, True]], [[True, True, True]]]),
            "y": rewards_of([[[4.0, 9.0, 9.0]], [[9.0, 9.0, 9.0]]], [[[False, True, True]], [[True, True, True]]]),
            "monitor": rewards_of([[[1.0, 1.0, 4.0]], [[6.0, 6.0, 9.0]]], [[[False] * 3], [[False, False, True]]]),
        },
        mix={"x": 1.0, "y": 0.5},
    )
    # a: 1 + 4/2 = 3, and 2 + nothing = 2; nobody scored the third sample, so the mean is over two.
    assert found["a/reward"] == pytest.approx((3 + 2) / 2)
    assert found["a/reward/x"] == pytest.approx((1 + 2) / 2) and found["a/reward/y"] == pytest.approx(4)
    assert found["a/reward/monitor"] == pytest.approx((1 + 1 + 4) / 3)  # weight 0: seen, in no sum
    # b: no trained provider scored anything, so there is no reward, not one of 0.
    assert "b/reward" not in found and "b/reward/x" not in found
    assert found["b/reward/monitor"] == pytest.approx(6)


def test_vote_shares_as_rewards():
    found = measured(rewards={"vote_share": VoteShare()(group(ANSWERS))}, mix={"vote_share": 1.0})
    # Shares: question 0 gives 4/4, 1 gives 2/4 for "1" and 1/4 for "2", 3 gives 3/4; an unparsed sample earns 0.
    a = (4 / 4 + 4 / 4 + 2 / 4 + 1 / 4 + 0 + 0 + 3 / 4 + 3 / 4) / 8
    b = (4 / 4 + 4 / 4 + 2 / 4 + 0 + 0 + 0 + 3 / 4 + 0) / 8
    assert (found["a/reward"], found["b/reward"]) == (pytest.approx(a), pytest.approx(b))
    assert found["a/reward/vote_share"] == found["a/reward"]


def test_metrics_of_providers_and_weights_are_passed_on():
    own = Rewards(torch.zeros(2, 4, 2), torch.zeros(2, 4, 2, dtype=torch.bool), {"share": 0.25})
    found = measured(rewards={"own": own})
    assert (found["own/share"], found["a/weight/mean"]) == (0.25, 1.5)


# How answers were read


def read(text):
    return Response(text, find_answer(text), True, 3)


def test_the_reasons_of_parsed_answers_are_shares_of_each_peer():
    tag, box, number, nothing = map(read, ("<answer>7</answer>", r"\boxed{7}", "So she has 7 left, as 3+4=7.", "Hm."))
    found = measured([[[tag, box], [number, nothing]], [[box, box], [nothing, nothing]], [[nothing] * 2] * 2])
    shares = {name: value for name, value in found.items() if "/answers/" in name and value}
    # a: three parsed, one each; b: two of two; c has none, and so no share.
    assert shares == {f"a/answers/{r}": 1 / 3 for r in ("tag", "box", "last_number")} | {"b/answers/box": 1.0}
    assert {name for name in found if "/answers/" in name} == {f"{p}/answers/{r}" for p in "ab" for r in REASONS}


def test_answers_that_do_not_say_how_they_were_read_are_in_no_share(found):
    assert not [name for name in found if "/answers/" in name]


def test_the_reason_is_there_after_gathering():
    texts = ["<answer>7</answer>", "#### 7", "The answer is 7.", "7", "It was 3, then it is 4 and so on."]
    answers = [find_answer(text) for text in texts]
    rollout = Rollout(["?"] * 5, [[0]] * 5, [[1]] * 5, None, texts, answers, [True] * 5)
    (((gathered,),),) = pickle.loads(pickle.dumps([gather_responses([rollout], 5)]))
    assert [r.answer.reason for r in gathered] == [a.reason for a in answers]
    assert [a.reason for a in answers] == ["tag", "heading", "phrase", "whole", "last_number"]


# Labels


def test_accuracies_of_targets_and_samples_are_over_the_questions_with_gold():
    gold = {0: "7", 1: "2", 2: None, 3: "5"}
    found = measured(targets=targets(TARGETS), gold=gold)
    # Targets with gold: question 0 four of four right; 1 none of four ("1", "1", "7", "7"); 3 none of one.
    assert found["aggregate/accuracy"] == pytest.approx(4 / 9)
    # a: 7, 7 right; of 1, 2 the second; question 2 has no gold; 5, 5 right. b: 7, 7; none; 5.
    assert (found["a/sample_accuracy"], found["b/sample_accuracy"]) == (pytest.approx(5 / 6), pytest.approx(3 / 6))


def test_without_labels_there_is_no_accuracy(found):
    assert not [name for name in found if "accuracy" in name]


# Evaluation: greedy answers of three peers to four questions


def evaluation(answers, correct=None):
    greedy = [[response(a) for a in peer] for peer in answers]
    return Evaluation(tuple("abc"[: len(answers)]), greedy, [], correct).metrics()


GREEDY = [["7", "1", None, "5"], ["7", "1", None, "5"], ["7", "2", None, None]]


def test_pairwise_agreement_is_of_all_pairs_of_peers_at_all_questions():
    found = evaluation(GREEDY)
    # Three pairs a question: 3 agree at 0; ab at 1; none at 2, where nobody answers; ab at 3.
    assert found["peers/pairwise_agreement"] == pytest.approx((3 + 1 + 0 + 1) / 12)
    assert "peers/agreement" not in found  # that is the share of the most common answer, in training


def test_pairwise_agreement_differs_from_the_share_of_the_most_common_answer():
    answers = [["1"], ["1"], ["2"]]
    assert evaluation(answers)["peers/pairwise_agreement"] == pytest.approx(1 / 3)  # of ab, ac, bc: ab
    assert measured([[["1"]], [["1"]], [["2"]]])["peers/agreement"] == pytest.approx(2 / 3)  # two of three


def test_parsed_in_an_evaluation_is_the_share_of_questions():
    found = evaluation(GREEDY)
    assert (found["a/parsed"], found["b/parsed"], found["c/parsed"]) == (3 / 4, 3 / 4, 2 / 4)


def test_one_peer_agrees_with_nobody():
    assert set(evaluation([["7", None]])) == {"a/parsed"}


def test_unanimous_wrong_needs_one_answer_of_all_that_is_wrong():
    #    question: all right   all wrong   nobody answers   c differs, wrong   all wrong
    answers = [["7", "1", None, "5", "3"], ["7", "1", None, "5", "3"], ["7", "1", None, "6", "3"]]
    right = [True, False, False, False, False]
    found = evaluation(answers, {"a": right, "b": right, "c": right, "vote": right})
    assert found["peers/unanimous_wrong"] == pytest.approx(2 / 5)
    assert found["a/accuracy"] == found["vote/accuracy"] == pytest.approx(1 / 5)
    assert "pooled_vote/accuracy" not in found
