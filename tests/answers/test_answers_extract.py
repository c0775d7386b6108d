"""Finding the final answer: every form, the order of forms, several answers, choices and the offset."""

import pytest

from pst_rl.answers import Answer, extract_answer, extract_answers, find_answer


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (r"Thus \(\boxed{36}\) dollars, not 40.", "36"),
        (r"\boxed{\frac{1}{\frac{2}{3}}}", "3/2"),
        (r"\fbox{9} or 3", "9"),
        (r"so \boxed 5.", "5"),
        (r"Put it in \boxed{}. Then \boxed{7}", "7"),
        (r"The cost is \boxed{7} dollars. The change is \boxed{3} dollars.", "3"),
        ("6 * 3 = 18\n#### 18", "18"),
        ("#### 1,234 dollars", "1234"),
        ("#### 5\nQuestion: what is 6 + 6?", "5"),
        ("The answer is 36 dollars because 6 * 6.", "36"),
        ("**Final answer:** $\\frac{3}{4}$.\nIt took 5 steps.", "3/4"),
        ("Therefore, the answer is:\n\n\\[\n 5 \n\\]", "5"),
        ("The answer is approximately 2.5 miles.", "5/2"),
        ("The answer is that she has 36 dollars left.", "36"),
        ("The answer is 5.\nThe answer is surely right.", "5"),
        ("The answer is east.", "east"),
        ("Answer: Yes, because 7 is prime.", "yes"),
        ("36 dollars", "36"),
        ("He sold 20, then 5 more: 15 in total", "15"),
        ("It is -1,234.50.", "-2469/2"),
        ("We get 10 - 3 = 7", "7"),
        (r"So it is \frac{2}{3}", "2/3"),
        ("I think (B).", "B"),
    ],
)
def test_auto_finds_the_final_answer(text, key):
    assert find_answer(text).key == key


@pytest.mark.parametrize("text", ["", "no idea", "step_2 = x1 + cost_1", "A dog", r"\boxed{}", "\x00", "."])
def test_no_answer_is_none(text):
    assert find_answer(text) is None and extract_answer(text) is None and extract_answers(text) == ()


def test_forms_have_an_order():
    text = "It is 1. The answer is 2.\n#### 3\n\\boxed{4} and 5"
    assert [extract_answer(text, style) for style in ("auto", "boxed", "hash", "phrase", "number")] == list("44325")


@pytest.mark.parametrize("style", ["boxed", "hash", "phrase", "choice"])
def test_a_style_accepts_its_own_form_only(style):
    assert find_answer("It is 18", style) is None


def test_an_unknown_style_is_named():
    with pytest.raises(ValueError, match="'latex'.*auto, boxed"):
        find_answer("18", "latex")


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("6*3 = 18\n#### 18", "#### 18"),
        (r"So 4. The answer is \(\boxed{4}\).", r"The answer is \(\boxed{4}\)."),
        (r"So \boxed{4}", r"\boxed{4}"),
        (r"Thus \(\boxed{4}\) cows and \(\boxed{5}\) hens.", r"\(\boxed{4}\) cows and \(\boxed{5}\) hens."),
        ("First 3, so the final answer is 7.", "the final answer is 7."),
        ("There are 3 cats", "3 cats"),
        ("1 " * 30_000 + "#### 18", "#### 18"),
    ],
)
def test_start_cuts_the_statement_off(text, statement):
    assert text[find_answer(text).start :] == statement


def test_several_boxes_of_one_statement_are_one_answer():
    assert find_answer(r"\boxed{4} cows and \boxed{5} hens").text == "4, 5"


def test_a_repeated_box_is_one_answer():
    assert extract_answers(r"We get \boxed{11}, that is \boxed{11.0}") == ("11",)


def test_boxes_in_printed_code_are_another_statement():
    assert extract_answers("x = f\"\\boxed{{{n}}}\"\nx\n'\\boxed{50}'\nThere are \\boxed{50}.") == ("50",)


def test_an_unclosed_box_ends_with_its_line():
    assert extract_answers("\\[\n\\boxed{30 \\text{ adults and } 45 \\text{ children}\n\\]") == (
        "30 adults",
        "45 children",
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x = 3 and y = 4", ("3", "4")),
        (r"Hence \(x = 3\) and \(y = 4\).", ("3", "4")),
        ("18000 and 21000", ("18000", "21000")),
        (r"\boxed{\$18,000 \text{ at } 4\%} and \boxed{\$21,000}", ("18000 at 4%", "21000")),
        (r"\boxed{(W, L) = (116, 46)}", ("116", "46")),
        (r"\boxed{3,192,500, 442,500}", ("3192500", "442500")),
        (r"\boxed{\{1, 2\}}", ("1", "2")),
        ("It is 1,234.", ("1234",)),
    ],
)
def test_parts_of_an_answer(text, parts):
    assert extract_answers(text) == parts


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("B.", "B"),
        ("Answer: B", "B"),
        ("The answer is (C) new york", "C"),
        ("The correct answer is: **E**", "E"),
        (r"\boxed{\text{D}}", "D"),
        ("(A) is wrong, so (D)", "D"),
        ("It floats.\nB) yes", "B"),
    ],
)
def test_choice_letters(text, letter):
    assert extract_answer(text, "choice") == letter or find_answer(text, "choice").key == letter


@pytest.mark.parametrize(
    "text", ["A dog", "The answer is A dog", "I think so", "A. red\nB. green\nC. blue", "Plan B won"]
)
def test_a_letter_in_prose_is_no_choice(text):
    assert find_answer(text, "choice") is None


def test_answer_of_a_bare_text():
    assert Answer.of("$1,234") == Answer(text="$1,234", key="1234", start=0)
