"""Which rows a compacted update keeps, and what each of them then weighs."""

from types import SimpleNamespace

import pytest
import torch

from pst_rl.records import PeerUpdate
from pst_rl.stages.compaction import check_compaction, compact


def settings(**fields):
    defaults = {"num_generations": 2, "steps_per_generation": 1, "loss_type": "grpo", "beta": 0.0, "entropy_coef": 0.0}
    defaults |= {"use_adaptive_entropy": False, "top_entropy_quantile": 1.0, "scale_rewards": "group"}
    defaults |= {"per_device_train_batch_size": 8, "world_size": 1}
    return SimpleNamespace(**defaults | {"multi_objective_aggregation": "sum_then_normalize"} | fields)


def update(rows=8, **fields):
    """Rows that are numbered everywhere; row i has i + 1 completion tokens."""
    defaults = {
        "inputs": [{"prompt": str(i)} for i in range(rows)],
        "prompt_ids": [[i] for i in range(rows)],
        "completion_ids": [[i] * (i + 1) for i in range(rows)],
        "logprobs": [[-float(i)] for i in range(rows)],
        "rewards": {"r": [float(i) for i in range(rows)]},
        "weights": torch.arange(1.0, rows + 1),
        "advantages": None,
        "on_policy": False,
        "credit": None,
    }
    return PeerUpdate(**defaults | fields)


def bools(text):
    return torch.tensor([c == "1" for c in text])


def kept(made):
    return [ids[0] for ids in made.prompt_ids]


def test_whole_groups_are_kept_or_left_out():
    made = compact(update(), bools("00010000"), settings())
    assert kept(made) == [2, 3]
    assert made.inputs == [{"prompt": "2"}, {"prompt": "3"}] and made.completion_ids == [[2] * 3, [3] * 4]
    assert made.logprobs == [[-2.0], [-3.0]] and made.rewards == {"r": [2.0, 3.0]} and made.advantages is None


def test_a_mean_over_rows_keeps_its_normaliser():
    for loss in ("grpo", "dr_grpo"):
        made = compact(update(), bools("00010000"), settings(loss_type=loss))
        assert made.weights.tolist() == [3.0 * 2 / 8, 4.0 * 2 / 8]


def test_a_mean_over_tokens_is_given_the_count_of_all_rows():
    for loss in ("dapo", "cispo"):
        made = compact(update(), bools("00010000"), settings(loss_type=loss))
        assert made.weights.tolist() == [3.0, 4.0] and made.token_count == sum(range(1, 9))


def test_the_rows_fill_every_step_with_whole_groups_from_the_front():
    assert kept(compact(update(), bools("00000010"), settings(steps_per_generation=4))) == [0, 1, 6, 7]
    assert kept(compact(update(), bools("00100010"), settings(steps_per_generation=4))) == [2, 3, 6, 7]
    assert kept(compact(update(), bools("10100010"), settings(steps_per_generation=4))) == list(range(8))
    assert kept(compact(update(6), bools("100010"), settings(num_generations=2, steps_per_generation=3))) == list(
        range(6)
    )


def test_something_is_kept_where_nothing_is_active():
    assert kept(compact(update(), bools("00000000"), settings())) == [0, 1]


def test_equal_rows_become_one_with_the_sum_of_their_advantages():
    same = {"prompt_ids": [[0], [0], [1], [0]], "completion_ids": [[5], [5], [5], [6]]}
    advantages = torch.tensor([1.0, 2.0, 0.5, 0.0])
    made = compact(update(4, **same, advantages=advantages), bools("0000"), settings(num_generations=1))
    assert made.prompt_ids == [[0], [1]] and made.completion_ids == [[5], [5]]
    assert made.advantages.tolist() == made.weights.tolist() == [3.0 * 2 / 4, 0.5 * 2 / 4]


def test_equal_rows_that_cancel_are_left_out():
    same = {"prompt_ids": [[0], [0], [1]], "completion_ids": [[5], [5], [5]]}
    made = compact(
        update(3, **same, advantages=torch.tensor([1.0, -1.0, 0.5])), bools("000"), settings(num_generations=1)
    )
    assert made.prompt_ids == [[1]]


def test_missing_log_probabilities_stay_missing():
    assert compact(update(logprobs=None), bools("00010000"), settings()).logprobs is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"loss_type": "bnpo"}, "loss_type='bnpo'"),
        ({"beta": 0.1}, "beta must be 0"),
        ({"entropy_coef": 0.1}, "entropy_coef"),
        ({"use_adaptive_entropy": True}, "entropy_coef"),
        ({"top_entropy_quantile": 0.5}, "top_entropy_quantile"),
        ({"scale_rewards": "batch"}, "scale_rewards"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation"),
        ({"world_size": 2, "num_generations": 3}, "num_generations=3 must divide the rows of a process, 8"),
    ],
)
def test_settings_under_which_a_row_without_advantage_counts_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        check_compaction(settings(**fields))


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "cispo"])
def test_other_settings_are_not(loss):
    for scale in ("group", "none"):
        check_compaction(settings(loss_type=loss, scale_rewards=scale))
        check_compaction(settings(loss_type=loss, scale_rewards=scale, num_generations=3))
        check_compaction(
            settings(loss_type=loss, scale_rewards=scale, world_size=2, steps_per_generation=3, num_generations=3)
        )
