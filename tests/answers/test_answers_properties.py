"""What holds for every answer: keys are functions of the answer, blind to layout, and different where values are."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_rl.answers import Answer, canonical_key, equivalent, is_correct

BITS = [
    *"0 1 2 12 3.5 1,234 .5 - + / ^ ( ) [ ] { } = x y n e < > % , ; : . A (B) and or cm m dollars $ 2:3 30".split(),
    *r"\{ \} \frac{1}{2} \sqrt{2} \pi \text{ \pm \le \cup \infty \in x_1 \approx \boxed{ 5^2 \,".split(),
    " ",
    "negative ",
    "feet ",
    "inches",
]
TEXTS = st.lists(st.sampled_from(BITS), max_size=9).map("".join)
NUMBERS = st.fractions(min_value=-2000, max_value=2000, max_denominator=60)
SIZES = st.fractions(min_value=0, max_value=2000, max_denominator=60)
UNITS = st.sampled_from(
    ["", " dollars", r"\text{ cm}^2", " km/h", " square units", r"\ \mathrm{m}", r"\,\text{eV}", "%"]
)
FAST = settings(max_examples=200, deadline=None)


def written(value):
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


@given(TEXTS, TEXTS, TEXTS)
@FAST
def test_equivalence_is_symmetric_and_transitive(a, b, c):
    assert equivalent(a, a) and equivalent(a, b) == equivalent(b, a)
    assert equivalent(a, c) or not (equivalent(a, b) and equivalent(b, c))


@given(TEXTS, st.sampled_from(["{}", " {} ", "${}$", "{}.", "**{}**", "\n{}\t", r"\({}\)", "\u200b{}\ufeff"]))
@FAST
def test_blanks_and_marks_around_an_answer_do_not_change_its_key(text, form):
    assert equivalent(form.format(text), text) or "boxed" in text or text.strip("$ ").startswith(("\\", "]", "}", ")"))


@given(NUMBERS, NUMBERS, UNITS, UNITS)
@FAST
def test_two_numbers_are_one_answer_where_they_are_equal_whatever_their_units(a, b, unit, other):
    assert equivalent(written(a) + unit, written(b) + other) == (a == b)


@given(SIZES, SIZES, st.sampled_from([r"\pi", r"\sqrt{2}", "x", "^{3}x", r"\sqrt{3}\text{ cm}"]))
@FAST
def test_a_factor_is_a_part_of_the_answer(a, b, factor):
    first, second = (f"{value.numerator}{factor}" for value in (a, b))
    assert equivalent(first, second) == (a.numerator == b.numerator)
    assert equivalent(first, str(a.numerator)) == (a.numerator == 0)


@given(st.lists(NUMBERS, min_size=2, max_size=5), st.randoms(use_true_random=False))
@FAST
def test_order_counts_in_lists_and_tuples_and_not_in_sets(values, rng):
    shuffled = rng.sample(values, len(values))
    one, other = (", ".join(map(written, items)) for items in (values, shuffled))
    assert equivalent(rf"\{{{one}\}}", rf"\{{{other}\}}") and equivalent(
        one.replace(", ", " or "), other.replace(", ", " or ")
    )
    assert equivalent(one, other) == equivalent(f"({one})", f"({other})") == (values == shuffled)
    assert is_correct(Answer.of(other), one) and is_correct(Answer.of(f"({other})"), f"({one})") == (
        values == shuffled
    )


@given(st.permutations("xyz"), st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))
@FAST
def test_named_values_are_compared_by_name(names, values, others):
    stated = dict(zip("xyz", values, strict=True))
    one = ", ".join(f"{name} = {written(stated[name])}" for name in names)
    two = ", ".join(f"{name} = {written(value)}" for name, value in zip("xyz", others, strict=True))
    assert equivalent(one, ", ".join(map(written, values))) and equivalent(one, two) == (values == others)


@given(NUMBERS, NUMBERS, st.sampled_from(["<", r"\le", ">", r"\ge"]), st.sampled_from(["<", r"\le", ">", r"\ge"]))
@FAST
def test_an_inequality_is_its_side_its_end_and_whether_the_end_belongs_to_it(a, b, sign, other):
    mirrored = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
    assert equivalent(f"x {sign} {written(a)}", f"{written(a)} {mirrored[sign]} x")
    assert equivalent(f"x {sign} {written(a)}", f"x {other} {written(b)}") == ((sign, a) == (other, b))


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(22, 7), Fraction(1234567, 1000)])
def test_a_key_is_the_exact_value(value):
    assert Fraction(canonical_key(written(value))) == value
