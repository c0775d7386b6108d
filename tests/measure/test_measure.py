import json
import socket
from pathlib import Path

import numpy as np
import pytest

from pst_rl.aggregation.base import break_tie
from pst_rl.measure import Interval, load_exact_match, mean_interval, paired_bootstrap

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def exact_match():
    return load_exact_match()


def test_exact_match_counts_right_and_readable_responses(exact_match):
    scores = exact_match.compute(predictions=["So the answer is 9.", "#### 4", ""], references=["9", "3", "1"])
    assert scores == {
        "exact_match": pytest.approx(1 / 3),
        "parsed": pytest.approx(2 / 3),
        "correct": [True, False, False],
    }


def test_exact_match_takes_several_solutions(exact_match):
    texts, golds = [r"\boxed{4} and \boxed{5}", r"\boxed{4}"], [["4", "5"], ["4", "5"]]
    assert exact_match.compute(predictions=texts, references=golds)["correct"] == [True, False]
    assert exact_match.compute(predictions=texts, references=golds, metric="first")["correct"] == [True, True]
    assert exact_match.compute(predictions=texts, references=golds, metric="set")["correct"] == [True, False]


def test_exact_match_reads_the_style_asked_for(exact_match):
    texts = {"predictions": ["so 5 apples"], "references": ["5"]}
    assert exact_match.compute(**texts, style="number")["exact_match"] == 1
    assert exact_match.compute(**texts, style="hash") == {"exact_match": 0, "parsed": 0, "correct": [False]}


def test_exact_match_loads_without_the_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a network address was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_exact_match().compute(predictions=["1"], references=["1"])["exact_match"] == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real rows is not here")
def test_exact_match_agrees_with_recorded_verdicts(exact_match):
    rows = [json.loads(line) for line in (DATA / "recorded_gsm8k.jsonl").read_text().splitlines()]
    cells = [
        (row["responses"][model], row["answer"], row["verdicts"][model]) for row in rows for model in row["verdicts"]
    ]
    texts, golds, verdicts = zip(*cells, strict=True)
    correct = exact_match.compute(predictions=list(texts), references=list(golds))["correct"]
    assert np.mean(np.array(correct) == np.array(verdicts, dtype=bool)) >= 0.99


def test_no_change_has_no_gain_and_no_width():
    assert paired_bootstrap([True, False] * 50, [True, False] * 50) == Interval(0.0, 0.0, 0.0)


def test_the_interval_agrees_with_resampling_the_questions():
    rng = np.random.default_rng(1)
    before = rng.random(400) < 0.5
    after = np.where(rng.random(400) < 0.2, True, before)
    difference = after.astype(int) - before.astype(int)
    gains = difference[rng.integers(400, size=(20_000, 400))].mean(axis=1)
    interval = paired_bootstrap(list(before), list(after))
    assert interval.gain == pytest.approx(difference.mean())
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])), abs=0.0026)


def test_pairing_narrows_the_interval():
    before = [True] * 50 + [False] * 50
    paired, crossed = before[:45] + [False] * 50 + [True] * 5, [False] * 50 + [True] * 50
    widths = [x.high - x.low for x in (paired_bootstrap(before, paired), paired_bootstrap(before, crossed))]
    assert widths[0] < widths[1] / 2


def test_the_seed_fixes_the_interval():
    before, after = [True, False, False] * 30, [True, True, False] * 30
    assert paired_bootstrap(before, after, seed=3) == paired_bootstrap(before, after, seed=3)


@pytest.mark.parametrize(
    ("before", "after", "confidence", "message"),
    [
        ([True], [True, False], 0.95, "compare the same"),
        ([], [], 0.95, "no questions"),
        ([True], [True], 95, "between"),
    ],
)
def test_bootstrap_refuses_what_it_cannot_compare(before, after, confidence, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(before, after, confidence=confidence)


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.70620), (3, 4.30265), (5, 2.77645), (6, 2.57058), (31, 2.04227)])
def test_mean_interval_uses_students_t(n, quantile):
    values = np.random.default_rng(n).normal(size=n)
    half = quantile * values.std(ddof=1) / np.sqrt(n)
    interval = mean_interval(list(values))
    assert interval.high - interval.gain == pytest.approx(half, rel=1e-5)
    assert interval.gain - interval.low == pytest.approx(half, rel=1e-5)


def test_one_run_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 runs"):
        mean_interval([1.0])


def test_ties_favour_neither_small_nor_large_numbers():
    wins = sum(break_tie([str(n), str(n + 1)]) == str(n) for n in range(0, 2000, 2))
    assert 440 < wins < 560
