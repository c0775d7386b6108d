import pytest
from examples_loader import script_arguments

from pst_rl.cli.trl_names import TRL_NAMES, check_trl_names, spelt_booleans

HINTS = {"use_peft": bool, "bf16": bool | None, "max_steps": int}


@pytest.mark.parametrize("name", TRL_NAMES)
def test_a_name_of_trl_is_answered_with_ours(name):
    for flag in (f"--{name}", f"--{name.replace('_', '-')}=x"):
        with pytest.raises(ValueError, match="is here:"):
            check_trl_names(["--max-steps", "1", flag])


def test_a_name_of_trl_is_answered_before_anything_is_parsed():
    with pytest.raises(ValueError, match="--dataset NAME"):
        script_arguments(["--dataset_name", "trl-lib/x"])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--use-peft", "true"], ["--use-peft"]),
        (["--use-peft", "False"], ["--no-use-peft"]),
        (["--use_peft=no"], ["--no-use_peft"]),
        (["--use-peft", "--max-steps", "1"], ["--use-peft", "--max-steps", "1"]),
        (["--bf16", "false"], ["--bf16", "False"]),
        (["--bf16", "None"], ["--bf16", "None"]),
        (["--max-steps", "1"], ["--max-steps", "1"]),
        (["true", "--max-steps", "1"], ["true", "--max-steps", "1"]),
    ],
)
def test_switches_may_have_values(words, wanted):
    assert spelt_booleans(words, HINTS) == wanted


def test_switches_with_values_reach_the_configuration():
    arguments = script_arguments(["--use_peft", "true", "--log_completions=false", "--report-to", "none"])
    assert arguments.model.use_peft and not arguments.config.log_completions
