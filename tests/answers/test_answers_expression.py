"""The evaluator behind the keys: values, what it refuses, and its bounds."""

from fractions import Fraction

import pytest

from pst_rl.answers.expression import NotAnExpression, evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14),
        ("-2^2", -4),
        ("2^3^2", 512),
        ("2**-1", Fraction(1, 2)),
        (r"\frac{1}{2}+\frac34", Fraction(5, 4)),
        (r"\sqrt{\frac{4}{9}}", Fraction(2, 3)),
        ("5!", 120),
        ("|3-5|", 2),
        (r"6 \div 4 \cdot 2", None),
        ("3(4+1)", 15),
        (r"2^{10}", 1024),
    ],
)
def test_rational_expressions_are_exact(text, value):
    assert evaluate(text) == [Fraction(3) if value is None else value]


@pytest.mark.parametrize(
    ("text", "value"), [(r"\sqrt{2}", 2**0.5), (r"\log_2 8", 3), (r"\sin^2 1 + \cos^2 1", 1), ("e^0", 1), ("i^2", -1)]
)
def test_irrational_constants_are_floats(text, value):
    assert evaluate(text) == pytest.approx([value])


def test_a_variable_takes_three_fixed_values():
    assert len(set(evaluate("x"))) == 3 and evaluate("x") == evaluate("(x+x)/2") and evaluate("x") != evaluate("x_1")


def test_function_arguments_stop_before_the_next_function():
    assert evaluate(r"\sin 2x \cos x") == evaluate(r"\cos(x)\sin(2x)")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1/0",
        "3 4",
        "2^",
        "(1",
        "1)",
        "word + 1",
        "52_8",
        r"\log 5",
        "9**9**9**9",
        "10^5000",
        "1000!",
        "x^{x^{x^{99^99}}}",
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(NotAnExpression):
        evaluate(text)


@pytest.mark.parametrize(
    "text", ["(" * 100 + ")" * 100, "1+" * 400 + "1", "-" * 299, r"\sqrt" * 200, "2^" * 100 + "1"]
)
def test_size_and_nesting_are_bounded(text):
    with pytest.raises(NotAnExpression):
        evaluate(text)
