"""The arithmetic of scripts/real_pmi.py and real_gv_gap.py: what is read once, AUC, and rows, without a real model."""

import itertools
import json
import random
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module


# What is read once


def test_shared_beginnings_are_cut_where_the_fewest_tokens_are_read(script):
    groups = script("shared_reading").groups
    one, other = [1] * 10, [1] * 5 + [2] * 5
    contexts = [[*one, 3, 4], [*other, 3, 4], [*one, 5, 6], [*other, 5, 6], [*one, 3, 4]]
    assert sorted((shared, sorted(own)) for shared, own in groups(contexts)) == [(10, [0, 2, 4]), (10, [1, 3])]
    near = [[1, 2, 3, 4, 5, 6, 7, last] for last in range(4)] + [[1, 2, 3, 4, 5, 6, 8, 9]]
    assert sorted((shared, sorted(own)) for shared, own in groups(near)) == [(6, [0, 1, 2, 3, 4])]


def test_a_context_alone_and_one_that_begins_another_are_read_too(script):
    groups = script("shared_reading").groups
    assert groups([]) == [] and groups([[7]]) == [(0, [0])]
    ((shared, own),) = groups([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
    assert (shared, sorted(own)) == (4, [0, 1])  # the last token of a context predicts what follows


def test_shared_reading_is_plain_reading(script, tiny):
    from pst_rl.benchmarks.model import LanguageModel

    reading = script("shared_reading")
    draw = random.Random(0)
    starts = [[draw.randrange(5, 40) for _ in range(12)] for _ in range(2)]
    contexts = [start + [draw.randrange(5, 40) for _ in range(n)] for start in starts for n in (0, 1, 4)]
    targets = [[draw.randrange(5, 40) for _ in range(1 + i % 3)] for i in range(len(contexts))]
    model = reading.SharedReader.load(str(tiny["gemma2"]), "gemma2")  # sliding windows, soft-capped logits
    found = list(itertools.chain(*model.log_probs(contexts, targets)))
    plain = list(itertools.chain(*LanguageModel.log_probs(model, contexts, targets)))
    assert found == pytest.approx(plain, abs=1e-4)
    assert (model.next_logits(contexts) - LanguageModel.next_logits(model, contexts)).abs().max() < 1e-3


def test_sums_are_read_together_and_then_known(script, monkeypatch):
    reading = script("shared_reading")
    read = []

    def token_logprobs(model, pad, pairs):
        read.append(pairs)
        return [[-1.0] * len(target) for _, target in pairs]

    monkeypatch.setattr(reading, "token_logprobs", token_logprobs)
    engine, sums = Namespace(model=None, tokenizer=Namespace(pad_token_id=0)), reading.Sums()
    assert sums(engine, [([1], [2, 3])], 16) == [0.0] == sums(engine, [([1], [2, 3])], 16)
    sums.read()
    assert sums(engine, [([1], [2, 3]), ([1], [4])], 16) == [-2.0, 0.0]
    assert read == [[((1,), (2, 3))]]


def test_pmi_of_samples_is_what_the_library_gives(script, tiny, tmp_path):
    samples, study, reading = script("real_samples"), script("real_pmi"), script("shared_reading")
    models = {name: reading.SharedReader.load(str(tiny[name]), name) for name in ("llama", "gemma2")}
    (tmp_path / "sums").mkdir()
    rows = [{"question": q, "answer": a} for q, a in (("What is 28+47?", "75"), ("What is 2+3?", "5"))]
    (tmp_path / "sums" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = samples.load_task(tmp_path, "sums", 0, 12)
    args = Namespace(
        samples=tmp_path / "samples", chains=2, temperature=1.0, seed=0, tokens=[("llama", 30), ("gemma2", 30)]
    )
    drawn = samples.sampled(models, "sums", items, 0, args)
    args.chains = 99
    assert drawn == samples.sampled(models, "sums", items, 0, args)  # kept in files
    engines = [study.Engine(model.model, model.tokenizer) for model in models.values()]
    request = study.make_request(models, engines, "sums", items, drawn)
    assert request.group.gold is None
    found = study.scored(request, other_chains=1)
    for name, plain in study.pmi_of_all(request, other_chains=1).items():
        own = [row["pmi"][name] for row in found]
        assert own == pytest.approx(plain.flatten().tolist(), abs=1e-3, nan_ok=True)
        assert any(value == value and abs(value) > 0.01 for value in own)
    assert all(row["logprob"] < 0 for row in found)


# AUC


def test_auc_counts_the_pairs_of_one_model_and_task(script):
    report = script("real_pmi_report")
    one = report.Wins.of([3.0, 1.0, 2.0, 0.0], [True, False, True, True], [0, 0, 1, 1], 2)
    other = report.Wins.of([100.0, 200.0], [True, False], [0, 1], 2)
    value, (low, high) = report.auc({"t": [one, other]})
    assert value == pytest.approx((1 + 1 + 0 + 0) / (3 + 1)) and low <= value <= high


def test_ties_are_half_a_win(script):
    report = script("real_pmi_report")
    assert report.auc({"t": [report.Wins.of([0.0, 0.0], [True, False], [0, 1], 2)]})[0] == 0.5


def test_auc_within_questions_leaves_other_pairs_out(script):
    report = script("real_pmi_report")
    wins = report.Wins.of([1.0, 2.0, 5.0, 0.0], [True, False, True, False], [0, 0, 1, 2], 3)
    assert report.auc({"t": [wins]}, within=True)[0] == 0.0
    assert report.auc({"t": [wins]})[0] == pytest.approx(3 / 4)
    alone = report.Wins.of([1.0, 2.0], [True, False], [0, 1], 2)
    assert report.auc({"t": [alone]}, within=True) is None


def test_the_interval_is_over_questions_not_samples(script):
    report = script("real_pmi_report")
    draw = random.Random(1)
    score, right, question = [], [], []
    for q in range(12):
        value, flag = draw.gauss(0, 1), q % 2 == 0
        for _ in range(8):  # eight samples that say the same
            score.append(value), right.append(flag), question.append(q)
    clustered = report.auc({"t": [report.Wins.of(score, right, question, 12)]})[1]
    single = report.auc({"t": [report.Wins.of(score[::8], right[::8], question[::8], 12)]})[1]
    assert clustered == pytest.approx(single)


# Rows


def samples(count, task="capitals"):
    """`count` questions of two samples each of one model: the first agrees and is right where the number is even."""
    return [
        {
            "model": "m", "task": task, "question": q, "chain": g, "text": "", "answer": "", "start": 0, "target": "x",
            "share": 0.5, "agrees": g == 0, "own_share": 0.5, "logprob": -1.0, "right": q % 2 == 0 and g == 0,
            "pmi": {"default, self": float(q % 2 == 0) - g},
        }
        for q in range(count)
        for g in (0, 1)
    ]  # fmt: skip


def test_a_row_says_what_pmi_knows_among_samples_of_one_reward(script):
    rows = script("real_pmi_report").make_rows(samples(12), ["default, self"])
    by = {(row["model"], row["task"], row["setting"], row["group"]): row for row in rows}
    agree = by["m", "capitals", "default", "agree"]
    assert (agree["n"], agree["right"], agree["auc"], agree["auc_within_question"]) == (12, 6, 1.0, None)
    assert (agree["pmi_mean_agree"], agree["pmi_mean_disagree"]) == (0.5, -0.5)
    assert agree["weight_right"] < agree["weight_wrong"]
    assert by["m", "capitals", "default", "disagree"]["auc"] is None  # no right one among them
    assert by["all", "all", "default", "agree"]["auc"] == 1.0


def test_a_group_with_too_few_of_either_kind_has_counts_and_no_auc(script):
    rows = script("real_pmi_report").make_rows(samples(4), ["default, self"])
    assert {row["auc"] for row in rows if row["group"] == "agree"} == {None}
    assert {row["right"] for row in rows if row["group"] == "agree"} == {2}


def test_the_gap_report_joins_blocks_and_averages_the_other_judges(script, tmp_path):
    study = script("real_gv_gap")
    keys, correct = [["a", "b", None, "b"]], [[True, False, False, False]]
    own = {"correct": correct, "keys": keys}
    better, worse = [[0.9, 0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3, 0.9]]
    scores = {f"likelihood, {judge}": {"x": s, "y": s} for judge, s in (("x", better), ("y", worse))}
    for first in (0, 12):
        block = {"task": "sums", "scores": scores, "samples": {"x": own, "y": own}}
        (tmp_path / f"sums.{first}.json").write_text(json.dumps(block))
    settings = {"only": ["sums", "units"], "chains": 4, "temperature": 1.0, "quantile": 0.8, "seed": 0}
    study.write_report(Namespace(out=tmp_path, docs=tmp_path / "docs", models=[("x", ""), ("y", "")], **settings))
    rows = json.loads((tmp_path / "docs" / "real_gv_gap.json").read_text())["rows"]
    by = {(row["generator"], row["judge"]): row for row in rows}
    assert by["x", "x"]["questions"] == 2 and by["x", "x"]["gap"] == 75.0
    assert by["x", "others"]["gap"] == by["x", "y"]["gap"] == -25.0 and by["y", "others"]["gap"] == 75.0
    assert by["x", "x"]["auc_within_question"] == 1.0 and by["x", "x"]["unparsed"] == 25.0
    assert "| x | 25 / 100 / 0 / 25 | likelihood | itself | 75.0" in (tmp_path / "docs" / "real_gv_gap.md").read_text()
