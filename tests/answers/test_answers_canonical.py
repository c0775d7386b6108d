"""Keys: what is equivalent, what is not, and that the relation is exact and transitive."""

import itertools

import pytest

from pst_rl.answers import canonical_key, equivalent

SAME = [
    ("0.5", "1/2", r"\frac{1}{2}", r"\dfrac12", "50/100", ".50", r"$\frac{1}{2}$", "1/2 of a cup"),
    ("1234", "1,234", "$1,234.00", r"\$1{,}234", r"1,\!234", "1234 dollars", "€1234", "１２３４"),
    ("-3", "−3", "-$3", "$-3", "- 3", "x = -3", "-3."),
    ("50%", "50", r"50\%", "50 percent", r"50^\circ", "50 degrees", "50°", "**50**"),
    ("1200", "1.2e3", r"1.2 \times 10^{3}", "1.2 x 10^3", "1.2 thousand"),
    ("7/2", "3.5", "3 1/2", r"3\frac{1}{2}", r"\frac{7}{2}\text{ cm}^2", "about 3.5 km/h"),
    ("B", "(B)", "B.", r"\text{(B)}", "(B) mountains", "B. mountains"),
    ("true", "True", "TRUE."),
    ("yes", "Yes", r"\text{Yes}"),
    (r"2\sqrt{3}", r"\sqrt{12}", r"\frac{6}{\sqrt3}", "2*sqrt(3)"),
    ("x^2+2x+1", "(x+1)^2", r"1 + x\left(x+2\right)"),
    ("y = 2x+3", "y - 2x = 3", "2y = 4x + 6"),
    ("(1, 2)", r"\left(1,2\right)", "(x, y) = (1, 2)"),
    (r"\{1, 2\}", r"\{2,1\}", r"\{2, 1, 1\}"),
    ("18000, 21000", "18,000 and 21,000", "x = 18000, y = 21000", r"\$18000 \text{ and } \$21000"),
    (r"3 \pm 2", "1, 5"),
    ("116", "39 + 77 = 116", r"\text{Wins} = 116"),
]
DIFFERENT = [
    ("7.03", "7.03125"),
    ("0.333", "1/3"),
    ("50%", "0.5"),
    ("5x", "5"),
    ("3R^2", "3r^2"),
    ("52_8", "52"),
    ("3 million", "3"),
    (r"2\sqrt{3}", "2"),
    ("2 pi", "2"),
    ("12^2", "12"),
    ("1 2", "12"),
    ("1:2", "12"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(100,200)", "100200"),
    ("1 and 2", "2 and 1"),
    ("1/0", "0"),
    ("even", "odd"),
    ("A", "a"),
    (r"\ln x", r"\log_2 x"),
]


@pytest.mark.parametrize("group", SAME, ids=lambda group: group[0])
def test_equivalent_answers_share_a_key(group):
    assert {canonical_key(answer) for answer in group} == {canonical_key(group[0])}


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_answers_have_different_keys(a, b):
    assert not equivalent(a, b)


def test_no_two_groups_are_merged():
    assert all(not equivalent(a[0], b[0]) for a, b in itertools.combinations(SAME, 2))


def test_keys_are_readable_exact_rationals():
    assert [canonical_key(text) for text in ("$1,234.50", "-0.125", "18.0", "007")] == ["2469/2", "-1/8", "18", "7"]


def test_nothing_and_punctuation_have_an_empty_key():
    assert [canonical_key(text) for text in ("", "  ", "...", "$", "\u200b\x00")] == [""] * 5


def test_invisible_characters_do_not_change_a_key():
    assert canonical_key("\u202e1\u200b8\x00\ufeff") == "18"


def test_unintelligible_answers_get_a_normalised_string():
    assert canonical_key(r"\operatorname{foo}  (  \bar{x} )") == canonical_key(r"foo(\bar{x})")


def test_long_answers_are_compared_as_text():
    assert equivalent("9 " * 500, "9  " * 500) and not equivalent("9" * 500, "9" * 501)
