"""Runs over seeds and options: what is run, what is resumed, what is refused."""

import json
import subprocess
import sys

import pytest

from pst_rl.cli.sweep import Sweep, SweepRun, plan, run_all

RESULTS = {
    "dataset": "tiny", "n_test": 9, "seed": 0, "vote": {"before": 0.5, "after": 0.6}, "pooled_vote": {},
}  # fmt: skip


def finish(run, gain):
    run.folder.mkdir(parents=True, exist_ok=True)
    peers = {"a": {"before": 0.5, "after": 0.5 + gain}}
    (run.folder / "results.json").write_text(json.dumps(RESULTS | {"peers": peers}))


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("peers: [tiny]\nmax_steps: 2\nlearning_rate: 1.0e-4\n")
    return tmp_path / "recipe.yaml"


def test_every_combination_is_run_at_every_seed(tmp_path):
    runs = plan({"max_steps": 2}, ["weighting=pmi,none", "learning-rate=1e-4,2e-4"], [0, 1], tmp_path)
    assert len(runs) == 8 and len({run.folder for run in runs}) == 8
    assert runs[0].setting == "weighting=pmi learning_rate=0.0001"
    assert runs[0].options == {
        "max_steps": 2, "weighting": "pmi", "learning_rate": 1e-4, "seed": 0, "output_dir": str(runs[0].folder),
    }  # fmt: skip


def test_values_are_written_as_in_yaml(tmp_path):
    (first, second) = plan({}, ["reward_options={a: {b: 1}},null"], [3], tmp_path)
    assert (first.options["reward_options"], second.options["reward_options"]) == ({"a": {"b": 1}}, None)
    on, off = plan({}, ["pmi=on,off"], [0], tmp_path)
    assert (on.options["weighting"], off.options["weighting"]) == ("pmi", "none")


@pytest.mark.parametrize("text", ["weighting", "weighting=", "=1", "a=[1"])
def test_what_is_no_option_with_values_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="NAME=VALUE"):
        plan({}, [text], [0], tmp_path)


def test_an_option_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        plan({}, ["beta=1", "beta=2"], [0], tmp_path)


@pytest.mark.parametrize("option", ["seed=1,2", "output-dir=a,b"])
def test_what_a_sweep_sets_itself_is_not_set_twice(tmp_path, option):
    with pytest.raises(ValueError, match="has no effect: name seeds with --seeds"):
        plan({}, [option], [0], tmp_path)


def test_finished_runs_are_not_run_again_and_the_table_pairs_seeds(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SweepRun, "start", lambda self: pytest.fail("it is finished"))
    sweep = Sweep(recipe, seeds=[0, 1], set=["weighting=none,pmi"], output_dir=tmp_path / "out")
    runs = plan({"peers": ["tiny"], "max_steps": 2, "learning_rate": 1e-4}, sweep.set, sweep.seeds, sweep.output_dir)
    for run, gain in zip(runs, (0.1, 0.2, 0.12, 0.24), strict=True):
        finish(run, gain)
    assert sweep.run() == 0
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())["rows"]
    assert [row["gain"]["gain"] for row in rows] == pytest.approx([15.0, 18.0])
    assert rows[0]["minus_first"] is None and rows[1]["minus_first"]["gain"] == pytest.approx(3.0)
    assert rows[1]["minus_first"]["high"] - 3.0 == pytest.approx(12.706 * 2**0.5 / 2**0.5, rel=1e-3)
    assert "+18.0 (" in capsys.readouterr().out and (tmp_path / "out" / "sweep.png").is_file()


def test_a_folder_with_other_options_is_refused(recipe, tmp_path):
    sweep = Sweep(recipe, seeds=[0], output_dir=tmp_path / "out", dry_run=True)
    (run,) = plan({"peers": ["tiny"], "max_steps": 3, "learning_rate": 1e-4}, [], [0], tmp_path / "out")
    run.folder.mkdir(parents=True)
    (run.folder / "run.yaml").write_text(json.dumps(run.options))
    with pytest.raises(ValueError, match="another max_steps"):
        sweep.run()


def test_what_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    runs = plan({}, [], [0, 1], tmp_path)
    words = {
        0: "print('error: no such thing'); raise SystemExit(2)",
        1: f"open({str(runs[1].folder / 'results.json')!r}, 'w').write('{{}}')",
    }
    monkeypatch.setattr(SweepRun, "command", lambda self: [sys.executable, "-c", words[self.seed]])
    assert run_all(runs, jobs=2, interval=0.01) == 1
    said = capsys.readouterr().out
    assert "seed=0: ended with status 2: error: no such thing" in said and "seed=1: finished" in said


def test_an_interrupted_sweep_asks_its_runs_to_stop(tmp_path, monkeypatch):
    started = []

    class Slow:
        returncode = None
        terminate = lambda self: started.append("terminated")  # noqa: E731
        wait = lambda self: started.append("waited for")  # noqa: E731

        def poll(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(SweepRun, "start", lambda self: Slow())
    with pytest.raises(KeyboardInterrupt):
        run_all(plan({}, [], [0], tmp_path), jobs=1, interval=0.0)
    assert started == ["terminated", "waited for"]


def test_the_command_line_takes_seeds_and_options(recipe, tmp_path):
    words = ["sweep", str(recipe), "--seeds", "0", "1", "--set", "weighting=pmi,none", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "pst_rl.cli", *words, "--output-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "4 runs in" in done.stdout and done.stdout.count("train --config") == 4
