"""Numeric faults: the peer is left out and named, the others do not notice; steps that update nothing."""

import re
from pathlib import Path

import pytest
import torch
from conftest import same, weights

from pst_rl import Rewards
from pst_rl.loop.checkpoint_files import checkpoints_of
from pst_rl.loop.faults import FaultMonitor, NumericFault
from pst_rl.rewards.base import blank

QUICK = {"max_steps": 1, "max_completion_length": 6, "per_device_train_batch_size": 8, "weighting": "none"}


def varied(group):
    """A reward that always differs within a group, so that every peer has a gradient."""
    values, abstain = blank(group)
    return Rewards(values + torch.arange(group.shape[2], dtype=values.dtype), abstain)


def constant(group):
    return Rewards(*blank(group))


class Broken:
    """`varied`, but not finite for one peer at some steps; `None` stands for all of them."""

    name = "broken"

    def __init__(self, peer, steps=(0,)):
        self.peer, self.steps = peer, steps

    def __call__(self, group):
        rewards = varied(group)
        if group.step in self.steps:
            rewards.values[slice(None) if self.peer is None else group.peers.index(self.peer), 0, 0] = float("nan")
        return rewards


def nan_loss(engine, monkeypatch):
    loss = engine.compute_loss
    monkeypatch.setattr(engine, "compute_loss", lambda *args, **kwargs: loss(*args, **kwargs) * float("nan"))


def infinite_gradient(engine, monkeypatch):
    parameter = next(p for p in engine.model.parameters() if p.requires_grad)
    parameter.register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.parametrize(
    ("fault", "reason"), [(nan_loss, "its loss is nan"), (infinite_gradient, "its gradient has norm (nan|inf)")]
)
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_faulty_peer_is_left_out_and_named_and_the_other_is_untouched(
    trainer, monkeypatch, caplog, fault, reason, max_grad_norm
):
    build = lambda: trainer(reward_providers=[varied], max_grad_norm=max_grad_norm, **QUICK)
    sound = build()
    sound.train()
    faulty = build()
    fault(faulty.peers["gemma2"], monkeypatch)
    start = weights(faulty.peers["gemma2"].model)
    faulty.train()
    assert same(start, weights(faulty.peers["gemma2"].model))
    other = weights(faulty.peers["llama"].model)
    assert same(weights(sound.peers["llama"].model), other)
    assert not same(weights(sound.peers["gemma2"].model), start)
    log = faulty.state.log_history[0]
    assert log["gemma2/skipped_updates"] == 1.0 and "llama/skipped_updates" not in log
    assert torch.tensor([log["loss"], log["grad_norm"]]).isfinite().all()
    assert caplog.text.count("gemma2 is not updated") == 1
    assert re.search(reason, caplog.text)


def test_peer_with_a_reward_that_is_not_finite_is_left_out_of_its_whole_batch(trainer, caplog):
    made = trainer(reward_providers=[Broken("llama")], **QUICK | {"max_steps": 2, "steps_per_generation": 2})
    before = {name: weights(peer.model) for name, peer in made.peers.items()}
    made.train()
    moved = {name: not same(before[name], weights(peer.model)) for name, peer in made.peers.items()}
    assert moved == {"gemma2": True, "llama": False}
    assert made.faults.skipped == {"gemma2": 0, "llama": 2}
    assert "llama is not updated, because its reward 'broken' is not finite" in caplog.text


def test_reward_that_is_finite_for_nobody_is_the_providers_fault(trainer):
    with pytest.raises(ValueError, match="The reward provider 'broken' returned nan"):
        trainer(reward_providers=[Broken(None)], **QUICK).train()


def test_run_stops_with_a_checkpoint_when_a_peer_fails_too_often(trainer):
    settings = QUICK | {"max_steps": 9, "steps_per_generation": 1, "fault_patience": 2, "save_strategy": "steps"}
    made = trainer(reward_providers=[Broken("llama", steps=(0, 2, 3, 4, 5))], save_steps=100, **settings)
    with pytest.raises(
        NumericFault, match=r"step 4: llama was not updated because its reward.*last checkpoint is .*-4"
    ):
        made.train()
    assert [folder.name for folder in checkpoints_of(made.args.output_dir)] == ["checkpoint-4"]
    again = trainer(reward_providers=[Broken("llama", steps=())], save_steps=100, **settings | {"max_steps": 5})
    again.train(resume_from_checkpoint=True)
    assert again.faults.skipped["llama"] == 3  # counted since the run began


def test_run_resumed_within_a_faulty_batch_still_leaves_the_peer_out(trainer):
    settings = QUICK | {"max_steps": 2, "steps_per_generation": 2, "save_strategy": "steps", "save_steps": 1}
    build = lambda: trainer(reward_providers=[Broken("llama")], **settings)
    straight = build()
    straight.train()
    resumed = build()
    resumed.train(resume_from_checkpoint=str(Path(straight.args.output_dir) / "checkpoint-1"))
    for name in straight.peers:
        assert same(weights(straight.peers[name].model), weights(resumed.peers[name].model))
    assert resumed.faults.skipped == straight.faults.skipped == {"gemma2": 0, "llama": 2}


def test_steps_that_update_nothing_are_counted_and_warned_of(trainer, caplog):
    made = trainer(reward_providers=[constant], **QUICK | {"max_steps": 3, "fault_patience": 2})
    made.train()
    assert [log["peers/dead_steps"] for log in made.state.log_history if "loss" in log] == [1.0, 2.0, 3.0]
    assert caplog.text.count("The last 2 steps up to 2 updated nothing") == 1


def test_one_sound_step_renews_the_patience():
    monitor = FaultMonitor(["a", "b"], patience=2)
    for faulty in (["a"], [], ["a"], ["b"]):
        for name in faulty:
            monitor.note(name, "its loss is nan")
        monitor.close_step(1, gradients=True)
    assert monitor.exhausted == {}
    monitor.note("b", "its loss is inf")
    monitor.close_step(5, gradients=True)
    assert monitor.exhausted == {"b": "its loss is inf"}


def test_patience_must_be_positive(config):
    with pytest.raises(ValueError, match="fault_patience must be at least 1"):
        config(fault_patience=0)
