import json

import pytest
from datasets import Dataset, load_dataset

from pst_rl.answers import is_correct
from pst_rl.data import SPLIT_SHARES, load_questions

LETTERED = "Which?\n\n(A) 3\n(B) 4\n(C) 5"
ROWS = {  # a row of a known form -> the question as shown, and the gold
    "Alpaca": ({"instruction": "Add.", "input": "2, 2", "output": "4"}, "Add.\n\n2, 2", "4"),
    "Alpaca without an input": ({"instruction": "Name a prime.", "input": "", "output": 7}, "Name a prime.", "7"),
    "an instruction alone": ({"instruction": "Name a prime."}, "Name a prime.", None),
    "an instruction to a question": ({"instruction": "Be brief.", "question": "2+2?"}, "Be brief.\n\n2+2?", None),
    "MMLU": ({"question": "Which?", "choices": ["3", "4", "5"], "answer": 1}, LETTERED, "B"),
    "MMLU, unlabelled": ({"question": "Which?", "choices": ["3", "4", "5"], "answer": None}, LETTERED, None),
    "numbers to choose from": ({"question": "Which?", "choices": [3, 4, 5], "answer": 1}, LETTERED, "B"),
    "MMLU-Pro": ({"question": "Which?", "options": ["3", "4", "5"], "answer": "C"}, LETTERED, "C"),
    "MedQA": ({"question": "Which?", "options": {"A": "3", "B": "4", "C": "5"}, "answer": "4"}, LETTERED, "B"),
    "CommonsenseQA": (
        {"question": "Which?", "choices": {"label": ["A", "B", "C"], "text": ["3", "4", "5"]}, "answerKey": "A"},
        LETTERED,
        "A",
    ),
    "ARC with numbers": (
        {"question": "Which?", "choices": {"label": ["1", "2"], "text": ["3", "4"]}, "answerKey": "2"},
        "Which?\n\n(1) 3\n(2) 4",
        "2",
    ),
    "no choices in this row": ({"question": "2+2?", "choices": [], "answer": 4}, "2+2?", "4"),
    "TriviaQA": ({"question": "2+3?", "answer": {"value": "5", "aliases": ["five"]}}, "2+3?", "5"),
    "SQuAD": ({"question": "2+3?", "answers": {"text": ["5"], "answer_start": [7]}}, "2+3?", "5"),
}
REFUSED = {
    "a gold beyond the choices": ({"choices": ["3", "4"], "answer": 2}, "'answer' the answer 2, but the choices A, B"),
    "minus one": ({"choices": ["3", "4"], "answer": -1}, "'answer' the answer -1, but the choices A, B"),
    "a gold that is none of them": (
        {"choices": ["3", "4"], "answer": "5"},
        "'answer' the answer '5', but the choices",
    ),
    "a choice twice": ({"choices": ["3", "3"], "answer": "3"}, "'answer' the answer '3', but the choices A, B"),
    "several golds": ({"choices": ["3", "4"], "answer": ["A", "B"]}, "'answer' the answer .'A', 'B'., but"),
    "choices as text": ({"choices": "A. 3 B. 4"}, "'choices' choices that are no list"),
    "an empty choice": ({"choices": ["3", " "]}, "'choices' the choice ' ', which is no text"),
    "lists of choices": ({"choices": [["3"], ["4"]]}, "'choices' the choice .'3'., which is no text"),
    "27 choices": ({"choices": list(range(27))}, "'choices' 27 choices, but the labels A, B"),
    "a label too few": ({"choices": {"label": ["A"], "text": ["3", "4"]}}, "'choices' 2 choices, but the labels A"),
    "an instruction that is no text": ({"instruction": 5}, "no text in 'instruction' and 'question' but 5 and 'Which"),
}


@pytest.fixture
def load(tmp_path):
    def write(*rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_questions(str(path), **options)

    return write


@pytest.mark.parametrize(("row", "shown", "gold"), ROWS.values(), ids=ROWS)
def test_a_form_is_shown_whole(load, row, shown, gold):
    loaded = load(row)[0]
    assert loaded == {"prompt": [{"role": "user", "content": shown}], "question": shown} | (
        {"answer": gold} if gold else {}
    )


@pytest.mark.parametrize(("row", "shown", "gold"), ROWS.values(), ids=ROWS)
def test_typed_rows_are_shown_alike(tmp_path, row, shown, gold):
    path = tmp_path / "rows.parquet"
    Dataset.from_list([row]).to_parquet(path)
    loaded = load_questions(str(path))[0]
    assert (loaded["question"], loaded.get("answer")) == (shown, gold)


@pytest.mark.parametrize(("row", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_row_and_column(load, row, message):
    with pytest.raises(ValueError, match=rf"Row 1 of .*rows.jsonl \(line 2\) has (in )?{message}"):
        load({"question": "a"} | dict.fromkeys(row), {"question": "Which?"} | row)


def test_a_column_asked_for_is_read_alone(load):
    row = {"instruction": "Add.", "input": "2, 2", "output": "4"}
    assert load(row, question_column="input")["question"] == ["2, 2"]
    assert load(row, question_column="instruction")["question"] == ["Add."]


def test_questions_with_other_choices_or_instructions_are_others(load):
    rows = [{"question": "Which?", "choices": [str(n), "x"]} for n in range(30)]
    assert len(load(*rows)) == 30
    rows = [{"instruction": f"Add {n}.", "input": "2"} for n in range(30)]
    parts = [set(load(*rows, split=split)["question"]) for split in SPLIT_SHARES]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30 and min(map(len, parts)) > 0


def test_a_letter_answers_a_question_with_choices(load):
    gold = load(ROWS["MMLU"][0])[0]["answer"]
    said = [is_correct(text, gold) for text in (r"\boxed{B}", "The answer is (B).", r"\boxed{C}")]
    assert said == [True, True, False]


def test_what_is_not_shown_or_does_not_count_is_said(load, caplog):
    load({"question": "Who?", "context": "Ann came.", "answer": {"text": ["Ann", "Ann came"]}})
    assert "the column context is not shown" in caplog.text
    assert "1 golds have other accepted forms" in caplog.text
    caplog.clear()
    load({"question": "Who?", "answer": {"text": ["Ann", "Ann"]}}, {"question": "Which?", "choices": ["a"]})
    assert caplog.text == ""


def test_golds_that_another_reader_has_rounded_or_dated(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": "2020-01-05"}\n{"question": "b", "answer": "2021-03-04"}\n')
    typed = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    typed.to_parquet(tmp_path / "dates.parquet")
    assert load_questions(str(tmp_path / "dates.parquet"))["answer"] == ["2020-01-05", "2021-03-04"]
    Dataset.from_dict({"question": ["a"], "answer": [2.0**53]}).to_parquet(tmp_path / "rounded.parquet")
    with pytest.raises(ValueError, match="Row 0 of .* in 'answer' .*which was rounded.*store it as text"):
        load_questions(str(tmp_path / "rounded.parquet"))
