"""Rewards of one response: what a function may ask for, when it abstains, and what is said about a wrong one."""

import pytest
import torch
from helpers import group, response, targets

from pst_rl import REWARDS, per_sample
from pst_rl.rewards import provider_name
from pst_rl.scheme import make_providers

ANSWERS = [[["1", "2"], ["3", None]], [["1", "1"], ["3", "3"]]]  # [peer][question][chain]


@per_sample
def key(response):
    """r = the answer, as a number."""
    return None if response.key is None else float(response.key)


def test_each_response_earns_what_the_function_says_of_it():
    rewards = key(group(ANSWERS))
    assert rewards.values.tolist() == [[[1, 2], [3, 0]], [[1, 1], [3, 3]]]
    assert rewards.abstain.tolist() == [[[False, False], [False, True]], [[False, False], [False, False]]]


def test_a_response_without_a_target_abstains_if_the_function_asks_for_it():
    seen = []

    @per_sample
    def right(response, target):
        seen.append(target)
        return response.key == target.answer.key

    rewards = right(group(ANSWERS, targets=targets([[["1", "1"], [None, "3"]], [["2", "1"], ["3", None]]])))
    assert rewards.values.tolist() == [[[1, 0], [0, 0]], [[0, 1], [1, 0]]]
    assert rewards.abstain.tolist() == [[[False, False], [True, False]], [[False, False], [False, True]]]
    assert len(seen) == 6 and None not in seen


def test_without_asking_for_the_target_a_response_is_scored_where_there_is_none():
    assert not key(group([[["1"]]], targets=targets([[[None]]]))).abstain.any()


def test_every_name_is_what_it_says():
    seen = {}

    @per_sample
    def look(response, target, gold, samples, prompt, columns, peer, cell, group):
        seen[cell] = (response, target.answer.text, gold, samples, prompt, columns, peer, group)
        return 0

    columns = ({"topic": "sums"}, {"topic": "words"})
    made = targets([[["3", "4"], ["5", "6"]], [["1", "2"], ["7", "8"]]])
    batch = group(ANSWERS, targets=made, gold=("g", "h"), columns=columns)
    look(batch)
    assert list(seen) == [(p, q, g) for p in (0, 1) for q in (0, 1) for g in (0, 1)]
    of_question = [r for _, _, r in batch.pooled(1)]
    own = batch.responses[1][1][0]
    assert seen[1, 1, 0] == (own, "7", "h", of_question, batch.prompts[1], columns[1], batch.peers[1], batch)
    assert seen[0, 0, 1][1:3] == ("4", "g")


def test_a_method_becomes_a_provider_with_options():
    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        @per_sample
        def __call__(self, response):
            return self.scale * response.length

    batch = group([[[response("1", length=3), response("1", length=5)]]])
    assert Scaled(2.0)(batch).values.tolist() == [[[6, 10]]]
    assert Scaled(1.0)(batch).values.tolist() == [[[3, 5]]]
    assert provider_name(Scaled(1.0)) == "scaled"


def test_a_gold_answer_declares_that_labels_are_read():
    @per_sample
    def correct(response, gold):
        return response.key == gold

    assert correct.needs_labels and not key.needs_labels
    rewards = correct(group(ANSWERS, gold=("1", None)))
    assert rewards.values[:, 0].tolist() == [[1, 0], [1, 1]]
    assert rewards.abstain[:, 1].all() and not rewards.abstain[:, 0].any()


def test_a_reward_that_asks_for_gold_is_refused_in_a_label_free_run(trainer):
    @per_sample
    def correct(gold):
        return 1.0

    with pytest.raises(ValueError, match="correct reads gold answers"):
        trainer(reward_providers=[correct])


def test_it_has_the_functions_name_and_text():
    assert provider_name(key) == "key" and key.__doc__.startswith("r = the answer")


def raises(response):
    return 1.0 / (response.length - 2)


def says(response):
    return "much" if response.length == 2 else 1.0


@pytest.mark.parametrize(
    ("function", "what"), [(raises, "ZeroDivisionError: "), (says, "ValueError: could not convert string to float")]
)
def test_an_error_names_the_sample(function, what):
    batch = group([[[response("1", length=1)] * 2], [[response("1", length=1), response("1", length=2)]]])
    with pytest.raises(RuntimeError, match=f"peer 'b', question 0, chain 1: {what}") as caught:
        per_sample(function)(batch)
    assert caught.value.__cause__ is not None


def spelt_wrong(respons, target):
    return 1.0


def takes_anything(response, **others):
    return 1.0


def has_an_option(response, scale=1.0):
    return scale


@pytest.mark.parametrize(
    ("function", "unknown"),
    [(spelt_wrong, "respons"), (takes_anything, "others"), (has_an_option, "scale")],
)
def test_an_unknown_parameter_is_answered_with_the_known_ones_at_once(function, unknown):
    known = "response, target, gold, samples, prompt, columns, peer, cell, group"
    with pytest.raises(TypeError, match=f"'{function.__name__}' asks for {unknown}, but .* only ask for {known}"):
        per_sample(function)


def test_it_is_registered_as_it_is(config, monkeypatch):
    monkeypatch.setitem(REWARDS, "key", key)
    assert make_providers(["key"], config()) == {"key": key}
    with pytest.raises(ValueError, match="reward 'key' has no option scale; it takes none"):
        make_providers(["key"], config(reward_options={"key": {"scale": 2}}))


def test_a_tensor_of_one_number_will_do():
    rewards = per_sample(lambda response: torch.tensor(0.5))(group([[["1"]]]))
    assert rewards.values.tolist() == [[[0.5]]] and rewards.values.dtype == torch.float32
