from types import SimpleNamespace

import pytest
import torch
from conftest import same, weights
from datasets import Dataset
from families import FAMILIES, build_tokenizer, random_model
from helpers import chat

from pst_rl import PeerSpec
from pst_rl.aggregation import AGGREGATORS
from pst_rl.answers import is_correct
from pst_rl.discussion.discuss import discuss, final_answer, measure_discussion
from pst_rl.discussion.saie import SAIERollout, Session
from pst_rl.rewards import MatchesAggregate
from pst_rl.rewards.saie import SAIE
from pst_rl.tiny.discussion import PEER_STYLE

STYLE = PEER_STYLE | {"stance": "support_only"}
QUESTIONS = ["What is 2+3?", "What is 28+47?", "What is 31+5?"]


@pytest.fixture
def discussing(trainer, tiny):
    """`discussing(options, **config)`: two tiny peers under SAIE; the second one is frozen."""

    def build(options=None, provider=None, **config):
        peers = {"llama": tiny["llama"], "qwen2": PeerSpec(model=tiny["qwen2"], trainable=False)}
        defaults = {"max_steps": 1, "per_device_train_batch_size": 8, "weighting": "none"}
        return trainer(
            peers, reward_providers=[provider or SAIE(rollout=STYLE | (options or {}))], **defaults | config
        )

    return build


# Training


def test_a_step_trains_the_learner_on_both_its_answers_and_leaves_the_frozen_partner(discussing):
    trainer = discussing({"turns": 2})
    before = {name: weights(peer.model) for name, peer in trainer.peers.items()}
    trainer.train()
    assert not same(before["llama"], weights(trainer.peers["llama"].model))
    assert same(before["qwen2"], weights(trainer.peers["qwen2"].model))
    assert trainer.peers["qwen2"].update.credit is None
    assert 0 < trainer.state.log_history[0]["saie/discussed"] <= 1
    samples = [r for chains in trainer.last_group.responses[1] for r in chains]
    assert trainer.peers["qwen2"].tokens["generated"] > sum(r.length for r in samples)  # remarks are counted
    check_rows(trainer)


def check_rows(trainer):
    """Every trained row is the tokens of its turns."""
    peer, samples = trainer.peers["llama"], [r for chains in trainer.last_group.responses[0] for r in chains]
    decode = lambda ids: peer._tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
    assert max(len(response.turns) for response in samples) == 2
    for ids, response in zip(peer.update.completion_ids, samples, strict=True):
        assert decode(ids[: response.length]) == response.text
        heard = response.length
        for turn in response.turns:
            assert decode(ids[heard : turn.start]) == f"\nR: {turn.remark}\nA:"
            assert decode(ids[turn.start : turn.stop]) == turn.text
            heard = turn.stop
        assert heard == len(ids)


def test_a_warmup_without_discussion_is_training_without_discussion(discussing):
    after = []
    for fields in ({"options": {"warmup_steps": 9}}, {"provider": MatchesAggregate()}):
        trainer = discussing(**fields)
        trainer.train()
        after.append(weights(trainer.peers["llama"].model))
    assert same(*after)


def test_skipping_rows_of_zero_advantage_keeps_the_gradient(discussing):
    moved = []
    for skip in (False, True):
        # Plain gradient descent: what differs is the order of sums only.
        trainer = discussing(skip_zero_advantage=skip, optim="sgd", learning_rate=0.1, max_grad_norm=1e9)
        trainer.train()
        moved.append(weights(trainer.peers["llama"].model))
    assert len(trainer.peers["llama"].update.inputs) < 8
    assert trainer.peers["llama"].update.credit.active.any()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*(m.values() for m in moved), strict=True))


@pytest.mark.parametrize("aggregator", ["supervised_gold", "majority"])
def test_discussion_sft_teaches_the_target_after_the_remark(discussing, aggregator):
    supervised = aggregator == "supervised_gold"
    trainer = discussing(aggregator=AGGREGATORS[aggregator](), supervised=supervised, objective="discussion_sft")
    before = weights(trainer.peers["llama"].model)
    trainer.train()
    peer, group = trainer.peers["llama"], trainer.last_group
    cells = [(q, g) for q in range(2) for g in range(4) if group.responses[0][q][g].turns]
    assert cells
    for q, g in cells:
        row, target = 4 * q + g, group.targets[0][q][g]
        response = group.responses[0][q][g]
        told = peer._tokenizer.decode(peer.update.prompt_ids[row], skip_special_tokens=True)
        assert told.endswith(f"\nA:{response.text}\nR: {response.turns[0].remark}\nA:")
        taught = peer._tokenizer.decode(peer.update.completion_ids[row], skip_special_tokens=True)
        assert taught == target.text
    assert not same(before, weights(peer.model))


# Chat templates


@pytest.mark.parametrize(
    ("peer", "between"),
    [
        ("gemma2", "\n<start_of_turn>user\nhm<end_of_turn>\n<start_of_turn>model\n"),
        (
            "llama",
            "<|start_header_id|>user<|end_header_id|>\n\nhm<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("qwen2", "\n<|im_start|>user\nhm<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_a_users_turn_stands_between_two_answers_in_the_familys_own_form(trainer, tiny, peer, between):
    tokenizer = build_tokenizer(peer, tiny[peer])
    spec = PeerSpec(model=random_model(peer, tokenizer), processing_class=tokenizer)
    engine = trainer({peer: spec}, per_device_train_batch_size=4).engines[0]
    assert engine._tokenizer.decode(engine.user_turn_ids("hm")) == between
    rendered = engine.render([*chat("2+3?"), {"role": "assistant", "content": "5"}, *chat("hm")])
    first = engine.prompt_ids(chat("2+3?")) + engine.text_ids("5") + [engine.end_of_turn]
    assert engine._tokenizer.decode(first + engine.user_turn_ids("hm")) == rendered
    assert FAMILIES[peer][2] == engine._tokenizer.decode([engine.end_of_turn])


def test_a_chat_discussion_is_one_conversation_in_the_familys_own_form(trainer, tiny):
    tokenizer = build_tokenizer("qwen2", tiny["qwen2"])
    spec = PeerSpec(model=random_model("qwen2", tokenizer), processing_class=tokenizer)
    joint = trainer({"qwen2": spec, "llama": tiny["llama"]}, per_device_train_batch_size=4)
    engine = joint.engines[0]
    request = joint.rollout_request([chat("2+3?")], greedy=True)
    first = engine.answer(request.prompts, greedy=True)
    first.completion_ids[0], first.finished[0] = [*engine.text_ids(" 5"), engine.end_of_turn], True
    discussion = SAIERollout(stance="neutral", revise_message="{remark}\nAgain.")
    held = discussion.hold(Session(engine, joint.engines[1], request, first, None, [0], "seed", [0]))
    turn, ids = held.turns[0][0], held.completion_ids[0]
    heard = engine._tokenizer.decode(ids[len(first.completion_ids[0]) : turn.start])
    assert heard == f"\n<|im_start|>user\n{turn.remark}\nAgain.<|im_end|>\n<|im_start|>assistant\n"


# After training


def test_a_peer_discusses_with_itself_and_with_another(discussing):
    trainer = discussing()
    trainer.engines[0].model.train()
    alone = trainer.measure(Dataset.from_list([{"prompt": chat(q)} for q in QUESTIONS])).greedy[0]
    for partner, engine in (("self", trainer.engines[0]), ("qwen2", trainer.engines[1])):
        responses = discuss(trainer, QUESTIONS, "llama", partner)
        assert [r.text for r in responses] == [r.text for r in alone]
        # The remark of a peer without stances is its own greedy answer to the draft it is shown.
        shown = [chat(f"{QUESTIONS[0]}\nP: {responses[0].text.strip()}")]
        (turn,) = responses[0].turns
        assert (turn.stance, turn.remark) == ("", engine.answer(shown, greedy=True).texts[0].strip())
        assert final_answer(responses[0]) is turn.answer
    assert trainer.engines[0].model.training


@pytest.mark.parametrize(
    ("learner", "options", "message"),
    [
        ("llama", {"stance": "by_agreement"}, "none is known outside training"),
        ("llama", {"stance": "inverse"}, "none is known outside training"),
        ("llama", {"partner": "gpt"}, "There is no peer 'gpt'; the peers are llama, qwen2"),
        ("gpt", {}, "There is no peer 'gpt'"),
    ],
)
def test_what_cannot_be_discussed_is_refused(learner, options, message):
    trainer = SimpleNamespace(peers=dict.fromkeys(("llama", "qwen2")), discussion=None)
    with pytest.raises(ValueError, match=message):
        discuss(trainer, QUESTIONS, learner, **options)


def test_accuracy_is_measured_alone_and_after_each_discussion(discussing, questions):
    trainer, data = discussing(), questions(12, "test")
    results = measure_discussion(trainer, data)
    assert {name: list(s) for name, s in results.correct.items()} == {"llama": ["alone", "self", "qwen2"]}
    for partner, responses in results.responses["llama"].items():
        ends = [final_answer(r) for r in responses]
        right = [a is not None and is_correct(a, gold) for a, gold in zip(ends, data["answer"], strict=True)]
        assert right == results.correct["llama"][partner]
    accuracy = results.metrics()["llama/accuracy/alone"]
    assert accuracy == trainer.measure(data).metrics()["llama/accuracy"] > 0


def test_measuring_needs_labels(questions):
    trainer = SimpleNamespace(args=SimpleNamespace(label_columns=None))
    with pytest.raises(ValueError, match="no label column"):
        measure_discussion(trainer, questions(4).remove_columns("answer"))
