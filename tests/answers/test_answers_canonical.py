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
    ("2 dozen", "2"),
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


# kind: groups of spellings of one answer; no two groups of a kind share a key
KINDS = {
    "an expression keeps its number": [
        (r"3\sqrt{2} meters", r"$3\sqrt{2}$ meters", r"\sqrt{18}"),
        (r"5\sqrt{2} meters", r"5\sqrt{2}\text{ m}"),
        (r"\frac{3\pi}{4} square units", r"0.75\pi"),
        (r"\frac{\pi}{4} square units", r"\pi/4"),
        ("10^{6} meters", "1 000 000", "10^6", "1000000", "1 million"),
        ("6 meters", "6"),
        ("2^{10} bytes", "1024"),
        ("10²³", "10^{23}", r"1 \times 10^{23}"),
        ("10^8", "100000000"),
        ("x^2 + 3x + 2 where x is real", "(x+1)(x+2)"),
        ("7x + 2", "2 + 7x"),
        ("2^6 3^5", r"2^6 \cdot 3^5"),
        (r"0.\overline{3}", "1/3"),
    ],
    "words around a number count where they change it": [
        ("negative 5", "minus 5", "-5", "minus 5 degrees"),
        ("5", "5 apples", "5th", r"5^{\text{th}}"),
        ("5 January",),
        ("5 February",),
        ("5 miles north",),
        ("5 miles south",),
        ("42 (see step 3)", "42"),
        ("17 (see step 3)", "17"),
        ("5 feet 6 inches", "5 ft 6 in", "5.5 feet"),
        ("6 feet 6 inches", "6 feet, 6 inches"),
        ("2 hours 30 minutes", "2 hours and 30 minutes", "2.5 hours"),
        ("3 out of 10", "3/10"),
        ("36 dollars for 18 eggs",),
        ("36 dollars for 12 eggs",),
        ("3:45 in the afternoon",),
        ("2:45 in the afternoon",),
        ("3 dollars and 50 cents", "$3.50"),
        ("7 1/2", "7½", "7.5"),
        ("1/2", "½"),
        ("10 000 dollars", r"10\,000", "10,000", "10 000", "10{,}000"),
        ("27 000 dollars", "27000"),
    ],
    "ratios, times, dates and bases are their own numbers": [
        ("2:3", "2 : 3", r"2\colon 3", "A:B = 2:3"),
        ("1:3",),
        ("2/3",),
        ("3",),
        ("4:30 p.m.", r"4:30 \text{ p.m.}", "4:30 PM", r"\text{4:30 p.m.}"),
        ("4:30 a.m.", "4:30 AM"),
        ("20:34", "20:34:00"),
        ("1/2/2020",),
        ("2/1/2020",),
        ("2516_8", "2516_{8}", r"2516_{\text{eight}}"),
        ("2516",),
        ("2516_9",),
    ],
    "a comma may be decimal": [
        ("1,22", "1.22"),
        ("0,111", "0.111"),
        ("1{,}5", "1.5"),
        ("1, 22", "(1) and (22)"),
        ("1,2", "1, 2"),
        ("1,222", "1222"),
    ],
    "units are dropped, variables are not": [
        (r"9\pi \text{ square units}", r"9\pi", r"9\pi\text{ cm}^2", r"9\pi\ \mathrm{m}^2", r"9\pi units^2"),
        ("9",),
        (r"90\mbox{m}^3", "90", r"90\text{ m}^3", "90{m}^3"),
        ("2.41 eV", r"2.41\ \mathrm{eV}", "2.41"),
        (r"9.8\text{ m/s}^2", "9.8 m/s^2", "9.8"),
        ("5x",),
        ("5 s^2", "5s^2"),
        (r"2\pi h",),
        (r"2\pi", r"2\pi\text{ h}", r"2 \pi radians"),
        (r"\sqrt{2}\ \mathrm{m}", r"\sqrt{2}"),
        (r"2\mathrm{e}", "2e"),
        (r"20^\circ\text{C}", r"20^\circ", "20"),
        (r"3\text{ cm}\times 4\text{ cm}",),
        ("12",),
    ],
    "named values go by their names": [
        ("x = 3, y = 4", "y = 4, x = 3", "x=3 and y=4", "3, 4", r"\text{Solution: } x = 3, y = 4"),
        ("y = 3, x = 4", "x = 4, y = 3", "4, 3"),
        ("(x, y) = (3, 4)", "(y, x) = (4, 3)", "(3, 4)"),
        ("W = 116, L = 46", "L = 46, W = 116", "(W, L) = (116, 46)"),
        ("L = 116, W = 46", "W = 46, L = 116"),
        ("x_1 = 1, x_2 = 2", "x_2 = 2, x_1 = 1", "1, 2"),
        ("p = 5, q = 2; p = 7, q = 2", "p = 7, q = 2 and p = 5, q = 2", "(5, 2), (7, 2)"),
        (r"\sin x = \frac{1}{2}",),
        (r"\cos x = \frac{1}{2}",),
        ("f(2) = 7", "7"),
        ("x(x+1) = 6",),
        (r"x = 1/3 \approx 0.33", "1/3", r"1/3 \approx 0.333"),
        (r"x \approx 0.33", "0.33"),
    ],
    "order counts where the answer has one": [
        ("1, 5", r"\{5, 1\}", r"3 \pm 2", "x = 5 or x = 1", "x = 1, x = 5"),
        ("5, 1", "5 and 1"),
        ("(1, 5)",),
        ("(5, 1)",),
        ("[1, 5]",),
        (r"(7, 11), (11, 7)", "(11,7) or (7,11)", r"\{(7,11),(11,7)\}"),
        ("11", r"\{11\}", "[11]"),
        (r"\emptyset", r"\varnothing", r"\{\}"),
        (r"\begin{pmatrix}11\-36\end{pmatrix}", r"\begin{pmatrix} 11 \\ -36 \end{pmatrix}"),
        (r"\begin{pmatrix}11 & -36\end{pmatrix}",),
    ],
    "inequalities are the intervals they leave": [
        (r"5 \le x", r"x \ge 5", "x >= 5", r"[5, \infty)", r"x \in [5, +\infty)", r"-2x \leqslant -10"),
        ("x > 5", "5 < x", r"(5, \infty)"),
        (r"x \le 5", r"(-\infty, 5]"),
        ("-1<a<2", "(-1,2)", "2 > a > -1"),
        (r"-1 \leq a < 2", "[-1, 2)"),
        (r"x < 1 \text{ or } x > 3", r"(-\infty,1)\cup(3,\infty)", r"x > 3 \text{ or } x < 1"),
        ("y > 2x", "2x < y", "4x - 2y < 0"),
        (r"y \ge 2x",),
        ("y < 2x",),
        ("|x - 10| < 3",),
        ("x > 7",),
    ],
    "a choice is its letter": [
        ("(B)", "B.", "(b)", "(B) mountains", "(b) Gamma", "B) 5", r"\text{(B)}"),
        ("(A) and (B)",),
        ("(A) and (C)",),
        ("(A)", "A. 12", "(a) [0,1]"),
        ("a",),
    ],
    "a box is what is in it": [
        (r"$\boxed{\frac{1}{3}}$", r"so $x = \boxed{\frac{1}{3}}.$", "1/3"),
        (r"\boxed{1} and \boxed{2}", r"\boxed{1,2}"),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind):
    groups = KINDS[kind]
    for group in groups:
        assert {answer: canonical_key(answer) for answer in group} == dict.fromkeys(group, canonical_key(group[0]))
    keys = [canonical_key(group[0]) for group in groups]
    assert sorted(set(keys)) == sorted(keys)


def test_units_of_one_number_are_one_answer_whatever_they_are():
    """A unit is dropped and never converted: whoever answers "5" cannot differ from both "5 m" and "5 cm"."""
    assert equivalent("5 m", "5 cm") and equivalent("5 m", "5") and not equivalent("5 m", "500 cm")


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
