"""A mistake on the command line is answered in one sentence: the option, what it takes, the nearest name."""

import pytest
from examples_loader import script_arguments

from pst_rl.cli import main as cli

SWITCH = "--use-peft: expected true or false or nothing, got 'maybe'."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--use_peft", "maybe"], SWITCH),
        (["--use_peft=maybe"], SWITCH),
        (["--bf16", "maybe"], "--bf16: expected true or false or None, got 'maybe'."),
        (["--max-stepps", "3"], "Unrecognized options: --max-stepps; did you mean --max-steps (a whole number)?"),
        (["--max-steps", "abc"], "--max-steps: expected a whole number, got 'abc'."),
        (["--learning-rate", "fast"], "--learning-rate: expected a number, got 'fast'."),
        (["--temperature", "0"], "temperature=0.0 is refused: it must be above 0."),
    ],
)
def test_a_mistake_of_training(words, said):
    with pytest.raises(ValueError) as refusal:
        script_arguments(words)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "--load-in-4bit", "maybe"], "--load-in-4bit: expected true or false or nothing, got 'maybe'."),
        (["tiny", "--load-in-4bit=maybe"], "--load-in-4bit: expected true or false or nothing, got 'maybe'."),
        (["--load-in-4bit", "maybe", "tiny"], "got 'maybe' ('tiny' is one word too many)."),
        (["tiny", "extra", "--load-in-4bit"], "error: Unrecognized options: extra"),
        (["tiny", "--limt", "3"], "Unrecognized options: --limt; did you mean --limit (a whole number or None)?"),
        (["tiny", "--no-limit"], "Unrecognized options: --no-limit; did you mean --limit (a whole number or None)?"),
        (["tiny", "--no-dryrun"], "Unrecognized options: --no-dryrun; did you mean --dry-run (true or false)?"),
        (["--limit", "abc", "tiny"], "--limit: expected a whole number or None, got 'abc'."),
        (["tiny", "--limit"], "--limit: expected a whole number or None, got nothing."),
        (["tiny", "--k", "1", "x"], "--k: expected a whole number, or several, got '1' 'x'."),
        (["tiny", "--style", "boxd"], "choice, text or None, got 'boxd'. Did you mean 'boxed'?"),
        (["tiny", "--chat-template-kwargs", "{a"], "expected JSON such as '{\"key\": 1}' or None, got '{a'."),
    ],
)
def test_a_mistake_of_another_command(capsys, words, said):
    assert cli.main(["eval", *words]) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith(said) and "\n" not in line


def test_a_word_behind_a_switch_that_is_the_benchmark():
    assert cli.parse(["eval", "--load-in-4bit", "tiny"]).benchmark == "tiny"
