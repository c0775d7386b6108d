"""The scripts that train: every scheme starts, results are resumed and tabulated as their definitions say."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from pst_rl import PSTConfig
from pst_rl.scheme import make_aggregator, make_providers

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# Two updates on 2 questions, measured on 8.
TINY = ["max_steps=2", "steps_per_generation=1", "per_device_train_batch_size=8", "num_generations=4"]
TINY += ["rows_per_generate=8", "logging_steps=1"]


@pytest.fixture
def script(monkeypatch):
    """Imports a script by name, as if it were run from its folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name):
        for module in ("compare_rewards", "compare_report", "reward_schemes", "run_jobs", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return __import__(name)

    return load


# ---- compare_rewards.py ----


def test_two_schemes_are_compared_and_a_second_run_only_tabulates(script, tmp_path, capsys):
    compare = script("compare_rewards")
    flags = ["--schemes", "majority", "gold, supervised", "majority (TTRL), alone"]
    flags += ["--seeds", "0", "1", "--questions", "8", "--jobs", "2", "--out", str(tmp_path / "runs")]
    flags += ["--docs", str(tmp_path / "docs"), "--split", "validation", "--set", *TINY]
    assert compare.main(flags) == 0
    report = json.loads((tmp_path / "docs" / "compare_rewards.json").read_text())
    rows = {row["scheme"]: row for row in report["rows"]}
    assert list(rows) == ["majority", "gold, supervised", "majority (TTRL), alone"]
    fields = {"scheme", "objective", "peers", "label_free", "gain", "ci95", "share_of_ceiling", "extra_tokens"}
    assert fields | {"seconds_per_step", "seeds"} <= set(rows["majority"])
    assert rows["majority"]["seeds"] == 2 and rows["majority"]["label_free"]
    assert not rows["gold, supervised"]["label_free"]
    assert rows["majority (TTRL), alone"]["peers"] == "alone"
    assert set(rows["majority (TTRL), alone"]["peer_gains"]) == {"gemma2", "llama", "qwen2"}
    assert (tmp_path / "docs" / "compare_rewards.png").stat().st_size > 5_000
    text = (tmp_path / "docs" / "compare_rewards.md").read_text()
    assert "on 2 generation batches of 2 questions x 4 samples" in text

    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    capsys.readouterr()
    assert compare.main(flags) == 0
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    assert capsys.readouterr().out.startswith("3 rows in")


def test_the_schemes_are_ones_that_exist(script):
    """Names and options of every row are accepted, so that none fails after hours."""
    schemes = script("reward_schemes")
    for name, scheme in schemes.SCHEMES.items():
        config = PSTConfig(output_dir="unused", **schemes.BUDGET | scheme.config)
        assert make_aggregator(config) is not None and make_providers(config.rewards, config), name
        assert config.supervised == scheme.supervised, name
        assert scheme.group in script("compare_report").GROUPS, name


def run(scheme, seed, accuracies, **changes):
    measured = {"accuracy": accuracies, "peers": list(accuracies), "unanimous_wrong": 0.0, "target_accuracy": 0.5}
    cost = {"generated_tokens": 100, "scored_tokens": 20, "answer_tokens": 80, "seconds_per_step": 2.0}
    return measured | cost | {"scheme": scheme, "seed": seed, "supervised": False, "objective": "grpo"} | changes


def test_rows_hold_gains_paired_differences_and_shares_of_the_ceiling(script):
    report = script("compare_report")
    before = {"a": 0.5, "b": 0.5, "vote": 0.9}
    runs = {
        "majority": {s: [run("majority", s, {"a": 0.6, "b": 0.6 + 0.02 * s})] for s in (0, 1)},
        "random": {s: [run("random", s, {"a": 0.5, "b": 0.5})] for s in (0, 1)},
        "gold, supervised": {0: [run("gold, supervised", 0, {"a": 0.7, "b": 0.7}, supervised=True)]},
    }
    rows = {r["scheme"]: r for r in report.make_rows(runs, before, {"steps_per_generation": 4})}
    assert rows["majority"]["gain"] == pytest.approx(10.5)
    assert rows["majority"]["gains"] == pytest.approx({"0": 10, "1": 11})
    assert rows["random"]["minus_majority"]["gain"] == pytest.approx(-10.5)
    assert rows["random"]["minus_majority"]["ci95"] == pytest.approx([-10.5 - 6.353, -10.5 + 6.353], abs=1e-2)
    assert rows["majority"]["share_of_ceiling"] == pytest.approx(0.5), "over the seeds that both have"
    assert rows["majority"]["extra_tokens"] == pytest.approx(10)
    assert rows["gold, supervised"]["ci95"] is None


def test_a_scheme_trained_alone_counts_once_all_its_peers_are_there(script):
    report = script("compare_report")
    before = {"a": 0.5, "b": 0.5, "vote": 0.9}
    alone = [run("majority (TTRL), alone", 0, {peer: 0.6}) for peer in "ab"]
    budget = {"steps_per_generation": 4}
    assert report.make_rows({"majority (TTRL), alone": {0: alone[:1]}}, before, budget) == []
    row = report.make_rows({"majority (TTRL), alone": {0: alone}}, before, budget)[0]
    assert row["gain"] == pytest.approx(10)
    assert row["seconds_per_step"] == pytest.approx(4), "the runs of all peers together"


# ---- run_jobs.py ----


def test_a_job_that_fails_is_named_and_the_others_are_done(script, tmp_path, capfd):
    jobs = script("run_jobs")

    def broken():
        raise RuntimeError("no luck")

    works = {"good": lambda: {"value": 3}, "bad": broken}
    todo = [jobs.Job(n, jobs.result_file(tmp_path, n, 7), work, lambda r: r["value"]) for n, work in works.items()]
    assert jobs.run_jobs(todo, 2) == 1
    assert json.loads((tmp_path / "good.seed7.json").read_text()) == {"value": 3}
    assert "no luck" in (tmp_path / "bad.seed7.error").read_text()
    assert not (tmp_path / "bad.seed7.json").exists()
    printed = capfd.readouterr().out
    assert "good: +3.00" in printed and "bad: failed, see" in printed


# ---- pmi_study.py ----


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("as they are", [0.2, 0.6, 1.4, 1.8, 1.0]),
        ("mean by sign", [0.4, 0.4, 1.6, 1.6, 1.0]),
        ("divide by mean of sign", [0.5, 1.5, 0.875, 1.125, 1.0]),
        ("inverted", [1.8, 1.4, 0.6, 0.2, 1.0]),
        ("inverted, mean by sign", [1.6, 1.6, 0.4, 0.4, 1.0]),
        ("1 where reward is 0", [0.2, 0.6, 1.0, 1.0, 1.0]),
        ("1 where reward is 1", [1.0, 1.0, 1.4, 1.8, 1.0]),
    ],
)
def test_a_change_of_weights_is_what_its_name_says(script, change, expected):
    study = script("pmi_study")
    values = torch.tensor([0.2, 0.6, 1.4, 1.8, 1.0])
    reward = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])
    scored = torch.tensor([True, True, True, True, False])
    assert study.changed(values, reward, scored, change).tolist() == pytest.approx(expected)


def test_auc_is_the_chance_of_a_right_sample_to_score_higher(script):
    auc = script("pmi_study").auc
    assert auc(torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.625)
    assert auc(torch.tensor([1.0]), torch.tensor([1.0])) != auc(torch.tensor([1.0]), torch.tensor([1.0])), "NaN"


def test_the_pmi_study_pairs_its_variants_by_seed(script, tmp_path):
    study = script("pmi_study")
    args = argparse.Namespace(variants=["off", "on"], seeds=[1, 2], split="test", questions=9, budget={}, earlier=None)
    args.out = args.docs = tmp_path
    (tmp_path / "before.json").write_text(json.dumps({"a": 0.5, "vote": 0.5}))
    for variant, by_seed in {"off": {1: 0.6, 2: 0.7}, "on": {1: 0.61, 2: 0.69}}.items():
        for seed, accuracy in by_seed.items():
            result = run(variant, seed, {"a": accuracy}) | {"diagnosis": {"saturated": 0.25}}
            study.result_file(tmp_path, variant, seed).write_text(json.dumps(result))
    rows = study.tabulate(args)
    assert rows[1]["minus_off"] == pytest.approx(0.0)
    assert rows[1]["minus_off_ci95"] == pytest.approx([-12.706, 12.706], abs=1e-2)
    study.write_report(rows, args)
    assert "| on | +15.0" in (tmp_path / "pmi_study_test.md").read_text()
    args.earlier = tmp_path / "pmi_study_test.json"
    fresh = [row | {"gains": {"7": row["gain"]}} for row in rows]
    for _ in range(2):  # what is beside it once stays beside it
        study.write_report(fresh, args)
    text = (tmp_path / "pmi_study_test.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("Seeds")] == ["Seeds 7:", "Seeds 7:", "Seeds 1, 2:"]
    assert text.count("| on | +15.0") == 3


# ---- saie_study.py ----


def test_the_study_of_discussions_measures_every_setting(script, tmp_path):
    study = script("saie_study")
    flags = ["--arms", "no discussion", "discussion", "--seeds", "0", "--questions", "6", "--jobs", "2"]
    flags += ["--out", str(tmp_path), "--docs", str(tmp_path), "--split", "validation", "--set", *TINY]
    assert study.main(flags) == 0
    report = json.loads((tmp_path / "saie.json").read_text())
    assert [row["arm"] for row in report["rows"]] == ["no discussion", "discussion"]
    assert {"alone", "self"} <= set(report["before"])
    assert report["rows"][0]["target_tokens"] > 0
    assert "| before training |" in (tmp_path / "saie.md").read_text()


# ---- collapse_study.py, payoff_study.py ----


def test_the_points_lost_at_an_alarm_are_those_measured_last_before_it(script):
    study = script("collapse_study")
    measured = [{"step": step, "gemma2": a, "llama": a, "qwen2": a} for step, a in ((0, 0.7), (4, 0.69), (8, 0.6))]
    late = {"alarms": ["step 9: all peers: agreement"], "accuracy": measured}
    assert study.at_alarm(late) == (9, pytest.approx(10.0))
    assert study.at_alarm(late | {"alarms": ["step 5: all peers: payoff"]}) == (5, pytest.approx(1.0))
    assert study.at_alarm(late | {"alarms": []}) is None


def test_payoffs_stand_beside_the_gains_of_their_schemes(script, tmp_path, capsys):
    study = script("payoff_study")
    gains = {"majority": 11.0, "random": -0.5, "self_certainty (Intuitor)": -2.0}
    rows = [{"scheme": n, "gain": g, "ci95": [g - 1, g + 1], "group": "rewards"} for n, g in gains.items()]
    (tmp_path / "compare_rewards.json").write_text(json.dumps({"rows": rows}))
    names = [*gains, study.CONSTANT]
    for name, payoff in zip(names, (0.9, 0.05, 0.0, 0.1), strict=True):
        for seed, shift in ((0, 0.01), (1, -0.01)):
            file = study.result_file(tmp_path / "runs", name, seed)
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"payoff": payoff + shift}))
    flags = ["--schemes", *names, "--seeds", "0", "1", "--out", str(tmp_path / "runs"), "--docs", str(tmp_path)]
    assert study.main(flags) == 0
    found = json.loads((tmp_path / "payoff.json").read_text())
    assert found["spearman"] == pytest.approx(1.0)
    assert [row["scheme"] for row in found["rows"]][0] == "majority"
    assert "| one constant answer (planted) | 0.10 (" in (tmp_path / "payoff.md").read_text()
    assert (tmp_path / "payoff.png").stat().st_size > 5_000
