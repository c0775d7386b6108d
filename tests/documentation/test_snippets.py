"""The documentation's code: Python is run page by page as printed, commands are read by the parsers that they are for.

What needs the Hub or a GPU is run with the embedded models in the place of the named ones, and without the training.
"""

import argparse
import json
import re
import runpy
import shlex
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import tyro
from accelerate.commands.launch import launch_command_parser

import pst_rl.cli.main

ROOT = Path(__file__).resolve().parents[2]
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
STAND_INS = {  # what a page names and is not here -> an embedded model, or its questions
    "org/model-a": "gemma2",
    "org/model-b": "llama",
    "./model-b": "llama",
    "./model-c": "qwen2",
    "path/or/id": "learner",
    "google/gemma-2-2b-it": "gemma2",
    "meta-llama/Llama-3.2-1B-Instruct": "llama",
    "Qwen/Qwen2.5-1.5B-Instruct": "qwen2",
    "Qwen/Qwen2.5-1.5B": "llama",
}
RUN_ELSEWHERE = {"docs/extending.md": "tests/documentation/test_extending.py"}
PARSE_ARGS = argparse.ArgumentParser.parse_args
OTHER_PROGRAMS = {"pip", "hf", "git", "cd", "cat", "source", "mkdir", "eval", "echo"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def with_code(language):
    return [name for name, page in PAGES.items() if blocks(page, language) and name not in RUN_ELSEWHERE]


# ---- Python ----


@pytest.fixture
def here(tmp_path, monkeypatch, config, questions, tiny):
    """An empty folder with the files that pages name; `here(page)` gives the names a page takes as known."""
    from pst_rl import PSTTrainer

    monkeypatch.chdir(tmp_path)
    claims = [f'{{"question": "2+{i}?", "claim": "{2 + i}", "final_answer": "{i % 2}"}}' for i in range(4)]
    Path("claims.jsonl").write_text("\n".join(claims))
    Path("reviews.csv").write_text("text,gold\nfine,good\nawful,bad\nso so,mixed\n")

    def known(page):
        if page != "docs/trainer.md":  # this page trains, for one step
            monkeypatch.setattr(PSTTrainer, "train", lambda self: None)
            monkeypatch.setattr(PSTTrainer, "push_to_hub", lambda self: None)
        if page == "docs/schemes/saie.md":
            peers = {name: tiny[name] for name in ("llama", "qwen2")}
            return {
                "peers": peers,
                "args": config(),
                "questions": questions(4),
                "test_questions": questions(2, "test"),
            }
        return {}

    return known


@pytest.mark.parametrize("page", with_code("python"))
def test_python_runs_as_printed(page, here):
    from pst_rl.tiny import TINY_LEARNER, TINY_PEERS

    folders = {**TINY_PEERS, "learner": TINY_LEARNER}
    names = here(page)
    for i, block in enumerate(blocks(PAGES[page], "python")):
        for name, model in STAND_INS.items():
            block = block.replace(f'"{name}"', repr(str(folders[model])))
        block = block.replace('"gsm8k"', '"tiny"')
        exec(compile(block, f"{page}, block {i + 1}", "exec"), names)


def test_the_notebook_runs(tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "pst_tour.ipynb").read_text())
    names = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells[1:]), "store the notebook with its outputs"
    for i, cell in enumerate(cells):
        source = "".join(cell["source"]).replace("max_steps=8", "max_steps=1").replace("limit=150", "limit=12")
        source = source.replace("train_batch_size=96", "train_batch_size=16")
        exec(compile(source, f"cell {i}", "exec"), names)
    assert len(names["logs"]) == 1


# ---- commands ----


class Parsed(BaseException):
    """Raised in the place of running, once the command's own parser has accepted it."""


def expanded(word):
    """`a/{b,c}` as a shell expands it; JSON is none of it."""
    found = re.fullmatch(r"([\w./]*)\{([\w,]+)\}", word)
    return [found[1] + part for part in found[2].split(",")] if found else [word]


def commands():
    for name, page in PAGES.items():
        for block in blocks(page, "bash"):
            block = re.sub(r"^(.*)<<'END'\n.*?^END$", r"\1", block, flags=re.DOTALL | re.MULTILINE)
            for line in block.replace("\\\n", " ").splitlines():
                words = [word for raw in shlex.split(line, comments=True) for word in expanded(raw)]
                words = list(takewhile(lambda word: word not in ("|", ">", ">>"), words))
                if words:
                    yield pytest.param(page, words, id=f"{name}: {' '.join(words)[:70]}")


def printed_files(page):
    """The files that a page prints, each under its name: (name, text)."""
    return re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def parsers(monkeypatch, tmp_path):
    """Every parser that a command may use ends with `Parsed`, or with its own error."""

    def stop_after(parse):
        def parsed(*args, **kwargs):
            parse(*args, **kwargs)
            raise Parsed

        return parsed

    subcommands = tyro.extras.subcommand_cli_from_dict
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", stop_after(subcommands))
    monkeypatch.setattr(tyro, "cli", stop_after(tyro.cli))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop_after(PARSE_ARGS))
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)


def read_script(path, flags, monkeypatch):
    """Starts a script up to where its flags are read; one that reads none is not started, and takes none."""
    script = ROOT / path
    if not re.search(r"argparse|tyro|sys\.argv", script.read_text()):
        assert flags == []
        return
    monkeypatch.setattr(sys, "argv", [path, *flags])
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize(("page", "words"), commands())
def test_printed_commands_parse(page, words, parsers, monkeypatch):
    for name, text in printed_files(page):
        Path(name).write_text(text)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pst-rl":
        with pytest.raises(Parsed):
            pst_rl.cli.main.main(rest)
    elif Path(program).name == "python":
        read_script(rest[0], rest[1:], monkeypatch)
    elif program == "accelerate":
        assert rest[0] == "launch"
        launch = PARSE_ARGS(launch_command_parser(), rest[1:])
        read_script(launch.training_script, launch.training_script_args, monkeypatch)
    else:
        assert program in OTHER_PROGRAMS, f"{program} is none of the programs that are checked here"
