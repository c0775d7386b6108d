"""`pst-rl answers` as a command: a file or the standard input in, what was read out, in colour on a terminal only."""

import json
import os
import pty
import subprocess
import sys

import pytest

from pst_rl.cli.main import main

RUN = [sys.executable, "-m", "pst_rl.cli", "answers"]
TEXTS = ["<think>17?</think> So \\boxed{18}.", "#### 18", "It is 7 apples, then 9.", "Hm."]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "9+9?", "text": text} for text in TEXTS]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def shown(capsys, *words):
    assert main(["answers", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_a_file_is_shown_response_by_response_with_the_share_of_each_reason(capsys):
    out = shown(capsys, "said.jsonl", "--column", "text")
    assert all(f"{number} of 4" in out for number in (1, 2, 3, 4))
    assert "answer '18'  key '18'" in out and "read as box" in out and "read as heading" in out
    table = out[out.index("responses") :]
    assert [line.split()[:3] for line in table.splitlines() if "25.0%" in line] == [
        [reason, "1", "25.0%"] for reason in ("box", "heading", "last_number", "unparsed")
    ]
    assert "25% of the answers are only the last quantity" in out


def test_another_style_and_a_limit(capsys):
    out = shown(capsys, "said.jsonl", "--column", "text", "--style", "boxed", "--limit", "1")
    assert "1 of 4" in out and "2 of 4" not in out and "3 more are not shown" in out
    assert "75.0%" in out and "warning" not in out


def test_the_responses_of_an_evaluation_are_read_as_they_are(capsys, folder):
    row = {"question": "9+9?", "answer": "18", "responses": {"a": "#### 18", "b": "So \\boxed{17}"}, "samples": {}}
    (folder / "responses.jsonl").write_text(json.dumps(row) + "\n")
    assert "2 of 2" in shown(capsys, "responses.jsonl", "--column", "responses")


@pytest.mark.parametrize("words", [[], ["-"]])
def test_without_a_file_the_standard_input_is_read(words):
    done = subprocess.run([*RUN, *words], input="So \\boxed{18}.\n=====\n#### 19\n", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "2 of 2" in done.stdout and "key '19'" in done.stdout


def test_colour_is_for_terminals_and_a_file_holds_text(folder):
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    plain["TERM"] = "xterm-256color"
    with (folder / "out.txt").open("w") as file:
        words = [*RUN, "said.jsonl", "--column", "text"]
        assert subprocess.run(words, stdout=file, env=plain, check=False).returncode == 0
    text = (folder / "out.txt").read_text()
    assert "\x1b" not in text and "boxed{18}" in text and "read as box" in text
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdout=theirs, env=plain)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0 and b"\x1b[" in seen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl"], "There is no file none.jsonl."),
        (["said.jsonl"], "said.jsonl, line 1 has no column 'response'; name one with --column: question, text."),
        (["said.jsonl", "--column", "answer"], "has no column 'answer'"),
        (["said.jsonl", "--column", "text", "--limit", "-1"], "--limit must not be negative"),
        (["said.jsonl", "--style", "latex"], "--style: expected one of"),
        (["."], "There is no file ."),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(capsys, words, message):
    assert main(["answers", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert message in said.err


def test_an_empty_input_is_said():
    done = subprocess.run(RUN, input="\n\n", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: The standard input holds no response.\n")
