"""The study with published models: its questions, and its table from single runs."""

import importlib.util
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RIGHT = {"greedy": [1, 1, 1, 0], "samples": [8, 0], "read": 1.0, "texts": ["a", "b|c", "d", "e"], "vote": [1, 0]}
GOLDS = ["a", "b", "f", "c"]
WRONG = RIGHT | {"greedy": [1, 0, 0, 0], "samples": [4, 0], "read": 0.5}


def _load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report():
    return _load("real_learning_report")


@pytest.fixture(scope="module")
def tasks():
    return _load("real_tasks")


def test_no_question_is_in_two_parts_and_a_part_is_the_same_in_every_run(tasks):
    for task in ("opposites", "elements", "sums", "units", "stories"):
        found = tasks.parts(task)
        questions = [row["question"] for rows in found.values() for row in rows]
        assert len(questions) == len(set(questions)) and all(found.values())
        assert found == tasks.parts(task)
    assert {row["answer"] for row in tasks.parts("sums")["test"] if "12 + " in row["question"]} <= {
        *map(str, range(200))
    }


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the opposite of the word 'hot'? Answer with one word.", "cold"),
        ("What is the chemical symbol of iron? Answer with the symbol only.", "Fe"),
        ("How many inches are in 5 feet? Answer with the number only.", "60"),
    ],
)
def test_the_answers_are_right(tasks, question, answer):
    known = [dict(tasks.TASKS[task]()) for task in ("opposites", "elements", "units")]
    assert [answers[question] for answers in known if question in answers] == [answer]


@pytest.fixture
def runs(tmp_path):
    """One peer, two seeds: the vote gains 50 points at seed 0 and nothing at seed 1, random loses 25 at both."""
    folder = tmp_path / "facts"
    folder.mkdir()
    (folder / "before.seed0.json").write_text(json.dumps({"task": "facts", "models": {"a": WRONG}}))
    lost = WRONG | {"greedy": [0, 0, 0, 0]}
    for scheme, made in (
        ("pooled vote", [RIGHT, WRONG]),
        ("random reward", [lost] * 2),
    ):
        for seed, model in enumerate(made):
            run = {
                "task": "facts",
                "scheme": scheme,
                "objective": "grpo",
                "seed": seed,
                "peers": ["a", "b"],
                "trained": ["a"],
                "models": {"a": model},
                "targets_right": [0.5, 0.5, 0.5, 1.0],
                "seconds": 2.0,
            }
            (folder / f"{scheme}.seed{seed}.json").write_text(json.dumps(run))
    return tmp_path


def test_gains_are_paired_by_seed_and_question(report, runs):
    rows = report.make_rows(
        "facts", report.load_runs(runs / "facts"), ["random reward", "pooled vote", "not run"], GOLDS
    )
    control, vote = rows
    assert [row["scheme"] for row in rows] == ["random reward", "pooled vote"]
    assert (control["gain"], vote["gain"]) == (-25.0, 25.0) and vote["by_seed"] == [50.0, 0.0]
    assert vote["minus_random"] == 50.0 and control["minus_random_ci95"] is None
    low, high = vote["ci95"]
    assert low < 25.0 < high and low >= 0.0
    assert (vote["pass8_before"], vote["samples_before"], vote["samples_after"]) == (0.5, 0.25, 0.375)
    assert (vote["contained_before"], vote["contained_after"]) == (0.5, 0.5)
    assert vote["targets_right"] == [0.5, 1.0] and vote["by_peer"] == {"a": 25.0}


def test_gold_is_found_as_words_of_its_own_wherever_it_stands(report):
    texts = ["The opposite of hot is cold and", "a coldness", "The symbol is Fe", "fe", "La Paz."]
    golds = ["cold", "cold", "Fe", "Fe", "La Paz"]
    assert [report.contained([text], [gold]) for text, gold in zip(texts, golds, strict=True)] == [1, 0, 1, 0, 1]


def test_an_interval_covers_both_seeds_and_questions(report):
    draw = np.random.default_rng(0)
    assert report.interval(np.full((3, 10), 7.0), draw) == (7.0, 7.0)
    low, high = report.interval(np.repeat([[0.0], [30.0]], 5, axis=1), draw)  # only the seeds differ
    assert (low, high) == (0.0, 30.0)


def test_the_page_the_data_and_the_plot_are_written(report, runs, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    docs = tmp_path / "docs"
    budget = {"temperature": 1.0, "max_completion_length": 12}
    args = Namespace(out=runs, docs=docs, command="python x", split="test", budget=budget, golds={"facts": GOLDS})
    report.write_report(args, ["random reward", "pooled vote"])
    made = json.loads((docs / "real_learning.json").read_text())
    assert made["command"] == "python x" and [row["gain"] for row in made["rows"]] == [-25.0, 25.0]
    text = (docs / "real_learning.md").read_text()
    assert "| pooled vote | +25.0 (+0.0 to " in text and "`b\\|c`" in text and (docs / "real_learning.png").is_file()
