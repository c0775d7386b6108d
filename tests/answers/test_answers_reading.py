"""The grammar of answer statements: thoughts, tags, boxes, headings, phrases, the last quantity; spans and reasons."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_rl.answers import Answer, canonical_key, find_answer, is_correct

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def key(text, style="auto"):
    answer = find_answer(text, style)
    return answer and answer.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<think>Maybe \boxed{17}? No.</think> The answer is 18.", "18"),
        (r"Maybe \boxed{17}? No.</think>18", "18"),
        ("<thinking>\nThe answer is 17.\n</thinking>\n\nIt is 18", "18"),
        ("<reasoning>17</reasoning><answer>18</answer>", "18"),
        ("[THINK]#### 17[/THINK]18", "18"),
        ("◁think▷17◁/think▷18", "18"),
        ("<|begin_of_thought|>17<|end_of_thought|>18", "18"),
        ("<THINK>a<think>17</think>18", "18"),
        ("<think>17</think> It is 18. <think>Is it 19?</think>", "18"),
        ("The answer is 18. <think>Or 17", "18"),
        ("I use `<think>` for thoughts. The answer is 18.", "18"),
        ("<think>17</think>", None),
        ("So it is 17.</think>\n", None),
        (r"<think>So the answer is \boxed{17}", None),
        ("<think>" + "17 " * 20_000, None),
    ],
)
def test_only_what_follows_the_thoughts_is_read(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>18</answer>", "18"),
        ("<answer>\n$2\\sqrt{3}$\n</answer>", canonical_key(r"2\sqrt{3}")),
        ("<answer>y = 2x + 3</answer>", canonical_key("y = 2x + 3")),
        ("<answer>north</answer> I checked it 3 times.", "north"),
        ("<answer>yes</answer>", "yes"),
        ("<answer>B</answer>", "B"),
        (r"<answer>So it is \boxed{18}, not 17</answer>", "18"),
        ("<answer>She has 18 dollars left</answer>", "18"),
        ("<answer>The answer is 18.</answer>", "18"),
        ("<answer>\nx = 3\ny = 4\n</answer>", canonical_key("x = 3, y = 4")),
        ("<answer>17</answer> Wait. <answer>18</answer>", "18"),
        ("<answer>18</answer> as <answer></answer> says", "18"),
        ("<answer>18</answer> in <answer>your answer here</answer>", "18"),
        ("<final_answer>18</final_answer>", "18"),
        ("<Final Answer>18</Final Answer>", "18"),
        ("<solution>First 17.\n#### 18</solution>", "18"),
        ("[ANSWER] 18 [/ANSWER]", "18"),
        ("<answer>18", "18"),
        ("18</answer>", "18"),
        (r'{"reasoning": "first \\boxed{17}", "answer": "\\frac{1}{2}"}', "1/2"),
        ('{"final_answer": 18, "steps": 4}', "18"),
        (r"\boxed{17} <answer>18</answer>", "18"),
    ],
)
def test_a_tag_holds_the_answer(text, expected):
    answer = find_answer(text)
    assert answer.key == expected and answer.reason == "tag"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{3} Wait, I forgot one. \boxed{4}", "4"),
        ("$\\boxed{3}$\n\nActually it is\n\n$\\boxed{4}$", "4"),
        ("\\boxed{3}\n\nNo, $\\boxed{4}$", "4"),
        ("$$\\boxed{12}$$\n\nHold on, 12 + 1 = 13\n\n$$\\boxed{13}$$", "13"),
        (r"Option 1 gives \boxed{3}; negative is impossible so the real one is \boxed{4}", "4"),
        ("\\boxed{3}. Wait, that is wrong. The answer is 4.", "4"),
        ("\\boxed{3}. Wait, that is wrong, it is 4.\nSorry, it is 5.", "5"),
        ("\\boxed{3}. Let me check: 1 + 2 = 3.", "3"),
        (r"\boxed{3} cows and \boxed{4} hens", "3, 4"),
        ("(a) $\\boxed{3}$\n(b) $\\boxed{4}$", "3, 4"),
        (r"$\boxed{\frac{1}{3}} \approx \boxed{0.333}$", "1/3"),
        (r"\boxed{4} is put in \boxed{answer}", "4"),
        (r'"so \\boxed{\\frac{1}{2}}"', "1/2"),
        ("#### 3\n\\boxed{4}", "4"),
    ],
)
def test_the_last_box_that_is_not_taken_back_is_the_answer(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3*6=18\n\n#### Final Answer\n18", "18"),
        ("3*6=18\n\n#### Final Answer:\n**18**", "18"),
        ("## Answer: 18\nIt took 5 steps.", "18"),
        ("**Final Answer**\n\n\\[\n18\n\\]\nIt took 5 steps.", "18"),
        ("**Answer:** The farmer has **18** eggs left of 20.", "18"),
        ("Final answer\n18\nIn 5 steps.", "18"),
        ("### 4. Final Answer\n18", "18"),
        ("✅ Final Answer: **18**\n5 steps", "18"),
        ("**Final Answer:** The graph is an ellipse.", "ellipse"),
        ("Final Answer:\nThe answer is I.", "I"),
        (
            r"#### Answer" + "\n" + r"$\begin{pmatrix} 1 \\ 2 \end{pmatrix}$",
            canonical_key(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        ),
        ("#### 18\n\nNote: 2 checks #### formatting", "18"),
        ("#### Answer: 18", "18"),
        ("####18####", "18"),
        ("#### 36 dollars for 18 eggs", "36"),
        ("#### north east", "north east"),
        ("### Final Answer\n- x = 3\n- y = 4", canonical_key("x = 3, y = 4")),
        ("**Answer:**\n\n* 3 cows\n* 4 hens", "3, 4"),
    ],
)
def test_a_heading_announces_the_answer(text, expected):
    answer = find_answer(text)
    assert answer.key == expected and answer.reason in ("heading", "phrase")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### Step 1: Add\n3+15=18.\n\n#### Step 2: Check\nThe result is 18.", "18"),
        ("#### Step 1: Find the cost\n3 * 6 = 18 dollars.\n\n#### Conclusion\nShe pays **18 dollars**.", "18"),
        ("##### Step 3\nSo, the total is 42.", "42"),
        ("#### 2. Add the eggs\nThis gives 18.", "18"),
        ("#### Step 2: State the answer\nThe answer is 18.", "18"),
        ("There are **no solutions**.\n\n## Step 5", None),
    ],
)
def test_a_title_is_no_answer(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is not 5, it is 6.", "6"),
        ("Final answer: **18 eggs** (not 20)", "18"),
        ("The answer is 18 (since 3*6=18).", "18"),
        ("The answer in dollars is 18.", "18"),
        ("The correct option is (c) Vitali.", canonical_key("(c)")),
        ("答案是 18。", "18"),
        ("The answer to the first part is 12. Adding 6 gives 18.", "18"),
        ("Let's work out the answer: 5 * 3 = 15. Then 15 + 3 = 18. So he has 18 apples.", "18"),
        ("To get the answer: 5*3=15\nThen 15+3=18.\nHe has 18 apples.", "18"),
        ("The final answer is inside \\boxed{}. It is 18.", "18"),
        ("I hope the final answer is correct: 18", "18"),
        ("The answer is 36 dollars for 18 eggs.", "36"),
        ("The answer is 3. Actually, it is 5.", "5"),
        ("The answer is 0.667 (2/3).", canonical_key("0.667")),
        ("<b>Answer:</b> 18", "18"),
        ("The answer is $36 per 2 days.", "36"),
        ("The answer is 12 hours after 3 days of work.", "12"),
        ("The answer is 18 eggs per day, at 2 dollars each.", "18"),
        ("The answer is $2\\sqrt{3}$ cm.", canonical_key(r"2\sqrt{3}")),
        ("The answer is $y(2) = 3 \\cdot 2 + 1 = 7$.", "7"),
        ("The answer is:\n\n\\[ \\frac{3}{4} \\]", "3/4"),
        ("The answer is Monday, March 5.", canonical_key("March 5")),
        ("The answer is between 5 and 10.", canonical_key("between 5 and 10")),
    ],
)
def test_a_phrase_gives_what_it_announces(text, expected):
    assert key(text) == expected


TORN = [  # two different answers in one form
    ("The answer is $3\\sqrt{2}$ meters.", "The answer is $5\\sqrt{2}$ meters."),
    ("The answer is $3\\sqrt2 m$.", "The answer is $5\\sqrt2 m$."),
    ("The answer is $\\frac{3\\pi}{4}$ square units.", "The answer is $\\frac{\\pi}{4}$ square units."),
    ("The answer is $10^{6}$ meters.", "The answer is 6 meters."),
    ("#### 2^{10} bytes", "#### 3^{10} bytes"),
    ("The answer is negative 5.", "The answer is 5."),
    ("It drops to minus 5 degrees.", "It drops to 5 degrees."),
    ("The answer is 42 (see step 3).", "The answer is 17 (see step 3)."),
    ("The answer is 5 feet 7 inches.", "The answer is 6 feet 7 inches."),
    ("It takes 2 hours 30 minutes.", "It takes 5 hours 30 minutes."),
    ("The answer is 3 out of 10.", "The answer is 7 out of 10."),
    ("It is 3:45 in the afternoon.", "It is 2:45 in the afternoon."),
    ("It is 3:45 PM.", "It is 3:45 AM."),
    ("The answer is $x^2 + 3x + 2$ where x is real.", "The answer is $7x + 2$ where x is real."),
    ("So it is $\\begin{pmatrix} -7 \\\\ 5 \\end{pmatrix}$.", "So it is $\\begin{pmatrix} 1 \\\\ 5 \\end{pmatrix}$."),
    ("So it is\n\\[\n\\begin{pmatrix}\n1 \\\\\n5\n\\end{pmatrix}\n\\]", "So it is 5."),
    ("So the length is $2\\sqrt{3}$.", "So the length is $7\\sqrt{3}$."),
    ("So the area is $9\\pi$.", "So the area is 9."),
    ("He has 3 1/2 cups.", "He has 7 1/2 cups."),
    ("He needs 3½ cups.", "He needs 3 cups."),
    ("The total is 10 000 dollars.", "The total is 27 000 dollars."),
    ("The total is $1.5 million.", "The total is $1.5."),
    ("The ratio is 2:3.", "The ratio is 1:3."),
    ("So it is $6.02 \\times 10^{23}$.", "So it is $1.6 \\times 10^{23}$."),
    ("So the total is ３４, with 5 left.", "So the total is ９９, with 5 left."),
    ("The interval is (5, ∞).", "The interval is (−3, ∞)."),
    ("That leaves 7 halves.", "That leaves 7."),
    ("The plane is 2x + y = 0.", "The plane is 3x + y = 0."),
]


@pytest.mark.parametrize(("first", "second"), TORN)
def test_no_number_is_torn_out_of_an_answer(first, second):
    assert key(first) != key(second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So Janet makes 18 dollars per day by selling 9 eggs.", "18"),
        ("The total amount in 2 weeks is \\(120\\) dollars.", "120"),
        ("In the end he spent $100, leaving him with $210-$100 = $110", "110"),
        ("If there are 20 eggs, he sells 15", "15"),
        ("After 3 steps we end at 15", "15"),
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.", "18"),
        ("It is 18.\n\n**5. FORMAT:** see above\n\n3. Done", "18"),
        ("We get x = 18 by step 3", "18"),
        ("There are 18 left.\nprint(values[0])", "18"),
        ("The solutions are 2, 3, and 4.", "2, 3, 4"),
        ("That makes 18 3D models", "18"),
        ("Sam did not work for 18 days during the 20-day period.", "18"),
        ("The ratio is 3 to 1.", "3 to 1"),
        ("It rose from 5 to 18", "18"),
        ("It is -5°C.", "-5"),
        ("Is 2 the smallest?\nTrue</s>", "true"),
        ("First 5.\n\n(B)", "B"),
        ("Its cost is 3 * price", None),
    ],
)
def test_the_last_quantity_is_no_circumstance_and_no_label(text, expected):
    assert key(text) == expected


@pytest.mark.parametrize("letter", "ABDI")
@pytest.mark.parametrize(
    "form",
    [
        "The answer is {} because it fits.",
        "The answer is ({}) because it fits.",
        "The correct answer is {} since others fail.",
        "Answer: {}",
        "**{}**",
        "The answer is {}: park",
        "The answer is {}. park",
        "The answer is {}) park",
        "The right choice is ({}). (C) and (E) do not fit.",
        "({}). (C) and (E) do not fit.",
        "The answer is {} and not C.",
        "<answer>{}</answer>",
        "## Answer\n{}",
    ],
)
def test_a_letter_is_read_in_every_form(form, letter):
    text = form.format(letter)
    assert key(text, "choice") == letter and key(text) == letter


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("Therefore, the answer is (b) Poisson.", "choice", "B"),
        ("Therefore, the answer is (b) Poisson.", "auto", canonical_key("(b)")),
        ("Therefore, the answer is (a) [0,1].", "auto", canonical_key("(a)")),
        ("(A) is wrong, so (D)", "choice", "D"),
        ("Which is it? (a) {0}. (b) {1}.\n\n(b) {1}.", "auto", canonical_key("(b)")),
        ("(a) 5 cows\n(b) 7 hens", "auto", "7"),
        ("The answer is option (C).", "auto", "C"),
        ("Option C is correct, option D is not.", "choice", "C"),
        ("So C is correct.", "choice", "C"),
        ("Thus $P(A)$ is known", "choice", None),
        ("This is called B. scapulimancy.", "choice", "B"),
        ("The answer is A dog", "choice", None),
        ("The answer is I think 5", "choice", None),
        ("The answer is A and C.", "auto", canonical_key("A and C")),
        ("The answer is (x) + 2.", "auto", canonical_key("(x) + 2")),
    ],
)
def test_a_letter_is_told_from_prose(text, style, expected):
    assert key(text, style) == expected


@pytest.mark.parametrize(
    ("text", "span", "reason"),
    [
        ("<think>1</think><answer>18</answer>", "18", "tag"),
        (r"So \boxed{4} cows and \boxed{5} hens", r"4} cows and \boxed{5", "box"),
        ("#### 18 eggs", "18 eggs", "heading"),
        ("The answer is negative 5.", "negative 5", "phrase"),
        ("  36 dollars", "36 dollars", "whole"),
        ("She has 36 dollars", "36", "last_number"),
        ("We think (B).", "(B)", "choice"),
        ("The answer is that she has 36 dollars for 2 days.", "36", "phrase"),
        ("1 " * 30_000 + "#### 18", "18", "heading"),
    ],
)
def test_a_reading_carries_its_span_and_reason(text, span, reason):
    answer = find_answer(text)
    assert text[slice(*answer.span)] == span and answer.reason == reason


def test_an_answer_that_was_not_read_has_no_reason_and_equals_one_that_was():
    assert (
        Answer.of("18").reason is None
        and Answer.of("18") == find_answer("18")
        and "span" not in repr(find_answer("18"))
    )


# ---- properties ----

PROSE = st.text(alphabet="abc 0123456789.,$\\{}()=+-*/^<>\n#", max_size=80)
THOUGHTS = st.sampled_from([r"Maybe \boxed{17}?", "The answer is 17.", "#### 17", "<answer>17</answer>", "17", ""])
RESPONSES = st.sampled_from(
    [r"So \boxed{\frac{1}{2}}.", "#### 18", "The answer is (B).", "It is $9\\pi$.", "north", "x = 3"]
)


@given(PROSE, THOUGHTS, RESPONSES, st.sampled_from(["think", "thinking", "reasoning"]))
@settings(max_examples=150, deadline=None)
def test_thoughts_never_change_an_answer(prose, thought, response, tag):
    assert find_answer(f"<{tag}>{prose}{thought}</{tag}>{response}") == _moved(
        response, f"<{tag}>{prose}{thought}</{tag}>"
    )


def _moved(response, before):
    answer = find_answer(response)
    return answer and Answer(answer.text, answer.key, answer.start + len(before))


@given(PROSE, RESPONSES)
@settings(max_examples=150, deadline=None)
def test_a_span_lies_in_the_text_and_after_the_start(prose, response):
    text = prose + response
    answer = find_answer(text)
    if answer is not None:
        assert 0 <= answer.start <= answer.span[0] < answer.span[1] <= len(text)
        assert answer.key == canonical_key(answer.text)


@given(
    st.integers(-999, 999), st.sampled_from(["The answer is {}.", "#### {}", "<answer>{}</answer>", "So it is {}."])
)
def test_every_form_reads_every_integer(number, form):
    assert key(form.format(number)) == str(number)


# ---- the golds of MATH-500 in the forms of reasoning models ----

FORMS = [
    "<think>\nOk.\n</think>\n<answer>\n{}\n</answer>",
    "<think>Ok.</think><answer>${}$</answer>",
    "<think>Ok.</think><answer>\\boxed{{{}}}</answer>",
    "<think>\nMaybe \\boxed{{17}}? No.\n</think>\n\nThe answer is ${}$.",
    "Maybe \\boxed{{17}}? No.\n</think>\n\nThe answer is ${}$.",
    "<think>\nSo the answer is 17? Wait.\n</think>\n<answer>{}</answer>",
]


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
@pytest.mark.parametrize("form", FORMS)
def test_every_gold_is_read_in_the_forms_of_reasoning_models(form):
    golds = [json.loads(line)["answer"] for line in (DATA / "math500.jsonl").read_text().splitlines()]
    assert [gold for gold in golds if not is_correct(form.format(gold), gold)] == []


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
def test_recorded_responses_are_read_the_same_after_thoughts():
    rows = [json.loads(line)["response"] for line in (DATA / "recorded_math.jsonl").read_text().splitlines()]
    for text in [text for text in rows if "think" not in text.lower()][:300]:
        before = "<think>\nSo the answer is \\boxed{17}.\n</think>\n"
        assert find_answer(before + text) == _moved(text, before)
