"""Weights of several rewards, constant and scheduled: by hand, in TRL, and over an interruption."""

import pytest
import torch
from conftest import same, weights
from transformers import TrainerCallback

from pst_rl import Rewards
from pst_rl.rewards.base import blank
from pst_rl.scheme import mix_rewards
from pst_rl.stages.reward_mix import RewardMix

SMALL = {"per_device_train_batch_size": 8, "max_completion_length": 16, "steps_per_generation": 1}


def at(factors, weight=1.0):
    """The scheduled weight at 0, 25, 50 and 100 % of training, besides a constant one."""
    mix = RewardMix({"a": weight, "b": 1.0}, {"a": factors})
    return [mix.at(progress)["a"] for progress in (0.0, 0.25, 0.5, 1.0)]


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1, 0], [1.0, 0.75, 0.5, 0.0]),
        ([0, 0, 1], [0.0, 0.0, 0.0, 1.0]),
        ([0, 1, 0], [0.0, 0.5, 1.0, 0.0]),
        ([2, 4, 3, 0, 1], [2.0, 4.0, 3.0, 1.0]),
        ([0, 3, 6, 9], [0.0, 2.25, 4.5, 9.0]),
        ([0.5], [0.5] * 4),
    ],
)
def test_factors_lie_at_equal_distances_and_are_joined_by_lines(factors, expected):
    assert at(factors) == pytest.approx(expected)


def test_factors_multiply_the_base_weight():
    assert at([1, 0], weight=-4.0) == [-4.0, -3.0, -2.0, 0.0]


def test_progress_outside_training_is_its_nearest_end():
    mix = RewardMix({"a": 1.0}, {"a": [1, 3]})
    assert [mix.at(progress)["a"] for progress in (-0.5, 1.5)] == [1.0, 3.0]


def test_a_provider_without_a_schedule_keeps_its_weight():
    assert RewardMix({"a": 1.0, "b": 0.3}, {"a": [1, 0]}).at(0.9)["b"] == 0.3


def test_monitors_are_not_in_the_mix():
    mix = RewardMix({"a": 1.0, "watched": 0.0})
    assert mix.trained == ("a",)
    assert mix.at(0.5) == {"a": 1.0}


def test_a_schedule_may_reach_zero_and_stay_in_the_mix():
    assert RewardMix({"a": 1.0, "b": 1.0}, {"a": [1, 0]}).at(1.0) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize("factors", [[], [-1, 0], [float("nan")], [float("inf"), 0], 0.5, "10", [None], None])
def test_a_schedule_that_is_no_list_of_factors_is_refused(factors):
    with pytest.raises(ValueError, match="schedule of 'a' must be a list of factors >= 0"):
        RewardMix({"a": 1.0}, {"a": factors})


@pytest.mark.parametrize("name", ["aa", "watched"])
def test_a_schedule_of_a_reward_that_is_not_trained_is_refused(name):
    with pytest.raises(ValueError, match=rf"names \['{name}'\], but the providers with a weight are \['a'\]"):
        RewardMix({"a": 1.0, "watched": 0.0}, {name: [1, 0]})


@pytest.mark.parametrize(
    ("schedules", "when"),
    [({"a": [0, 1], "b": [0, 0, 1]}, "0%"), ({"a": [1, 0, 0], "b": [1, 0, 1]}, "50%"), ({"a": [0], "b": [0]}, "0%")],
)
def test_schedules_that_leave_nothing_to_learn_from_are_refused(schedules, when):
    with pytest.raises(ValueError, match=f"After {when} of training every reward weight is 0"):
        RewardMix({"a": 1.0, "b": 1.0}, schedules)


def test_the_very_end_may_be_silent_because_no_step_starts_there():
    assert RewardMix({"a": 1.0}, {"a": [1, 0]}).at(1.0) == {"a": 0.0}


@pytest.mark.parametrize(
    ("given", "set_to", "used"),
    [
        ([1.0, 1.0], None, "normalize_then_sum"),
        ([1.0, 0.0], None, "sum_then_normalize"),
        ([1.0, 1.0], "sum_then_normalize", "sum_then_normalize"),
    ],
)
def test_several_trained_rewards_are_normalised_before_they_are_summed(config, given, set_to, used):
    args = config(reward_weights=given, multi_objective_aggregation=set_to)
    mix_rewards(args, {"a": None, "b": None})
    assert args.multi_objective_aggregation == used


def test_a_weight_for_each_provider_is_demanded(config):
    with pytest.raises(ValueError, match="reward_weights has 1 entries for 2 providers"):
        mix_rewards(config(reward_weights=[1.0]), {"a": None, "b": None})


# In a run


def constant(name, chains):
    """A provider whose rewards depend on the chain alone."""

    def provider(group):
        values, abstain = blank(group)
        values[:] = torch.tensor(chains)
        return Rewards(values, abstain)

    provider.name = name
    return provider


PAIR = [constant("a", [1.0, 0.0, 0.0, 0.0]), constant("b", [0.0, 3.0, 1.0, 3.0])]


class Recorder(TrainerCallback):
    """The weights TRL has, after each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, **kwargs):
        self.weights.append(self.run.engines[0].reward_weights.tolist())


@pytest.fixture
def followed(trainer, tiny):
    """`followed(**config)`: a finished run of one peer, TRL's weights after each step, and its advantages."""

    def build(**settings):
        run = trainer({"llama": tiny["llama"]}, reward_providers=PAIR, weighting="none", **SMALL | settings)
        recorder, advantages = Recorder(), []
        recorder.run = run
        run.add_callback(recorder)
        engine, score = run.engines[0], run.engines[0]._generate_and_score_completions

        def spy(inputs):
            output = score(inputs)
            advantages.append(output["advantages"].flatten().tolist())
            return output

        engine._generate_and_score_completions = spy
        run.train()
        return run, recorder.weights, advantages

    return build


def advantages_by_hand(a, b):
    """TRL's normalize_then_sum of `PAIR` for two equal questions."""
    scaled = [(w * (r - r.mean()) / (r.std() + 1e-4)) for w, r in ((a, torch.tensor([1.0, 0, 0, 0])),
                                                                  (b, torch.tensor([0.0, 3, 1, 3])))]  # fmt: skip
    total = sum(scaled).repeat(2)
    return ((total - total.mean()) / (total.std() + 1e-4)).tolist()


def test_scheduled_weights_reach_trl_and_its_advantages(followed):
    _, seen, advantages = followed(
        max_steps=4, reward_weights=[2.0, 1.0], reward_schedules={"a": [1, 0.5, 0], "b": [0, 1]}
    )
    expected = [[2.0, 0.0], [1.5, 0.25], [1.0, 0.5], [0.5, 0.75]]
    assert seen == expected
    for made, (a, b) in zip(advantages, expected, strict=True):
        assert made == pytest.approx(advantages_by_hand(a, b), abs=1e-4)


def test_constant_weights_mix_through_normalize_then_sum(followed):
    run, seen, advantages = followed(max_steps=1, reward_weights=[1.0, 3.0])
    assert run.engines[0].multi_objective_aggregation == "normalize_then_sum"
    assert seen == [[1.0, 3.0]]
    assert advantages[0] == pytest.approx(advantages_by_hand(1.0, 3.0), abs=1e-4)


def test_the_logged_reward_is_the_weighted_sum_of_its_time(followed):
    run, _, _ = followed(max_steps=2, reward_schedules={"a": [1, 0]})
    logged = [h["llama/reward"] for h in run.state.log_history if "llama/reward" in h]
    assert logged == pytest.approx([0.25 + 1.75, 0.5 * 0.25 + 1.75])


def test_a_resumed_scheduled_run_equals_an_uninterrupted_one(trainer, tiny, tmp_path):
    def build(folder):
        return trainer(
            {"a": tiny["llama"]}, reward_providers=PAIR, reward_schedules={"a": [1, 0], "b": [0, 1]},
            output_dir=str(tmp_path / folder), max_steps=4, save_strategy="steps", save_steps=1,
            **SMALL | {"steps_per_generation": 2},
        )  # fmt: skip

    straight = build("straight")
    straight.train()
    for checkpoint in (1, 2):  # inside a generation batch, and between two
        resumed = build("resumed")
        resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{checkpoint}"))
        assert same(weights(straight.engines[0].model), weights(resumed.engines[0].model))
        assert resumed.engines[0].reward_weights.tolist() == straight.engines[0].reward_weights.tolist() == [0.5, 0.5]
