"""The troubleshooting page: every message on it is one that the code says, and the cheap ones are provoked."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import IterableDataset
from transformers import AutoConfig, BitsAndBytesConfig

from pst_rl import PeerSpec, PSTTrainer, load_questions
from pst_rl.cli.parse import as_flags
from pst_rl.data import split_labels
from pst_rl.loop.checkpoint_files import find_checkpoint
from pst_rl.loop.faults import FaultMonitor
from pst_rl.loop.lock import RunLock
from pst_rl.peers.spec import resolve_peers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = [block.strip() for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)]
HOLE = "\0"  # what a template fills in


def pattern(message):
    return re.compile(".*?".join(map(re.escape, message.split("…"))), re.DOTALL)


def templates():
    """The texts in the package's source, with a hole where a value stands."""
    for path in (ROOT / "pst_rl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(p.value if isinstance(p, ast.Constant) else HOLE for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[sd]", HOLE, node.value)


def known(message):
    """The one message of the page that a message is an instance of."""
    found = [entry for entry in MESSAGES if pattern(entry).match(message)]
    assert found, message
    return max(found, key=len)


def unsaid(message, source):
    """The parts of a quoted message that no text of the source has."""
    parts = [part for part in message.split("…") if re.search(r"\w", part)]
    # What is put together from several texts meets in a colon, or before the verb.
    pieces = [piece.strip(" .") for part in parts for piece in re.split(r"(?<=: )|(?<=cannot) | column $", part)]
    return [piece for piece in pieces if not any(piece in text for text in source)] if parts else [message]


def test_every_quoted_message_is_in_the_source():
    source = list(templates())
    assert [piece for message in MESSAGES for piece in unsaid(message, source)] == [] and len(MESSAGES) > 30


def refused(error, action):
    with pytest.raises(error) as caught:
        action()
    return known(str(caught.value))


def test_messages_about_models(tiny, tmp_path, monkeypatch):
    spec = PeerSpec(tiny["llama"], quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_text("")
    said = [
        refused(ValueError, lambda models=models: resolve_peers(models))
        for models in (["./no/model"], [tiny["llama"]] * 2, [spec], [str(pickled)], ["no-org/no-model"])
    ]
    for problem in ("a gated repo: 403", "404: not found"):

        def fail(*args, problem=problem, **kwargs):
            raise OSError(problem)

        monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
        said.append(refused(ValueError, lambda: resolve_peers(["org/model"])))
    assert len(set(said)) == len(said) == 7


@pytest.mark.parametrize(
    "settings",
    [
        {"trust_remote_code": True},
        {"shared_prompts": True, "gradient_checkpointing": True},
        {"order": "random"},
        {"objective": "weighted_sft", "temperature": 0.7},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_messages_about_settings(config, settings):
    assert refused(ValueError, lambda: config(**settings))


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"skip_zero_advantage": True, "beta": 0.1}, None),
        ({"aggregator": "leave_one_out"}, None),
        ({"rewards": ["supervised_gold"]}, None),
        ({"rewards": ["saie"], "objective": "aggregate_sft"}, None),
        ({"per_device_train_batch_size": 256}, None),
        ({}, lambda rows: rows.rename_column("prompt", "text")),
    ],
    ids=["compaction", "aggregator", "gold", "discussion", "batch", "column"],
)
def test_messages_about_schemes_and_data(config, questions, tiny, settings, change):
    rows = questions()
    rows = change(rows) if change else rows
    assert refused(ValueError, lambda: PSTTrainer([tiny["llama"]], config(**settings), rows))


def test_messages_about_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(json.dumps({"text": "What is 1+1?"}))
    missing = refused(FileNotFoundError, lambda: load_questions("questions.jsonl"))
    column = refused(ValueError, lambda: load_questions("rows.jsonl"))
    Path("rows.csv").write_text("question,answer\na 2, b?,6\n")
    shifted = refused(ValueError, lambda: load_questions("rows.csv"))
    stream = refused(TypeError, lambda: split_labels(IterableDataset.from_generator(lambda: iter([]))))
    option = refused(ValueError, lambda: as_flags({"learning_rat": 1}, {"learning_rate": float}, "my.yaml"))
    resume = refused(FileNotFoundError, lambda: find_checkpoint(tmp_path, "last"))
    assert len({missing, column, shifted, stream, option, resume}) == 6


def test_the_message_of_a_second_run_in_a_folder(tmp_path):
    code = (
        f"from pst_rl.loop.lock import RunLock; RunLock({str(tmp_path)!r}).hold(); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert refused(ValueError, lambda: RunLock(tmp_path).hold())
        holder.communicate("\n")


def test_warnings_about_steps(caplog):
    monitor = FaultMonitor(["a"], patience=1)
    monitor.note("a", "its loss is not finite")
    monitor.close_step(3, gradients=False)
    assert len({known(record.getMessage()) for record in caplog.records}) == 2


def test_flags_on_the_page_are_options():
    from typing import get_type_hints

    from trl import ModelConfig

    from pst_rl import PSTConfig
    from pst_rl.cli.options import Train

    ours = get_type_hints(ModelConfig) | get_type_hints(PSTConfig) | get_type_hints(Train)
    others = {"help", "dry-run", "multi_gpu", "config_file", "local-dir"}  # of pst-rl, accelerate and hf
    flags = set(re.findall(r"(?<![\w-])--(?:no-)?([a-z][\w-]+)", PAGE)) - others
    assert len(flags) > 15 and [flag for flag in flags if flag.replace("-", "_") not in ours] == []
