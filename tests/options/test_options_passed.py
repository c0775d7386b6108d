"""Every option that is passed on takes effect: one small peer, built or trained a step with it and without it."""

import gc
import logging
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from pages import ROOT
from peft import LoraConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.utils import logging as hf_logging
from trl import get_peft_config, get_quantization_config

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.cli.parse import parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE
from pst_rl.cli.train import Train, TrainRun
from pst_rl.options.table import MODEL, TRAINER
from pst_rl.tiny import TINY_PEERS

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ extra | default('') }}"
SMALL = {
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 4,
    "gradient_checkpointing": False,
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "no",
    "learning_rate": 1e-2,
    "disable_tqdm": True,
    "rewards": ["random"],
    "loss_type": "grpo",
}
QUESTIONS = Dataset.from_list([{"prompt": [{"role": "user", "content": f"{k} + 1 = "}]} for k in range(8)])


class Lab:
    """Builds and trains a model of one layer; what is asked for twice is made once."""

    def __init__(self, folder):
        self.folder, self.made, self.trained = folder, 0, {}
        self.model = str(folder / "model")
        tokenizer = AutoTokenizer.from_pretrained(str(TINY_PEERS["llama"]))
        tokenizer.chat_template = TEMPLATE
        torch.manual_seed(0)
        ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends)).save_pretrained(self.model)
        tokenizer.save_pretrained(self.model)

    def make(self, peft=None, callbacks=None, **options):
        self.made += 1
        args = PSTConfig(**SMALL | {"output_dir": str(self.folder / f"run{self.made}")} | options)
        peers = {"one": self.model}
        return PSTTrainer(peers, args, QUESTIONS, eval_dataset=QUESTIONS, peft_config=peft, callbacks=callbacks)

    def run(self, **options):
        if repr(options) not in self.trained:
            trainer = self.make(**options)
            trainer.output = trainer.train()
            self.trained[repr(options)] = trainer
        return self.trained[repr(options)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    verbosity = hf_logging.get_verbosity()
    made = Lab(tmp_path_factory.mktemp("lab"))
    made.run()
    gc.collect()
    gc.freeze()  # each trainer collects garbage, among all that the libraries hold
    yield made
    gc.unfreeze()
    hf_logging.set_verbosity(verbosity)


def engine(trainer):
    return trainer.engines[0]


def group(trainer):
    trainer.create_optimizer_and_scheduler(10)
    return trainer.optimizer.param_groups[0]


def optimizer(trainer):
    group(trainer)
    return type(trainer.optimizer).__name__


def rates(trainer):
    """The learning rates of ten steps."""
    group(trainer)
    found = []
    for _ in range(10):
        found.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    return found


def loader(trainer):
    return trainer.get_train_dataloader()


def order(trainer):
    return [row["question_id"] for row in next(iter(loader(trainer)))]


def rows(trainer, name):
    """One tensor of the micro-batches that the last generation batch was split into."""
    return engine(trainer)._buffered_inputs[0][name]


def steps(trainer, name="loss"):
    return [row["step"] for row in trainer.state.log_history if name in row]


def evaluated(trainer):
    return steps(trainer, "eval_one/parsed")


def folder(trainer):
    return Path(trainer.args.output_dir)


def saved(trainer):
    return sorted(path.name for path in folder(trainer).glob("checkpoint-*"))


def moved(trainer):
    """How far a step took the weights."""
    before = LlamaForCausalLM.from_pretrained(trainer.specs["one"].model)
    pairs = zip(before.parameters(), engine(trainer).model.parameters(), strict=True)
    return sum(((a - b) ** 2).sum() for a, b in pairs).sqrt().item()


def sampling(name):
    return lambda trainer: getattr(engine(trainer).generation_config, name)


def ddp(name):
    return lambda trainer: getattr(trainer.accelerator.ddp_handler, name)


def loss(trainer):
    """TRL's loss of a batch that was sampled by another policy."""
    peer, draw = engine(trainer), torch.Generator().manual_seed(0)
    near = -torch.tensor(float(peer.model.config.vocab_size)).log()  # what an untrained model says of any token
    mask = torch.ones(4, 5, dtype=torch.long)
    mask[3, 3:] = 0
    batch = {
        "prompt_ids": torch.randint(5, 400, (4, 3), generator=draw),
        "prompt_mask": torch.ones(4, 3, dtype=torch.long),
        "completion_ids": torch.randint(5, 400, (4, 5), generator=draw),
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 2.0, -0.5]),
        "num_items_in_batch": torch.tensor(18.0),
        "old_per_token_logps": near + torch.randn(4, 5, generator=draw),
        "ref_per_token_logps": near + torch.randn(4, 5, generator=draw),
    }
    peer.model.train()
    peer.current_gradient_accumulation_steps = 1
    return round(peer._compute_loss(peer.model, batch).item(), 6)


def entropy_coef(trainer):
    """The coefficient after a step in which the entropy was that of an untrained model, 6.2 nats."""
    loss(trainer)
    return round(engine(trainer).entropy_coef, 6)


# ---- the tables: option -> what it is set to, what is looked at, what is seen (None: just not what is seen without)

# Option -> what is set, what is looked at, what is seen (None: just not what is seen without), and without what.

ADAPTIVE = {"use_adaptive_entropy": True, "entropy_coef": 0.1}
TWO = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
SAVED = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
DROPOUT = LoraConfig(r=2, lora_dropout=0.5, target_modules="all-linear", task_type="CAUSAL_LM")
VALUES = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.5}

BUILT = {
    "learning_rate": ({"learning_rate": 0.5}, lambda t: group(t)["initial_lr"], 0.5),
    "weight_decay": ({"weight_decay": 0.3}, lambda t: group(t)["weight_decay"], 0.3),
    "adam_beta1": ({"adam_beta1": 0.5}, lambda t: group(t)["betas"][0], 0.5),
    "adam_beta2": ({"adam_beta2": 0.5}, lambda t: group(t)["betas"][1], 0.5),
    "adam_epsilon": ({"adam_epsilon": 0.1}, lambda t: group(t)["eps"], 0.1),
    "optim": ({"optim": "sgd"}, optimizer, "SGD"),
    "optim_args": ({"optim": "sgd", "optim_args": "momentum=0.7"}, lambda t: group(t).get("momentum"), 0.7),
    "lr_scheduler_type": ({"lr_scheduler_type": "constant"}, rates, [1e-2] * 10),
    "warmup_steps": ({"warmup_steps": 5}, lambda t: rates(t)[:2], [0.0, 1e-2 / 5]),
    "lr_scheduler_kwargs": (
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 5e-3}},
        lambda t: min(rates(t)) > 5e-3,
        True,
    ),
    "seed": ({"seed": 7}, order, None),
    "data_seed": ({"data_seed": 7}, order, None),
    "shuffle_dataset": ({"shuffle_dataset": False}, order, [0] * 4 + [1] * 4),
    "cast_lm_head_to_fp32": (
        {"cast_lm_head_to_fp32": True, "model_init_kwargs": {"dtype": "bfloat16"}},
        lambda t: (engine(t).model.dtype, engine(t).model.lm_head.weight.dtype),
        (torch.bfloat16, torch.float32),
    ),
    "torch_compile": (
        {"torch_compile": True},
        lambda t: type(t._wrap_model(t.model)["one"]).__name__,
        "OptimizedModule",
    ),
    "torch_compile_backend": (
        {"torch_compile_backend": "eager"},
        lambda t: t.accelerator.state.dynamo_plugin.backend.value,
        "EAGER",
    ),
    "torch_compile_mode": (
        {"torch_compile_mode": "reduce-overhead"},
        lambda t: t.accelerator.state.dynamo_plugin.mode,
        "reduce-overhead",
    ),
    "use_cache": ({"use_cache": True}, lambda t: engine(t).model.config.use_cache, True),
    "accelerator_config": (
        {"accelerator_config": {"even_batches": False}},
        lambda t: t.accelerator.even_batches,
        False,
    ),
    "ddp_bucket_cap_mb": ({"ddp_bucket_cap_mb": 7}, ddp("bucket_cap_mb"), 7),
    "ddp_broadcast_buffers": ({"ddp_broadcast_buffers": False}, ddp("broadcast_buffers"), False),
    "ddp_static_graph": ({"ddp_static_graph": True}, ddp("static_graph"), True),
    "dataloader_num_workers": ({"dataloader_num_workers": 1}, lambda t: loader(t).num_workers, 1),
    "dataloader_persistent_workers": (
        {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
        lambda t: loader(t).persistent_workers,
        True,
    ),
    "dataloader_prefetch_factor": (
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 5},
        lambda t: loader(t).prefetch_factor,
        5,
    ),
    "dataloader_multiprocessing_context": (
        {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"},
        lambda t: (context := loader(t).multiprocessing_context) and context.get_start_method(),
        "spawn",
    ),
    "dataloader_in_order": ({"dataloader_in_order": False}, lambda t: loader(t).in_order, False),
    "disable_tqdm": (
        {"disable_tqdm": False},
        lambda t: any(isinstance(c, PrinterCallback) for c in t.callback_handler.callbacks),
        False,
    ),
    **{name: ({name: value}, sampling(name), value) for name, value in VALUES.items()},
    "generation_kwargs": ({"generation_kwargs": {"num_beams": 2}}, sampling("num_beams"), 2),
    "cache_implementation": ({"cache_implementation": "static"}, sampling("cache_implementation"), "static"),
    # ---- the loss ----
    "loss_type": ({"loss_type": "dr_grpo"}, loss, None),
    "beta": ({"beta": 0.5}, loss, None),
    "use_bias_correction_kl": ({"beta": 0.5, "use_bias_correction_kl": False}, loss, None, {"beta": 0.5}),
    "epsilon": ({"epsilon": 0.9}, loss, None),
    "epsilon_high": ({"epsilon_high": 5.0}, loss, None),
    "delta": ({"delta": 1.3}, loss, None),
    "importance_sampling_level": ({"importance_sampling_level": "sequence"}, loss, None),
    "top_entropy_quantile": ({"top_entropy_quantile": 0.3}, loss, None),
    "off_policy_mask_threshold": ({"off_policy_mask_threshold": -9.0}, loss, None),
    "entropy_coef": ({"entropy_coef": 0.1}, loss, None),
    **{
        name: ({"loss_type": kind, name: 0.5}, loss, None, {"loss_type": kind})
        for kind, names in {
            "sapo": ("sapo_temperature_neg", "sapo_temperature_pos"),
            "vespo": ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
        }.items()
        for name in names
    },
    "use_adaptive_entropy": (ADAPTIVE, entropy_coef, 0.095, {"entropy_coef": 0.1}),
    "entropy_coef_delta": (ADAPTIVE | {"entropy_coef_delta": 0.02}, entropy_coef, 0.08, ADAPTIVE),
    "entropy_coef_min": (ADAPTIVE | {"entropy_coef_min": 0.099}, entropy_coef, 0.099, ADAPTIVE),
    "entropy_target": (ADAPTIVE | {"entropy_target": 100.0}, entropy_coef, 0.105, ADAPTIVE),
    "entropy_coef_max": (
        ADAPTIVE | {"entropy_target": 100.0, "entropy_coef_max": 0.102},
        entropy_coef,
        0.102,
        ADAPTIVE | {"entropy_target": 100.0},
    ),
}
TRAINED = {
    "max_steps": ({"max_steps": 2}, lambda t: t.state.global_step, 2),
    "num_train_epochs": ({"max_steps": -1, "num_train_epochs": 0.5}, lambda t: t.state.global_step, 2),
    "gradient_accumulation_steps": ({"gradient_accumulation_steps": 2}, lambda t: t._step, 2),
    "per_device_train_batch_size": (
        {"per_device_train_batch_size": 16},
        lambda t: len(rows(t, "completion_ids")),
        16,
    ),
    "num_generations": ({"num_generations": 2}, lambda t: len(t.last_group.responses[0][0]), 2),
    "generation_batch_size": ({"generation_batch_size": 16}, lambda t: len(t.last_group.prompts), 4),
    "steps_per_generation": ({"steps_per_generation": 2}, lambda t: len(t.last_group.prompts), 4),
    "num_iterations": ({"num_iterations": 2}, lambda t: "old_per_token_logps" in engine(t)._buffered_inputs[0], True),
    "max_completion_length": ({"max_completion_length": 2}, lambda t: rows(t, "completion_ids").size(1), 2),
    "chat_template_kwargs": (
        {"chat_template_kwargs": {"extra": "? It is "}},
        lambda t: rows(t, "prompt_ids").size(1),
        None,
    ),
    "pad_to_multiple_of": ({"pad_to_multiple_of": 64}, lambda t: rows(t, "prompt_ids").size(1), 64),
    "scale_rewards": ({"scale_rewards": "none"}, lambda t: rows(t, "advantages").tolist(), None),
    "mask_truncated_completions": (
        {"mask_truncated_completions": True},
        lambda t: rows(t, "completion_mask").any().item(),
        False,
    ),
    "max_grad_norm": (
        {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 1e-3},
        lambda t: round(moved(t), 5),
        1e-3,
        {"optim": "sgd", "learning_rate": 1.0},
    ),
    "neftune_noise_alpha": ({"neftune_noise_alpha": 50.0}, moved, None),
    "activation_checkpointing": (
        {"activation_checkpointing": True},
        lambda t: engine(t).model.is_gradient_checkpointing,
        True,
    ),
    "gradient_checkpointing": (
        {"gradient_checkpointing": True},
        lambda t: engine(t).model.is_gradient_checkpointing,
        True,
    ),
    **{
        f"{kind}_checkpointing_kwargs": (
            {f"{kind}_checkpointing": True, f"{kind}_checkpointing_kwargs": {"use_reentrant": True}},
            lambda t: engine(t).model.model.layers[0]._gradient_checkpointing_func.keywords["use_reentrant"],
            True,
            {f"{kind}_checkpointing": True},
        )
        for kind in ("activation", "gradient")
    },
    "skip_memory_metrics": (
        {"skip_memory_metrics": False},
        lambda t: "train_mem_cpu_alloc_delta" in t.output.metrics,
        True,
    ),
    "logging_steps": ({"max_steps": 2, "logging_steps": 2}, steps, [2]),
    "logging_strategy": ({"logging_strategy": "no"}, steps, []),
    "logging_first_step": (
        {"max_steps": 2, "logging_steps": 9, "logging_first_step": True},
        steps,
        [1],
        {"logging_steps": 9},
    ),
    "eval_strategy": (TWO, evaluated, [1, 2]),
    "eval_steps": (TWO | {"eval_steps": 2}, evaluated, [2], TWO),
    "eval_delay": (TWO | {"eval_delay": 2}, evaluated, [2], TWO),
    "eval_on_start": (TWO | {"eval_on_start": True}, evaluated, [0, 1, 2], TWO),
    "save_strategy": (SAVED, saved, ["checkpoint-1", "checkpoint-2"]),
    "save_steps": (SAVED | {"save_steps": 2}, saved, ["checkpoint-2"], SAVED),
    "save_total_limit": (SAVED | {"save_total_limit": 1, "on_collapse": "off"}, saved, ["checkpoint-2"], SAVED),
    "save_only_model": (
        SAVED | {"save_only_model": True},
        lambda t: (folder(t) / "checkpoint-1" / "optimizer.pt").exists(),
        False,
        SAVED,
    ),
}


PLAIN = {}  # what is seen without an option: many are looked at in the same way


def seen(make, looked_at, expected, options, without):
    found, key = looked_at(make(**options)), (looked_at, repr(without))
    if key not in PLAIN:
        PLAIN[key] = looked_at(make(**without))
    assert found != PLAIN[key]
    assert expected is None or found == expected


@pytest.mark.parametrize("name", BUILT)
def test_a_trainer_is_built_with_it(lab, name):
    options, looked_at, expected, *without = BUILT[name]
    seen(lab.make, looked_at, expected, options, *without or [{}])


@pytest.mark.parametrize("name", TRAINED)
def test_a_trainer_trains_with_it(lab, name):
    options, looked_at, expected, *without = TRAINED[name]
    seen(lab.run, looked_at, expected, options, *without or [{}])


# ---- those that want more than a look ------------------------------------------------------------------------------


def test_data_seed_orders_the_data_as_a_seed_would(lab):
    assert order(lab.make(data_seed=7)) == order(lab.make(seed=7))


def test_neftune_leaves_no_hook_behind(lab):
    assert not engine(lab.run(neftune_noise_alpha=50.0)).model.get_input_embeddings()._forward_hooks


def test_output_dir(lab):
    made = lab.run(**SAVED, output_dir=str(lab.folder / "elsewhere"))
    assert saved(made) and (lab.folder / "elsewhere" / "checkpoint-1" / "one" / "model.safetensors").exists()


def test_disable_dropout(lab):
    def rate(trainer):
        return {m.p for m in engine(trainer).model.modules() if isinstance(m, torch.nn.Dropout)}

    assert (rate(lab.make(DROPOUT)), rate(lab.make(DROPOUT, disable_dropout=True))) == ({0.5}, {0.0})


def test_router_aux_loss_coef(lab):
    with pytest.raises(ValueError, match="`router_aux_loss_coef` is set to 0.1 but LlamaForCausalLM is not"):
        lab.make(router_aux_loss_coef=0.1)


def test_log_level(lab):
    said = []
    for level in ("error", "info"):
        lab.make(log_level=level)
        said.append(hf_logging.get_verbosity())
    assert said == [logging.ERROR, logging.INFO]


def test_full_determinism_and_debug(lab, monkeypatch):
    called = MagicMock()
    monkeypatch.setattr("transformers.trainer.enable_full_determinism", called.determinism)
    monkeypatch.setattr("transformers.trainer.DebugUnderflowOverflow", called.debug)
    made = lab.make(full_determinism=True, debug="underflow_overflow")
    made.train()
    called.determinism.assert_called_with(42)
    called.debug.assert_called_once_with(made.model)


def test_eight_bit_optimizers_leave_embeddings_whole(lab):
    from bitsandbytes.optim import GlobalOptimManager

    made = lab.make(optim="adamw_8bit")
    assert optimizer(made) == "AdamW"
    kept = [module for module, _, how in GlobalOptimManager.get_instance().module_weight_config_triple if how]
    assert kept[-1] is engine(made).model.get_input_embeddings()


def test_torch_empty_cache_steps(lab, monkeypatch):
    emptied = MagicMock()
    monkeypatch.setattr("transformers.trainer.clear_device_cache", emptied)
    lab.make(max_steps=2, torch_empty_cache_steps=1).train()
    assert emptied.call_count == 2


def test_fp16_and_tf32(lab, monkeypatch):
    """Both need a GPU: what is asked of it."""
    asked = MagicMock()
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", asked)
    made = PSTConfig(**SMALL, output_dir="unused", tf32=True, fp16=True)
    asked.assert_called_once_with(True)
    assert (made.mixed_precision, made.bf16) == ("fp16", False)


def test_ddp_backend_and_timeout(monkeypatch):
    """They go to what starts the process group, where there are several processes on GPUs."""
    args, started = PSTConfig(**SMALL, output_dir="unused", ddp_timeout=60), {}

    class State(SimpleNamespace):
        def __init__(self, **options):
            started.update(options)
            super().__init__(device=torch.device("cpu"), distributed_type=DistributedType.NO)

    monkeypatch.setattr("transformers.training_args.PartialState", State)
    args.use_cpu, args.ddp_backend = False, "gloo"
    type(args)._setup_devices.func(args)
    assert (started["backend"], started["timeout"].total_seconds()) == ("gloo", 60)


def test_dataloader_pin_memory(lab):
    made = lab.make()
    assert not loader(made).pin_memory  # without a GPU transformers turns it off
    engine(made).args.dataloader_pin_memory = True
    assert loader(made).pin_memory


@contextmanager
def second_node(monkeypatch):
    """As if this were the first process of the second machine."""
    with monkeypatch.context() as patched:
        patched.setattr(PSTConfig, "process_index", property(lambda self: 1))
        patched.setattr(PSTConfig, "local_process_index", property(lambda self: 0))
        yield


def test_on_each_node(monkeypatch):
    plain = PSTConfig(**SMALL, output_dir="unused", log_level="info", log_level_replica="error")
    once = PSTConfig(**SMALL, output_dir="unused", log_on_each_node=False, log_level_replica="error")
    each = PSTConfig(**SMALL, output_dir="unused", save_on_each_node=True)
    with second_node(monkeypatch):
        assert (plain.should_log, once.should_log) == (True, False)
        assert (plain.get_process_log_level(), once.get_process_log_level()) == (logging.INFO, logging.ERROR)
        assert (plain.should_save, each.should_save) == (False, True)


def test_trackers(lab, monkeypatch):
    tracker = MagicMock(__version__="99")
    tracker.context_vars.current_space_id.get.return_value = "me/space"
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    trackio = {
        "trackio_space_id": "me/space",
        "trackio_bucket_id": "me/bucket",
        "trackio_static_space_id": "me/static",
    }
    lab.make(report_to=["trackio"], run_name="mine", project="ours", **trackio).train()
    (started,) = [call.kwargs for call in tracker.init.call_args_list]
    assert (started["name"], started["project"]) == ("mine", "ours")
    assert (started["space_id"], started["bucket_id"]) == ("me/space", "me/bucket")
    assert tracker.freeze.call_args.kwargs["new_space_id"] == "me/static" and tracker.log.called


def test_hub_revision_and_always_push(lab, monkeypatch):
    uploads = []
    monkeypatch.setattr("pst_rl.loop.repositories.upload_folder", lambda **options: uploads.append(options))
    busy = SimpleNamespace(is_done=lambda: False, wait_until_done=lambda: None, jobs=[])

    def pushes(**options):
        made = lab.make(**options)
        engine(made).hub_model_id, engine(made).push_in_progress = "me/one", busy
        checkpoint = folder(made) / "checkpoint-1"
        (checkpoint / "one").mkdir(parents=True)
        uploads.clear()
        made._push_from_checkpoint(str(checkpoint))
        return [upload["revision"] for upload in uploads]

    assert pushes() == []
    assert pushes(hub_always_push=True, hub_revision="next") == ["next"]


class Counting(TrainerCallback, ExportableState):
    """A callback with a state: the steps it has seen."""

    def __init__(self, seen=0):
        self.seen = seen

    def on_step_end(self, args, state, control, **kwargs):
        self.seen += 1

    def state(self):
        return {"args": {"seen": self.seen}, "attributes": {}}


def test_restore_callback_states_from_checkpoint(lab):
    options = {"output_dir": str(lab.folder / "counted"), "save_strategy": "steps", "save_steps": 1}
    lab.make(callbacks=[Counting()], **options).train()

    def counted(**more):
        made = lab.make(callbacks=[Counting()], **options | more, max_steps=2)
        made.train(resume_from_checkpoint=str(lab.folder / "counted" / "checkpoint-1"))
        return next(c.seen for c in made.callback_handler.callbacks if isinstance(c, Counting))

    assert (counted(), counted(restore_callback_states_from_checkpoint=True)) == (1, 2)


@pytest.mark.parametrize("name", ["use_transformers_continuous_batching", "use_transformers_paged"])
def test_continuous_batching(lab, name):
    made = lab.make(**{name: True}, transformers_continuous_batching_config={"max_memory_percent": 0.25})
    asked = []

    def batch(prompts, generation_config, continuous_batching_config, progress_bar):
        asked.append(continuous_batching_config.max_memory_percent)
        return {k: SimpleNamespace(generated_tokens=[10, 11]) for k in range(len(prompts))}

    engine(made).model.generate_batch = batch
    assert engine(made).answer([QUESTIONS["prompt"][0]]).completion_ids == [[10, 11]]
    assert asked == [0.25]


# ---- vLLM, which TRL is given no engine of -------------------------------------------------------------------------

VLLM = {
    "vllm_mode": "server",
    "vllm_model_impl": "transformers",
    "vllm_enable_sleep_mode": True,
    "vllm_structured_outputs_regex": "[0-9]+",
    "vllm_server_base_url": "http://there:1",
    "vllm_server_host": "there",
    "vllm_server_port": 1234,
    "vllm_server_timeout": 9.0,
    "vllm_group_port": 4321,
    "vllm_max_model_length": 99,
    "vllm_gpu_memory_utilization": 0.9,
    "vllm_tensor_parallel_size": 2,
}


class Engine:
    """In the place of TRL's `VLLMGeneration`: answers three tokens, with the log-probabilities of another model."""

    made = None

    def __init__(self, **options):
        Engine.made = options
        self.model = options["model"]

    def sync_weights(self):
        pass

    def generate(self, prompts, **options):
        return prompts, [[10, 11, 12]] * len(prompts), [[[-1.0], [-6.0], [-9.0]]] * len(prompts), None


@pytest.fixture
def vllm(lab, monkeypatch):
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Engine)
    return lambda **options: lab.make(use_vllm=True, **options)


@pytest.mark.parametrize("name", VLLM)
def test_vllm_is_started_with_it(vllm, name):
    vllm(**{name: VLLM[name]}, vllm_importance_sampling_correction=False)
    assert Engine.made[name.removeprefix("vllm_")] == VLLM[name]


def test_use_vllm(vllm):
    assert engine(vllm()).answer([QUESTIONS["prompt"][0]]).completion_ids == [[10, 11, 12]]


TOKENS = {"vllm_importance_sampling_mode": "token_truncate"}
CORRECTED = {
    "vllm_importance_sampling_correction": ({"vllm_importance_sampling_correction": False}, {}),
    "vllm_importance_sampling_mode": (TOKENS, {}),
    "vllm_importance_sampling_clip_max": (TOKENS | {"vllm_importance_sampling_clip_max": 1.5}, TOKENS),
    "vllm_importance_sampling_cap": (TOKENS | {"vllm_importance_sampling_cap": 1.5}, TOKENS),
    "vllm_importance_sampling_clip_min": (TOKENS | {"vllm_importance_sampling_clip_min": 0.5}, TOKENS),
}


@pytest.mark.parametrize("name", CORRECTED)
def test_vllm_importance_sampling(vllm, name):
    def ratios(options):
        made = vllm(**options)
        made.train()
        found = engine(made)._buffered_inputs[0].get("importance_sampling_ratio")
        return None if found is None else found.unique().tolist()

    options, without = CORRECTED[name]
    assert ratios(options) != ratios(without)


# ---- the models' options, as the command line reads them -----------------------------------------------------------

LORA = {
    "lora_r": (["3"], "r", 3),
    "lora_alpha": (["7"], "lora_alpha", 7),
    "lora_dropout": (["0.5"], "lora_dropout", 0.5),
    "lora_target_modules": (["q_proj", "v_proj"], "target_modules", {"q_proj", "v_proj"}),
    "lora_target_parameters": (["a.b"], "target_parameters", ["a.b"]),
    "lora_modules_to_save": (["embed_tokens"], "modules_to_save", ["embed_tokens"]),
    "use_rslora": ([], "use_rslora", True),
    "use_dora": ([], "use_dora", True),
    "use_peft": (None, "r", 16),
}
BITS = {
    "load_in_8bit": ([], "load_in_8bit", True),
    "load_in_4bit": (["--load-in-4bit"], "bnb_4bit_compute_dtype", torch.bfloat16),
    "bnb_4bit_quant_type": (["--load-in-4bit", "fp4"], "bnb_4bit_quant_type", "fp4"),
    "use_bnb_nested_quant": (["--load-in-4bit"], "bnb_4bit_use_double_quant", True),
    "bnb_4bit_quant_storage": (["--load-in-4bit", "float16"], "bnb_4bit_quant_storage", torch.float16),
}


def flags(name, words):
    named = [f"--{name.replace('_', '-')}"]
    return [word for word in words if word.startswith("--")] + named + [w for w in words if not w.startswith("--")]


@pytest.mark.parametrize("name", LORA)
def test_adapters_are_made_with_it(name):
    words, field, expected = LORA[name]
    argv = ["--use-peft", *(flags(name, words) if words is not None else [])]
    found = getattr(get_peft_config(parse(Train, PRESETS, TINY_STYLE, argv).model), field)
    assert found == expected


@pytest.mark.parametrize("name", BITS)
def test_weights_are_quantized_with_it(name):
    words, field, expected = BITS[name]
    argv = list(dict.fromkeys(flags(name, words)))
    assert getattr(get_quantization_config(parse(Train, PRESETS, TINY_STYLE, argv).model), field) == expected


def test_a_run_hands_them_to_its_trainer(monkeypatch, tmp_path, tiny):
    class Built(Exception):
        """The trainer is asked for."""

    def build(peers, args, **options):
        raise Built(peers, args, options)

    monkeypatch.setattr("pst_rl.trainer.PSTTrainer", build)
    words = "--load-in-4bit --use-peft --lora-r 3 --attn-implementation eager --model-revision main --test-questions 4"
    argv = [
        *words.split(),
        "--train-questions",
        "8",
        "--output-dir",
        str(tmp_path),
        "--peers",
        tiny["llama"],
        "tiny/x",
    ]
    with pytest.raises(Built) as built:
        TrainRun.parse([*argv, "--dataset", "tiny"]).run()
    peers, _, options = built.value.args
    assert [(p.dtype, p.attn_implementation, p.revision) for p in peers] == [("bfloat16", "eager", None)] * 2
    assert options["peft_config"].r == 3 and options["quantization_config"].load_in_4bit


# ---- nothing is left out -------------------------------------------------------------------------------------------

HERE = {
    "test_output_dir": ["output_dir"],
    "test_disable_dropout": ["disable_dropout"],
    "test_router_aux_loss_coef": ["router_aux_loss_coef"],
    "test_log_level": ["log_level"],
    "test_full_determinism_and_debug": ["full_determinism", "debug"],
    "test_torch_empty_cache_steps": ["torch_empty_cache_steps"],
    "test_fp16_and_tf32": ["fp16", "tf32"],
    "test_ddp_backend_and_timeout": ["ddp_backend", "ddp_timeout"],
    "test_dataloader_pin_memory": ["dataloader_pin_memory"],
    "test_on_each_node": ["log_on_each_node", "log_level_replica", "save_on_each_node"],
    "test_trackers": "report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id".split(),
    "test_hub_revision_and_always_push": ["hub_revision", "hub_always_push"],
    "test_restore_callback_states_from_checkpoint": ["restore_callback_states_from_checkpoint"],
    "test_continuous_batching": [
        "use_transformers_continuous_batching",
        "use_transformers_paged",
        "transformers_continuous_batching_config",
    ],
    "test_use_vllm": ["use_vllm"],
}
ELSEWHERE = {
    "tests/hub/test_hub.py::test_token_and_privacy_are_honoured": ["hub_token", "hub_private_repo"],
    "tests/options/test_best_metric.py::test_the_best_peers_are_loaded_at_the_end": [
        "load_best_model_at_end",
        "greater_is_better",
    ],
}


def test_every_option_that_is_passed_has_a_test_of_its_effect():
    named = [name for names in (*HERE.values(), *ELSEWHERE.values()) for name in names]
    shown = [*BUILT, *TRAINED, *VLLM, *CORRECTED, *named]
    assert sorted(shown) == sorted(name for name, option in TRAINER.items() if option.fate == "passed")
    models = sorted(name for name, option in MODEL.items() if option.fate == "passed")
    assert sorted([*LORA, *BITS]) == models
    tests = dict.fromkeys(HERE, "tests/options/test_options_passed.py")
    tests |= {where.split("::")[1]: where.split("::")[0] for where in ELSEWHERE}
    missing = [
        n for n, file in tests.items() if not re.search(rf"^def {n}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
