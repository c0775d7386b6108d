"""Models leave a run in the dtype they came in; checkpoints stay exact."""

import json
from pathlib import Path

import pytest
import torch
from conftest import same, weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl import PeerSpec, per_sample
from pst_rl.loop.export import rounded

SHORT = {"per_device_train_batch_size": 8, "max_completion_length": 8, "weighting": "none", "temperature": 5.0}


@per_sample
def letters(response):
    """Differs between responses, so that there is something to learn."""
    return len(set(response.text)) / 10


@pytest.fixture(scope="module")
def half(tmp_path_factory, tiny):
    """The tiny Llama, stored in bfloat16."""
    folder = tmp_path_factory.mktemp("half") / "llama"
    AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny["llama"]).save_pretrained(folder)
    return str(folder)


def test_a_model_is_saved_in_the_dtype_it_came_in_and_checkpoints_are_exact(trainer, half, tiny, tmp_path):
    def build(name):
        peers = {"a": half, "b": tiny["qwen2"]}
        options = {"output_dir": str(tmp_path / name), "save_strategy": "steps", "save_steps": 1}
        return trainer(peers, reward_providers=[letters], **options, **SHORT)

    straight, resumed = build("straight"), build("resumed")
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-1"))
    after = weights(straight.peers["a"].model)
    assert {p.dtype for p in after.values()} == {torch.float32} and same(after, weights(resumed.peers["a"].model))

    straight.save_model()
    last = AutoModelForCausalLM.from_pretrained(tmp_path / "straight" / "checkpoint-2" / "a")
    assert same(weights(last), after)
    folder = tmp_path / "straight" / "a"
    tensors = load_file(folder / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16} and "lm_head.weight" not in tensors
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    kept = {name: p.bfloat16() for name, p in after.items()}
    assert again.dtype == torch.bfloat16 and same(weights(again), kept)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "straight" / "b", dtype="auto")
    assert same(weights(whole), weights(straight.peers["b"].model))  # it came in float32


def test_at_a_learning_rate_of_zero_a_model_leaves_as_it_came(trainer, half):
    run = trainer({"a": half}, max_steps=1, learning_rate=0.0, reward_providers=[letters], **SHORT)
    run.train()
    run.save_model()
    assert same(
        load_file(Path(run.args.output_dir, "a", "model.safetensors")), load_file(Path(half, "model.safetensors"))
    )


def test_a_model_that_is_trained_in_16_bits_or_was_given_loaded_stays_as_it_is(trainer, half, tiny):
    given = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    peers = {"a": PeerSpec(half, dtype="bfloat16"), "b": PeerSpec(tiny["qwen2"], dtype="bfloat16"), "c": given}
    run = trainer(peers, **SHORT)
    run.save_model()
    for name, dtype in (("a", torch.bfloat16), ("b", torch.bfloat16), ("c", torch.float32)):
        folder = Path(run.args.output_dir, name)
        assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == dtype


def test_a_push_during_training_is_in_the_dtype_it_came_in(trainer, half, monkeypatch):
    run = trainer({"a": half}, max_steps=1, save_strategy="steps", save_steps=1, hub_strategy="every_save", **SHORT)
    run.train()
    monkeypatch.setattr(type(run), "_upload", lambda *_: None)
    run.peers["a"].push_in_progress = run.peers["a"].hub_model_id = None
    run._push_from_checkpoint(str(Path(run.args.output_dir, "checkpoint-1")))
    pushed = load_file(Path(run.args.output_dir, "a", "model.safetensors"))
    assert {t.dtype for t in pushed.values()} == {torch.bfloat16}


def test_buffers_and_what_transformers_keeps_in_float32_are_not_rounded():
    class Model(torch.nn.Module):
        _keep_in_fp32_modules_strict = {"router"}

        def __init__(self):
            super().__init__()
            self.body, self.router = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
            self.head = torch.nn.Linear(2, 2)
            self.head.weight = self.body.weight
            self.register_buffer("scale", torch.ones(2))

    state = rounded(Model(), torch.bfloat16)
    half = {name for name, tensor in state.items() if tensor.dtype == torch.bfloat16}
    assert half == {"body.weight", "body.bias", "head.weight", "head.bias"}
    assert state["body.weight"] is state["head.weight"]


def test_an_adapter_on_a_base_in_16_bits_is_saved_as_it_is(trainer, half, tmp_path):
    from peft import LoraConfig, PeftModel

    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    options = {"output_dir": str(tmp_path / "run"), "max_steps": 1}
    run = trainer({"a": half}, reward_providers=[letters], peft=lora, **options, **SHORT)
    run.train()
    run.save_model()
    folder = tmp_path / "run" / "a"
    tensors = load_file(folder / "adapter_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32} and not (folder / "config.json").exists()
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(half, dtype="float32"), folder)
    own = {name: p for name, p in run.peers["a"].model.named_parameters() if "lora_" in name}
    assert all(torch.equal(own[name], p) for name, p in again.named_parameters() if "lora_" in name)
