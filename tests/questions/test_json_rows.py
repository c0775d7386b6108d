import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pst_rl.coherence.claims import load_rows
from pst_rl.data import load_questions
from pst_rl.questions.json_rows import read_json

GOLDS = {  # what stands in the file -> the gold; each beside the numbers and the text that once rewrote it
    '"007"': "007",
    '"null"': "null",
    "null": None,
    '"2020-01-05"': "2020-01-05",
    '"1.50"': "1.50",
    "7": "7",
    "1.50": "1.50",
    "36.0": "36",
    "0.1": "0.1",
    "1e3": "1e3",
    "1e999": "1e999",
    "9007199254740993": "9007199254740993",
    "12157665459056928803": "12157665459056928803",
    "9007199254740993.0": "9007199254740993",
    "-5": "-5",
    "true": "True",
    '""': None,
    "[]": None,
    '["7", 5.0, 2.50]': ["7", "5", "2.50"],
    '{"value": "5", "aliases": ["five"]}': "5",
    '{"text": ["7", "seven"], "answer_start": [9, 9]}': "7",
    '{"text": [], "answer_start": []}': None,
    '"2 + 2 = 4\\n#### 1,004"': "1004",
}
REFUSED = {
    "NaN": "nan, which is no number",
    "-Infinity": "-inf, which is no number",
    "[[1], [2]]": "a list",
    '{"x": 1}': "an object with x, and neither `value` nor `text`",
    "{}": "an object with nothing",
    '[{"value": 1}]': "a dict",
    '{"value": [1]}': "a list",
    '"\\ud800"': "half of a character",
}
FILES = {
    '{"question": "a"}\n{"question": "b"': "line 2, column 17: Expecting",
    '{"question": "a"}\n\n["b"]': r'line 3 is \["b"\], and no object',
    '[{"question": "a"}, "b"]': 'entry 1 is "b", and no object',
    '[{"question": "a"},\n {"question": }]': "line 2, column 15: Expecting value",
    '"a"': 'entry 0 is "a", and no object',
    '{"question": "a"} {"question": "b"}': "line 1, column 19: Extra data",
    '{"question": ' + "1" * 5000 + "}": "line 1: Exceeds the limit",
    '{"question": ' + "[" * 100_000 + "}": "line 1",
    "\n\n": "Expecting value",
    '{"version": 1,\n "data": []}': "no column named question .*; it has version, data",
}


@pytest.fixture
def file(tmp_path):
    def write(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


def rows(*golds):
    return "".join(f'{{"question": "q{i}", "answer": {gold}}}\n' for i, gold in enumerate(golds))


@pytest.mark.parametrize(("written", "gold"), GOLDS.items(), ids=GOLDS)
@pytest.mark.parametrize("beside", ['"012"', "3", "5.5", "null"])
def test_a_gold_is_what_stood_there_whatever_stands_beside_it(file, written, gold, beside):
    golds = [gold, {'"012"': "012", "null": None}.get(beside, beside), "kept"]
    if isinstance(gold, list):  # then every gold is one
        golds = [[g] if isinstance(g, str) else g for g in golds]
    assert load_questions(file(rows(written, beside, '"kept"')))["answer"] == golds


@pytest.mark.parametrize(("written", "message"), REFUSED.items(), ids=REFUSED)
def test_what_is_no_gold_is_refused_by_row_line_and_column(file, written, message):
    with pytest.raises(ValueError, match=rf"Row 1 of .*rows.jsonl \(line 2\) has in 'answer' .*{message}"):
        load_questions(file(rows("1", written)))


@pytest.mark.parametrize(("content", "message"), FILES.items(), ids=range(len(FILES)))
def test_a_file_that_is_no_rows_is_refused_by_its_line(file, content, message):
    with pytest.raises(ValueError, match=message) as error:
        load_questions(file(content))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("written", ["5", "null", '["a"]', '{"a": 1}', '" "', "true"])
def test_what_is_no_question_is_refused_by_row_line_and_column(file, written):
    with pytest.raises(ValueError, match=r"Row 1 of .*rows.jsonl \(line 2\) has no text in 'question' but"):
        load_questions(file(f'{{"question": "a"}}\n{{"question": {written}}}\n'))


@pytest.mark.parametrize("content", ['\ufeff{"question": "a\u2028b"}\r\n\r\n', '[{\n"question": "a\u2028b"\n}]\n'])
def test_marks_and_line_ends_are_no_matter(file, content):
    assert load_questions(file(content))["question"] == ["a\u2028b"]


def test_rows_of_claims_are_unchanged(file):
    content = '{"claim": "007", "n": 1, "day": "2020-01-05"}\n{"claim": 7, "n": 1.50, "more": {"a": [1, "x"]}}\n'
    table = load_rows(file(content), "rows", None, None)
    assert table.column_names == ["claim", "n", "day", "more"]
    assert table.to_list() == [
        {"claim": "007", "n": 1, "day": "2020-01-05", "more": None},
        {"claim": 7, "n": 1.5, "day": None, "more": {"a": [1, "x"]}},
    ]
    assert [str(n) for n in table["n"]] == ["1", "1.50"]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "####" not in text),
)


def gold_of(value):
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return None if value is None else str(value).strip() or None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_scalars_come_back_as_golds(file, values, ascii_only, listed):
    data = [{"question": f"q{i}", "answer": value} for i, value in enumerate(values)]
    texts = [json.dumps(row, ensure_ascii=ascii_only) for row in (data if not listed else [data])]
    read = load_questions(file("\n".join(texts)))
    golds = read["answer"] if "answer" in read.column_names else [None] * len(read)
    assert list(golds) == [gold_of(value) for value in values]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=4), st.booleans())
def test_values_come_back_unchanged(tmp_path, data, listed):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(data) if listed or not data else "\n".join(map(json.dumps, data)))
    names = {name for row in data for name in row}
    assert read_json(path).to_list() == [{name: row.get(name) for name in names} for row in data]


def test_time_grows_with_the_file(file):
    def seconds(count):
        path = file(rows(*(f'"{i}"' for i in range(count))))
        start = time.process_time()
        load_questions(path)
        return time.process_time() - start

    seconds(100)
    assert seconds(40_000) < 60 * max(seconds(2_000), 0.01)  # 20 times the rows; a quadratic reader would take 400
