"""Scoring against gold: tolerance, metrics, GSM8K's two matches, LaTeX golds."""

import threading

import pytest

from pst_rl.answers import Answer, is_correct
from pst_rl.answers.symbolic import symbolically_equal


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("7.03125", "7.03", True),
        ("7.04", "7.03", True),
        ("7.05", "7.03", False),
        ("88.24", 88.23529, True),
        ("0.09", 0.08, False),  # where |gold| < 1 the tolerance is 1 % of it
        ("0.0799", 0.08, True),
        ("17.9999", "18", True),
        ("17.95", "18", False),
        ("18010", "18000", False),  # integers must be equal
        ("18000.5", 18000.0, False),
        ("0.07", r"\frac{1}{16}", False),  # a fraction is not rounded
        ("0.0625", r"\frac{1}{16}", True),
        ("50%", "0.5", False),
        ("5000%", "50", False),
        ("5x", "5", False),
        (r"2\sqrt{3}", "2", False),
        ("2 x + 1", "2", False),
        ("-5", "5", False),
    ],
)
def test_tolerance_is_for_rounded_numbers_only(answer, gold, right):
    assert is_correct(rf"\boxed{{{answer}}}", gold) is right


def test_first_metric_reads_the_first_quantity_only():
    text = r"\boxed{18000} at 4% and \boxed{21000} at 6%"
    assert is_correct(text, "18000") and is_correct(text, [18000.0, 21000.0]) and not is_correct(text, "21000")


@pytest.mark.parametrize(("box", "right"), [("4, 5", True), ("5 and 4", True), ("4", False), ("4, 5, 6", False)])
def test_set_metric_wants_all_solutions_and_no_other(box, right):
    assert is_correct(rf"\boxed{{{box}}}", [5, 4], metric="set") is right


def test_gsm8k_strict_and_flexible():
    assert not is_correct("It is 18", "18", style="hash") and is_correct("It is 18", "18", style="number")
    assert is_correct("#### 18", "48/2=<<48/2=24>>24\n#### 18", style="hash")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("1,-2", "-2,1", True),
        ("1", "-2,1", False),
        ("(1,-2)", "(-2,1)", False),
        ("2x+3", "y = 2x + 3", True),
        (r"x \le 5", r"(-\infty,5]", True),
        (r"x < 5", r"(-\infty,5]", False),
        ("C", r"\text{(C)}", True),
        (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", True),
        (r"11(1+\sqrt5)", r"11 \sqrt{5} + 11", True),
        (r"\begin{pmatrix} -0.5 \\ 2 \end{pmatrix}", r"\begin{pmatrix} -1/2 \\ 2 \end{pmatrix}", True),
    ],
)
def test_latex_golds(answer, gold, right):
    assert is_correct(rf"\boxed{{{answer}}}", gold) is right


def test_scoring_works_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(symbolically_equal(r"(-\infty, 7]", r"x \le 7")))
    thread.start()
    thread.join()
    assert results == [True]


def test_an_answer_already_found_is_scored_as_it_is():
    assert is_correct(Answer.of("18000, 21000"), "18000") and not is_correct(Answer.of("18000, 21000"), "21000")


def test_unparsed_is_wrong():
    assert not is_correct("I do not know", "18")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="metric 'last'"):
        is_correct("18", "18", metric="last")
    with pytest.raises(ValueError, match="no gold"):
        is_correct("18", [])
