"""The whole run from Python, as the command line makes it."""

import pytest
from transformers import AutoModelForCausalLM

from pst_rl import PSTTrainer
from pst_rl.loop.used_folder import MEASURED
from pst_rl.monitors.start import NothingRead
from pst_rl.report.results import read_results

SHORT = {"per_device_train_batch_size": 8, "max_steps": 1, "weighting": "none"}


def unfolded(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_a_run_says_what_it_is_measures_trains_and_saves(trainer, questions, tmp_path, capsys):
    run = trainer(eval_data=questions(6, "test"), **SHORT)
    results = run.run("sums", samples=2, pooled_questions=3)
    said = unfolded(capsys)
    order = ["peers ", "settings ", "had an answer that was read", "Exact match on 6 held-out questions of sums"]
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)
    folder = tmp_path / "run"
    assert read_results(folder).peers.keys() == results.peers.keys() == {"gemma2", "llama"}
    assert results.pooled_vote.after is not None and (folder / "report.png").is_file()
    assert AutoModelForCausalLM.from_pretrained(folder / "llama").num_parameters() > 0


def test_a_run_without_questions_to_measure_on_is_refused_before_it_begins(trainer):
    with pytest.raises(ValueError, match="pass eval_dataset"):
        trainer(**SHORT).run()


def test_a_run_in_which_nothing_is_read_stops_before_training_or_goes_on_if_told(trainer, questions):
    cut = SHORT | {"max_completion_length": 1, "eval_data": questions(4, "test")}
    run = trainer(**cut)
    with pytest.raises(NothingRead, match="--max-completion-length"):
        run.run()
    assert run.state.global_step == 0
    assert trainer(**cut, on_nothing_read="warn").run() is not None


def test_what_to_do_where_nothing_is_read_is_one_of_two(config):
    with pytest.raises(ValueError, match="on_nothing_read must be one of stop, warn"):
        config(on_nothing_read="never")


def test_a_run_with_one_peer_that_is_not_read_goes_on_and_ends_with_a_word_about_it(
    trainer, questions, tmp_path, capsys, monkeypatch
):
    run = trainer(eval_data=questions(4, "test"), **SHORT)
    engine = run.peers["llama"]
    monkeypatch.setattr(engine, "stop_strings", ["#"])  # its answer is never written
    results = run.run()
    begins, ends = unfolded(capsys).split("Exact match on")
    assert "llama: IT HAS NO VOTE" in begins and "gemma2: IT HAS" not in begins
    assert "No answer of llama could be read after training or before it" in ends
    assert list(results.unread) == ["llama"] and read_results(tmp_path / "run").unread == results.unread


def test_a_run_that_goes_on_takes_the_first_measurement_if_it_is_of_this_run(
    trainer, questions, tmp_path, capsys, monkeypatch
):
    kept = SHORT | {"save_strategy": "steps", "save_steps": 1, "rewards": ["random"]}
    test = questions(6, "test")
    straight = trainer(eval_data=test, **kept).run(samples=2, pooled_questions=3)
    measured = []
    measure = PSTTrainer.measure
    monkeypatch.setattr(PSTTrainer, "measure", lambda self, **how: measured.append(how) or measure(self, **how))
    last = str(tmp_path / "run" / "checkpoint-1")
    resumed = trainer(eval_data=test, **kept).run(checkpoint=last, samples=2, pooled_questions=3)
    said = unfolded(capsys)
    assert len(measured) == 1 and "measured before training: taken from" in said and f"resuming from {last}" in said
    assert resumed.peers == straight.peers and resumed.joint.distinct_before == straight.joint.distinct_before
    trainer(eval_data=questions(5, "test"), **kept).run(checkpoint=last, samples=2, pooled_questions=3)
    assert len(measured) == 3 and "is of something else (gold: " in unfolded(capsys)
    (tmp_path / "run" / MEASURED).write_text("{")
    trainer(eval_data=test, **kept).run(checkpoint=last, samples=0)
    assert len(measured) == 5 and "cannot be read" in unfolded(capsys)
