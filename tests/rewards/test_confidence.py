from math import log
from types import SimpleNamespace

import pytest
import torch
from helpers import group

from pst_rl.records import Rollout, TokenStatistics
from pst_rl.rewards.confidence import NegativeEntropy, SelfCertainty
from pst_rl.scoring.juror import NoCheckpointing, Placement
from pst_rl.scoring.logprobs import token_statistics
from pst_rl.scoring.scorer import Scorer

# p(next token | this token) of a language with three tokens, and what follows from each row by hand.
NEXT = torch.tensor([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4], [1 / 3, 1 / 3, 1 / 3]])
ENTROPY = [1.5 * log(2), log(8) / 4 + 0.75 * log(4 / 3), log(3)]
CERTAINTY = [5 / 3 * log(2) - log(3), (2 * log(8) + log(4 / 3)) / 3 - log(3), 0.0]


class ThreeTokens(torch.nn.Module):
    """The logits at a position depend on the token there alone, and say what comes next."""

    is_gradient_checkpointing = False

    def forward(self, input_ids, logits_to_keep, **_):
        return SimpleNamespace(logits=NEXT.log()[input_ids][:, -logits_to_keep:] + 7.0)


def engine():
    return SimpleNamespace(
        model=ThreeTokens(),
        _tokenizer=SimpleNamespace(pad_token_id=2),
        accelerator=Placement(torch.device("cpu")),
        args=NoCheckpointing(),
        tokens={"scored": 0},
    )


def rollout(prompt_ids, completion_ids):
    n = len(prompt_ids)
    return Rollout([""] * n, prompt_ids, completion_ids, None, [""] * n, [None] * n, [True] * n)


# The alignment of logits and tokens


def test_each_token_is_measured_by_the_distribution_that_predicted_it():
    [(logprob, entropy, certainty)] = token_statistics(engine(), [([0], [1, 2])], 4)
    assert logprob == pytest.approx((log(1 / 4) + log(3 / 4)) / 2)
    assert entropy == pytest.approx((ENTROPY[0] + ENTROPY[1]) / 2)
    assert certainty == pytest.approx((CERTAINTY[0] + CERTAINTY[1]) / 2, abs=1e-6)


@pytest.mark.parametrize(("last", "first"), [(0, 1), (1, 0), (2, 2)])
def test_what_follows_the_last_token_does_not_matter_and_what_precedes_the_first_does(last, first):
    [(_, entropy, certainty)] = token_statistics(engine(), [([2, first], [last])], 4)
    assert entropy == pytest.approx(ENTROPY[first])
    assert certainty == pytest.approx(CERTAINTY[first], abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_rows_of_unequal_length_do_not_disturb_each_other(batch_size):
    pairs = [([0], [0]), ([1, 0, 2], [1, 1, 0, 2]), ([2, 2, 2, 2, 1], [2])]
    entropies = [entropy for _, entropy, _ in token_statistics(engine(), pairs, batch_size)]
    by_hand = [ENTROPY[0], (ENTROPY[2] + 2 * ENTROPY[1] + ENTROPY[0]) / 4, ENTROPY[1]]
    assert entropies == pytest.approx(by_hand)


def test_statistics_are_the_means_of_a_real_models_full_logits(tiny):
    from pst_rl.scoring.juror import Juror

    judge = Juror(tiny["llama"])
    context, target = judge.prompt_ids([{"role": "user", "content": "What is 28+47?"}]), judge.text_ids(" #### 75")
    with torch.no_grad():
        logits = judge.model(torch.tensor([[*context, *target]])).logits[0].double()[len(context) - 1 : -1]
    logp = logits.log_softmax(-1)
    token = logp[range(len(target)), target].mean()
    certainty = (logits.logsumexp(-1) - logits.mean(-1)).mean() - log(logits.shape[-1])
    by_hand = [token.item(), -(logp.exp() * logp).sum(-1).mean().item(), certainty.item()]
    padded = [(context, target), (context * 2, target * 3)]
    assert token_statistics(judge, padded, 2)[0] == pytest.approx(by_hand, abs=1e-5)


def test_the_scorer_sorts_statistics_by_peer_question_and_chain():
    prompts, chains = ["x", "y"], 2
    first = rollout([[0], [0], [1], [1]], [[0], [1], [2], [2]])
    second = rollout([[2]] * 4, [[0], [1], [2, 0], [2, 1]])
    made = Scorer([engine(), engine()], prompts, [first, second], chains, lambda p, _: p, 8).statistics()
    assert made.entropy.shape == (2, 2, 2)
    expected = [[[ENTROPY[0]] * 2, [ENTROPY[1]] * 2], [[ENTROPY[2]] * 2] * 2]
    assert torch.allclose(made.entropy, torch.tensor(expected))
    assert made.logprob[0].exp().tolist() == [pytest.approx([1 / 2, 1 / 4]), pytest.approx([3 / 4] * 2)]


# The rewards


def measured(entropy, certainty):
    shape = torch.zeros(entropy.shape)
    return SimpleNamespace(statistics=lambda: TokenStatistics(shape, entropy, certainty))


ANSWERS = [[["1", None]], [["2", "3"]]]
VALUES = torch.tensor([[[0.5, 1.0]], [[2.0, 0.25]]])


def test_self_certainty_is_the_reward_of_every_sample_parsed_or_not():
    rewards = SelfCertainty()(group(ANSWERS, scorer=measured(-VALUES, VALUES)))
    assert torch.equal(rewards.values, VALUES)
    assert not rewards.abstain.any()


def test_low_entropy_is_a_high_reward():
    rewards = NegativeEntropy()(group(ANSWERS, scorer=measured(VALUES, -VALUES)))
    assert torch.equal(rewards.values, -VALUES)
    assert not rewards.abstain.any()


@pytest.mark.parametrize("provider", [SelfCertainty(), NegativeEntropy()])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_abstains(provider, broken):
    values = VALUES.clone()
    values[0, 0, 1] = broken
    rewards = provider(group(ANSWERS, scorer=measured(values, values)))
    assert rewards.abstain.tolist() == [[[False, True]], [[False, False]]]
    assert rewards.values.isfinite().all()


def test_a_uniform_prediction_has_no_certainty_and_full_entropy():
    scorer = Scorer([engine()], ["x"], [rollout([[2]], [[0]])], 1, lambda p, _: p, 1)
    sure = SelfCertainty()(group([[["1"]]], scorer=scorer)).values.item()
    assert sure == pytest.approx(0.0, abs=1e-6)
    assert NegativeEntropy()(group([[["1"]]], scorer=scorer)).values.item() == pytest.approx(-log(3))
