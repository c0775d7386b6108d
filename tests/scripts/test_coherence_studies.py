"""The studies of searches and of ICM as a reward, at the smallest size."""

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by name, as if it were run from its folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name):
        for module in ("compare_report", "reward_schemes", "run_jobs", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return __import__(name)

    return load


def test_the_study_of_searches_knows_the_most_coherent_labelling(script, tmp_path):
    study = script("coherence_study")
    methods = ["zero-shot", "Gibbs, best of 24 samples", "8 gold labels shown, supervised", "bootstrap, 8 clamped"]
    flags = ["--methods", *methods, "--seeds", "0", "--items", "16", "--split", "validation", "--jobs", "2"]
    assert study.main([*flags, "--out", str(tmp_path), "--docs", str(tmp_path)]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "coherence_study.json").read_text())["rows"]}
    assert set(rows) == set(methods)
    assert rows["zero-shot"]["agreement"] == rows["zero-shot"]["zero_shot_agreement"] < 80
    nats = rows["zero-shot"]["nats_of_concepts"]
    assert max(nats, key=nats.get) == "size" and rows["zero-shot"]["nats"] < nats["size"]
    assert rows["Gibbs, best of 24 samples"]["success"] == 1
    assert "## Clamped labels" in (tmp_path / "coherence_study.md").read_text()


@pytest.mark.parametrize(("panel", "works", "fails"), [(0, 3.0, 1 / 3), (1, 0.5, 0.90625), (2, 0.0, 0.4), (3, 8, 0)])
def test_coherence_finds_the_wanted_concept_on_one_side_of_the_turn(script, panel, works, fails):
    theory = script("coherence_theory")
    sampled = "Gibbs, best of 24 samples"
    assert theory.run((panel, works, 0))[sampled] == 1.0
    assert theory.run((panel, fails, 0))[sampled] < 0.75


def test_the_theory_is_written_with_a_table_and_a_plot(script, tmp_path):
    theory = script("coherence_theory")
    accuracies = dict.fromkeys([theory.MOST_COHERENT, theory.ZERO_SHOT, *theory.SEARCHES], 0.75)
    runs = {(p, v, s): accuracies for p, panel in enumerate(theory.PANELS) for v in panel.values for s in (0, 1)}
    theory.write_report(runs, 2, tmp_path)
    assert "| 0.25 | 75 (75 to 75) |" in (tmp_path / "coherence_theory.md").read_text()
    assert (tmp_path / "coherence_theory.png").stat().st_size > 10_000


def test_claims_of_real_text_go_through_a_search_and_gold_changes_only_the_accuracy(script, tmp_path):
    study, reports = script("coherence_claims"), []
    for name, other in (("a", 0), ("b", 1)):
        claims = [{"question": f"q{i // 2}", "claim": f"c{i}", "label": (i + other) % 2} for i in range(8)]
        texts = {"x": "#### 1", "y": "#### 2"}
        answers = [{"question": f"q{i}", "answer": str(1 + other), "responses": texts} for i in range(4)]
        files = [tmp_path / f"{name}_claims.jsonl", tmp_path / f"{name}_answers.jsonl"]
        for file, rows in zip(files, (claims, answers), strict=True):
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        flags = ["--items", "8", "--methods", "bootstrap", "zero-shot", "--docs", str(tmp_path)]
        assert study.main(["--data", *map(str, files), *flags]) == 0
        reports.append(json.loads((tmp_path / "coherence_claims.json").read_text())["data"])
    assert [data["rules"] for data in reports[0]] == [0, 4]
    for a, b in zip(*reports, strict=True):
        for one, two in zip(a["rows"], b["rows"], strict=True):
            assert one["accuracy"] + two["accuracy"] == 1
            assert all(one[key] == two[key] for key in ("coherence", "contradictions", "units", "tokens"))


def test_the_study_of_the_reward_trains_and_pairs_its_arms(script, tmp_path):
    study = script("icm_study")
    flags = [
        "--arms",
        "ICM, frozen judge, best of 8",
        "majority",
        "--seeds",
        "0",
        "--split",
        "validation",
        "--jobs",
        "2",
    ]
    small = ["max_steps=1", "steps_per_generation=1", "logging_steps=1"]
    assert study.main([*flags, "--out", str(tmp_path), "--docs", str(tmp_path), "--set", *small]) == 0
    rows = {row["arm"]: row for row in json.loads((tmp_path / "icm_reward.json").read_text())["rows"]}
    assert rows["majority"]["before"] == rows["ICM, frozen judge, best of 8"]["before"] == 68.75
    assert rows["ICM, frozen judge, best of 8"]["judge_tokens"] > 0
    assert rows["ICM, frozen judge, best of 8"]["minus_majority"] is not None
