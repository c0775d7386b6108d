"""The best model is chosen, and loaded, by a metric that an evaluation of this library has; no work is lost for it."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from pst_rl import PSTTrainer
from pst_rl.loop.measuring import PeerEvaluation

SMALL = {
    "per_device_train_batch_size": 8,
    "max_completion_length": 4,
    "rewards": ["random"],
    "weighting": "none",
    "on_collapse": "off",
}
EVERY = {"eval_strategy": "steps", "eval_steps": 1}
BEST = EVERY | {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}


@pytest.fixture
def one(trainer, tiny, questions):
    """A trainer of one peer, with questions to evaluate on."""
    return lambda **options: trainer({"llama": tiny["llama"]}, eval_data=questions(4, "test"), **options)


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations in turn find these values of `vote/accuracy`."""

    def script(*values):
        found = iter(values)

        def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
            results = {f"{metric_key_prefix}_vote/accuracy": next(found)}
            self.log(dict(results))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, results)
            return results

        monkeypatch.setattr(PeerEvaluation, "evaluate", evaluate)

    return script


@pytest.mark.parametrize(("better", "values", "best"), [(None, (0.2, 0.9, 0.5), 2), (False, (0.5, 0.9, 0.2), 3)])
def test_the_best_peers_are_loaded_at_the_end(trainer, questions, scripted, better, values, best):
    scripted(*values)
    made = trainer(eval_data=questions(4, "test"), max_steps=3, greater_is_better=better, **SMALL | BEST)
    made.train()
    assert (made.args.metric_for_best_model, made.state.best_metric) == ("vote/accuracy", values[best - 1])
    for name, peer in made.peers.items():
        saved = load_file(Path(made.args.output_dir) / f"checkpoint-{best}" / name / "model.safetensors")
        first = load_file(Path(made.args.output_dir) / "checkpoint-1" / name / "model.safetensors")
        there = dict(peer.model.named_parameters())
        assert all(torch.equal(there[key], value) for key, value in saved.items() if key in there)
        assert not all(torch.equal(there[key], value) for key, value in first.items() if key in there)


def test_a_best_step_that_was_not_saved_is_warned_of(one, scripted, caplog):
    scripted(0.9, 0.2, 0.3, 0.4)
    options = SMALL | BEST | {"save_steps": 2}
    one(max_steps=4, **options).train()
    assert "best vote/accuracy was at step 1, where nothing was saved" in caplog.text


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_follows_the_metric_keeps_its_rate_while_the_accuracy_rises(one, scripted, schedule):
    scripted(0.1, 0.2, 0.3, 0.4)
    kwargs = {"patience": 0, "factor": 0.5} | ({"warmup": 0} if schedule == "greedy" else {})
    options = SMALL | EVERY | {"lr_scheduler_type": schedule, "lr_scheduler_kwargs": kwargs}
    made = one(max_steps=4, **options)
    made.train()
    rates = [row["learning_rate"] for row in made.state.log_history if "loss" in row]
    assert len(rates) == 4 and min(rates) >= 1e-3


def test_a_schedule_that_follows_the_metric_lowers_its_rate_when_the_accuracy_falls(one, scripted):
    scripted(0.4, 0.3, 0.2, 0.1)
    kwargs = {"patience": 0, "factor": 0.5}
    options = SMALL | EVERY | {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": kwargs}
    made = one(max_steps=4, **options)
    made.train()
    assert [row["learning_rate"] for row in made.state.log_history if "loss" in row] == [1e-3, 1e-3, 5e-4, 2.5e-4]


@pytest.mark.parametrize(
    "options", [{"load_best_model_at_end": True}, {"save_strategy": "best"}, {"lr_scheduler_type": "greedy"}]
)
def test_what_needs_evaluations_is_refused_without_them(config, options):
    with pytest.raises(ValueError, match="needs evaluations: set eval_strategy='steps' and eval_steps"):
        config(**options)


def unlabelled(rows):
    return Dataset.from_list([{"prompt": row["prompt"]} for row in rows])


def test_without_labels_the_label_free_metrics_are_named_before_training(trainer, questions):
    with pytest.raises(
        ValueError, match="need labels, which the evaluation set lacks. Set it to one of: .*pairwise_agr"
    ):
        trainer(eval_data=unlabelled(questions(4, "test")), **BEST)
    chosen = trainer(
        eval_data=unlabelled(questions(4, "test")), metric_for_best_model="peers/pairwise_agreement", **BEST
    )
    assert chosen.args.metric_for_best_model == "peers/pairwise_agreement"


@pytest.mark.parametrize("metric", [None, "loss", "b_pooled_vote/accuracy"])
def test_of_several_sets_one_must_be_named(trainer, questions, metric):
    rows = questions(4, "test")
    sets = {"a": rows, "b": unlabelled(rows)}
    with pytest.raises(ValueError, match="the evaluation set 'b' lacks. Set it to one of: .*a_vote/accuracy"):
        trainer(eval_data=sets, metric_for_best_model=metric, **BEST)
    assert trainer(eval_data=sets, metric_for_best_model="eval_a_vote/accuracy", **BEST).args.load_best_model_at_end


@pytest.mark.parametrize(("labels", "samples", "count"), [(True, 0, 2), (True, 2, 1), (False, 2, 2), (False, 0, 1)])
def test_the_metrics_named_before_training_are_those_that_are_measured(
    trainer, questions, tiny, labels, samples, count
):
    rows = questions(2, "test") if labels else unlabelled(questions(2, "test"))
    peers = dict(list(tiny.items())[:count])
    made = trainer(peers=peers, eval_data=rows, eval_samples=samples, **SMALL)
    assert made.measured(made.peers, samples) == {"": list(made.measure().metrics())}


class Own(PSTTrainer):
    """Measures in its own way, and not what the best model is chosen by."""

    def evaluate(self, *args, **kwargs):
        return {"eval_own": 1.0}


@pytest.mark.parametrize(
    "options", [BEST, EVERY | {"lr_scheduler_type": "reduce_lr_on_plateau"}], ids=["best", "plateau"]
)
def test_a_metric_that_an_evaluation_of_ones_own_lacks_loses_no_work(config, questions, tiny, options):
    args = config(**SMALL | options)
    made = Own([tiny["llama"]], args, questions(8), eval_dataset=questions(4, "test"))
    with pytest.raises(
        ValueError, match=r"'eval_vote/accuracy'.*available evaluation metrics.*eval_own(.|\n)*checkpoint-1"
    ):
        made.train()
    assert (Path(args.output_dir) / "checkpoint-1" / "optimizer.pt").is_file()
