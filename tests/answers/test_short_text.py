"""Short answers in words, as small published models write them when asked for a name only."""

import pytest

from pst_rl.answers import find_answer, is_correct


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Africa", "Africa"),
        ("Small.", "Small"),
        (" Tirana\n\nThe capital of Albania is", "Tirana"),
        ("The capital of Albania is Tirana.", "Tirana"),
        ("The capital is called N'Djamena.", "N'Djamena"),
        ("**Port-au-Prince**", "Port-au-Prince"),
        ("Sure! Here it is:\nNew Delhi", "New Delhi"),
        ("Washington, D.C.", "Washington, D.C."),
        ("The answer is Paris", "Paris"),
        ("<think>Is it Lyon?</think>Paris", "Paris"),
        ("\\boxed{Oslo}", "Oslo"),
        ("I", "I"),
        ("125", "125"),
    ],
)
def test_a_short_answer_is_read(response, answer):
    found = find_answer(response, "text")
    assert found.text == answer
    assert response[slice(*found.span)] == answer
    assert is_correct(response, answer, style="text")


@pytest.mark.parametrize(
    "response",
    [
        "",
        " \n",
        "***",
        "I do not know",
        "Sorry, no idea.",
        'The opposite of "big" is "',
        "86 + 39 =",
        "Which country do you mean?",
        "To find the capital of Albania we first look at a map of Europe",
        "Albania is a country that lies between Greece and Montenegro.",
        "<think>Paris",
    ],
)
def test_what_states_nothing_short_has_no_answer(response):
    assert find_answer(response, "text") is None


def test_case_and_a_full_stop_are_one_vote_and_another_name_is_another():
    keys = [find_answer(said, "text").key for said in ("small", "Small.", "It is small.", "little")]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_only_the_asked_style_takes_words():
    assert find_answer("Africa") is None
