"""Kinds that are easily read wrong: verdicts, tables, superscripts, lists of letters, dollars and cents, two boxes."""

import pytest

from pst_rl.answers import Answer, canonical_key, equivalent, extract_answers, find_answer, is_correct


def key(text, style="auto"):
    answer = find_answer(text, style)
    return answer and answer.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We try x = 1 and x = 2.\n\nNo solution.", "no solution"),
        ("From x^2 = -4 we see that the equation has no real solutions.", "no real solution"),
        ("We tried 12 cases. Thus there is no solution.</s>", "no solution"),
        ("We tried 12 cases. The statement is false.", "false"),
        ("For n = 3 it holds. Therefore, the claim is **true**.", "true"),
        ("So x = 5. For n = 0 there is no solution.", "0"),
        ("So x = 5. If x < 0, the claim is true.", "(-\\infty, 0)"),
        ("So x = 5. The other case has no solution.", "5"),
        ("So x = 5. There are no solutions below 5.", "5"),
        ("The answer is 5. There is no solution otherwise.", "5"),
        (r"\boxed{5}. The statement is true.", "5"),
    ],
)
def test_a_last_sentence_may_be_a_verdict(text, expected):
    assert key(text) == expected


def test_a_verdict_is_one_answer_in_every_form():
    assert equivalent(r"\text{No solution}", "no solutions") and equivalent("no solution exists", "no solution")
    assert not equivalent("no real solution", "no solution")
    assert find_answer("Thus there is no solution.").span == (14, 25)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("| item | cost |\n|---|---|\n| eggs | 18 |\n| total | 36 |", "36"),
        ("| item | cost |\n|---|---|\n| **Total** | **$36** |\n", "36"),
        ("| 2 | eggs | 36 dollars |", "36"),
        ("| 36 | in all |", "36"),
        ("So it is $|x| + 2$.", canonical_key("|x|+2")),
    ],
)
def test_the_cells_of_a_table_stand_alone(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So it is 10⁶ meters.", "1000000"),
        ("That makes 2⁻³ of it.", "1/8"),
        ("It is 5 m².", "5"),
        ("So 3⁴ = 81.", "81"),
    ],
)
def test_superscripts_belong_to_their_number(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize("style", ["auto", "choice"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(A) or (B)", None),
        ("(A), (B)", None),
        ("(A)/(B)", None),
        ("I think (C). It could be (A) and (B).", "C"),
        ("(b)", "B"),
        ("(b) Poisson", "B"),
        (r"\boxed{(b)}", "B"),
        ("The answer is (b).", "B"),
        ("So the answer is (b) Poisson.", "B"),
        ("I choose (b).", "B"),
        ("So (b) is right.", "B"),
    ],
)
def test_letters_are_read_alike_by_both_styles(text, style, expected):
    assert key(text, style) == expected


def test_a_list_of_letters_is_no_choice():
    assert key("The answer is (A) or (B).") == key(r"\boxed{(A) or (B)}") == "{A, B}"
    assert key("The answer is (A) or (B).", "choice") is key(r"\boxed{(A) or (B)}", "choice") is None
    assert key("The answer is A and B.", "choice") is None


@pytest.mark.parametrize(
    "text",
    ["5 dollars and 30 cents", "5 dollars, 30 cents", "$5 and 30 cents", r"\$5 and 30 cents", "5 dollars 30 cents"],
)
def test_dollars_and_cents_are_one_amount(text):
    forms = (text, f"The answer is {text}.", f"It costs {text}.", rf"\boxed{{{text}}}")
    assert [key(form) for form in forms] == ["53/10"] * 4
    assert len(extract_answers(text)) == 1
    assert is_correct(text, "5.30") and is_correct(text, "5.3", metric="first") and not is_correct(text, "5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{4} cows and \boxed{5} hens", "4, 5"),
        (r"\boxed{4} cows \boxed{5} hens", "4, 5"),
        (r"$\boxed{4}$, so $y = \boxed{5}$", "4, 5"),
        ("\\[\\boxed{4}\\] cows were sold\n\\[\\boxed{5}\\]", "4, 5"),
        (r"\boxed{1} no no no no no \boxed{2}", "2"),
        (r"\boxed{4} is what we had before \boxed{5}", "5"),
        (r"First, \boxed{12} is computed, and then the final result \boxed{6} is obtained.", "6"),
        (r"$\boxed{\frac{4}{8}}$, which simplifies to $\boxed{\frac{3}{8}}$", "3/8"),
        (r"$\boxed{\frac{1}{3}}$, which is approximately $\boxed{0.333}$", "1/3"),
    ],
)
def test_two_boxes_are_one_answer_if_they_are_one_statement(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [
        (r"Therefore $x \ge 5$ is the solution.", r"x \ge 5"),
        (r"We find that $x \lt 3$.", "x < 3"),
        ("Thus $x <= 2$ is our answer.", r"(-\infty, 2]"),
        ("The final answer is 36 dollars", "36"),
        ("Hence, it follows that $2\\sqrt{3}$", r"\sqrt{12}"),
    ],
)
def test_a_sentence_around_an_answer_is_no_part_of_it(sentence, answer):
    assert equivalent(sentence, answer) and is_correct(Answer.of(sentence), answer)
    assert find_answer(sentence).key == canonical_key(answer)


def test_what_only_looks_like_a_sentence_around_an_answer_stays():
    assert canonical_key("So far") == "so far" and canonical_key("The answer is north") == "the answer is north"
    assert not equivalent("the solution is not 5", "5")


@pytest.mark.parametrize(
    ("word", "number"), [("zero", "0"), ("Twelve", "12"), (r"\text{twenty}", "20"), (r"\lfloor 2.5 \rfloor", "2")]
)
def test_numbers_in_words_and_floors_are_numbers(word, number):
    assert equivalent(word, number)


@pytest.mark.parametrize(
    "text", [r"\lfloor x \rfloor", r"\lfloor \sqrt{5} \rfloor", r"\lfloor 2.5", "one of them", "no one"]
)
def test_what_is_not_exactly_a_number_keeps_its_text(text):
    assert not canonical_key(text).lstrip("~-").isdigit()


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("K_f = {1, 4}", "[4, 1]", True),
        (r"\{1, 4\}", "[4, 1]", True),
        (r"\{3, 2, 1\}", "[1, 2, 3]", True),
        (r"\{1, 4\}", "[1, 4]", False),  # an interval
        (r"\{1, 5\}", "[4, 1]", False),
        ("(1, 4)", "[4, 1]", False),
    ],
)
def test_a_set_may_stand_for_a_list_in_square_brackets_that_is_no_interval(answer, gold, right):
    assert is_correct(Answer.of(answer), gold) is right
