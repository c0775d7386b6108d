"""What a resume notices: settings that may not change, how peers are asked, checkpoints that hold too little."""

import json
from pathlib import Path

import pytest
import torch
from conftest import same, weights
from transformers import AutoTokenizer, TrainerCallback

from pst_rl import PeerSpec, PSTTrainer
from pst_rl.loop.checkpoint_files import seal
from pst_rl.loop.identity import compared, renewed, settings_identity
from pst_rl.options.table import TRAINER

SAVED = {"save_strategy": "steps", "save_steps": 1}
SMALL = {"per_device_train_batch_size": 8, "max_completion_length": 4, "rewards": ["random"], "weighting": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of one small step; the run's folder."""
    from datasets import Dataset

    from pst_rl import PSTConfig
    from pst_rl.tiny import TINY_PEERS

    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": f"{k} + 1 = "}]} for k in range(8)])
    run = tmp_path_factory.mktemp("run")
    fixed = {"num_generations": 4, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}

    def make(peers=None, **options):
        args = PSTConfig(str(run), **{"max_steps": 2, "logging_steps": 1} | fixed | SMALL | options)
        return PSTTrainer(peers or {"llama": str(TINY_PEERS["llama"])}, args, rows)

    make(max_steps=1, **SAVED).train()
    return run, make


@pytest.fixture
def one(trainer, tiny):
    """A trainer of one peer."""
    return lambda **options: trainer({"llama": tiny["llama"]}, **options)


def wanted(run):
    return str(run / "checkpoint-1")


CHANGES = {
    "generation_kwargs": {"generation_kwargs": {"top_k": 1}},
    "lr_scheduler_kwargs": {"lr_scheduler_kwargs": {"last_epoch": -1}},
    "multi_objective_aggregation": {"multi_objective_aggregation": "normalize_then_sum"},
    "lr_scheduler_type": {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"},
    "adam_beta1": {"adam_beta1": 0.5},
    "chat_template_kwargs": {"chat_template_kwargs": {"x": 1}},
    "neftune_noise_alpha": {"neftune_noise_alpha": 1.0},
    "model_init_kwargs": {"model_init_kwargs": {"dtype": "bfloat16"}},
    "off_policy_mask_threshold": {"off_policy_mask_threshold": 0.5},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_any_setting_is_noticed(folder, name, config):
    before, after = (settings_identity(config(**options)) for options in ({}, CHANGES[name]))
    assert before[name] != after[name]


def test_resume_with_other_generation_settings_is_refused_with_the_difference(folder):
    run, make = folder
    with pytest.raises(ValueError, match=r'settings.generation_kwargs: nothing in the checkpoint, {"top_k": 1} now'):
        make(generation_kwargs={"top_k": 1}).checkpoint_to_resume(wanted(run))


def test_what_may_change_does(folder):
    run, make = folder
    free = {
        "max_steps": 7,
        "logging_steps": 3,
        "gradient_checkpointing": True,
        "save_steps": 9,
        "log_completions": True,
    }
    assert make(**free).checkpoint_to_resume(wanted(run)) == wanted(run)


def test_every_option_is_compared_or_may_change_or_is_refused(config):
    compared_now = set(settings_identity(config())) | {"seed", "data_seed"}
    for name, option in TRAINER.items():
        assert (name in compared_now) + bool(option.may_change) + (option.fate == "refused") == 1, name


def tokenizer(tiny, **changes):
    made = AutoTokenizer.from_pretrained(tiny["llama"])
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def other_end(tiny):
    """The same words, padded with another."""
    made = tokenizer(tiny)
    made.pad_token = made.convert_ids_to_tokens(7)
    return made


@pytest.mark.parametrize("what", ["chat_template", "tokenizer", "dtype", "attention"])
def test_another_way_of_asking_is_refused(folder, tiny, what):
    run, make = folder
    spec = {
        "chat_template": lambda: PeerSpec(
            tiny["llama"],
            processing_class=tokenizer(tiny, chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}!"),
        ),
        "tokenizer": lambda: PeerSpec(tiny["llama"], processing_class=other_end(tiny)),
        "dtype": lambda: PeerSpec(tiny["llama"], dtype="bfloat16"),
        "attention": lambda: PeerSpec(tiny["llama"], attn_implementation="eager"),
    }[what]()
    with pytest.raises(ValueError, match=rf"written by another run:(.|\n)*  peers\.llama\.{what}: "):
        make({"llama": spec}).checkpoint_to_resume(wanted(run))


def test_asking_changes_nothing_of_what_is_compared(folder):
    _, make = folder
    made = make()
    before, made._identity = made.identity(), None
    made.engines[0].answer([made.train_dataset["prompt"][0]], greedy=True)
    assert made.identity() == before


def test_a_checkpoint_that_does_not_say_is_compared_in_what_it_says(folder, caplog):
    run, make = folder
    path = run / "checkpoint-1" / "run.json"
    whole = path.read_text()
    old = json.loads(whole)
    del old["settings"]["generation_kwargs"], old["peers"]["llama"]["tokenizer"], old["peers"]["llama"]["generation"]
    path.write_text(json.dumps(old))
    seal(run / "checkpoint-1")
    try:
        assert make(generation_kwargs={"top_k": 1}).checkpoint_to_resume(wanted(run)) == wanted(run)
        assert "does not say, so it was not compared: generation_kwargs, peers.llama.tokenizer" in caplog.text
        with pytest.raises(ValueError, match="settings.temperature: 1.0 in the checkpoint, 0.5 now"):
            make(temperature=0.5).checkpoint_to_resume(wanted(run))
    finally:
        path.write_text(whole)
        seal(run / "checkpoint-1")


def test_a_data_seed_that_nothing_read_is_none():
    then = {"seeds": {"seed": 42, "data_seed": 7}, "settings": {"beta": 0.0}}
    now = {"seeds": {"seed": 42, "data_seed": 7}, "settings": {"beta": 0.0, "generation_kwargs": None}}
    assert compared(renewed(then), now)[0] == ["seeds.data_seed: nothing in the checkpoint, 7 now"]


def test_a_checkpoint_of_weights_only_is_refused_unless_told_to_begin_anew(one, caplog):
    made = one(max_steps=1, save_only_model=True, **SMALL | SAVED)
    assert "save_only_model=True: checkpoints will hold weights only" in caplog.text
    made.train()
    checkpoint = str(Path(made.args.output_dir) / "checkpoint-1")
    with pytest.raises(
        ValueError, match="holds weights only:\n  it was saved with save_only_model=True, without the optim"
    ):
        one(max_steps=2, **SMALL).train(resume_from_checkpoint=checkpoint)
    told = one(max_steps=2, resume_anyway=True, **SMALL)
    told.train(resume_from_checkpoint=checkpoint)
    assert told.state.global_step == 2


@pytest.mark.parametrize("options", [{"neftune_noise_alpha": 5.0}, {"data_seed": 7}], ids=lambda o: next(iter(o)))
def test_resumed_runs_end_bit_equal_with_it(one, options):
    whole = one(max_steps=3, **SMALL | SAVED | options)
    whole.train()
    resumed = one(max_steps=3, **SMALL | options)
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / "checkpoint-1"))
    for name, peer in whole.peers.items():
        assert same(weights(peer.model), weights(resumed.peers[name].model))


class Spares(TrainerCallback):
    """As the collapse monitor does: names the first checkpoint as the best."""

    def on_save(self, args, state, control, **kwargs):
        state.best_model_checkpoint = f"{args.output_dir}/checkpoint-1"


def test_the_newest_checkpoint_stays_though_another_is_spared(one):
    made = one(max_steps=2, save_total_limit=1, **SMALL | SAVED)
    made.add_callback(Spares())
    made.train()
    there = {path.name for path in Path(made.args.output_dir).glob("checkpoint-*")}
    assert there == {"checkpoint-1", "checkpoint-2"}
    assert made.state.best_model_checkpoint.endswith("checkpoint-1")
    assert torch.load(Path(made.args.output_dir) / "checkpoint-2" / "joint_state_0.pt")["micro_steps"] == 2
