import json

import pytest
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from pst_rl import PeerSpec
from pst_rl.peers.spec import default_name, resolve_peers

LORA = LoraConfig(r=4)


def four_bit():
    return BitsAndBytesConfig(load_in_4bit=True)


# Names


def test_peers_are_named_after_their_folders(tiny):
    assert list(resolve_peers([tiny["llama"], tiny["qwen2"]])) == ["llama", "qwen2"]


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen2.5-1.5B-Instruct", "qwen2.5-1.5b-instruct"), ("runs/My Model/", "my-model"), ("gpt2", "gpt2")],
)
def test_default_names_are_the_last_part_in_lower_case(model, name):
    assert default_name(model) == name


def test_a_loaded_model_is_named_after_where_it_came_from(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    assert list(resolve_peers([model])) == ["llama"]


def test_a_name_can_be_given_in_the_spec_or_as_a_key(tiny):
    assert list(resolve_peers([PeerSpec(tiny["llama"], name="mine")])) == ["mine"]
    assert list(resolve_peers({"key": PeerSpec(tiny["llama"], name="mine")})) == ["key"]


def test_one_peer_needs_no_list(tiny):
    assert list(resolve_peers(tiny["llama"])) == list(resolve_peers(PeerSpec(tiny["llama"]))) == ["llama"]


def test_two_peers_writing_to_one_folder_are_refused(tiny):
    with pytest.raises(ValueError, match="Two peers are named 'llama'.*'llama-a'"):
        resolve_peers([tiny["llama"], tiny["llama"]])


def test_the_same_model_may_be_two_peers_with_names(tiny):
    assert list(resolve_peers({"a": tiny["llama"], "b": tiny["llama"]})) == ["a", "b"]


@pytest.mark.parametrize("name", ["a/b", "a b", "../x", ".."])
def test_a_name_that_makes_no_folder_is_refused(tiny, name):
    with pytest.raises(ValueError, match="may hold only"):
        resolve_peers({name: tiny["llama"]})


@pytest.mark.parametrize("name", ["qwen2.5-1.5b-instruct", "values", "train"])
def test_any_other_name_can_be_trained(trainer, tiny, name):
    assert list(trainer({name: tiny["llama"]}).peers) == [name]


def test_no_peers_are_refused():
    with pytest.raises(ValueError, match="No peers"):
        resolve_peers([])


# Models that are not there


def test_an_unknown_folder_is_named():
    with pytest.raises(ValueError, match="'./no/such/model' of peer 'model' does not exist"):
        resolve_peers(["./no/such/model"])


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="config.json is missing"):
        resolve_peers({"a": str(tmp_path)})


def test_a_folder_with_an_adapter_only_is_accepted(tmp_path, tiny):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": tiny["llama"]}))
    assert list(resolve_peers({"a": str(tmp_path)})) == ["a"]


def test_an_unknown_repository_is_answered_in_one_line():
    with pytest.raises(ValueError, match="Peer 'no-such-model': cannot load 'no-one/no-such-model'") as error:
        resolve_peers(["no-one/no-such-model"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("403 Client Error: gated repo", "accept its terms at https://huggingface.co/a/b"),
        ("404 Client Error", "check the spelling"),
        ("We couldn't connect to 'https://huggingface.co'", "give a local folder"),
        ("Something else\nand more", "Something else"),
    ],
)
def test_the_hubs_answers_become_advice(monkeypatch, said, advice):
    def refuse(*_, **__):
        raise OSError(said)

    monkeypatch.setattr("pst_rl.peers.spec.AutoConfig.from_pretrained", refuse)
    with pytest.raises(ValueError, match=advice):
        resolve_peers(["a/b"])


# Defaults and overrides


def test_four_bit_without_lora_is_refused(tiny):
    with pytest.raises(ValueError, match="--use-peft"):
        resolve_peers([tiny["llama"]], quantization_config=four_bit())


def test_four_bit_is_fine_with_lora_or_frozen(tiny):
    resolve_peers([tiny["llama"]], quantization_config=four_bit(), peft_config=LORA)
    resolve_peers({"a": tiny["llama"], "b": PeerSpec(tiny["qwen2"], quantization_config=four_bit(), trainable=False)})


def test_a_spec_overrides_the_trainers_defaults(tiny):
    own = LoraConfig(r=2)
    specs = resolve_peers({"a": tiny["llama"], "b": PeerSpec(tiny["qwen2"], peft_config=own)}, peft_config=LORA)
    assert (specs["a"].peft_config, specs["b"].peft_config) == (LORA, own)


def test_a_frozen_peer_gets_no_adapter(tiny):
    specs = resolve_peers({"a": tiny["llama"], "b": PeerSpec(tiny["qwen2"], trainable=False)}, peft_config=LORA)
    assert specs["b"].peft_config is None


def test_frozen_peers_alone_are_refused(tiny):
    with pytest.raises(ValueError, match="nothing to train"):
        resolve_peers([PeerSpec(tiny["llama"], trainable=False)])


def test_tokenizers_are_given_by_name(tiny):
    specs = resolve_peers({"a": tiny["llama"], "b": tiny["qwen2"]}, processing_classes={"b": "tokenizer"})
    assert (specs["a"].processing_class, specs["b"].processing_class) == (None, "tokenizer")
    with pytest.raises(ValueError, match=r"unknown peers \['c'\]"):
        resolve_peers({"a": tiny["llama"]}, processing_classes={"c": "tokenizer"})


def test_the_given_spec_is_not_changed(tiny):
    spec = PeerSpec(tiny["llama"])
    resolve_peers({"a": spec}, peft_config=LORA)
    assert spec == PeerSpec(tiny["llama"])


@pytest.mark.parametrize(
    ("fields", "kwargs"),
    [
        ({}, {"dtype": "float32"}),
        ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
        ({"quantization_config": "4 bit"}, {"dtype": "bfloat16"}),
        (
            {"attn_implementation": "eager", "revision": "v1"},
            {"dtype": "float32", "attn_implementation": "eager", "revision": "v1"},
        ),
        ({"trust_remote_code": True}, {"dtype": "float32", "trust_remote_code": True}),
        ({"model_init_kwargs": {"dtype": "float16"}}, {"dtype": "float16"}),
    ],
)
def test_loading_options_are_only_those_asked_for(fields, kwargs):
    assert PeerSpec("x", **fields).init_kwargs() == kwargs | {"use_safetensors": True}


def test_defaults_of_loading_reach_every_peer_that_has_none_of_its_own(tiny):
    own = PeerSpec(tiny["qwen2"], dtype="float16", model_init_kwargs={"use_kernels": False})
    defaults = {"dtype": "bfloat16", "attn_implementation": "eager", "use_kernels": True}
    found = resolve_peers({"a": tiny["llama"], "b": own}, model_init_kwargs=defaults)
    shared = {"attn_implementation": "eager", "use_safetensors": True}
    assert found["a"].init_kwargs() == shared | {"dtype": "bfloat16", "use_kernels": True}
    assert found["b"].init_kwargs() == shared | {"dtype": "float16", "use_kernels": False}


@pytest.mark.parametrize("name", ["trust_remote_code", "quantization_config"])
def test_defaults_of_loading_that_have_a_place_of_their_own_are_refused(tiny, name):
    with pytest.raises(ValueError, match=f"model_init_kwargs cannot have {name}: use "):
        resolve_peers([tiny["llama"]], model_init_kwargs={name: True})


def test_a_revision_of_a_folder_is_refused(tiny):
    with pytest.raises(ValueError, match=r"has no revision 'v2': revisions are those of Hub repositories"):
        resolve_peers([PeerSpec(tiny["llama"], revision="v2")])


def test_what_would_load_a_model_is_refused_for_one_that_is_loaded(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    with pytest.raises(ValueError, match="is loaded already, so its dtype, attn_implementation would do nothing"):
        resolve_peers({"a": PeerSpec(model, dtype="bfloat16", attn_implementation="eager")})
    assert resolve_peers({"a": model}, model_init_kwargs={"dtype": "bfloat16"})["a"].model_init_kwargs == {}
