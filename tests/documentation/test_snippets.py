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
from pages import PAGES, ROOT, blocks

from pst_rl.cli import main as cli

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
RUN_ELSEWHERE = dict.fromkeys(
    ["docs/extending.md", "docs/extending-peers.md"], "tests/documentation/test_extending.py"
)
PARSE_ARGS = argparse.ArgumentParser.parse_args
OTHER_PROGRAMS = {"pip", "hf", "git", "cd", "cat", "source", "mkdir", "eval", "echo"}


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


def test_the_notebook_on_published_models_is_stored_with_its_outputs():
    """It needs models of the Hub, so here it is only read: its cells compile, and each that prints has its output."""
    notebook = json.loads((ROOT / "examples" / "small_models.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        compile("".join(cell["source"]), "cell", "exec")
        assert cell["execution_count"] and (cell["outputs"] or "trainer = PSTTrainer" in "".join(cell["source"]))


# ---- commands ----


class Parsed(BaseException):
    """Raised in the place of running, once the command's own parser has accepted it."""


def expanded(word):
    """`a/{b,c}` as a shell expands it; JSON is none of it."""
    found = re.fullmatch(r"([\w./]*)\{([\w,]+)\}", word)
    return [found[1] + part for part in found[2].split(",")] if found else [word]


def commands(page):
    """The command lines of a page's shell blocks, as words."""
    for block in blocks(page, "bash"):
        block = re.sub(r"^(.*)<<'END'\n.*?^END$", r"\1", block, flags=re.DOTALL | re.MULTILINE)
        for line in block.replace("\\\n", " ").splitlines():
            words = [word for raw in shlex.split(line, comments=True) for word in expanded(raw)]
            words = list(takewhile(lambda word: word not in ("|", ">", ">>"), words))
            if words:
                yield words


def printed_files(page):
    """The files that a page prints, each under its name: (name, text)."""
    return re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def read_script(monkeypatch):
    """Starts a script up to where its flags are read; one that reads none is not started, and takes none."""

    def stop_after(parse):
        def parsed(*args, **kwargs):
            parse(*args, **kwargs)
            raise Parsed

        return parsed

    def read(path, flags):
        script = ROOT / path
        if not re.search(r"argparse|tyro|sys\.argv", script.read_text()):
            assert flags == [], "it takes no flags"
            return
        with monkeypatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(tyro, "cli", stop_after(tyro.cli))
            patch.setattr(argparse.ArgumentParser, "parse_args", stop_after(PARSE_ARGS))
            patch.setattr(sys, "argv", [path, *flags])
            runpy.run_path(str(script), run_name="__main__")

    return read


def check_command(words, read_script):
    """Raises what is wrong with a command line, read by the program that it is for."""
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), "no such target"
    elif program == "pst-rl":
        assert "--help" in rest or cli.parse(rest).run
    elif Path(program).name == "python":
        read_script(rest[0], rest[1:])
    elif program == "accelerate":
        assert rest[0] == "launch"
        launch = PARSE_ARGS(launch_command_parser(), rest[1:])
        read_script(launch.training_script, launch.training_script_args)
    else:
        assert program in OTHER_PROGRAMS, "none of the programs that are checked here"


def test_every_printed_command_parses(read_script, tmp_path, monkeypatch):
    bad, seen = [], 0
    for name, page in PAGES.items():
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        monkeypatch.chdir(folder)
        for file, text in printed_files(page):
            Path(file).write_text(text)
        for words in commands(page):
            seen += 1
            try:
                check_command(words, read_script)
            except (Exception, SystemExit, pytest.fail.Exception) as error:
                bad.append(f"{name}: {shlex.join(words)}: {error!r}")
    assert bad == [] and seen > 50
