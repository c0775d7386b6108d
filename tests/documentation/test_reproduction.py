"""The page on reproduction: its scripts, flags and commands are there."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from pst_rl.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reproduction.md").read_text()
LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", [line for line in LINES if "scripts/" in line])
def test_a_script_takes_the_flags_that_are_printed(line):
    _, script, *words = shlex.split(line)
    source = (ROOT / script).read_text()
    for name in re.findall(r"^from (\w+) import", source, re.MULTILINE):  # options that studies share
        shared = ROOT / "scripts" / f"{name}.py"
        source += shared.read_text() if shared.is_file() else ""
    flags = [word for word in words if word.startswith("--")]
    assert [flag for flag in flags if f'"{flag}"' not in source and f'"{flag[2:]}"' not in source] == []


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("pst-rl")])
def test_a_command_of_ours_parses(line):
    assert tyro.extras.subcommand_cli_from_dict(cli.COMMANDS, args=shlex.split(line)[1:])


def test_every_line_is_one_of_these_or_the_example():
    assert all(re.match(r"python scripts/|pst-rl |accelerate launch examples/pst_math\.py ", line) for line in LINES)


def test_tests_that_are_named_are_there():
    assert [file for file in re.findall(r"`(tests/[\w/]+\.py)`", PAGE) if not (ROOT / file).is_file()] == []
