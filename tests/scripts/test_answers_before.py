"""The answers code beside an older one: what is read, voted, timed and written down."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def before():
    yield from _load("answers_before")


@pytest.fixture(scope="module")
def forms(before):  # which it imports
    yield from _load("answers_forms")


def _load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


QUESTIONS = [[["#### 5"], [r"\boxed{5}"], ["<answer>6</answer>"]], [["no idea"], ["none"], ["no"]]]


def test_votes_are_read_and_counted(before):
    found = before.votes(QUESTIONS)
    assert found["read"][0] == [["5"], ["5"], ["6"]]
    assert found["targets"]["majority"] == found["targets"]["reliability"] == ["5", found["targets"]["majority"][1]]


def test_another_process_gives_the_same(before):
    assert before.ask(before.ROOT, "votes", QUESTIONS) == before.votes(QUESTIONS)


def test_every_call_is_timed_on_every_row(before):
    taken = before.times([["The answer is 5.", "5", "5"], ["#### 6", "6", "7"]])
    assert set(taken) == set(before.CALLS) and all(len(its) == 2 and min(its) > 0 for its in taken.values())


def test_the_page_of_both_versions(before, tmp_path, monkeypatch):
    row = {"question": "q", "answer": "5"}
    said = {"a": r"\boxed{5}", "b": "#### 5", "c": "6"}
    for file, _ in before.VOTES.values():
        (tmp_path / file).write_text(json.dumps(row | {"responses": said}) + "\n")
    math = [json.dumps(row | {"response": text}) for text in said.values()]
    (tmp_path / before.MATH).write_text("\n".join(math))
    monkeypatch.setattr(before, "ask", lambda checkout, task, given: before.CHILDREN[task](given))
    result = {
        "before": "abc",
        "votes": before.right_targets(tmp_path, before.ROOT),
        "time": before.time_of_calls(tmp_path, before.ROOT),
    }
    assert [(row["before"], row["now"], row["gained"], row["lost"]) for row in result["votes"]] == [(1, 1, 0, 0)] * 5
    assert result["time"]["responses"] == 9
    page = before.markdown(result)
    assert "| GSM8K | majority | 1 | 1 | 1 | 0 | 0 | 0 | 0 |" in page and "| is_correct |" in page


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("heading", "2+3=5\n\n#### Final Answer\n5"),
        ("box", "2+3=5\n\nSo it is $\\boxed{5}$."),
        ("tag", "<think>2+3=5</think>\n<answer>5</answer>"),
    ],
)
def test_an_answer_is_written_in_a_form(forms, form, expected):
    assert forms.in_form("2+3=5 #### 5", form) == expected
    assert forms.in_form("2+3=", form) == "2+3="


def test_figures_of_forms_count_targets_and_readings(forms):
    found = {
        "targets": {"majority": ["5", "Final Answer", None], "reliability": ["5", "6", "7"]},
        "read": [[["5"], ["Final Answer"]], [["6"], ["6"]], [[None], ["7"]]],
    }
    stated = [[["5"], ["5"]], [["6"], ["6"]], [[None], ["7"]]]
    its = forms.figures(found, stated, ["5", "6", "8"])
    shares = its["aggregates"]["majority"]
    assert shares == {"right": 1 / 3, "no_target": 1 / 3, "final_answer": 1 / 3}
    assert its["aggregates"]["reliability"]["right"] == 2 / 3
    assert its["read_right"] == [1.0, 2 / 3]
    page = forms.markdown({"before": "abc", "questions": 3, "seed": 0, "beds": {"boxes": {"now": its}}})
    assert "| boxes | majority | now | 33.3 | 33.3 | 33.3 | 100.0, 66.7 |" in page


@pytest.mark.parametrize("name", ["answers_before", "answers_forms"])
def test_a_folder_that_is_no_checkout_is_refused(before, forms, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "nowhere"])
    with pytest.raises(SystemExit):
        sys.modules[name].main()
    assert "nowhere" in capsys.readouterr().err
