import pytest
import torch
from helpers import chat, logprobs_by_hand

from pst_rl.scoring.logprobs import sum_logprobs

TEXTS = [
    ("What is 28+47?", " 8+7=15. 2+4+1=7. #### 75"),
    ("What is 2+3?", " #### 5"),
    ("x+y=9 and x-y=1. What is x?", " 9+1=10. 10/2=5. #### 5"),
    ("What is 2+3?", " #### 6"),
]
NAMES = ["gemma2", "llama", "qwen2"]


@pytest.fixture
def engine(trainer, tiny):
    """`engine(peer)`: one tiny peer, ready to score."""
    return lambda peer, **config: trainer({"one": tiny[peer]}, **config).engines[0]


def pairs(engine):
    return [(engine.prompt_ids(chat(question)), engine.text_ids(text)) for question, text in TEXTS]


@pytest.mark.parametrize("peer", NAMES)
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_score_is_the_sum_of_token_log_probabilities(engine, peer, batch_size):
    peer = engine(peer)
    by_hand = [sum(logprobs_by_hand(peer.model, *pair)) for pair in pairs(peer)]
    assert sum_logprobs(peer, pairs(peer), batch_size) == pytest.approx(by_hand, rel=1e-5, abs=1e-5)


def test_the_order_of_pairs_changes_nothing(engine):
    peer = engine("gemma2")
    scores = sum_logprobs(peer, pairs(peer), 2)
    assert sum_logprobs(peer, pairs(peer)[::-1], 2)[::-1] == scores


def test_equal_pairs_are_scored_once_and_equally(engine, monkeypatch):
    peer, rows = engine("llama"), []
    forward = peer.model.forward
    monkeypatch.setattr(peer.model, "forward", lambda *a, **kw: rows.append(len(kw["input_ids"])) or forward(*a, **kw))
    scores = sum_logprobs(peer, pairs(peer) * 3, 16)
    assert rows == [4]
    assert scores == scores[:4] * 3


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_sampling_temperature_does_not_matter(engine, temperature):
    tempered, plain = engine("qwen2", temperature=temperature), engine("qwen2")
    assert sum_logprobs(tempered, pairs(tempered), 4) == sum_logprobs(plain, pairs(plain), 4)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored_and_nothing_is_learned(engine, training):
    peer = engine("llama")
    peer.model.train(training)
    sum_logprobs(peer, pairs(peer), 4)
    assert peer.model.training is training
    assert all(p.grad is None for p in peer.model.parameters())


def test_the_mode_is_restored_after_an_error_too(engine, monkeypatch):
    peer = engine("llama")
    peer.model.train()
    monkeypatch.setattr("pst_rl.scoring.logprobs._target_logits", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sum_logprobs(peer, pairs(peer), 4)
    assert peer.model.training


def test_dropout_is_off(engine):
    peer = engine("llama")
    peer.model.config.attention_dropout = 0.5
    for layer in peer.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    peer.model.train()
    assert sum_logprobs(peer, pairs(peer), 4) == sum_logprobs(peer, pairs(peer), 4)
    noisy = [logprobs_by_hand(peer.model, *pairs(peer)[0]) for _ in range(2)]
    assert noisy[0] != noisy[1]


def test_nothing_to_score_is_no_error(engine):
    assert sum_logprobs(engine("llama"), [], 4) == []


def test_a_broken_model_scores_nan_and_not_zero(engine):
    peer = engine("llama")
    with torch.no_grad():
        peer.model.model.norm.weight.fill_(float("nan"))
    assert all(score != score for score in sum_logprobs(peer, pairs(peer), 4))
