from random import Random

import pytest
import torch
from helpers import chat, group, response, targets

from pst_rl.rewards import (
    REWARDS,
    MatchesAggregate,
    RandomReward,
    Stateful,
    SupervisedGold,
    TRLReward,
    provider_name,
)

ANSWERS = [[["1", "2", None]], [["1", "1", "3"]]]


def lengths(completions, **_):
    return [len(c) for c in completions]


# MatchesAggregate


def test_agreement_earns_one_and_disagreement_or_no_answer_zero():
    rewards = MatchesAggregate()(group(ANSWERS, targets=targets([[["1"] * 3]] * 2)))
    assert rewards.values.tolist() == [[[1, 0, 0]], [[1, 1, 0]]]
    assert not rewards.abstain.any()


def test_a_chain_without_a_target_abstains():
    rewards = MatchesAggregate()(group(ANSWERS, targets=targets([[["1", None, None]]] * 2)))
    assert rewards.abstain.tolist() == [[[False, True, True]]] * 2


def test_an_equivalent_spelling_agrees():
    rewards = MatchesAggregate()(group([[["0.50"]]], targets=targets([[["1/2"]]])))
    assert rewards.values.item() == 1


def test_each_peer_is_held_against_its_own_target():
    rewards = MatchesAggregate()(group([[["1"]], [["1"]]], targets=targets([[["1"]], [["2"]]])))
    assert rewards.values.flatten().tolist() == [1, 0]


# RandomReward


@pytest.mark.parametrize(("seed", "equal"), [(1, True), (2, False)])
def test_random_rewards_follow_the_groups_generator_alone(seed, equal):
    answers = [[["1"] * 16]] * 2
    torch.manual_seed(0)
    first = RandomReward()(group(answers, rng=Random(1))).values
    torch.manual_seed(seed + 10)
    assert torch.equal(first, RandomReward()(group(answers, rng=Random(seed))).values) is equal


def test_random_rewards_are_fair_coin_flips_that_ignore_the_answers():
    values = RandomReward()(group([[["1"] * 400]])).values
    assert set(values.flatten().tolist()) == {0.0, 1.0}
    assert 0.4 < values.mean() < 0.6
    assert torch.equal(values, RandomReward()(group([[[None] * 400]])).values)


# SupervisedGold


def test_gold_rewards_what_is_correct_and_abstains_where_gold_is_unknown():
    rewards = SupervisedGold()(group([[["5", None], ["1", "2"]]], gold=("5", None)))
    assert rewards.values.tolist() == [[[1, 0], [0, 0]]]
    assert rewards.abstain.tolist() == [[[False, False], [True, True]]]


def test_gold_must_be_declared():
    assert SupervisedGold.needs_labels


# TRLReward


def test_a_trl_reward_scores_each_peers_samples_in_order():
    answers = [[[response("1", "x"), response("1", "xx")]], [[response("1", "xxx"), response("1", "xxxx")]]]
    assert TRLReward(lengths)(group(answers)).values.tolist() == [[[1, 2]], [[3, 4]]]


def test_it_sees_prompts_columns_and_token_ids_row_by_row():
    def check(prompts, completions, completion_ids, topic, **_):
        assert prompts == ["question 0"] * 2 + ["question 1"] * 2
        assert topic == ["sums"] * 2 + ["words"] * 2
        assert completion_ids == [[1, 2], [3], [4], [5]]
        return [0.0] * 4

    samples = [[response("1", token_ids=(1, 2)), response("1", token_ids=(3,))]]
    samples[0:] = [samples[0], [response("1", token_ids=(4,)), response("1", token_ids=(5,))]]
    assert TRLReward.needs_token_ids
    TRLReward(check)(group([samples], columns=({"topic": "sums"}, {"topic": "words"})))


def test_conversational_prompts_get_messages():
    def check(completions, **_):
        assert completions == [[{"role": "assistant", "content": "#### 1"}]]
        return [0.0]

    TRLReward(check)(group([[["1"]]], prompts=(chat("1?"),)))


def test_none_abstains():
    def some(completions, **_):
        return [None, 2.0]

    rewards = TRLReward(some)(group([[["1", "2"]]]))
    assert rewards.abstain.tolist() == [[[True, False]]]
    assert rewards.values.tolist() == [[[0.0, 2.0]]]


def test_labels_are_withheld():
    def needy(completions, solution, **_):
        return [1.0] * len(completions)

    with pytest.raises(TypeError, match="solution"):
        TRLReward(needy)(group([[["1"]]], gold=("1",)))


def test_a_supervised_adapter_passes_the_gold_answers():
    def exact(completions, solution, **_):
        return [float(s in c) for c, s in zip(completions, solution, strict=True)]

    reward = TRLReward(exact, needs_labels=True)
    assert reward(group([[["1"], ["2"]]], gold=("1", "9"))).values.flatten().tolist() == [1, 0]


def test_a_wrong_number_of_rewards_is_refused():
    def short(completions, **_):
        return [1.0]

    with pytest.raises(ValueError, match="'short' returned 1 rewards for 2 samples"):
        TRLReward(short)(group([[["1", "2"]]]))


# Names and state


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        (MatchesAggregate(), "matches_aggregate"),
        (RandomReward(), "random"),
        (lengths, "lengths"),
        (TRLReward(lengths), "lengths"),
        (TRLReward(lengths, name="mine"), "mine"),
    ],
)
def test_providers_are_named_for_the_logs(provider, name):
    assert provider_name(provider) == name


def test_registered_names_are_the_names_in_the_logs():
    assert {name: provider_name(make()) for name, make in REWARDS.items()} == {name: name for name in REWARDS}


def test_a_provider_with_a_memory_is_recognised():
    class Counts:
        def __call__(self, group): ...
        def state_dict(self): ...
        def load_state_dict(self, state): ...

    assert isinstance(Counts(), Stateful)
    assert not isinstance(MatchesAggregate(), Stateful)


# Bare TRL functions


def test_a_bare_trl_function_is_adapted_when_the_scheme_is_made(tmp_path):
    from pst_rl import PSTConfig
    from pst_rl.scheme import make_providers

    def brevity(completions, **kwargs):
        return [-float(len(completion)) for completion in completions]

    args = PSTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    (provider,) = make_providers([brevity], args).values()
    assert isinstance(provider, TRLReward) and provider.name == "brevity"
    assert provider(group([[["12", "1"]]])).values.tolist() == [[[-7.0, -6.0]]]


def test_a_trl_function_that_asks_for_a_label_or_must_be_awaited_is_refused(tmp_path):
    from pst_rl import PSTConfig
    from pst_rl.scheme import make_providers

    def accuracy(completions, solution, **kwargs):
        return [0.0 for _ in completions]

    async def later(completions, **kwargs):
        return [0.0 for _ in completions]

    args = PSTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="asks for 'solution', which is a label.*supervised=True"):
        make_providers([accuracy], args)
    with pytest.raises(ValueError, match="asynchronous"):
        make_providers([later], args)
    args.label_columns = ["gold"]  # then this is a column like any other
    assert list(make_providers([accuracy], args)) == ["accuracy"]
