"""A faulty scheme ends the run with an error that names it, and what was saved before can be gone on from."""

from dataclasses import replace

import pytest
import torch
from conftest import same, weights
from helpers import group

from pst_rl import Rewards
from pst_rl.aggregation import Majority
from pst_rl.rewards import MatchesAggregate
from pst_rl.scheme import check_rewards, check_targets

SMALL = {
    "max_steps": 3,
    "per_device_train_batch_size": 8,
    "steps_per_generation": 1,
    "max_completion_length": 16,
    "save_strategy": "steps",
    "weighting": "none",
}


class Mine:
    """Agreement with the aggregate; from the third step on, what a fault makes of it."""

    name = "mine"

    def __init__(self, fault=None):
        self.fault = fault

    def __call__(self, batch):
        rewards = MatchesAggregate()(batch)
        return self.fault(rewards) if self.fault and batch.step == 2 else rewards


class Votes(Majority):
    """Majority vote; from the third step on, what a fault makes of it."""

    def __init__(self, fault=None):
        super().__init__()
        self.fault = fault

    def __call__(self, batch):
        targets = super().__call__(batch)
        return self.fault(targets) if self.fault and batch.step == 2 else targets


def fails(rewards):
    raise KeyError("no such column")


def with_value(value):
    def fault(rewards):
        rewards.values[0, 1, 2] = value
        return replace(rewards, abstain=torch.zeros_like(rewards.abstain))

    return fault


def later(shape, value=0.0):
    return lambda rewards: replace(rewards, later=torch.full(shape, value))


FAULTS = {
    "raises": (fails, RuntimeError, "failed at step 2: KeyError: 'no such column'"),
    "nothing": (lambda r: None, TypeError, "returned NoneType; it must return Rewards"),
    "a tensor": (lambda r: r.values, TypeError, "returned Tensor; it must return Rewards"),
    "lists": (lambda r: replace(r, values=r.values.tolist()), TypeError, "returned list as `values`"),
    "whole numbers": (lambda r: replace(r, values=r.values.long()), TypeError, "int64 on cpu as `values`"),
    "abstain as numbers": (lambda r: replace(r, abstain=r.abstain.float()), TypeError, "float32 on cpu as `abstain`"),
    "too few rewards": (lambda r: replace(r, values=r.values[:, :1]), ValueError, r"values of \(2, 1, 4\)"),
    "flat abstain": (lambda r: replace(r, abstain=r.abstain.flatten()), ValueError, r"abstain of \(16,\)"),
    "nan": (with_value(float("nan")), ValueError, "returned nan for 1 samples, .* peer 'gemma2', question 1, chain 2"),
    "infinity": (with_value(float("inf")), ValueError, "returned inf for 1 samples"),
    "later without turns": (later((2, 2, 4)), ValueError, r"rewards of later turns of shape \(2, 2, 4\)"),
    "later of other chains": (later((2, 2, 3, 1)), ValueError, r"later turns of shape \(2, 2, 3, 1\)"),
    "infinite later": (later((2, 2, 4, 1), float("inf")), ValueError, "infinite reward of a later turn"),
}
TARGET_FAULTS = {
    "a chain short": (lambda t: tuple(tuple(q[1:] for q in p) for p in t), ValueError, "for all of"),
    "a question short": (lambda t: tuple(p[:1] for p in t), ValueError, r"\(peers, questions, chains\) = \(2, 2, 4\)"),
    "a peer short": (lambda t: t[:1], ValueError, "for all of"),
    "nothing": (lambda t: None, ValueError, "for all of"),
    "text": (lambda t: (((" 5",) * 4,) * 2,) * 2, TypeError, "returned str among its targets"),
}


def sane():
    batch = group([[["1"] * 4] * 2] * 2, peers=("gemma2", "llama"))
    return batch, Rewards(torch.zeros(batch.shape), torch.zeros(batch.shape, dtype=torch.bool))


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"raises"}))
def test_rewards_that_cannot_be_used_are_refused_by_name(fault):
    batch, rewards = sane()
    make, error, message = FAULTS[fault]
    with pytest.raises(error, match=f"The reward provider 'mine' .*{message}"):
        check_rewards("mine", make(rewards), batch)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_any_value_is_accepted_where_the_provider_abstains(value):
    batch, rewards = sane()
    rewards.values[0, 1, 2], rewards.abstain[0, 1, 2] = value, True
    check_rewards("mine", rewards, batch)


def test_a_turn_that_did_not_take_place_has_no_reward():
    batch, rewards = sane()
    check_rewards("mine", replace(rewards, later=torch.full((2, 2, 4, 3), float("nan"))), batch)


@pytest.mark.parametrize("fault", TARGET_FAULTS)
def test_targets_that_do_not_cover_the_group_are_refused(fault):
    make, error, message = TARGET_FAULTS[fault]
    batch, _ = sane()
    with pytest.raises(error, match=f"The aggregator Mine .*{message}"):
        check_targets("Mine", make(Majority()(batch)), batch)


def test_lists_of_targets_serve_as_well_as_tuples():
    batch, _ = sane()
    check_targets("Mine", [[list(chains) for chains in peer] for peer in Majority()(batch)], batch)


# In a run


@pytest.fixture
def run(trainer):
    """`run(folder, provider, aggregator, **config)`: a trainer that saves into this folder."""

    def build(folder, provider=None, aggregator=None, **settings):
        scheme = {"reward_providers": [provider or Mine()], "aggregator": aggregator or Votes()}
        return trainer(output_dir=str(folder), **SMALL | {"save_steps": 1} | scheme | settings)

    return build


def all_weights(trainer):
    return {f"{n}.{k}": v for n, peer in trainer.peers.items() for k, v in weights(peer.model).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the first run of this file leaves its checkpoints."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def known():
    """What the uninterrupted run ended with, once it has been made."""
    return {}


@pytest.fixture
def interrupted(run, folder, known):
    """The folder of a run that a faulty provider ended in its third step, and the weights it should have had."""
    if not known:
        healthy = run(folder / "healthy", save_strategy="no")
        healthy.train()
        known.update(all_weights(healthy))
        with pytest.raises(RuntimeError, match="'mine' failed at step 2: KeyError: 'no such column'") as caught:
            run(folder / "faulty", Mine(fails), save_steps=2).train()
        assert isinstance(caught.value.__cause__, KeyError)
    return folder / "faulty", known


def test_a_run_that_a_provider_ended_goes_on_from_its_last_checkpoint(run, interrupted):
    folder, expected = interrupted
    assert [saved.name for saved in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    assert same(finished(run, folder), expected)


@pytest.mark.parametrize("fault", ["a tensor", "flat abstain", "later without turns"])
def test_the_last_checkpoint_survives_a_faulty_provider(run, interrupted, fault):
    make, error, message = FAULTS[fault]
    folder, expected = interrupted
    with pytest.raises(error, match=f"'mine' .*{message}"):
        run(folder, Mine(make)).train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert same(finished(run, folder), expected)


@pytest.mark.parametrize("fault", ["a chain short"])
def test_the_last_checkpoint_survives_a_faulty_aggregator(run, interrupted, fault):
    make, error, message = TARGET_FAULTS[fault]
    folder, expected = interrupted
    with pytest.raises(error, match=f"aggregator .*{message}"):
        run(folder, aggregator=Votes(make)).train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert same(finished(run, folder), expected)


def finished(run, folder):
    """The weights after going on from the second step with a healthy scheme."""
    again = run(folder, save_strategy="no")
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert again.state.global_step == 3
    return all_weights(again)
