"""The report of scripts/gv_gap_study.py, from results of two seeds."""

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module("gv_gap_study")


def gaps(study, gap):
    values = dict.fromkeys(study.METRICS, 0.5) | {"gap": gap, "verified": 0.5 + gap}
    by_peer = dict.fromkeys(study.PEERS, values)
    return dict.fromkeys(("likelihood, self", "likelihood, self, frozen"), by_peer)


@pytest.fixture
def report(study, tmp_path):
    def write(*pairs):
        for seed, (before, after) in enumerate(pairs):
            accuracy = [dict.fromkeys(study.PEERS, value) for value in (0.6, 0.7)]
            run = {"seed": seed, "before": gaps(study, before), "after": gaps(study, after), "greedy": accuracy}
            (tmp_path / "test").mkdir(exist_ok=True)
            (tmp_path / "test" / f"gv_gap.seed{seed}.json").write_text(json.dumps(run))
        (tmp_path / "verifier.json").write_text(json.dumps({"balanced_accuracy": 0.7, "pairs": 9}))
        settings = {"split": "test", "questions": 9, "samples": 8, "quantile": 0.8, "budget": study.BUDGET}
        study.write_report(Namespace(out=tmp_path / "test", docs=tmp_path / "docs", **settings))
        return json.loads((tmp_path / "docs" / "gv_gap.json").read_text())["rows"], tmp_path / "docs"

    return write


def test_changes_are_paired_by_seed(report):
    rows, docs = report((0.10, 0.05), (0.20, 0.15))
    assert [row["verifier"] for row in rows] == ["likelihood, self", "likelihood, self, frozen"]
    assert rows[0]["gap"]["change"]["mean"] == pytest.approx(-5)
    assert rows[0]["gap"]["change"]["ci95"] == pytest.approx([-5, -5])
    assert rows[0]["gap_change_percent"]["mean"] == pytest.approx((-50 - 25) / 2)
    assert "Accuracy of the greedy answer 60.0 -> 70.0 (+10.0" in (docs / "gv_gap.md").read_text()
    assert "| likelihood, self | 65.0 -> 60.0 | -5.0" in (docs / "gv_gap.md").read_text()
    assert (docs / "gv_gap.png").stat().st_size > 1000


def test_a_gap_that_was_hardly_there_has_no_change_in_percent(report):
    rows, _ = report((0.001, 0.05), (0.20, 0.15))
    assert rows[0]["gap_change_percent"] is None
