"""The real families' own chat templates, on the tiny architectures with random weights."""

import pytest
from conftest import same, weights
from families import FAMILIES, build_tokenizer, random_model
from helpers import chat
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl.aggregation import Aggregator
from pst_rl.answers import Answer
from pst_rl.peers.prompts import NEXT_QUESTION
from pst_rl.records import Target
from pst_rl.rewards import TRLReward

SYSTEM = {"role": "system", "content": "Be brief."}


def letters(completions, **_):
    """A reward that varies: distinct characters of the completion."""
    return [float(len(set(completion[0]["content"]))) for completion in completions]


class Stubborn(Aggregator):
    """Always the same target."""

    def vote(self, ballots):
        return Target(Answer.of("5"), "2+3=5. #### 5", 1.0)


@pytest.fixture
def families(config, questions, tiny):
    """`families(**config)`: a PSTTrainer over the three families' templates, tokenizers and random models."""
    from pst_rl import PSTTrainer

    def build(data=None, aggregator=None, **overrides):
        tokenizers = {peer: build_tokenizer(peer, folder) for peer, folder in tiny.items()}
        return PSTTrainer(
            {peer: random_model(peer, tokenizer) for peer, tokenizer in tokenizers.items()},
            config(**{"max_steps": 1, "per_device_train_batch_size": 4, "max_completion_length": 6} | overrides),
            train_dataset=questions() if data is None else data,
            reward_providers=[TRLReward(letters)],
            aggregator=aggregator,
            processing_classes=tokenizers,
        )

    return build


def with_system(questions):
    return questions().map(lambda row: {"prompt": [SYSTEM, *row["prompt"]]})


def test_a_sequential_step_runs_over_the_three_templates(families):
    trainer = families(aggregator=Stubborn(), context="sequential", peer_context="responses")
    before = {name: weights(peer.model) for name, peer in trainer.peers.items()}
    trainer.train()
    for name, peer in trainer.peers.items():
        after = weights(peer.model)
        assert not same(before[name], after), name
        assert all(tensor.isfinite().all() for tensor in after.values()), name
        assert trainer.state.log_history[0][f"{name}/pmi/nonfinite"] == 0


def test_earlier_peers_stand_in_the_last_user_message_of_each_template(families):
    trainer = families(context="sequential", peer_context="responses", parse_truncated=True)
    trainer.train()
    group = trainer.last_group
    for k, peer in enumerate(trainer.engines):
        for chain, row in enumerate(peer.update.inputs):
            said = [group.responses[j][0][chain].text.strip() or "(no answer)" for j in range(k)]
            assert [m["role"] for m in row["prompt"]] == ["user"]
            assert row["prompt"][0]["content"] == group.prompts[0][0]["content"] + "".join(f"\nP: {t}" for t in said)


@pytest.mark.parametrize("context", ["independent", "sequential"])
def test_roles_alternate_whatever_the_template_takes(families, questions, context):
    trainer = families(with_system(questions), context=context)
    trainer.train()
    roles = [[m["role"] for m in peer.update.inputs[0]["prompt"]] for peer in trainer.engines]
    assert roles == [["user"], ["system", "user"], ["system", "user"]]
    assert trainer.engines[0].update.inputs[0]["prompt"][0]["content"].startswith("Be brief.\n\n")


@pytest.mark.parametrize("peer", FAMILIES)
def test_prompts_reach_the_model_in_the_familys_own_form(families, questions, peer):
    trainer = families(with_system(questions))
    trainer.train()
    engine = trainer.peers[peer]
    text = engine._tokenizer.decode(engine.update.prompt_ids[0])
    question = trainer.last_group.prompts[0][1]["content"]
    expected = {
        "gemma2": f"<bos><start_of_turn>user\nBe brief.\n\n{question}<end_of_turn>\n<start_of_turn>model\n",
        "llama": f"<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "qwen2": f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
        "<|im_start|>assistant\n",
    }[peer]
    assert text.endswith(expected) and "Be brief." in text


@pytest.mark.parametrize("peer", FAMILIES)
def test_the_end_of_turn_is_the_templates_own(families, peer):
    engine = families().peers[peer]
    assert engine._tokenizer.convert_ids_to_tokens(engine.end_of_turn) == FAMILIES[peer][2]


def test_each_family_learns_the_aggregates_text_in_its_own_tokens_and_ends_its_own_turn(families):
    trainer = families(aggregator=Stubborn(), objective="aggregate_sft", max_completion_length=20)
    before = {name: weights(peer.model) for name, peer in trainer.peers.items()}
    trainer.train()
    for name, peer in trainer.peers.items():
        assert not same(before[name], weights(peer.model)), name
        ids = peer.update.completion_ids[0]
        assert peer._tokenizer.decode(ids) == f"2+3=5. #### 5{FAMILIES[name][2]}"


# Base models


def base_model(tiny, peer):
    tokenizer = AutoTokenizer.from_pretrained(tiny[peer])
    tokenizer.chat_template = None
    return AutoModelForCausalLM.from_pretrained(tiny[peer]), tokenizer


@pytest.fixture
def base(config, questions, tiny):
    """A trainer on one tiny peer without its chat template, asked in its pretraining format."""
    from pst_rl import PSTTrainer

    def build(peer="llama", **overrides):
        model, tokenizer = base_model(tiny, peer)
        return PSTTrainer(
            {peer: model},
            config(base_template="Q: {prompt}\nA:", max_steps=1, **overrides),
            train_dataset=questions(),
            processing_classes={peer: tokenizer},
        )

    return build


@pytest.mark.parametrize("peer", FAMILIES)
def test_a_base_model_is_asked_in_plain_text_and_trains(base, peer):
    trainer = base(peer)
    trainer.train()
    engine = trainer.engines[0]
    question = trainer.last_group.prompts[0][0]["content"]
    assert engine.update.inputs[0]["prompt"] == f"Q: {question}\nA:"
    assert engine._tokenizer.decode(engine.update.prompt_ids[0]) == f"{engine._tokenizer.bos_token}Q: {question}\nA:"
    assert engine.stop_strings == [*NEXT_QUESTION, "\nA:"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (" 2+3=5. #### 5\nQ: What is 1+1?\nA: #### 2", " 2+3=5. #### 5"),
        (" #### 5\n\nQuestion: more? #### 9", " #### 5"),
        (" #### 5\nA: #### 5\nA: #### 5", " #### 5"),  # a base model repeats its cue until the limit
        (" #### 5", " #### 5"),
        ("\nQ: What is 1+1?", ""),
    ],
)
@pytest.mark.parametrize("peer", FAMILIES)
def test_a_next_question_is_not_read_as_the_answer(base, monkeypatch, peer, said, kept):
    engine = base(peer).engines[0]
    ids = engine.text_ids(said)
    monkeypatch.setattr(engine, "_generate_single_turn", lambda *_, **__: ([list(ids)], [[-1.0] * len(ids)]))
    rollout = engine.answer(["Q: What is 2+3?\nA:"])
    assert rollout.texts == [kept]
    assert rollout.finished == [kept != said]  # a stop string ends a response, running out of tokens does not
    assert rollout.completion_ids[0] == ids[: len(rollout.completion_ids[0])]
    assert engine._tokenizer.decode(rollout.completion_ids[0]) in (kept, engine._tokenizer.decode(ids[:1]))
    assert len(rollout.logprobs[0]) == len(rollout.completion_ids[0])


def test_stop_strings_can_be_chosen_and_chat_models_have_none(base, trainer):
    assert base(stop_strings=["####"]).engines[0].stop_strings == ["####"]
    assert base(stop_strings=[]).engines[0].stop_strings == []
    assert trainer().engines[0].stop_strings == []


def test_text_prompts_are_left_to_the_data_set(base):
    assert base().engines[0].format.adapt("Q: 1+1?\nA:") == "Q: 1+1?\nA:"


def test_chat_and_base_models_can_be_peers(config, questions, tiny):
    from pst_rl import PSTTrainer

    model, tokenizer = base_model(tiny, "qwen2")
    trainer = PSTTrainer(
        {"chat": tiny["llama"], "base": model},
        config(base_template="Q: {prompt}\nA:", max_steps=1, context="sequential"),
        train_dataset=questions(),
        processing_classes={"base": tokenizer},
    )
    trainer.train()
    shown = trainer.peers["base"].update.inputs[0]["prompt"]
    assert shown.startswith("Q: ") and "\nP: " in shown and shown.endswith("\nA:")
    assert trainer.peers["chat"].update.inputs[0]["prompt"] == chat(trainer.last_group.prompts[0][0]["content"])
