"""The study of recorded answers: its figures and its page, on records of our own."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("answers_study", ROOT / "scripts" / "answers_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(study, tmp_path):
    records = [
        {"answer": "18", "response": r"\boxed{18}", "verdict": True},
        {"answer": "18", "response": "The answer is 18.", "verdict": False},
        {"answer": "18", "response": "#### 17", "verdict": True},
        {"answer": "18", "response": "#### 17", "verdict": None},
        {"answer": "5", "responses": {"a": "It is 5.", "b": "no idea"}, "verdicts": {"a": True, "b": False}},
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return study.rows_of("ours", path)


def test_figures_count_agreement_reasons_and_judgements(study, rows):
    apart = [row for row in rows if row.recorded != row.ours]
    found = study.figures(rows, {apart[0].hash: {"right": "ours", "class": "no box"}})
    assert found["responses"] == 5 and found["agreement"] == 0.6 and found["right_after_judging"] == 0.8
    assert found["judged"] == {"ours": 1, "open": 1}
    assert found["reasons"] == {"box": 1, "phrase": 1, "heading": 1, "last_number": 1, "unparsed": 1}


def test_the_page_lists_every_disagreement(study, rows):
    apart = [row for row in rows if row.recorded != row.ours]
    judged = {apart[0].hash: {"right": "ours", "class": "no box"}}
    page = study.markdown({"ours": study.figures(rows, judged)}, apart, judged)
    assert f"| ours | {apart[0].hash} | `18` | `18` | wrong | ours | no box |" in page
    assert f"| ours | {apart[1].hash} | `18` | `17` | right | not judged |  |" in page


def test_every_judgement_names_who_is_right_and_a_class(study):
    judged = json.loads(study.JUDGED.read_text())
    assert judged and all(its["right"] in study.MEANING and its["class"] for its in judged.values())
