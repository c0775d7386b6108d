from types import SimpleNamespace

import pytest
import torch
from helpers import chat, group, response, scripted, targets

from pst_rl.records import LocalRows, Rewards, Target, Weights
from pst_rl.stages.update import UpdateRequest, discussed, make_update, target_ids

QUESTIONS = ["What is 28+47?", "What is 2+3?"]
TEXTS = [" 8+7=15. 2+4+1=7. #### 75", " #### 65", " 2+3=5. #### 5", " 2+2=4. 4+1"]
TARGETS = [[["75", "75"], ["5", None]]]
WEIGHTS = [[[0.5, 1.5], [2.0, 0.25]]]


def settings(**fields):
    return SimpleNamespace(**{"objective": "grpo", "update_last_peer": True} | fields)


def stub(**fields):
    """A peer whose tokens are characters."""
    return SimpleNamespace(
        **{"text_ids": lambda text: [ord(c) for c in text], "end_of_turn": 0, "max_completion_length": 40} | fields
    )


def an_update(engine=None, rollout=None, offset=0, index=0, order=((0,), (0,)), made=TARGETS, **config):
    rows = [chat(question) for question in QUESTIONS for _ in range(2)]
    if rollout is None:
        rollout = SimpleNamespace(
            prompts=rows,
            prompt_ids=[[1]] * 4,
            completion_ids=[[2], [3], [4], [5]],
            logprobs=[[-1.0]] * 4,
            texts=TEXTS,
            answers=[response(a).answer for a in ("75", "65", "5", None)],
            turns=None,
        )
    peers = max(map(max, order)) + 1
    batch = group([[["75", "65"], ["5", None]]] * peers, targets=targets(made * peers), order=order)
    rewards = {
        "matches_aggregate": Rewards(
            torch.tensor([[[1.0, 0.0], [1.0, 0.0]]] * peers), torch.tensor([[[False, False], [False, True]]] * peers)
        )
    }
    weights = Weights(torch.tensor(WEIGHTS * peers), torch.zeros(peers, 2, 2))
    mix, local = dict.fromkeys(rewards, 1.0), LocalRows(offset, len(rollout.texts), 2)
    request = UpdateRequest(engine or stub(), index, batch, rewards, mix, weights, rollout, local)
    return make_update(request, settings(**config))


# Which rows, which advantages


def test_grpo_trains_own_completions_by_rewards_and_weights():
    update = an_update()
    assert update.completion_ids == [[2], [3], [4], [5]]
    assert update.weights.tolist() == [0.5, 1.5, 2.0, 0.25]
    assert update.rewards["matches_aggregate"][:3] == [1.0, 0.0, 1.0]
    assert update.advantages is None and not update.on_policy
    assert update.logprobs == [[-1.0]] * 4


def test_an_abstained_reward_is_no_number():
    assert an_update().rewards["matches_aggregate"][3] != an_update().rewards["matches_aggregate"][3]


def test_weighted_sft_weighs_parsed_rows_that_have_a_target():
    update = an_update(objective="weighted_sft", made=[[["75", None], ["5", "5"]]])
    assert update.advantages.tolist() == [0.5, 0.0, 2.0, 0.0]  # without a target; unparsed
    assert update.completion_ids == [[2], [3], [4], [5]]


def test_weighted_sft_does_not_ask_whether_the_answer_is_the_targets():
    assert an_update(objective="weighted_sft").advantages[1] == 1.5


def test_aggregate_sft_trains_on_the_targets_text_even_where_the_own_answer_is_unparsed():
    update = an_update(objective="aggregate_sft", made=[[["75", "75"], [None, "5"]]])
    assert update.completion_ids[1] == [ord(c) for c in " #### 75"] + [0]
    assert update.completion_ids[2] == [4]  # no target: the own row, with advantage 0
    assert update.advantages.tolist() == [0.5, 1.5, 0.0, 0.25]


@pytest.mark.parametrize("objective", ["weighted_sft", "aggregate_sft"])
def test_cross_entropy_drops_sampling_log_probabilities(objective):
    update = an_update(objective=objective)
    assert update.on_policy and update.logprobs is None


def test_a_target_without_text_trains_nothing():
    batch = group([[["75"]]], targets=(((Target(response("75").answer, None, 1.0),),),))
    rollout = SimpleNamespace(
        prompts=["?"], prompt_ids=[[1]], completion_ids=[[2]], logprobs=None, texts=["a"], answers=[None], turns=None
    )
    weights = Weights(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    request = UpdateRequest(stub(), 0, batch, {}, {}, weights, rollout, LocalRows(0, 1, 1))
    update = make_update(request, settings(objective="aggregate_sft"))
    assert (update.completion_ids, update.advantages.tolist()) == ([[2]], [0.0])


def test_a_process_takes_its_own_rows():
    rollout = SimpleNamespace(
        prompts=["?"] * 2,
        prompt_ids=[[1]] * 2,
        completion_ids=[[4], [5]],
        logprobs=None,
        texts=TEXTS[2:],
        answers=[None] * 2,
        turns=None,
    )
    update = an_update(rollout=rollout, offset=2)
    assert update.weights.tolist() == [2.0, 0.25]
    assert update.rewards["matches_aggregate"][0] == 1.0 and len(update.rewards["matches_aggregate"]) == 2


@pytest.mark.parametrize(("index", "weights"), [(0, [0.5, 1.5, 0.0, 0.0]), (1, [0.0, 0.0, 2.0, 0.25])])
def test_a_peer_is_not_updated_where_it_spoke_last(index, weights):
    update = an_update(index=index, order=((0, 1), (1, 0)), update_last_peer=False)
    assert update.weights.tolist() == weights


def test_the_last_of_three_speakers_is_meant():
    update = an_update(index=1, order=((0, 1, 2), (2, 0, 1)), update_last_peer=False)
    assert update.weights.tolist() == [0.5, 1.5, 0.0, 0.0]


def test_each_sample_of_a_question_is_taught_after_another_turn():
    turns = tuple(SimpleNamespace(start=start) for start in (2, 4, 6))
    rollout = SimpleNamespace(completion_ids=[list(range(8))] * 3, turns=[turns] * 3)
    batch = group([[["1"] * 3, ["2"] * 3]])
    for offset in (0, 3):
        request = UpdateRequest(stub(), 0, batch, {}, {}, None, rollout, LocalRows(offset, 3, 3))
        assert list(map(len, discussed(request))) == [2, 4, 6]


# The aggregate's response in the peer's own tokens


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_a_target_is_tokenised_anew_and_ends_the_turn(trainer, tiny, peer):
    engine = trainer({"one": tiny[peer]}).engines[0]
    ids = target_ids(engine, Target(response("5").answer, " 2+3=5. #### 5", 1.0))
    assert ids[-1] == engine._tokenizer.eos_token_id
    assert engine._tokenizer.decode(ids[:-1]) == " 2+3=5. #### 5"
    assert engine.answer([chat("What is 2+3?")], greedy=True).completion_ids[0][0] == ids[0]


def test_a_target_that_does_not_fit_is_not_taught_to_end_early():
    update = an_update(stub(max_completion_length=8), objective="aggregate_sft")
    assert 0 not in update.completion_ids[0] or update.advantages[0] == 0


# The gradient that TRL's loss makes of it


def gradient_of_trl(engine, update):
    engine.update = update
    engine.current_gradient_accumulation_steps = 1
    engine.training_step(engine.model, update.inputs, None)
    return {name: p.grad.clone() for name, p in engine.model.named_parameters()}


def gradient_by_hand(engine, rows):
    """Of -(1/B) sum_i w_i (1/len_i) sum_t log p(y_t), one row at a time, without padding."""
    engine.model.zero_grad()
    for weight, prompt, completion in rows:
        logits = engine.model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        logps = logits.log_softmax(-1)[range(len(completion)), completion]
        (-weight * logps.mean() / len(rows)).backward()
    return {name: p.grad.clone() for name, p in engine.model.named_parameters()}


def a_real_update(trainer, tiny, peer, objective):
    plain = {"recentre_weighted": False} if objective == "grpo" else {}  # tests/peers/test_recentring.py has the other
    joint = trainer({"one": tiny[peer]}, objective=objective, per_device_train_batch_size=4, **plain)
    engine = joint.engines[0]
    rollout = scripted(engine, [chat(q) for q in QUESTIONS for _ in range(2)], TEXTS)
    return engine, rollout, an_update(engine, rollout, objective=objective)


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_weighted_sft_is_weighted_cross_entropy_on_own_responses(trainer, tiny, peer):
    engine, rollout, update = a_real_update(trainer, tiny, peer, "weighted_sft")
    rows = zip([0.5, 1.5, 2.0, 0.0], rollout.prompt_ids, rollout.completion_ids, strict=True)
    expected = gradient_by_hand(engine, list(rows))
    engine.model.zero_grad()
    for name, grad in gradient_of_trl(engine, update).items():
        assert torch.allclose(grad, expected[name], atol=1e-5), name
    assert max(grad.abs().max() for grad in expected.values()) > 1e-2


@pytest.mark.parametrize("peer", ["gemma2", "llama"])
def test_aggregate_sft_is_weighted_cross_entropy_on_the_targets_text(trainer, tiny, peer):
    engine, rollout, update = a_real_update(trainer, tiny, peer, "aggregate_sft")
    texts = [" #### 75", " #### 75", " #### 5", TEXTS[3]]
    completions = [[*engine.text_ids(text), engine.end_of_turn] for text in texts]
    expected = gradient_by_hand(engine, list(zip([0.5, 1.5, 2.0, 0.0], rollout.prompt_ids, completions, strict=True)))
    engine.model.zero_grad()
    for name, grad in gradient_of_trl(engine, update).items():
        assert torch.allclose(grad, expected[name], atol=1e-5), name
    assert max(grad.abs().max() for grad in expected.values()) > 1e-2


@pytest.mark.parametrize(("objective", "kept"), [("grpo", True), ("weighted_sft", False), ("aggregate_sft", False)])
def test_only_grpo_keeps_old_log_probabilities_between_optimizer_steps(trainer, tiny, objective, kept):
    joint = trainer({"one": tiny["llama"]}, objective=objective, per_device_train_batch_size=2, steps_per_generation=2)
    engine = joint.engines[0]
    rollout = scripted(engine, [chat(q) for q in QUESTIONS for _ in range(2)], TEXTS)
    engine.update = an_update(engine, rollout, objective=objective)
    output = engine._generate_and_score_completions(engine.update.inputs)
    assert ("old_per_token_logps" in output) is kept
    assert engine.args.gradient_accumulation_steps == 1


def test_grpo_weights_scale_trls_advantages(trainer, tiny):
    engine, rollout, update = a_real_update(trainer, tiny, "llama", "grpo")
    engine.num_generations, engine.update = 2, update
    engine.model.train()
    advantages = engine._generate_and_score_completions(update.inputs)["advantages"].tolist()
    unit = 0.5 / (0.5**0.5 + 1e-4)  # rewards 1 and 0: half a reward from the mean, over their standard deviation
    assert advantages == pytest.approx([0.5 * unit, -1.5 * unit, 0.0, 0.0], rel=1e-4)


def test_abstaining_is_not_warned_about(trainer, tiny, caplog):
    engine, _, update = a_real_update(trainer, tiny, "llama", "grpo")
    engine.update = update
    engine._generate_and_score_completions(update.inputs)
    assert "returned None" not in caplog.text


def test_a_target_that_just_fits_is_taught():
    answer = response("5").answer
    assert target_ids(stub(max_completion_length=4), Target(answer, "abc", 1.0)) == [97, 98, 99, 0]
    assert target_ids(stub(max_completion_length=4), Target(answer, "abcd", 1.0)) is None
