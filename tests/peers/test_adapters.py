"""Peers that come with a LoRA adapter: a folder, or a `PeftModel`."""

import json
from pathlib import Path

import pytest
import torch
from conftest import same, weights
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from pst_rl import PeerSpec, per_sample
from pst_rl.benchmarks.model import LanguageModel, model_digest
from pst_rl.peers.loading import load_model
from pst_rl.peers.spec import resolve_peers

NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
SHORT = {"per_device_train_batch_size": 8, "max_completion_length": 8, "weighting": "none", "temperature": 5.0}


def lora(**changes):
    """The configuration of the adapters here, from which a peer starts that is not at its base model."""
    fixed = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    return LoraConfig(**fixed | {"init_lora_weights": False} | changes)


def put_on(base, **changes):
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora(**changes))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= 0.02  # still itself: it says different things
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny):
    """The folder of an adapter on the tiny Llama."""
    path = tmp_path_factory.mktemp("adapters") / "mine"
    put_on(tiny["llama"]).save_pretrained(path)
    return str(path)


def stored(folder):
    """The adapter's tensors in a folder, named as in the model."""
    found = load_file(Path(folder, "adapter_model.safetensors"))
    return {name.replace(".weight", ".default.weight"): tensor for name, tensor in found.items()}


@per_sample
def letters(response):
    """Differs between responses, so that there is something to learn."""
    return len(set(response.text)) / 10


LEARN = SHORT | {"reward_providers": [letters]}


def one_line(error):
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return True


# Training goes on with that very adapter


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "nf4"])
def test_a_folder_is_trained_on_and_saved_as_an_adapter_again(trainer, folder, tiny, quantized):
    spec = PeerSpec(folder, quantization_config=NF4 if quantized else None)
    run = trainer({"a": spec, "b": tiny["qwen2"]}, max_steps=1, **LEARN)
    model = run.peers["a"].model
    assert same(weights(model), stored(folder))  # not a new one, and of NF4 peers not rounded to bfloat16
    base = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    run.train()
    run.save_model()
    saved = Path(run.args.output_dir, "a")
    unchanged = same(stored(saved), stored(folder))
    assert not unchanged and same(weights(model), stored(saved))
    assert all(torch.equal(p, base[name]) for name, p in model.named_parameters() if name in base)
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == tiny["llama"]
    assert not (saved / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["nf4", "PeftModel"])
def test_a_resumed_adapter_is_equal_bit_for_bit(trainer, folder, tiny, tmp_path, kind):
    def build(name):
        spec = PeerSpec(folder, quantization_config=NF4 if kind == "nf4" else None)
        if kind == "PeftModel":
            spec = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(tiny["llama"]), folder, is_trainable=True
            )
        return trainer({"a": spec}, output_dir=str(tmp_path / name), save_strategy="steps", save_steps=1, **LEARN)

    straight, resumed = build("straight"), build("resumed")
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-1"))
    unchanged = same(weights(straight.peers["a"].model), stored(folder))
    assert not unchanged and same(weights(straight.peers["a"].model), weights(resumed.peers["a"].model))


def test_another_adapter_or_base_is_another_run(trainer, folder, tiny, tmp_path):
    other = tmp_path / "mine"
    put_on(tiny["llama"], r=2).save_pretrained(other)
    first = trainer({"a": folder}, max_steps=1, save_strategy="steps", save_steps=1, **SHORT)
    first.train()
    kept = json.loads(Path(first.args.output_dir, "checkpoint-1", "run.json").read_text())["peers"]["a"]
    assert kept["base"]["model"] == "llama" and kept["base"]["weights"] and kept["adapter"]["r"] == 4
    with pytest.raises(ValueError, match="peers.a.adapter.r: 4 in the checkpoint, 2 now"):
        trainer({"a": str(other)}, **SHORT).train(resume_from_checkpoint="last")


def test_a_reference_is_the_adapter_as_it_came(trainer, folder):
    run = trainer({"a": folder}, max_steps=1, beta=0.1, **LEARN)
    model = run.peers["a"].model
    trained = set(weights(model))
    assert trained and not any(".ref." in name for name in trained)
    run.train()
    kept = {n.replace(".ref.", ".default."): p for n, p in model.named_parameters() if ".ref." in n}
    unchanged = same(weights(model), stored(folder))
    assert not unchanged and same(kept, stored(folder))


def test_a_frozen_peer_may_be_an_adapter(trainer, folder, tiny):
    run = trainer({"a": PeerSpec(folder, trainable=False), "b": tiny["qwen2"]}, max_steps=1, **SHORT)
    run.train()
    frozen = run.peers["a"].model
    assert weights(frozen) == {} and list(run.trained) == ["b"]
    now = {n: p for n, p in frozen.named_parameters() if "lora" in n}
    assert same(now, stored(folder))


# A LoRA configuration beside an adapter


def test_the_same_configuration_may_be_given(folder):
    assert resolve_peers({"a": folder}, peft_config=lora())["a"].peft_config is None
    assert resolve_peers({"a": PeerSpec(folder, peft_config=lora(target_modules=None))})["a"].peft_config is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 16}, "r: 4 in the adapter, 16 given"),
        ({"lora_dropout": 0.05}, "lora_dropout: 0.0 in the adapter, 0.05 given"),
        ({"target_modules": ["q_proj"]}, "target_modules"),
    ],
)
def test_another_configuration_is_refused(folder, changes, said):
    for peers, default in (
        ({"a": folder}, lora(**changes)),
        ({"a": PeerSpec(folder, None, peft_config=lora(**changes))}, None),
    ):
        with pytest.raises(ValueError, match=said) as error:
            resolve_peers(peers, peft_config=default)
        assert one_line(error)


def test_a_configuration_for_all_peers_is_for_those_without_an_adapter(folder, tiny, caplog):
    given = lora(r=16)
    specs = resolve_peers({"a": folder, "b": tiny["qwen2"]}, peft_config=given)
    assert (specs["a"].peft_config, specs["b"].peft_config) == (None, given)
    assert "'a' goes on with the adapter that it has" in caplog.text


def test_a_quantized_adapter_needs_no_configuration(folder, tiny):
    resolve_peers({"a": folder}, quantization_config=NF4)
    with pytest.raises(ValueError, match="'b' is quantized but has no LoRA config"):
        resolve_peers({"a": folder, "b": tiny["qwen2"]}, quantization_config=NF4)


# What is refused, in one line


def test_a_base_model_that_has_moved_is_named(tmp_path, folder):
    moved = tmp_path / "moved"
    moved.mkdir()
    config = json.loads(Path(folder, "adapter_config.json").read_text()) | {"base_model_name_or_path": "/was/here"}
    (moved / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is for the model '/was/here'.*does not exist.*Set base_model_name") as error:
        resolve_peers({"a": str(moved)})
    assert one_line(error)
    (moved / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="does not say what model it is for"):
        resolve_peers({"a": str(moved)})
    (moved / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="broken adapter_config.json"):
        resolve_peers({"a": str(moved)})
    (moved / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": folder}))
    with pytest.raises(ValueError, match="is an adapter itself"):
        resolve_peers({"a": str(moved)})


def test_an_adapter_of_another_model_is_refused_and_not_filled_with_random_weights(tmp_path, folder, tiny):
    from shutil import copytree

    other = copytree(folder, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"r": 2}))
    with pytest.raises(ValueError, match="does not fit its base model") as error:
        load_model(other)
    assert one_line(error)
    (other / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(other / "adapter_model.safetensors")
    from safetensors.torch import save_file

    save_file(dict(list(tensors.items())[2:]), other / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="missing adapter keys") as error:
        load_model(other)
    assert one_line(error)


def test_models_that_could_not_be_trained_are_refused(tiny, folder):
    base = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    frozen = PeftModel.from_pretrained(base, folder)
    with pytest.raises(ValueError, match="no trainable weights: load it with is_trainable=True") as error:
        resolve_peers({"a": frozen})
    assert one_line(error)
    resolve_peers({"a": PeerSpec(frozen, trainable=False), "b": tiny["qwen2"]})
    named = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny["llama"]), lora(), adapter_name="mine")
    with pytest.raises(ValueError, match="adapter_name='default'") as error:
        resolve_peers({"a": named})
    assert one_line(error)
    with pytest.raises(ValueError, match="transformers has loaded an adapter") as error:
        resolve_peers({"a": AutoModelForCausalLM.from_pretrained(folder)})
    assert one_line(error)
    with pytest.raises(ValueError, match="is of type Linear: a peer is") as error:
        resolve_peers({"a": torch.nn.Linear(2, 2)})
    assert one_line(error)
    still = AutoModelForCausalLM.from_pretrained(tiny["llama"]).requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad_"):
        resolve_peers({"a": still})
    resolve_peers({"a": still}, peft_config=lora())  # the adapter will be trainable


def test_a_model_object_is_named_after_its_base_model(tiny):
    assert list(resolve_peers([put_on(tiny["llama"])])) == ["llama"]


# Measured


def test_a_measured_adapter_is_known_by_its_own_and_its_bases_weights(folder, tiny, tmp_path):
    from shutil import copytree

    model = LanguageModel.load(folder, "mine")
    peer = load_model(folder, dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model.model(ids).logits, peer(ids).logits)
        plain = AutoModelForCausalLM.from_pretrained(tiny["llama"])
        assert not torch.equal(plain(ids).logits, peer(ids).logits)
    other = copytree(folder, tmp_path / "other")
    assert model_digest(str(other)) == model_digest(folder) != model_digest(tiny["llama"])
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": tiny["qwen2"]}))
    assert model_digest(str(other)) != model_digest(folder)
