"""Evaluation: what it leaves behind."""

import pytest
from datasets import Dataset
from helpers import chat

from pst_rl.aggregation import SupervisedGoldTarget
from pst_rl.answers import Answer
from pst_rl.discussion.discuss import measure_discussion


@pytest.mark.parametrize("modes", [(True, False, True), (False, True, False)])
def test_peers_are_in_the_mode_they_were_in_also_after_an_error(trainer, questions, monkeypatch, modes):
    run = trainer()
    for peer, mode in zip(run.engines, modes, strict=False):
        peer.model.train(mode)
    before = [peer.model.training for peer in run.engines]
    seen = []

    def stumble(text):
        seen.extend(peer.model.training for peer in run.engines)
        raise ArithmeticError("an answer that cannot be read")

    monkeypatch.setattr(run, "extract_answer", stumble)
    monkeypatch.setattr(run.args, "parse_truncated", True)
    with pytest.raises(ArithmeticError):
        run.measure(questions(2))
    assert not any(seen) and [peer.model.training for peer in run.engines] == before


@pytest.mark.parametrize(("metric", "right"), [("whole", 0.0), ("first", 1.0), ("set", 0.0)])
def test_a_run_compares_answers_with_gold_by_its_metric(trainer, monkeypatch, metric, right):
    data = Dataset.from_list([{"prompt": chat(f"{n}?"), "answer": "4"} for n in range(8)])
    short = {"max_completion_length": 4, "parse_truncated": True, "max_steps": 1, "weighting": "none"}
    supervised = {"supervised": True, "rewards": ["supervised_gold"], "aggregator": SupervisedGoldTarget()}
    run = trainer(data=data, answer_metric=metric, **short, **supervised)
    monkeypatch.setattr(run, "extract_answer", lambda text: Answer.of("4, 5"))
    accuracies = {name: value for name, value in run.measure(data, samples=1).metrics().items() if "accuracy" in name}
    assert set(accuracies) == {"gemma2/accuracy", "llama/accuracy", "vote/accuracy", "pooled_vote/accuracy"}
    assert set(accuracies.values()) == {right}
    learner = next(iter(run.peers))
    discussed = measure_discussion(run, data, [learner]).metrics()
    assert len(discussed) == 3 and set(discussed.values()) == {right}
    run.train()
    logs = {name: value for entry in run.state.log_history for name, value in entry.items()}
    assert logs["gemma2/sample_accuracy"] == logs["llama/reward/supervised_gold"] == right
    assert logs.get("aggregate/accuracy", 0.0) == right and logs["peers/abstained"] == 1 - right
