"""The speed benchmark at its smallest size: what it counts and writes, never how long it took."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = "--repeats 1 --steps 1 --warmup 1 --questions 2 --generations 2 --length 4 --peers 2".split()


@pytest.fixture(scope="module")
def bench():
    names = [
        "bench_step",
        "bench_report",
        "bench_levers",
        "bench_sides",
        "bench_clock",
        "bench_models",
        "bench_shapes",
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(ROOT / "scripts")
        yield importlib.import_module(names[0])
        for name in names:
            sys.modules.pop(name)


def script(folder, *flags):
    """Runs the script in a process of its own, since it patches what it times, and returns its figures."""
    file = folder / "step.json"
    command = [sys.executable, "scripts/bench_step.py", *SMALLEST, *flags, "--json", str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return script(tmp_path_factory.mktemp("bench"), "--sides", "trl", "plain", "pst", "pst_sequential")


def test_every_side_samples_and_trains_the_same_tokens(figures):
    tokens = 2 * 2 * 2 * 4
    assert figures["settings"]["sampled"] == tokens
    assert set(figures["tokens"]) == {"trl", "plain", "pst", "pst_sequential"}
    assert all(counts == {"sampled": tokens, "trained": tokens} for counts in figures["tokens"].values())


def test_every_ratio_has_its_spread(figures):
    assert set(figures["ratios"]) == {"plain_over_trl", "pst_over_trl", "pst_sequential_over_trl"}
    assert all(0 < r["low"] <= r["median"] <= r["high"] for r in figures["ratios"].values())


def test_only_pst_scores_and_every_side_generates(figures):
    read = {
        side: {name: phase["tokens"] for name, phase in found.items()} for side, found in figures["phases"].items()
    }
    assert all(counts["generate"] > 0 and counts["loss and backward"] > 0 for counts in read.values())
    assert [side for side, counts in read.items() if counts["pmi"]] == ["pst", "pst_sequential"]
    assert figures["phases"]["pst"]["pmi"]["seconds"] > 0


def test_memory_and_machine_are_reported(figures):
    assert all(mib > 0 for mib in figures["peak_memory_mib"].values())
    assert figures["machine"]["versions"]["trl"]


def test_a_step_is_what_its_phases_add_up_to(bench):
    watch = bench.run_side.__globals__["Stopwatch"]()
    times = iter([0.0, 1.0, 1.5, 4.5, 6.0, 8.0])
    watch._now, watch._since = lambda: next(times), 0.0
    watch.mark()  # at 0
    with watch.phase("generate"):  # 1 to 6
        with watch.phase("pmi"):  # 1.5 to 4.5
            pass
    watch.mark()  # at 8
    result = watch.result(warmup=0, steps=1)
    assert result["step"] == 8.0
    assert result["seconds"] == {"overhead": 3.0, "generate": 2.0, "pmi": 3.0}


def test_levers_are_fields_of_the_configuration(bench):
    from pst_rl import PSTConfig

    known = {f.name for f in fields(PSTConfig)}
    for name in bench.LEVERS:
        settings = bench.lever_settings(name, {})
        assert all(set(s["ours"]) <= known for s in settings)
        assert settings[0] != settings[1]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--generations", "1"], "--generations must be at least 2"),
        (["--micro-batch", "5"], "must divide the 32 rows"),
        (["--size", "1b"], "needs a CUDA device"),
        (["--load-in-4bit"], "--load-in-4bit needs --size 1b"),
        (["--levers", "nothing"], "unknown lever 'nothing'"),
        (["--values", "2"], "needs --grow with one axis"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(bench, monkeypatch, capsys, flags, fault):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *flags])
    assert bench.main() == 2
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1


def test_a_widened_vocabulary_decodes_every_id_and_encodes_as_before(bench, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    models = sys.modules["bench_models"]
    for name, folder in models.TINY_PEERS.items():
        shutil.copytree(folder, tmp_path / name)
        before = AutoTokenizer.from_pretrained(folder)
        models.widen_vocabulary(tmp_path / name / "tokenizer.json", 2000)
        after = AutoTokenizer.from_pretrained(tmp_path / name)
        assert len(after) == 2000
        assert after.encode("What is 2+3?") == before.encode("What is 2+3?")
        assert after.decode([1999]) == "w1999"
