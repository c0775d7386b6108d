import json
from dataclasses import dataclass, field

import pytest
from examples_loader import script_arguments

from pst_rl.cli.config_file import as_flags, option_value, read_config
from pst_rl.cli.parse import parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE


@dataclass
class Script:
    """A script."""

    preset: str = "first"
    """Preset."""
    config: str | None = None
    """File."""
    peers: list[str] = field(default_factory=lambda: ["tiny"])
    """Peers."""
    dataset: str = "tiny"
    """Data."""


BASE = {"num_generations": 4, "per_device_train_batch_size": 8, "report_to": "none"}
SMALL = {
    "first": {"peers": ["tiny"], "learning_rate": 1e-3, **BASE},
    "second": {"peers": ["a", "b"], "learning_rate": 1e-2, "use_peft": True, **BASE},
}
STYLE = {"answer_template": "#### {answer}"}


@pytest.fixture
def parsed(tmp_path):
    """`parsed(*flags, file=None)`: the arguments of a command line, with an optional configuration file."""

    def build(*flags, file=None):
        if file is not None:
            (tmp_path / "run.yaml").write_text(file)
            flags = (*flags, "--config", str(tmp_path / "run.yaml"))
        return parse(Script, SMALL, STYLE, ["--output-dir", str(tmp_path / "run"), *flags])

    return build


@pytest.fixture
def refused(parsed):
    """`refused(*flags, file=None)`: the message about a command line that cannot be used."""

    def build(*flags, file=None):
        with pytest.raises((ValueError, FileNotFoundError)) as refusal:
            parsed(*flags, file=file)
        return str(refusal.value)

    return build


# What overrides what


def test_the_first_preset_is_the_default(parsed):
    arguments = parsed()
    assert (arguments.script.peers, arguments.config.learning_rate) == (["tiny"], 1e-3)


@pytest.mark.parametrize("flags", [("--preset", "second"), ("--preset=second",)])
def test_a_preset_is_chosen_by_name(parsed, flags):
    arguments = parsed(*flags)
    assert (arguments.script.peers, arguments.config.learning_rate) == (["a", "b"], 1e-2)
    assert arguments.model.use_peft


def test_a_file_overrides_the_preset_and_flags_override_the_file(parsed):
    file = "learning_rate: 0.5\ntemperature: 0.7\n"
    arguments = parsed("--temperature", "0.9", file=file)
    assert (arguments.config.learning_rate, arguments.config.temperature) == (0.5, 0.9)


def test_a_flag_overrides_the_preset_even_for_lists_and_switches(parsed):
    arguments = parsed("--preset", "second", "--peers", "x", "y", "z", "--no-use-peft")
    assert arguments.script.peers == ["x", "y", "z"]
    assert not arguments.model.use_peft


def test_a_file_may_name_the_preset(parsed):
    assert parsed(file="preset: second\n").config.learning_rate == 1e-2


def test_a_file_may_use_dashes_and_numbers_without_a_point(parsed):
    assert parsed(file="learning-rate: 1e-4\n").config.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("flags", "file", "styled"),
    [
        ((), None, True),
        (("--preset", "second"), None, False),
        (("--preset", "second", "--peers", "tiny"), None, True),
        (("--peers", "a", "b"), None, False),
        ((), "peers: [a, b]\n", False),
        (("--preset", "second"), "peers: [tiny]\n", True),
        (("--preset", "second"), "peers: tiny\n", True),
    ],
)
def test_the_tiny_peers_bring_their_style(parsed, flags, file, styled):
    assert (parsed(*flags, file=file).config.answer_template == "#### {answer}") is styled


# Values


@pytest.mark.parametrize(
    ("flags", "file", "metric"),
    [
        ([], None, "whole"),
        (["--dataset", "simuleq"], None, "first"),
        (["--dataset", "allenai/lila:simuleq"], None, "first"),
        (["--dataset", "allenai/lila:asdiv"], None, "whole"),
        (["--dataset", "gsm8k"], None, "whole"),
        (["--dataset", "data/simuleq.jsonl"], None, "whole"),
        (["--dataset", "simuleq", "--answer-metric", "set"], None, "set"),
        ([], "dataset: simuleq", "first"),
        (["--dataset", "math500"], "dataset: simuleq", "whole"),
        (["--dataset", "simuleq"], "answer_metric: letter", "letter"),
    ],
)
def test_a_data_set_brings_the_metric_of_its_benchmark(parsed, flags, file, metric):
    assert parsed(*flags, file=file).config.answer_metric == metric


def test_dict_options_are_json(parsed):
    arguments = parsed("--lr-scheduler-kwargs", '{"min_lr": 0.1}', "--chat-template-kwargs", '{"thinking": false}')
    assert arguments.config.lr_scheduler_kwargs == {"min_lr": 0.1}
    assert arguments.config.chat_template_kwargs == {"thinking": False}


def test_a_dict_in_a_file_is_passed_on(parsed):
    assert parsed(file="lr_scheduler_kwargs:\n  min_lr: 0.1\n").config.lr_scheduler_kwargs == {"min_lr": 0.1}


def test_broken_json_is_answered_with_an_example(refused):
    assert "expected JSON" in refused("--chat-template-kwargs", "{thinking: 1}")


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        (("--reward-weights", "1.0", "0.5"), [1.0, 0.5]),
        (("--reward-weights", "None"), None),
    ],
)
def test_lists_and_none_can_be_given(parsed, flags, values):
    assert parsed(*flags).config.reward_weights == values


def test_a_list_and_none_in_a_file_are_passed_on(parsed):
    config = parsed(file="reward_weights: [1.0, 0.5]\nrows_per_generate: null\nbf16: false\n").config
    assert (config.reward_weights, config.rows_per_generate, config.bf16) == ([1.0, 0.5], None, False)


# Mistakes


@pytest.mark.parametrize(
    ("flags", "now"),
    [
        (("--pmi", "on"), "--pmi: now --weighting pmi"),
        (("--pmi=off",), "--pmi: now --weighting none"),
        (
            ("--pmi", "on", "--pmi-tau", "2"),
            """--pmi, --pmi-tau: now --weighting pmi --weighting-options '{"tau": 2}'""",
        ),
        (("--pmi_scorer", "last_peer"), """now --weighting pmi --weighting-options '{"scorer": "last_peer"}'"""),
        (("--pmi-from-cache", "--seed", "1"), """now --weighting pmi --weighting-options '{"from_cache": true}'"""),
        (("--no-pmi-from-cache",), """now --weighting pmi --weighting-options '{"from_cache": false}'"""),
    ],
)
def test_a_flag_of_an_earlier_version_is_answered_with_what_it_is_now(refused, flags, now):
    assert now in refused(*flags)


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ("pmi: on\n", "pmi in {}: now --weighting pmi"),
        ("pmi: 'off'\npmi_tau: 2\n", "pmi, pmi_tau in {}: now --weighting none"),
        ("pmi_tau: 2.5\npmi: on\n", """now --weighting pmi --weighting-options '{{"tau": 2.5}}'"""),
    ],
)
def test_an_option_of_an_earlier_version_in_a_file_is_answered_with_what_it_is_now(refused, tmp_path, text, now):
    file = tmp_path / "old.yaml"
    file.write_text(text)
    assert now.format(file) in refused("--config", str(file))


def test_a_file_names_a_weighting_and_its_options(parsed):
    config = parsed(file="weighting: pmi\nweighting_options: {tau: 2, direction: more}\n").config
    assert (config.weighting, config.weighting_options) == ("pmi", {"tau": 2, "direction": "more"})


@pytest.mark.parametrize(
    ("typo", "nearest"), [("--objectiv", "--objective"), ("--num-generation", "--num-generations")]
)
def test_a_typo_is_answered_with_the_nearest_option(refused, typo, nearest):
    message = refused(typo, "4")
    assert typo in message and nearest in message


def test_a_value_out_of_range_is_answered_with_the_choices(refused):
    message = refused("--objective", "ppo")
    assert "weighted_sft" in message


def test_an_unknown_preset_is_answered_with_the_known_ones(refused):
    assert "choose one of auto, first, second" in refused("--preset", "third")


def test_a_typo_in_the_file_is_answered_with_the_nearest_option(refused):
    message = refused(file="learning_rat: 1.0\n")
    assert "learning_rat" in message and "run.yaml" in message and "learning_rate" in message


def test_a_missing_file_is_named(refused):
    assert "'no.yaml' does not exist" in refused("--config", "no.yaml")


@pytest.mark.parametrize(
    ("file", "said"), [("a: [", "not valid YAML"), ("- a\n", "option names and values"), ("", "option names")]
)
def test_a_file_that_is_no_configuration_is_refused(refused, file, said):
    assert said in refused(file=file)


def test_settings_that_contradict_each_other_are_refused_in_one_line(refused):
    message = refused("--objective", "weighted_sft", "--temperature", "0.7")
    assert "temperature must be 1" in message and "Traceback" not in message


# Parts


def test_the_last_value_of_an_option_counts():
    assert option_value(["--config", "a", "--config=b"], "config") == "b"
    assert option_value(["--configs", "a"], "config") is None


def test_flags_are_written_as_one_would_type_them():
    hints = {"peers": list[str], "use_peft": bool, "kwargs": dict, "tau": float | None}
    options = {"peers": ["a", "b"], "use_peft": False, "kwargs": {"x": 1}, "tau": None}
    flags = ["--peers", "a", "b", "--no-use-peft", "--kwargs", json.dumps({"x": 1}), "--tau", "None"]
    assert as_flags(options, hints, "here") == flags


def test_a_file_holds_names_and_values(tmp_path):
    (tmp_path / "a.yaml").write_text("max-steps: 3\nloss_type: grpo\n")
    assert read_config(str(tmp_path / "a.yaml")) == {"max_steps": 3, "loss_type": "grpo"}


def test_a_json_file_is_read_as_json(tmp_path):
    (tmp_path / "a.json").write_text('{\n\t"max-steps": 3, "learning_rate": 1e-5}')
    assert read_config(str(tmp_path / "a.json")) == {"max_steps": 3, "learning_rate": 1e-5}
    (tmp_path / "a.json").write_text("max_steps: 3")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_config(str(tmp_path / "a.json"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_shipped_preset_parses_to_what_it_says(preset):
    arguments = script_arguments(["--preset", preset])
    parts = [vars(part) for part in (arguments.script, arguments.config, arguments.model)]
    wanted = (
        {"preset": preset}
        | PRESETS[preset]
        | (TINY_STYLE if PRESETS[preset].get("peers", ["tiny"]) == ["tiny"] else {})
    )
    if isinstance(peers := wanted.get("peers"), dict):
        wanted["peers"] = [json.dumps(peers)]
    if wanted.get("lora_target_modules") == ["all-linear"]:
        wanted["lora_target_modules"] = "all-linear"  # as TRL spells it
    assert {name: part[name] for name in wanted for part in parts if name in part} == wanted


def test_paper_preset_on_the_tiny_peers_keeps_its_protocol_and_takes_their_questions():
    from examples_loader import script_arguments

    parsed = script_arguments(["--preset", "paper", "--peers", "tiny", "--report-to", "none"])
    protocol = (parsed.config.context, parsed.config.aggregator, parsed.config.objective, parsed.config.quorum)
    assert protocol == ("sequential", "last_peer", "weighted_sft", 0.0)
    assert (parsed.script.dataset, parsed.config.answer_template) == ("tiny", "#### {answer}")
