import importlib.util
import json
import sys
from pathlib import Path
from random import Random

import pytest

from pst_rl.aggregation import LeaveOneOut, Majority
from pst_rl.aggregation.reliability import Reliability

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
recorded = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_aggregates", ROOT / "scripts" / "bench_aggregates.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def rows(answers, gold):
    """Rows of models a, b, c, ... from `answers[question]`, one answer a model."""
    return [
        {
            "question": f"q{q}",
            "answer": g,
            "responses": {m: rf"\boxed{{{x}}}" for m, x in zip("abcdef", said, strict=False)},
        }
        for q, (said, g) in enumerate(zip(answers, gold, strict=True))
    ]


def unequal(questions=60):
    """Three models that are right with probability .95, .5 and .5; gold is 0."""
    rng = Random(0)
    answers = [[0 if rng.random() < a else rng.randint(1, 4) for a in (0.95, 0.5, 0.5)] for _ in range(questions)]
    return rows(answers, ["0"] * questions)


def write(path, lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def run(bench, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["bench_aggregates.py", *map(str, flags)])
    return bench.main()


def figures(bench, monkeypatch, tmp_path, *paths, flags=()):
    run(bench, monkeypatch, "--data", *paths, "--json", tmp_path / "out.json", *flags)
    return json.loads((tmp_path / "out.json").read_text())


def test_the_json_holds_every_aggregate_with_paired_differences(bench, monkeypatch, tmp_path):
    result = figures(bench, monkeypatch, tmp_path, write(tmp_path / "data.jsonl", unequal()))
    assert set(result["aggregates"]) == set(bench.AGGREGATES)
    reliability = result["aggregates"]["reliability"]
    assert reliability["accuracy"] > result["majority"]["accuracy"]
    assert reliability["minus_majority"]["difference"] == pytest.approx(
        reliability["accuracy"] - result["majority"]["accuracy"]
    )
    assert result["best_single"]["model"] == ["a"]


def test_accuracies_are_those_counted_by_hand(bench, monkeypatch, tmp_path):
    data = write(tmp_path / "data.jsonl", rows([[1, 1, 2], [3, 4, 4], [5, 5, 5], [6, 7, 8]], ["1", "3", "9", "8"]))
    result = figures(bench, monkeypatch, tmp_path, data)
    assert [result["models"][0][m]["accuracy"] for m in "abc"] == [0.5, 0.25, 0.25]
    assert result["majority"]["tied_questions"] == 1
    assert result["majority"]["accuracy_ties_drawn"] == pytest.approx((1 + 0 + 0 + 1 / 3) / 4)
    assert result["any_right"]["accuracy"] == 0.75


def test_several_files_are_aggregated_apart_and_scored_together(bench, monkeypatch, tmp_path):
    one = write(tmp_path / "one.jsonl", rows([[1, 2, 2]] * 3, ["1"] * 3))
    other = write(tmp_path / "other.jsonl", rows([[1, 2, 2]], ["2"]))
    result = figures(bench, monkeypatch, tmp_path, one, other)
    assert result["questions"] == 4
    assert result["majority"]["accuracy"] == 0.25
    assert result["best_single"]["accuracy"] == 1.0
    assert result["best_single"]["model"] == ["a", "b"]
    assert [file["majority"]["accuracy"] for file in result["files"]] == [0.0, 1.0]


def test_teams_are_averaged(bench, monkeypatch, tmp_path):
    data = write(tmp_path / "data.jsonl", rows([[1, 1, 2], [1, 1, 2]], ["1", "1"]))
    teams = figures(bench, monkeypatch, tmp_path, data, flags=["--teams", 2])["teams"]
    assert teams["teams"] == 3
    assert teams["best_single"]["accuracy"] == 1.0
    assert teams["aggregates"]["majority"]["minus_best_single"]["difference"] <= 0


def test_gold_changes_no_target(bench, tmp_path):
    data = unequal()
    golds = [str(q) for q in range(len(data))]
    permuted = [row | {"answer": gold} for row, gold in zip(data, golds, strict=True)]
    first, second = (bench.score(bench.read(write(tmp_path / "d", made))) for made in (data, permuted))
    assert first.targets == second.targets
    assert first.aggregates != second.aggregates


def test_the_order_of_models_changes_no_answer(bench, tmp_path):
    data = unequal()
    turned = [row | {"responses": dict(reversed(row["responses"].items()))} for row in data]
    first, second = (bench.score(bench.read(write(tmp_path / "d", made))) for made in (data, turned))
    assert first.targets == second.targets


def test_any_aggregator_with_one_target_a_question_can_be_compared(bench, tmp_path):
    group = bench.read(write(tmp_path / "d", rows([[1, 1, 2]], ["1"]))).group
    assert [t.answer.text for t in bench.vote(Majority(), group)] == ["1"]
    with pytest.raises(ValueError, match="LeaveOneOut makes a target per peer"):
        bench.vote(LeaveOneOut(), group)


def test_an_abstention_is_not_right(bench, monkeypatch, tmp_path):
    monkeypatch.setitem(bench.AGGREGATES, "picky", lambda: Majority(quorum=1.0))
    data = write(tmp_path / "data.jsonl", rows([[1, 1, 2], [1, 1, 1]], ["1", "1"]))
    picky = figures(bench, monkeypatch, tmp_path, data)["aggregates"]["picky"]
    assert (picky["accuracy"], picky["answered"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1 is not JSON"),
        ([[1]], "is no JSON object"),
        ([{"question": "q", "answer": "1"}], "lacks responses"),
        ([{"question": "q", "answer": "1", "responses": {"a": "1"}}], "at least two models"),
        ([*rows([[1, 2]], ["1"]), *rows([[1, 2, 3]], ["1"])], "line 2: every question needs responses of the same"),
    ],
)
def test_another_format_is_refused(bench, monkeypatch, tmp_path, capsys, lines, message):
    with pytest.raises(SystemExit):
        run(bench, monkeypatch, "--data", write(tmp_path / "data.jsonl", lines))
    assert message in capsys.readouterr().err


def test_an_empty_file_is_refused(bench, tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="is empty"):
        bench.read(tmp_path / "empty")


def test_a_missing_file_is_named(bench, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(bench, monkeypatch, "--data", tmp_path / "nowhere.jsonl")
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_the_metric_of_each_file_is_its_own(bench, monkeypatch, tmp_path):
    data = write(tmp_path / "data.jsonl", rows([["4, 7", "4, 7", "4"]], ["4"]))
    whole, both = (
        figures(bench, monkeypatch, tmp_path, data, data, flags=["--metric", *names])
        for names in (["whole"], ["whole", "first"])
    )
    assert whole["majority"]["accuracy"] == 0 and both["majority"]["accuracy"] == 0.5
    with pytest.raises(SystemExit):
        run(bench, monkeypatch, "--data", data, "--metric", "whole", "first")


@recorded
@pytest.mark.parametrize(("name", "metric"), [("recorded_gsm8k.jsonl", "whole"), ("recorded_simuleq.jsonl", "first")])
def test_reliability_beats_the_majority_and_the_best_single_model_on_real_answers(bench, name, metric):
    result = bench.report([bench.read(DATA / name, metric)])
    reliability = result["aggregates"]["reliability"]["accuracy"]
    assert reliability > result["majority"]["accuracy"]
    assert reliability >= result["best_single"]["accuracy"]


@recorded
def test_reliability_finds_the_best_model_without_labels(bench):
    file = bench.read(DATA / "recorded_gsm8k.jsonl")
    aggregator = Reliability()
    aggregator(file.group)
    assert max(aggregator.reliabilities, key=aggregator.reliabilities.get) == bench.score(file).best
