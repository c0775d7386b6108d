import csv

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pst_rl.coherence.claims import load_claims
from pst_rl.data import load_questions
from pst_rl.questions.csv_rows import read_csv

COUNT = r"line {} has {} fields?, but the header has {}. Put fields with commas"
FAULTS = {
    "a comma in a question": ("question,answer\na 2, b?,6\nc?,7\n", COUNT.format(2, 3, 2)),
    "a comma in a gold": ("question,answer\na?,7\nb?,2,002\n", COUNT.format(3, 3, 2)),
    "a comma at the end of each line": ("question,answer\na?,7,\nb?,8,\n", COUNT.format(2, 3, 2)),
    "a comma and no gold": ("question,answer\na 2, b?,\n", COUNT.format(2, 3, 2)),
    "a comma at the end of the header": ("question,answer,\na?,7\n", COUNT.format(2, 2, 3)),
    "a field too few": ("question,answer\na?,7\nb?\n", COUNT.format(3, 1, 2)),
    "a line break outside quotes": ("question,answer\na?\nb?,7\n", COUNT.format(2, 1, 2)),
    "the line after a quoted line break": ('question,answer\n"a\n\nb?",7\n\nc, d?,8\n', COUNT.format(6, 3, 2)),
    "row names of R": ("question,answer\n1,a?,7\n", COUNT.format(2, 3, 2)),
    "a quote that is not closed": ('question,answer\na?,7\n"b?,8\nc?,9\n', "line 3: .*Close every quote"),
    "quotes inside of quotes": ('question,answer\n"say "hi"",7\n', "line 2: .*Close every quote"),
    "a name twice": ("question,answer,answer\na?,7,8\n", "line 1 names the column 'answer' twice"),
    "a column without a name": ("question,,answer\na?,x,7\n", "no name for column 2, which says 'x' in line 2"),
    "words in an index": (",question,answer\nfirst,a?,7\n", "no name for column 1, which says 'first' in line 2"),
    "another encoding": ("question,answer\n\xe9t\xe9?,7\n".encode("latin-1"), "it is not in UTF-8"),
    "no rows": ("question,answer\n,\n\n", "has no questions: it has no rows"),
}
READ = {
    "blanks after commas": ('question, answer\na?, 7\nb, "1,000"\n', ["7", "1,000"]),
    "the index of pandas": (",question,answer\n0,a?,7\n1,b?,8\n", ["7", "8"]),
    "the indices of pandas": (",,question,answer\n0,1,a?,7\n0,2,b?,8\n", ["7", "8"]),
    "commas at all ends": ("question,answer,\na?,7,\nb?,8,\n", ["7", "8"]),
    "empty rows of a spreadsheet": ("question,answer\na?,7\n,\n\nb?,8\n,\n", ["7", "8"]),
    "quoted": ('"question","answer"\r\n"a, ""b""?","2,002"\r\n', ["2,002"]),
    "text that looks like something else": (
        "question,answer\na,007\nb,NA\nc,1.50\nd,2020-01-05\ne,null\nf,True\ng,12157665459056928803\n",
        ["007", "NA", "1.50", "2020-01-05", "null", "True", "12157665459056928803"],
    ),
}


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "rows.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize(("content", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_refused_by_its_line(file, content, message):
    with pytest.raises(ValueError, match=message) as error:
        load_questions(file(content))
    assert "\n" not in str(error.value) and "rows.csv" in str(error.value)


@pytest.mark.parametrize(("content", "golds"), READ.values(), ids=READ)
def test_what_is_no_fault_is_read(file, content, golds):
    assert load_questions(file(content))["answer"] == golds


def test_claims_are_read_alike(file):
    with pytest.raises(ValueError, match=COUNT.format(2, 4, 3)):
        load_claims(file("question,claim,label\nIs 2 even?,Yes, it is.,1\n"))


def test_a_row_without_a_question_is_named_by_its_line(file):
    with pytest.raises(ValueError, match=r"Row 1 of .*rows.csv \(line 4\) has no text in 'question' but ''"):
        load_questions(file('question,answer\n"a\nb?",7\n,8\n'))


def test_a_field_may_be_long(file):
    before = csv.field_size_limit()
    assert len(load_questions(file(f"question,answer\n{'a' * 300_000},7\n"))[0]["question"]) == 300_000
    assert csv.field_size_limit() == before


# A backslash and a lone "\r" are text like any other; surrogates cannot be written.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS).filter(lambda row: any(text.strip() for text in row)), max_size=6))
def test_quoted_text_comes_back(tmp_path, rows):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("question", "answer"), *rows])
    table = read_csv(path)
    assert [(row["question"], row["answer"]) for row in table] == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text("ab 1.", min_size=1, max_size=5), min_size=6, max_size=6), st.data())
def test_a_comma_too_many_anywhere_is_refused(tmp_path, fields, data):
    lines = ["question,answer", *(f"q{a},{b}" for a, b in zip(fields[::2], fields[1::2], strict=True))]
    line = data.draw(st.integers(1, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[line])))
    lines[line] = f"{lines[line][:at]},{lines[line][at:]}"
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"line {line + 1} has 3 fields"):
        read_csv(path)
