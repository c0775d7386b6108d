"""The table of options is complete, what it refuses is refused with the remedy, and its page is in step."""

import re
from dataclasses import MISSING, fields

import pytest
from pages import DOCS
from trl import GRPOConfig, ModelConfig

from pst_rl import PSTConfig
from pst_rl.cli.parse import parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE
from pst_rl.cli.train import Train
from pst_rl.options.page import options_page
from pst_rl.options.refusals import check_options
from pst_rl.options.table import MODEL, OWN_MAY_CHANGE, TRAINER, may_change


def default(field):
    return field.default_factory() if field.default_factory is not MISSING else field.default


DEFAULTS = {field.name: default(field) for field in fields(GRPOConfig)}
MODEL_DEFAULTS = {field.name: default(field) for field in fields(ModelConfig)}


def other(value):
    """A value that an option does not have by default."""
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else "other"


@pytest.mark.parametrize(("kind", "table"), [(GRPOConfig, TRAINER), (ModelConfig, MODEL)], ids=["trainer", "model"])
def test_the_table_knows_every_field_of_trl_and_no_other(kind, table):
    there = {field.name for field in fields(kind)}
    assert sorted(there - set(table)) == [], "TRL or transformers brought these: decide what becomes of them"
    assert sorted(set(table) - there) == [], "TRL or transformers dropped these"


def test_every_field_of_ours_is_known_to_the_identity_or_may_change():
    own = {field.name for field in fields(PSTConfig)} - set(TRAINER)
    assert set(OWN_MAY_CHANGE) < own and all(may_change(name) for name in OWN_MAY_CHANGE)
    assert not any(may_change(name) for name in own - set(OWN_MAY_CHANGE))


REFUSED = sorted(name for name, option in TRAINER.items() if option.fate == "refused")


@pytest.mark.parametrize(
    ("name", "among"),
    [
        ("loss_type", "dapo"),
        ("importance_sampling_level", "sequence"),
        ("scale_rewards", "batch"),
        ("vllm_importance_sampling_mode", "token_mask"),
    ],
)
def test_what_trl_would_refuse_in_the_first_step_is_refused_at_once(config, name, among):
    with pytest.raises(ValueError, match=f"{name}='dapoo' is refused: it must be one of .*{among}"):
        config(**{name: "dapoo"})
    assert getattr(config(**{name: among}), name) == among


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("temperature", 0.0, "above 0"),
        ("top_p", 1.5, "above 0 and at most 1"),
        ("max_completion_length", 0, "at least 1"),
        ("learning_rate", -1e-6, "at least 0"),
        ("epsilon", -0.2, "at least 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_at_once(config, name, value, rule):
    with pytest.raises(ValueError, match=f"{name}={value!r} is refused: it must be {rule}"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dtype", "bfloat17"], "dtype='bfloat17' is refused: it must be one of auto, bfloat16"),
        (["--bnb-4bit-quant-type", "nf5"], "bnb_4bit_quant_type='nf5' is refused: it must be one of nf4, fp4"),
        (["--lora-r", "0"], "lora_r=0 is refused: it must be at least 1"),
        (["--lora-dropout", "1"], "lora_dropout=1.0 is refused: it must be at least 0 and below 1"),
    ],
)
def test_what_no_model_can_be_loaded_with_is_refused_in_a_dry_run_too(flags, message):
    with pytest.raises(ValueError, match=message):
        parse(Train, PRESETS, TINY_STYLE, ["--dry-run", *flags])


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_table_refuses_is_refused_with_the_remedy(config, name):
    value = other(DEFAULTS[name])
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} is refused: {TRAINER[name].note}")):
        config(**{name: value})


def test_every_remedy_says_what_to_do():
    notes = [option.note for option in [*TRAINER.values(), *MODEL.values()] if option.fate == "refused"]
    doing = re.compile(r"\b(Leave|Use|use|see|see:|Set|Ask|Lower|Launch|launch|upload|adds|name the|are named)\b")
    assert [note for note in notes if not doing.search(note)] == [] and len(notes) > 35


def test_several_refusals_are_one_message(config):
    with pytest.raises(ValueError, match="2 options are refused:\n  label_smoothing_factor=0.1 .*\n  do_train=True "):
        config(label_smoothing_factor=0.1, do_train=True)


def test_a_refused_option_at_its_default_or_at_a_harmless_value_is_none(config):
    defaults = {name: DEFAULTS[name] for name in REFUSED}
    made = config(**defaults | {"num_generations_eval": 1, "fsdp": False})
    assert made.label_smoothing_factor == 0.0


def test_what_evaluation_strategies_set_is_no_refusal(config):
    assert config(eval_strategy="steps", eval_steps=1, do_eval=True).do_eval


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim": "galore_adamw"}, "optim='galore_adamw' is refused: .*adamw_8bit"),
        ({"optim": "schedule_free_adamw"}, "optim='schedule_free_adamw' is refused"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches': True} is refused"),
        ({"debug": "tpu_metrics_debug"}, "debug='tpu_metrics_debug' is refused"),
        ({"shared_prefill": True, "cache_implementation": "static"}, "Leave one of them out"),
    ],
)
def test_values_that_cannot_work_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize("name", sorted(name for name, option in MODEL.items() if option.fate == "refused"))
def test_what_the_table_refuses_of_the_models_options_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"{name}='other' is refused: {MODEL[name].note}")):
        check_options(ModelConfig(**{name: "other"}), MODEL)


def test_the_command_line_refuses_them():
    with pytest.raises(ValueError, match="lora_task_type='SEQ_CLS' is refused: peers are causal language models"):
        parse(Train, PRESETS, TINY_STYLE, ["--lora-task-type", "SEQ_CLS"])
    with pytest.raises(ValueError, match="--peers"):
        parse(Train, PRESETS, TINY_STYLE, ["--model-name-or-path", "org/a"])


def test_the_page_of_options_is_the_table():
    """Write it anew with `python -m pst_rl.options.page > docs/options.md`."""
    assert (DOCS / "options.md").read_text() == options_page()
