import math
from collections import Counter

import pytest
import torch
from search_helpers import Watched

from pst_rl.coherence.accuracy import accuracy
from pst_rl.coherence.baselines import random_few_shot, supervised_gold_few_shot, zero_shot
from pst_rl.coherence.constraints import Antisymmetric, AtMostOne
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.toy import ConceptMixture

SALIENT, WANTED = [0, 1] * 6, [1] * 6 + [0] * 6


@pytest.fixture
def mixture():
    """Twelve items; the concept that is not wanted is the more salient one."""
    return ConceptMixture([SALIENT, WANTED], [0.6, 0.4], agree=30.0)


class Noted(Watched):
    """Notes the demonstrations that each item is labelled with."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = {}

    def law(self, history, item):
        self.seen.setdefault(item, history)  # what comes later only measures coherence
        return super().law(history, item)


# Zero-shot


def test_zero_shot_labels_follow_the_most_salient_concept(mixture):
    found = zero_shot(mixture, Problem(12))
    assert found.labels == tuple(SALIENT) and found.method == "zero_shot"
    # p(label = concept 1's and not concept 2's) = 0.6 a / (a + b) + 0.4 b / (a + b), with a = 30, b = 1
    assert found.confidences[0] == pytest.approx((0.6 * 30 + 0.4) / 31)


def test_the_cost_is_a_unit_an_item(mixture):
    assert zero_shot(mixture, Problem(12)).units == 12


def test_coherence_is_the_log_joint_of_the_labels(mixture):
    assert zero_shot(mixture, Problem(12)).coherence == pytest.approx(
        mixture.log_joint(list(enumerate(SALIENT))), 1e-5
    )


def test_zero_shot_labels_may_contradict_unless_they_are_projected():
    mixture = ConceptMixture([[1, 1, 0]], [1.0])
    problem = Problem(3, constraints=(Antisymmetric((0, 1)),))
    assert zero_shot(mixture, problem).violations == 1
    projected = zero_shot(mixture, problem, consistent=True)
    assert projected.violations == 0 and sorted(projected.labels[:2]) == [0, 1]


def test_clamped_labels_are_kept(mixture):
    assert zero_shot(mixture, Problem(12, clamped={0: 1, 5: 0})).labels == (1, *SALIENT[1:5], 0, *SALIENT[6:])


# Few shots


def test_gold_shots_switch_the_concept(mixture):
    found = supervised_gold_few_shot(mixture, Problem(12), WANTED, shots=8)
    assert found.labels == tuple(WANTED)


def test_gold_shots_say_that_they_are_supervised(mixture):
    assert "supervised" in supervised_gold_few_shot(mixture, Problem(12), WANTED).method


def test_no_item_sees_its_own_gold_label_or_its_groups():
    predictor = Noted([SALIENT], [1.0])
    problem = Problem(12, constraints=(AtMostOne((0, 1, 2)), AtMostOne((3, 4))))
    supervised_gold_few_shot(predictor, problem, [0] * 12, shots=11)
    for block in problem.blocks:
        assert not any({i for i, _ in predictor.seen[item]} & set(block) for item in block)


def test_few_shots_are_scored_with_what_is_shown():
    predictor = Noted([SALIENT, WANTED], [0.5, 0.5])
    found = supervised_gold_few_shot(predictor, Problem(12), WANTED, shots=4, seed=1)
    item = next(i for i in range(12) if len(predictor.seen[i]) == 4)
    joint = [predictor.log_joint([*predictor.seen[item], (item, label)]) for label in (0, 1)]
    assert found.probabilities[item] == pytest.approx(torch.tensor(joint).softmax(0).tolist(), rel=1e-5)


def test_only_known_gold_labels_are_shown(mixture):
    with pytest.raises(ValueError, match="between 1 and the 2 items with a gold label that there are, got 3"):
        supervised_gold_few_shot(mixture, Problem(12), [1, 0] + [None] * 10, shots=3)


def test_random_shots_are_drawn_by_seed_from_consistent_labels():
    problem = Problem(12, constraints=(AtMostOne(tuple(range(11))),))
    shown = []
    for seed in range(20):
        predictor = Noted([SALIENT], [1.0])
        random_few_shot(predictor, problem, shots=12, seed=seed)
        shown.append(tuple(sorted(predictor.seen[11])))
    assert all(sum(label for _, label in demos) <= 1 for demos in shown)
    assert len(set(shown)) > 5


def test_random_labels_are_fair_coins():
    drawn = Counter()
    for seed in range(60):
        predictor = Noted([SALIENT], [1.0])
        random_few_shot(predictor, Problem(12), shots=11, seed=seed)
        drawn.update(label for _, label in max(predictor.seen.values(), key=len))
    assert abs(drawn[1] / drawn.total() - 0.5) < 5 * 0.5 / math.sqrt(drawn.total())  # five standard errors


def test_a_labelling_is_repeated_by_its_seed(mixture):
    assert random_few_shot(mixture, Problem(12), seed=4) == random_few_shot(mixture, Problem(12), seed=4)


# Accuracy


def test_accuracy_is_over_known_items_that_were_not_given(mixture):
    found = zero_shot(mixture, Problem(12))
    gold = [SALIENT[0], 1 - SALIENT[1], SALIENT[2], None, SALIENT[4]] + [None] * 7
    assert accuracy(found, gold).right == (True, False, True, True)
    assert accuracy(found, gold, clamped={1: 0}).share == 1.0
    assert accuracy(found, [None] * 12) is None


def test_balanced_accuracy_is_the_mean_recall(mixture):
    found = zero_shot(mixture, Problem(12))  # 0, 1, 0, 1, ...
    gold = [0, 0, 0, 1] + [None] * 8
    assert accuracy(found, gold).recalls == (2 / 3, 1.0)
    assert accuracy(found, gold).balanced == pytest.approx(5 / 6)


def test_the_interval_holds_the_share_and_a_gain_is_paired(mixture):
    found, gold = zero_shot(mixture, Problem(12)), [1 - SALIENT[0], *SALIENT[1:]]
    measured = accuracy(found, gold)
    assert measured.interval.low < 11 / 12 < measured.interval.high == 1.0
    gain = measured.over(accuracy(found, [1 - label for label in SALIENT]))
    assert gain.gain == pytest.approx(11 / 12)
