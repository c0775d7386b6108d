"""One name for the prompt in every command, `--prompt-template`; the other one goes on working."""

import pytest
import yaml
from examples_loader import script_arguments

from pst_rl.benchmarks.prompts import load_prompt
from pst_rl.cli import main as cli

FLAGS = ["--prompt-template", "--prompt", "--prompt_template"]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("joined", [True, False])
def test_both_names_work_everywhere(flag, joined):
    words = [f"{flag}=Say {{question}}"] if joined else [flag, "Say {question}"]
    assert script_arguments(words).script.prompt_template == "Say {question}"
    assert cli.parse(["eval", "tiny", *words]).prompt == "Say {question}"
    assert cli.parse(["gv-gap", "tiny", *words]).prompt == "Say {question}"


@pytest.mark.parametrize("name", ["prompt", "prompt_template", "prompt-template"])
def test_both_names_work_in_files(tmp_path, name):
    file = tmp_path / "o.yaml"
    file.write_text(yaml.safe_dump({name: "Say {question}"}))
    assert script_arguments(["--config", str(file)]).script.prompt_template == "Say {question}"
    assert cli.parse(["eval", "tiny", "--config", str(file)]).prompt == "Say {question}"


def test_training_takes_prompts_by_name_and_from_files_too(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("Mine: {question}")
    assert script_arguments(["--prompt-template", "boxed.v1"]).script.prompt_template == load_prompt("boxed.v1").text
    assert script_arguments(["--prompt-template", str(file)]).script.prompt_template == "Mine: {question}"
    for wrong in ("boxd", "a text without its place " * 20):
        with pytest.raises(FileNotFoundError, match=r"choose one of boxed.v1.*, or a text with \{question\}"):
            script_arguments(["--prompt-template", wrong])


def test_help_has_one_name(capsys):
    with pytest.raises(SystemExit):
        cli.parse(["eval", "--help"])
    assert "--prompt-template" in capsys.readouterr().out
