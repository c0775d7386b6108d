"""The study of the sequential protocol, at the smallest size."""

import json
import sys
from pathlib import Path

import pytest

from pst_rl.answers import Answer
from pst_rl.records import Rollout

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, "sequential_protocol", raising=False)
    import sequential_protocol

    return sequential_protocol


def said(study, answers, gold=("1", "2")):
    """What a peer answered: `answers[question][chain]`."""
    flat = [None if a is None else Answer.of(a) for chains in answers for a in chains]
    texts = [f"#### {a.text}" if a else "?" for a in flat]
    return study.Said(Rollout([], [], [], None, texts, flat, [True] * len(flat)), gold, len(answers[0]))


def test_votes_pool_all_peers_samples(study):
    peers = [said(study, [["1", "3"], ["5", "5"]]), said(study, [["1", "4"], ["2", None]])]
    assert study.vote(peers).tolist() == [True, False]


def test_only_the_same_wrong_answer_counts_as_shared(study):
    peers = [said(study, [["1", "3"], ["5", None]]), said(study, [["1", "3"], ["6", None]])]
    assert study.same_wrong(peers) == 1 / 4
    assert study.same_wrong(peers, shift=1) == 0


def test_reading_compares_with_the_same_peer_alone(study):
    first, alone = said(study, [["1", "3"], ["5", "2"]]), said(study, [["3", "3"], ["2", "5"]])
    second = said(study, [["1", "3"], ["5", "2"]])
    reading = study.Reading(*([] for _ in range(8)))
    study.read((0, 1), [first, second], [first, alone], list, reading)
    assert reading.state[0].tolist() == [2, 0, 0, 2]
    assert reading.copied_wrong[0].tolist() == [False, True, True, False]
    assert reading.alone_wrong[0].tolist() == [0, 1, 0.5, 0]
    assert reading.alone[0].tolist() == [0, 0, 0.5, 0.5]


def test_a_run_files_every_order(study, tmp_path, capsys):
    file = tmp_path / "results.json"
    flags = ["--questions", "20", "--chains", "2", "--forms", "answers", "--json", str(file)]
    study.main(flags)
    report = json.loads(file.read_text())["shipped"]
    form = report["forms"]["answers"]
    assert len(form["orders"]) == 6
    assert sum(state["share"] for state in form["reading"]["by_state"].values()) == pytest.approx(100)
    row = form["orders"]["gemma2 > llama > qwen2"]["greedy_last"]
    assert row["independent"] == report["peers"]["qwen2"]["greedy"]
    assert row["low"] <= row["difference"] <= row["high"]
    assert "| llama > qwen2 > gemma2 |" in capsys.readouterr().out
