import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_scorer", ROOT / "scripts" / "bench_scorer.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run(bench, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["bench_scorer.py", *map(str, flags)])
    return bench.main()


@pytest.fixture(scope="module")
def result(bench, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "new" / "scorer.json"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(bench, monkeypatch, "--json", path, "--sizes", 8, 16, "--repeats", 2) == 0
    return json.loads(path.read_text())


def test_units_are_those_of_the_formula(result):
    units = [(row["n"], row["naive_units"], row["units"]) for row in result["rows"]]
    assert units == [(8, 64, 8 * 4), (16, 256, 16 * 5)]


def test_both_sides_agree(result):
    assert all(0 < row["max_abs_difference"] < 1e-4 for row in result["rows"])


def test_the_speed_up_lies_between_its_least_and_greatest(result):
    assert all(0 < row["low"] <= row["speedup"] <= row["high"] for row in result["rows"])


def test_fewer_tokens_are_read(result):
    assert all(row["tokens"] < row["naive_tokens"] for row in result["rows"])


def test_items_are_short_and_their_scores_differ(bench):
    predictor = bench.build(16)
    lengths = bench.demonstration_tokens(predictor)
    assert 10 < sum(lengths) / len(lengths) < 14
    assert torch.std(bench.leave_one_out(predictor, [0, 1] * 8, [[i] for i in range(16)])[:, 0]) > 0.01


@pytest.mark.parametrize("flags", [("--sizes", 0), ("--repeats", 0), ("--leaf-batch", 0)])
def test_bad_flags_are_refused(bench, monkeypatch, capsys, flags):
    assert run(bench, monkeypatch, *flags) == 2
    assert "at least 1" in capsys.readouterr().err
