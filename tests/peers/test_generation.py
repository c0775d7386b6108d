"""What a model's own generation settings do to its samples: nothing; what a run's do; and in which precision."""

import json
import shutil

import pytest
import torch
from helpers import chat
from transformers import AutoModelForCausalLM, GenerationConfig

from pst_rl import PeerSpec
from pst_rl.benchmarks.model import Decoding, LanguageModel
from pst_rl.peers.asked import read_asked
from pst_rl.peers.generation import bare_settings, one_policy

CHANGED = 64  # test questions, some of whose answers differ between float32 and bfloat16
ASKED = ["Work out 78-65.", "What is 28+47?", "b=2a and a+b=18. What is a?"]
# Each of them changes greedy answers or samples of these questions, or stops `generate`, where it leaks.
LEAKS = {
    "min_p": {"min_p": 0.9},
    "typical_p": {"typical_p": 0.1},
    "epsilon_cutoff": {"epsilon_cutoff": 0.4},
    "eta_cutoff": {"eta_cutoff": 0.9},
    "num_beams": {"num_beams": 3},
    "num_return_sequences": {"num_return_sequences": 2, "do_sample": True},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "suppress_tokens": {"suppress_tokens": list(range(20, 60))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(20, 300))},
    "bad_words_ids": {"bad_words_ids": [[token] for token in range(20, 60)]},
    "sequence_bias": {"sequence_bias": [[[30], 50.0]]},
    "forced_eos_token_id": {"forced_eos_token_id": 5},
    "min_new_tokens": {"min_new_tokens": 24},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (1, 9.0)},
    "guidance_scale": {"guidance_scale": 9.0},
    "stop_strings": {"stop_strings": ["="]},
    "cache_implementation": {"cache_implementation": "no such cache"},
    "return_dict_in_generate": {"return_dict_in_generate": True},
}


def settings(model, **own):
    special = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = GenerationConfig(**special)
    vars(config).update(own)  # as a file that nobody validates
    return config


@pytest.fixture(scope="module")
def llama(tiny):
    return LanguageModel.load(tiny["llama"], "llama")


def said(model):
    ids = [model.prompt_ids(chat(text)) for text in ASKED]
    return model.complete(ids, Decoding(24)), model.complete(ids, Decoding(24, 3.0), seed=1)


@pytest.mark.parametrize("own", LEAKS.values(), ids=LEAKS)
def test_a_models_own_settings_do_not_reach_what_it_says_in_an_evaluation(llama, own):
    llama.model.generation_config = settings(llama.model)
    bare = said(llama)
    llama.model.generation_config = kept = settings(llama.model, **own)
    assert said(llama) == bare
    assert llama.model.generation_config is kept


@pytest.mark.parametrize("shared_prefill", [False, True])
def test_a_models_own_settings_do_not_reach_the_samples_of_a_run(trainer, tiny, shared_prefill):
    run = trainer({"llama": tiny["llama"]}, shared_prefill=shared_prefill, max_completion_length=24, temperature=3.0)
    engine, prompts = run.engines[0], [chat(text) for text in ASKED]

    def samples(**own):
        engine.model.generation_config = settings(engine.model, **own)
        torch.manual_seed(0)
        return [engine.answer(prompts, greedy).completion_ids for greedy in (False, True)]

    bare = samples()
    some = ("min_p", "num_beams", "suppress_tokens", "stop_strings")
    assert [name for name in some if samples(**LEAKS[name]) != bare] == []


def test_an_adapters_base_model_gives_nothing_either(llama):
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(llama.model.config._name_or_path)
    model.generation_config = kept = settings(model, suppress_tokens=[7])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    with bare_settings(adapted):
        assert adapted.generation_config.suppress_tokens is model.generation_config.suppress_tokens is None
    assert model.generation_config is kept


def test_a_runs_own_settings_act(trainer, tiny):
    run = trainer({"llama": tiny["llama"]}, min_p=1.0, temperature=3.0, generation_kwargs={"suppress_tokens": [7]})
    engine, prompts = run.engines[0], [chat(text) for text in ASKED]
    greedy = engine.answer(prompts, greedy=True).completion_ids
    assert engine.answer(prompts).completion_ids == greedy  # only the most likely token is left to draw
    banned = sorted({token for row in greedy for token in row} - set(engine.eos_token_ids))
    engine.generation_config.suppress_tokens = banned
    assert not {token for row in engine.answer(prompts).completion_ids for token in row} & set(banned)


@pytest.fixture
def own_settings(tiny, tmp_path):
    """`own_settings(**own)`: a peer's folder with these in its `generation_config.json`."""

    def make(**own):
        folder = tmp_path / "own"
        shutil.copytree(tiny["llama"], folder)
        file = folder / "generation_config.json"
        there = json.loads(file.read_text()) | own
        file.write_text(json.dumps({name: value for name, value in there.items() if value is not None}))
        return folder

    return make


def test_every_token_that_a_models_settings_name_as_an_end_is_one(trainer, own_settings, llama):
    ids = llama.prompt_ids(chat(ASKED[0]))
    end = llama.text_ids(llama.complete([ids], Decoding(24))[0].text)[3]
    folder = own_settings(eos_token_id=[llama.tokenizer.eos_token_id, end])
    rows = [trainer({"own": str(folder)}).engines[0].answer([chat(ASKED[0])], greedy=True).completion_ids[0]]
    model = LanguageModel.load(str(folder), "own")
    assert rows[0][-1] == end and len(rows[0]) < 10
    assert model.complete([ids], Decoding(24))[0].length == len(rows[0])


def test_a_peer_is_saved_with_the_settings_it_came_with(trainer, own_settings):
    # A temperature without sampling is a setting that transformers refuses to save, once another was changed.
    own = {"min_p": 0.15, "no_repeat_ngram_size": 3, "temperature": 0.6, "do_sample": False}
    folder = own_settings(pad_token_id=None, **own)
    run = trainer({"own": str(folder)}, max_steps=1, save_strategy="steps", save_steps=1)
    run.train()
    run.save_model()
    home = f"{run.args.output_dir}"
    for saved in (f"{home}/own", f"{home}/checkpoint-1/own"):
        with open(f"{saved}/generation_config.json") as file:
            content = json.load(file)
        assert {name: content[name] for name in own} == own
        assert content["eos_token_id"] == 1 and content["max_new_tokens"] == 64


# precision


def test_unchanged_weights_change_no_answer(trainer, tiny, questions, tmp_path):
    settings = {"bf16": True, "learning_rate": 0.0, "max_steps": 1, "per_device_eval_batch_size": 64}
    run = trainer({"gemma2": tiny["gemma2"]}, eval_data=questions(CHANGED, "test"), **settings)
    before = run.measure()
    run.train()
    after = run.measure()
    assert [r.text for r in before.greedy[0]] == [r.text for r in after.greedy[0]]
    run.save_model()  # and evaluated from its folder it is in the same precision
    folder = f"{run.args.output_dir}/gemma2"
    model = LanguageModel.load(folder, "gemma2", asked=read_asked(folder))
    assert model.how.precision == "float32 with bfloat16 autocast" and model.digest.endswith("+bfloat16")
    prompts = sorted(questions(CHANGED, "test")["prompt"], key=lambda prompt: len(str(prompt)))[:64]
    alone = model.complete([model.prompt_ids(prompt) for prompt in prompts], Decoding(40))
    again = run.engines[0].answer(prompts, greedy=True)
    assert [c.text for c in alone] == again.texts


@pytest.mark.parametrize("trainable", [True, False])
def test_a_peer_answers_in_the_precision_of_its_run_before_training_and_when_it_is_frozen(trainer, tiny, trainable):
    peers = {"llama": PeerSpec(tiny["llama"], trainable=trainable), "qwen2": tiny["qwen2"]}
    run = trainer(peers, bf16=True, max_steps=1)
    engine, ids = run.engines[0], torch.tensor([[5, 6, 7, 8]])

    def logits():
        with one_policy(engine), torch.no_grad():
            return engine.model.eval()(input_ids=ids).logits.float()

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = engine.model.eval()(input_ids=ids).logits.float()
    assert torch.equal(logits(), expected)
    if not trainable:
        run.train()
        assert torch.equal(logits(), expected)
