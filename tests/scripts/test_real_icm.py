"""The study of coherence on real text: its claims, its intervals, and a run with a tiny peer."""

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for module in ("coherence_claims", "run_jobs", "real_icm"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__("real_icm")


@pytest.fixture
def files(tmp_path):
    """Claims without rules, and recorded answers of which two differ for every question."""
    claims = [{"question": f"q{i // 2}{'?' * i}", "claim": f"c{i}", "label": i % 2} for i in range(24)]
    texts = {"x": "#### 1", "y": "#### 2"}
    answers = [{"question": f"q{i}{'?' * i}", "answer": str(1 + i % 2), "responses": texts} for i in range(18)]
    files = [tmp_path / "claims.jsonl", tmp_path / "answers.jsonl"]
    for file, rows in zip(files, (claims, answers), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def test_an_interval_over_whole_questions_is_wider_than_over_claims_that_agree(study):
    values, questions = [1, 1, 1, 1, 0, 0, 0, 0] * 4, [f"{i // 4}" for i in range(32)]
    mean, low, high = study.clustered(values, questions)
    alone = study.clustered(values, [str(i) for i in range(32)])
    assert mean == alone[0] == 0.5 and high - low > 1.5 * (alone[2] - alone[1])
    assert study.clustered([1, 1, 1], ["a", "a", "b"]) == (1, 1, 1)


def test_the_auc_counts_pairs_and_its_interval_lies_about_it(study):
    scores, gold = [0.9, 0.8, 0.5, 0.5, 0.1], [1, 0, 1, 0, 0]
    assert study.auc(scores, gold) == (3 + 0.5 + 1) / 6
    low, high = study.auc_interval(scores, gold, "abcde")
    assert low < study.auc(scores, gold) < high == 1


def test_fewer_claims_come_first_among_more_and_rules_keep_questions_whole(study, files):
    for file in files:
        few, many = (study.draw(file, items, seed=0) for items in (4, 8))
        assert len(few) == 4 and len(many) == 8 and set(few.prompts) < set(many.prompts)
    assert len(many.problem.constraints) == 4 and len(few.problem.constraints) == 2
    shown = {len(row["question"]) for row in many.rows}
    assert max(shown) <= 2 + 18 // 3 + 1  # the shorter third


def test_numbers_of_claims_may_differ_by_file_and_model(study):
    option = ["64", "answers=32", "slow:answers=16"]
    asked = [study.claims_for(option, *to) for to in (("slow", Path("answers.jsonl")), ("slow", Path("claims.jsonl")))]
    assert [*asked, study.claims_for(option, "fast", Path("answers.jsonl"))] == [16, 64, 32]


def test_a_run_is_written_compared_with_zero_shot_and_not_done_again(study, files, tiny, tmp_path, capsys):
    flags = ["--models", f"tiny={tiny['llama']}", "--data", *map(str, files), "--items", "8", "--few", "6"]
    flags += ["--out", str(tmp_path / "runs"), "--docs", str(tmp_path), "--max-tokens", "256"]
    methods = ["--methods", "zero-shot", "bootstrap", "8 gold labels shown, supervised", "ICM, as released"]
    scorer = ["--scorer", "tiny", "--repeats", "2", "--naive", "2", "--numerics", "tiny"]
    assert study.main([*flags, *methods, *scorer]) == 0
    first, text = json.loads((tmp_path / "real_icm.json").read_text()), capsys.readouterr().out
    rows = {(row["data"], row["method"]): row for row in first["rows"]}
    assert len(rows) == 8 and rows["answers", "bootstrap"]["n"] == 6 and rows["answers", "zero-shot"]["n"] == 8
    low, high = rows["claims", "bootstrap"]["minus_zero_shot_ci95"]
    assert low <= rows["claims", "bootstrap"]["minus_zero_shot"] <= high
    assert {side["method"] for side in first["scorer"]} == {"naive", "divide_and_conquer"}
    naive, ours = (side["tokens"] for side in first["scorer"])
    assert naive > ours and first["scorer"][0]["max_difference"] < 0.2
    assert first["numerics"][0]["float32_cached_naive"] < 1e-3
    assert "## answers, tiny" in text and "tokens\n" in text
    assert study.main([*flags, *methods, *scorer]) == 0
    assert "zero-shot:" not in capsys.readouterr().out
    assert json.loads((tmp_path / "real_icm.json").read_text()) == first
