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
        ("0.4706", r"\frac{8}{17}", True),  # three digits of a rounding stand for the fraction or root
        ("0.33", r"\frac{1}{3}", False),
        ("0.333", r"\frac{1}{3}", True),
        ("37.70", r"12\pi", True),
        ("37.8", r"12\pi", False),
        (r"\frac{100}{3}", "33.3", True),
        (r"\frac{103}{3}", "33.3", False),
        (r"9.98 \times 10^{-25}", r"\frac{1}{1000}", False),  # its digits are not its size
        (r"\frac{1+\sqrt{5}}{2}", "2", False),
        (r"\frac{1}{3} \approx 0.33", "0.33", True),
    ],
)
def test_tolerance_is_for_rounded_numbers_only(answer, gold, right):
    assert is_correct(rf"\boxed{{{answer}}}", gold) is right


def test_first_metric_reads_the_first_quantity_only():
    text = r"\boxed{18000} at 4% and \boxed{21000} at 6%"
    assert is_correct(text, "18000", metric="first") and is_correct(text, [18000.0, 21000.0], metric="first")
    assert not is_correct(text, "21000", metric="first")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("4, -4", "4", False),
        ("18000 at 4% and 21000 at 6%", "18000", False),
        ("5 feet 7 inches", "5", False),
        ("3 out of 10", "3", False),
        ("36 per 2 days", "36", False),
        ("36 dollars for 18 eggs", "36", True),
        ("18 eggs at 2 dollars each", "18", True),
        ("2 hours 30 minutes", "2", False),
        ("4, 5", [4, 5], True),
        ("x = 4, y = 5", [4, 5], True),
        ("y = 5, x = 4", [4, 5], True),
        ("5, 4", [4, 5], False),
        ("4", [4, 5], False),
    ],
)
def test_the_whole_answer_counts_by_default(answer, gold, right):
    assert is_correct(rf"\boxed{{{answer}}}", gold) is right


@pytest.mark.parametrize(
    ("box", "right"), [("B", True), ("(b)", True), ("(B) Gamma", True), ("b", True), ("C", False)]
)
def test_letter_metric_wants_the_choice(box, right):
    assert is_correct(rf"\boxed{{{box}}}", "(B)", metric="letter") is right
    assert is_correct(rf"\boxed{{{box}}}", "B", metric="letter") is right


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
        ("2, 3", "[2, 3]", True),  # a bare list for a bracketed gold
        ("3, 2", "[2, 3]", False),
        ("(2, 3)", "[2, 3]", False),
        ("3, 1, 2", "1, 2, 3", True),  # a bare gold has no order
        (r"\{2, 3\}", "3, 2", True),
        ("[1/3, 1/4]", "[0.333, 0.25]", True),  # tolerance inside lists
        ("(0.6, 2.6667]", r"(\frac{3}{5}, \frac{8}{3}]", True),
        ("(0.6, 2.6667)", r"(\frac{3}{5}, \frac{8}{3}]", False),
        ("y = 4, x = 3", "x = 3, y = 4", True),
        ("y = 3, x = 4", "x = 3, y = 4", False),
        ("3, 4", "x = 3, y = 4", True),
        ("4, 3", "x = 3, y = 4", False),
        (r"\pm 2021", "2021", False),
        ("2021", r"\pm 2021", False),
        ("-2021, 2021", r"\pm 2021", True),
        ("2516", "2516_8", True),  # the base is the question's
        ("2516_9", "2516_8", False),
        ("2516_8", "2516", False),
        ("2/3", "2:3", True),
        ("1.5", "2:3", False),
        ("12,5", "12.5", True),
        ("12,5", "5, 12", True),
        (r"\tan A = 2", "2", True),
        ("2x = 6", "6", False),
        ("(b) Gamma", "(b)", True),
        (r"[-\sqrt{2}, \infty)", r"m \ge -\sqrt{2}", True),
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
    assert is_correct(Answer.of("18000"), "18000") and not is_correct(Answer.of("18000, 21000"), "18000")


def test_unparsed_is_wrong():
    assert not is_correct("I do not know", "18")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="metric 'last'"):
        is_correct("18", "18", metric="last")
    with pytest.raises(ValueError, match="no gold"):
        is_correct("18", [])
