"""The memory estimate against what torch, PEFT and bitsandbytes really hold."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from pst_rl.memory.estimate import ModelShape, RunShape, estimate
from pst_rl.tiny import TINY_PEERS

NAMES = list(TINY_PEERS)
FULL = RunShape(batch=2, generation_rows=4, prompt_length=6, completion_length=5, autocast=False, device="cpu")
LORA = replace(FULL, lora_rank=4, lora_targets=("all-linear",))


def nbytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def one(name, run):
    return estimate([ModelShape.of(TINY_PEERS[name])], run).peers[0]


def load(name, **options):
    return AutoModelForCausalLM.from_pretrained(TINY_PEERS[name], **options)


def with_lora(model, targets="all-linear"):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_exact(name, dtype):
    assert one(name, replace(FULL, dtype=dtype)).weights == nbytes(load(name, dtype=dtype).parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("double", [False, True])
def test_quantized_weights_are_exact(name, double):
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double)
    model = load(name, quantization_config=four_bit, dtype=torch.bfloat16)
    held = nbytes(model.parameters())
    for parameter in model.parameters():
        if state := getattr(parameter, "quant_state", None):
            held += nbytes([state.absmax, state.code])
            held += nbytes([state.offset, state.state2.absmax, state.state2.code]) if double else 0
    assert one(name, replace(LORA, quantization="nf4", double_quant=double)).weights == held


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"], None])
def test_adapters_are_exact(name, targets):
    model = with_lora(load(name), targets)
    names = ("all-linear",) if targets == "all-linear" else targets and tuple(targets)
    expected = nbytes(p for p in model.parameters() if p.requires_grad)
    found = one(name, replace(LORA, lora_targets=names))
    assert (found.adapters, found.gradients) == (expected, expected)


@pytest.mark.parametrize("lora", [True, False])
def test_optimizer_states_and_gradients_are_exact(lora):
    model = with_lora(load("llama")) if lora else load("llama")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = nbytes(p.grad for p in trained)
    optimizer.step()
    states = nbytes(value for state in optimizer.state.values() for value in state.values())
    found = one("llama", LORA if lora else FULL)
    assert (found.gradients, found.optimizer) == (gradients, states)


def test_eight_bit_states_are_exact():
    from bitsandbytes.optim import AdamW8bit

    model = load("llama")
    optimizer = AdamW8bit(model.parameters())
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    names = ("state1", "state2", "absmax1", "absmax2")  # the tables qmap1 and qmap2 are shared by all tensors
    states = nbytes(state[name] for state in optimizer.state.values() for name in names if name in state)
    assert one("llama", replace(FULL, optimizer="adamw_8bit")).optimizer == states


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", [6, 300])  # Gemma 2's window is 256
def test_the_cache_is_exact(name, prompt):
    ids = torch.full((4, prompt), 5)
    options = {"min_new_tokens": 5, "max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True}
    cache = load(name).generate(ids, attention_mask=torch.ones_like(ids), **options).past_key_values
    held = nbytes(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert one(name, replace(FULL, prompt_length=prompt)).kv_cache == held


def test_autocast_does_not_make_the_cache_of_float32_weights_smaller():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cache = load("llama")(torch.full((4, 10), 5), use_cache=True).past_key_values
    held = nbytes(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert one("llama", replace(FULL, autocast=True)).kv_cache == held


def test_parameters_are_counted_without_weights(tmp_path):
    load("qwen2").config.save_pretrained(tmp_path)
    assert ModelShape.of(tmp_path).parameters == sum(p.numel() for p in load("qwen2").parameters())


def test_an_adapter_is_measured_with_its_base_model(tmp_path):
    with_lora(load("llama")).save_pretrained(tmp_path)
    assert ModelShape.of(tmp_path).tensors == ModelShape.of(TINY_PEERS["llama"]).tensors


def test_a_reference_model_is_held_only_without_lora():
    full, lora = one("llama", replace(FULL, reference=True)), one("llama", replace(LORA, reference=True))
    assert (full.reference, lora.reference) == (full.weights, 0)


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_close_to_what_autograd_keeps(name, lora):
    model = with_lora(load(name)) if lora else load(name)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    backbone = model.base_model.model.model if lora else model.model
    mask = torch.ones(2, 64, dtype=torch.long)
    mask[0, 0] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.train()(input_ids=torch.full((2, 64), 5), attention_mask=mask)
    held = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in weights)
    run = replace(LORA if lora else FULL, prompt_length=32, completion_length=32, gradient_checkpointing=False)
    run = replace(run, lora_dropout=0.0)
    assert 0.85 < one(name, run).activations / held < 1.3


def test_all_peers_are_resident_but_take_turns():
    shapes = [ModelShape.of(folder) for folder in TINY_PEERS.values()]
    alone = [estimate([shape], FULL) for shape in shapes]
    joint = estimate(shapes, FULL)
    assert joint.resident == sum(e.resident for e in alone)
    assert joint.generation == max(e.generation for e in alone)
    gradients = [peer.gradients for peer in joint.peers]
    assert joint.update == max(e.update - own for e, own in zip(alone, gradients, strict=True)) + sum(gradients)


def test_caches_kept_for_pmi_add_up():
    shapes = [ModelShape.of(folder) for folder in TINY_PEERS.values()]
    plain, kept = (estimate(shapes, replace(FULL, pmi=True, keep_caches=keep)) for keep in (False, True))
    assert kept.scoring - plain.scoring == sum(peer.kv_cache for peer in plain.peers)


def test_checkpointing_and_eight_bit_states_need_less():
    shape = ModelShape.of(TINY_PEERS["llama"])
    plain = replace(FULL, gradient_checkpointing=False)
    assert estimate([shape], FULL).update < estimate([shape], plain).update
    assert estimate([shape], replace(FULL, optimizer="adamw_8bit")).resident < estimate([shape], FULL).resident


def test_the_shape_of_a_run_follows_the_configuration(config):
    from trl import ModelConfig

    run = RunShape.of(
        config(beta=0.1, weighting_options={"target": "response"}),
        ModelConfig(use_peft=True, lora_r=8),
        prompt_length=50,
    )
    assert (run.lora_rank, run.reference, run.pmi, run.target_length, run.prompt_length) == (8, True, True, 40, 50)
    assert (run.batch, run.generation_rows, run.device) == (16, 16, "cpu")


def test_gradients_of_an_earlier_micro_batch_add_up():
    shape = ModelShape.of(TINY_PEERS["llama"])
    later, first = (estimate([shape], replace(FULL, accumulates=a)) for a in (True, False))
    assert first.update < later.update <= first.update + later.peers[0].gradients


def test_an_optimizer_that_is_not_known_is_refused(config):
    from trl import ModelConfig

    with pytest.raises(ValueError, match="not for optim='adafactor'"):
        RunShape.of(config(optim="adafactor"), ModelConfig(), prompt_length=50)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"lora_rank": 0}, "lora_rank must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RunShape(**fields)


def test_an_adapters_folder_counts_with_its_own_rank_and_layers_whatever_was_asked_for(tmp_path):
    model = with_lora(load("llama"), targets=["q_proj", "down_proj"])
    model.save_pretrained(tmp_path)
    held = nbytes(p for p in model.parameters() if p.requires_grad)
    for run in (FULL, LORA, replace(FULL, quantization="nf4")):
        found = estimate([ModelShape.of(tmp_path)], run).peers[0]
        assert found.adapters == held == found.gradients


def test_quantized_weights_without_an_adapter_are_refused():
    with pytest.raises(ValueError, match="add --use-peft"):
        one("llama", RunShape(quantization="nf4"))


def test_a_lora_target_that_no_layer_has_is_refused():
    with pytest.raises(ValueError, match="no layer named c_attn; it has down_proj"):
        ModelShape.of(TINY_PEERS["llama"]).targets(["c_attn"])
