import itertools
import json
import re

import numpy as np
import pytest

from pst_rl.measure import (
    bootstrap_mean,
    load_gv_gap,
    load_majority_at_k,
    load_pass_at_k,
    paired_bootstrap,
    paired_p_value,
)
from pst_rl.measure.samples import Judged, judge, majority_at_k, pass_at_k, vote
from pst_rl.measure.verification import Threshold, verification_gap

RIGHT, WRONG, SILENT = Judged("9", True), Judged("8", False), Judged(None, False)


# pass@k, majority@k


@pytest.mark.parametrize(("right", "k"), [(0, 2), (1, 1), (2, 3), (3, 2), (5, 5)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(right, k):
    samples = [True] * right + [False] * (5 - right)
    assert pass_at_k(right, 5, k) == pytest.approx(np.mean([any(s) for s in itertools.combinations(samples, k)]))


def test_samples_without_an_answer_do_not_vote():
    assert vote([SILENT, SILENT, RIGHT]) and not vote([SILENT])


def test_majority_at_k_averages_disjoint_votes():
    assert majority_at_k([RIGHT, RIGHT, WRONG, WRONG, WRONG, RIGHT, RIGHT], 3) == 0.5


@pytest.mark.parametrize("k", [0, 3])
def test_k_beyond_the_samples_is_refused(k):
    with pytest.raises(ValueError, match="the 2 samples"):
        pass_at_k(1, 2, k)
    with pytest.raises(ValueError, match="the 2 samples"):
        majority_at_k([RIGHT, WRONG], k)


def test_a_response_that_was_cut_off_has_no_answer():
    assert judge("#### 9", "9") == RIGHT and judge("#### 9", "9", finished=False) == SILENT


# intervals and tests


def test_the_bootstrap_of_differences_is_the_paired_one():
    before, after = [True, False, False, True] * 30, [True, True, False, False] * 30
    mine = bootstrap_mean([b - a for a, b in zip(before, after, strict=True)])
    paired = paired_bootstrap(before, after)
    assert (mine.gain, mine.low, mine.high) == pytest.approx((paired.gain, paired.low, paired.high), abs=0.02)


def test_the_p_value_of_verdicts_is_mcnemars_exact_test():
    before, after = [False] * 6 + [True] + [True] * 20, [True] * 6 + [False] + [True] * 20
    assert paired_p_value(before, after) == pytest.approx(2 * (1 + 7) / 2**7)


def test_the_p_value_of_shares_is_that_of_all_signs():
    difference = np.array([0.5, 0.25, 0.5, 0.125, 0.25, 0.5, -0.125])
    every = [abs(np.dot(s, difference)) >= difference.sum() for s in itertools.product([-1, 1], repeat=7)]
    assert paired_p_value(np.zeros(7), difference) == pytest.approx(np.mean(every), abs=0.01)


def test_no_change_has_p_one():
    assert paired_p_value([0.5, 1], [0.5, 1]) == 1


# the gap


def test_the_gap_is_that_of_the_paper_by_hand():
    correct = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    scores = [[0.9, 0.8, 0.1, 0.1], [0.1, 0.7, 0.2, 0.3], [0.0, 0.1, 0.9, 0.2]]
    gap = verification_gap(correct, scores, Threshold(value=0.5))
    assert gap.generation.gain == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert gap.verified.gain == pytest.approx((0.5 + 1 + 1) / 3)
    assert gap.gap.gain == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert gap.relative_gap.gain == pytest.approx((0.25 / 0.75 + 0.5 / 0.5) / 2)
    assert gap.balanced_accuracy.gain == pytest.approx((3 / 7 + 4 / 5) / 2)
    assert (gap.kept.gain, gap.always_right, gap.kept_none) == pytest.approx((4 / 12, 1 / 3, 0))


def test_a_question_that_keeps_nothing_has_no_gap():
    gap = verification_gap([[1, 0], [1, 0]], [[0.1, 0.2], [0.9, 0.2]], Threshold(value=0.5))
    assert gap.by_question["gap"] == [0, 0.5] and gap.kept_none == 0.5


@pytest.mark.parametrize(
    ("scope", "kept"), [("question", [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]), ("all", [[0] * 5, [0, 0, 0, 1, 1]])]
)
def test_a_quantile_is_of_a_question_or_of_all(scope, kept):
    scores = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    assert Threshold(quantile=0.8, scope=scope).keep(scores).tolist() == [[bool(k) for k in row] for row in kept]


def test_an_oracle_closes_the_gap_and_a_constant_verifier_has_none():
    correct = np.random.default_rng(0).random((40, 6)) < 0.5
    assert verification_gap(correct, correct.astype(float), Threshold(value=1)).balanced_accuracy.gain == 1
    assert verification_gap(correct, np.zeros((40, 6)), Threshold(quantile=0.8)).gap.gain == 0


def test_the_interval_of_the_gap_agrees_with_resampling_the_questions():
    rng = np.random.default_rng(1)
    correct, scores = rng.random((200, 5)) < 0.5, rng.random((200, 5))
    gap = verification_gap(correct, scores, Threshold(quantile=0.5))
    drawn = np.array(gap.by_question["gap"])[rng.integers(200, size=(5000, 200))].mean(1)
    assert (gap.gap.low, gap.gap.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006)


def test_undefined_shares_are_none():
    gap = verification_gap([[1, 1]], [[0.1, 0.2]], Threshold(value=0.5))
    assert gap.relative_gap is None and gap.balanced_accuracy is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "one of the two"), ({"value": 1, "quantile": 0.5}, "one of the two"), ({"quantile": 1}, "below 1")],
)
def test_a_threshold_that_says_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Threshold(**options)


@pytest.mark.parametrize(
    ("scores", "message"), [([[0.1]], "n samples in each row"), ([[0.1, float("nan")]], "1 scores .* not finite")]
)
def test_scores_that_do_not_fit_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        verification_gap([[1, 0]], scores, Threshold(value=0.5))


# `evaluate` modules


def test_the_modules_agree_with_the_functions():
    texts = [["#### 9", "#### 8", "#### 9"], ["#### 1", "none", "#### 2"]]
    assert load_pass_at_k().compute(predictions=texts, references=["9", "3"], k=[1, 3]) == {
        "pass@1": pytest.approx(1 / 3),
        "pass@3": 0.5,
    }
    assert load_majority_at_k().compute(predictions=texts, references=["9", "3"]) == {"majority@3": 0.5}


def test_the_gap_can_be_added_in_batches():
    gap = load_gv_gap()
    gap.add_batch(predictions=[[0.9, 0.1]], references=[[True, False]])
    gap.add_batch(predictions=[[0.2, 0.8], [0.7, 0.1]], references=[[True, False], [True, False]])
    found = gap.compute(quantile=0.8)
    assert found["gap"] == pytest.approx(0.5 / 3) and found["ci95"]["gap"][0] <= found["gap"]


# the community's scoring


def harness_flexible(text):
    """`flexible-extract` of the lm-evaluation-harness's gsm8k task: last match, without commas, $ and a final stop."""
    found = re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)
    last = next((part for part in found[-1] if part), "") if found else "[invalid]"
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", last))


def harness_strict(text):
    """`strict-match` of the same task: the first "#### number"."""
    found = re.search(r"#### (\-?[0-9\.\,]+)", text)
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", found[1])) if found else "[invalid]"


def recorded(shared_data):
    rows = [json.loads(line) for line in (shared_data / "recorded_gsm8k.jsonl").read_text().splitlines()]
    return [(text, row["answer"]) for row in rows for text in row["responses"].values()]


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def test_flexible_scoring_agrees_with_the_harness_on_recorded_outputs(shared_data):
    cells = recorded(shared_data)
    ours = [judge(text, gold, style="number").correct for text, gold in cells]
    as_numbers = [number(harness_flexible(text)) == number(gold) for text, gold in cells]
    assert sum(a != b for a, b in zip(ours, as_numbers, strict=True)) <= 1  # a digit in the name of a variable
    as_text = [harness_flexible(text) == gold for text, gold in cells]
    assert sum(a and not b for a, b in zip(as_text, ours, strict=True)) <= 1
    assert sum(b and not a for a, b in zip(as_text, ours, strict=True)) == 55  # "2.0" for 2, wrong to the harness


def test_strict_scoring_agrees_with_the_harness_on_recorded_outputs(shared_data):
    cells = [(f"{text}\n#### {gold}", gold) for text, gold in recorded(shared_data)]
    cells += [(f"{text}\n#### {gold}9", gold) for text, gold in recorded(shared_data)]
    cells = [(text, gold) for text, gold in cells if text.count("####") == 1]
    agree = [(harness_strict(t) == gold) == judge(t, gold, style="hash").correct for t, gold in cells]
    assert len(agree) > 1500 and all(agree)
