"""Weighted advantages and their mean: by hand, over processes, and in the loss."""

from types import SimpleNamespace

import pytest
import torch

from pst_rl.peers.recentring import group_means, weighted_advantages
from pst_rl.records import PeerUpdate, Weights

NAN = float("nan")
ALONE = SimpleNamespace(gather=lambda rows: rows, process_index=0)


def update(weights, rewards=None):
    """A peer's update of so many rows; rows with a reward of NaN were scored by no one."""
    rows = [[1]] * len(weights)
    given = {"one": rewards or [0.0] * len(weights)}
    return PeerUpdate([{"prompt": "?"}] * len(rows), rows, rows, None, given, weights=torch.tensor(weights))


def made(advantages, weights, rewards=None, recentre=True, chains=4):
    return weighted_advantages(torch.tensor(advantages), update(weights, rewards), chains, recentre, ALONE)


ONE_OF_FOUR, WEIGHTS = [1.5, -0.5, -0.5, -0.5], [1.0, 2.0, 0.5, 1.5]  # products 1.5, -1, -.25, -.75: mean -.125


def test_the_mean_of_a_groups_products_is_taken_off():
    advantages, metrics = made(ONE_OF_FOUR, WEIGHTS)
    assert advantages.tolist() == [1.625, -0.875, -0.125, -0.625]
    assert metrics == {"weighted_advantage": 0.0, "weighted_advantage/raw": -0.125}


def test_each_group_has_its_own_mean():
    advantages, metrics = made(ONE_OF_FOUR + [1.0, 1.0, -1.0, -1.0], WEIGHTS + [1.0, 1.0, 1.0, 2.0])
    assert advantages.tolist() == [1.625, -0.875, -0.125, -0.625, 1.25, 1.25, -0.75, -1.75]
    assert metrics == {"weighted_advantage": 0.0, "weighted_advantage/raw": (-0.5 - 1.0) / 8}


def test_without_it_the_push_stays_and_is_measured():
    advantages, metrics = made(ONE_OF_FOUR, WEIGHTS, recentre=False)
    assert advantages.tolist() == [1.5, -1.0, -0.25, -0.75]
    assert metrics == {"weighted_advantage": -0.125, "weighted_advantage/raw": -0.125}


def test_what_weight_zero_keeps_out_stays_out_and_counts_in_no_mean():
    advantages, _ = made(ONE_OF_FOUR, [1.0, 0.0, 1.0, 1.0])  # 1.5, -.5, -.5 are left: mean 1 / 6
    assert advantages.tolist() == pytest.approx([1.5 - 1 / 6, 0.0, -0.5 - 1 / 6, -0.5 - 1 / 6])


def test_what_no_provider_scored_stays_out_and_counts_in_no_mean():
    # Two products are left, 1 and -2: mean -.5. The weight of the others, 1, is none of theirs.
    advantages, _ = made([1.0, 0.0, -1.0, 0.0], [1.0, 1.0, 2.0, 1.0], rewards=[1.0, NAN, 0.0, NAN])
    assert advantages.tolist() == [1.5, 0.0, -1.5, 0.0]


def test_a_row_that_one_of_several_providers_scored_counts():
    several = update(WEIGHTS)
    several.rewards["two"] = [NAN, 1.0, NAN, 1.0]
    advantages, _ = weighted_advantages(torch.tensor(ONE_OF_FOUR), several, 4, True, ALONE)
    assert advantages.tolist() == [1.625, -0.875, -0.125, -0.625]


@pytest.mark.parametrize("weight", [1.0, 0.75, 0.0])
def test_weights_that_do_not_vary_change_no_bit_of_the_mean(weight):
    advantages = torch.tensor([0.1, 0.2, -0.7, 0.4])  # whose sum is not exactly 0
    found, metrics = weighted_advantages(advantages, update([weight] * 4), 4, True, ALONE)
    assert torch.equal(found, advantages * weight) and metrics == {}


def test_a_group_of_equal_weights_keeps_its_bits_beside_another():
    found, _ = made([0.1, 0.2, -0.7, 0.4] + ONE_OF_FOUR, [1.0] * 4 + WEIGHTS)
    assert torch.equal(found[:4], torch.tensor([0.1, 0.2, -0.7, 0.4]))


def test_groups_that_straddle_two_processes_have_one_mean():
    # One group of four: two rows each. The other process's rows come to us by `gather`.
    rows = [slice(0, 2), slice(2, 4)]
    advantages = torch.tensor(ONE_OF_FOUR)
    for own, process in zip(rows, (0, 1), strict=True):
        other = rows[1 - process]
        foreign = torch.stack(
            [advantages[other] * torch.tensor(WEIGHTS[other]), torch.tensor(WEIGHTS[other]), torch.ones(2)], 1
        )
        gather = lambda mine, other=foreign, first=process == 0: torch.cat([mine, other] if first else [other, mine])  # noqa: E731
        joined = SimpleNamespace(gather=gather, process_index=process)
        found, metrics = weighted_advantages(advantages[own], update(WEIGHTS[own]), 4, True, joined)
        assert found.tolist() == [1.625, -0.875, -0.125, -0.625][own]
        assert metrics["weighted_advantage/raw"] == -0.125


def test_there_is_no_mean_to_take_off_where_nothing_varies():
    assert group_means(torch.zeros(4), torch.ones(4), torch.ones(4, dtype=torch.bool), 2) is None


# In training


def uneven(request):
    """Weights of 1 where the first reward is high and 2 where it is not."""
    values = next(iter(request.rewards.values())).values
    return Weights(2.0 - values, torch.full_like(values, NAN))


def advantages_of(trainer, peer=0, **settings):
    """The advantages that reach the loss of a peer, and the run."""
    run = trainer(**{"max_steps": 1, "weigh": uneven, "seed": 3} | settings)
    engine, seen = run.engines[peer], []
    score = engine._generate_and_score_completions
    engine._generate_and_score_completions = lambda inputs: seen.append(score(inputs)) or seen[-1]
    run.train()
    return seen[0]["advantages"], run


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_the_loss_sees_groups_of_mean_zero(trainer, skip, loss_type):
    settings = {"skip_zero_advantage": skip, "loss_type": loss_type}
    advantages, run = advantages_of(trainer, **settings)
    groups = advantages.view(-1, run.args.num_generations)
    assert (groups.std(1) > 0.1).any()
    assert groups.mean(1).abs().max() < 1e-6
    [log] = [log for log in run.state.log_history if "loss" in log]
    name = list(run.peers)[0]
    assert abs(log[f"{name}/weighted_advantage"]) < 1e-6 and log[f"{name}/weighted_advantage/raw"] < -0.05


def test_it_can_be_switched_off(trainer):
    advantages, run = advantages_of(trainer, recentre_weighted=False)
    [log] = [log for log in run.state.log_history if "loss" in log]
    assert advantages.mean() < -0.05
    assert log[f"{list(run.peers)[0]}/weighted_advantage"] == pytest.approx(advantages.mean().item())


def test_first_answers_of_a_discussion_are_recentred_before_their_tokens_get_them(trainer):
    advantages, run = advantages_of(trainer, peer=1, rewards=["saie"], max_completion_length=24)
    assert advantages.dim() == 2
    first = advantages[:, 0].view(-1, run.args.num_generations)
    assert (first.std(1) > 0.1).any() and first.mean(1).abs().max() < 1e-6


def test_cross_entropy_has_nothing_to_recentre(trainer, config):
    advantages, _ = advantages_of(trainer, objective="weighted_sft")
    assert advantages.min() >= 0.0 and advantages.max() == 2.0  # the weights as they are
    with pytest.raises(ValueError, match="recentre_weighted=True has no advantages"):
        config(objective="weighted_sft", recentre_weighted=True)
