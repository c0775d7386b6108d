"""Harmless lines of libraries: exactly those are dropped, in commands and from Python."""

import logging
import math
import os
import subprocess
import sys
import warnings
from collections import namedtuple

import pytest

from pst_rl.cli import main as cli
from pst_rl.quiet import HARMLESS, quiet_logs, quiet_output, quiet_warnings, without_tied


@pytest.fixture
def heard():
    """`heard(logger)`: the list of what a logger hands on."""
    handlers = []

    def listen(name):
        messages = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger(name).addHandler(handler)
        handlers.append((name, handler))
        return messages

    yield listen
    for name, handler in handlers:
        logging.getLogger(name).removeHandler(handler)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_line_is_dropped_and_others_of_its_logger_are_not(name, heard):
    messages = heard(name)
    quiet_logs()
    logging.getLogger(name).warning(f"{HARMLESS[name]} at all: %s", "x")
    logging.getLogger(name).warning("The disk is full.")
    assert messages == ["The disk is full."]


def test_a_filter_is_there_once_however_often_it_is_asked_for():
    quiet_logs()
    before = [len(logging.getLogger(name).filters) for name in HARMLESS]
    quiet_logs()
    assert [len(logging.getLogger(name).filters) for name in HARMLESS] == before


def test_importing_the_package_drops_them_before_the_libraries_are_there():
    code = f"import logging, sys, pst_rl; print([len(logging.getLogger(n).filters) for n in {list(HARMLESS)}], "
    code += "{'torch', 'bitsandbytes', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{[1] * len(HARMLESS)} set()\n"


@pytest.mark.parametrize("quiet", [quiet_warnings, quiet_output, lambda: cli.main(["--help"])])
def test_the_older_names_of_gradient_checkpointing_are_not_told_to_users_and_other_warnings_are(quiet):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet()
        for name in (
            "gradient_checkpointing",
            "is_gradient_checkpointing",
            "gradient_checkpointing_enable",
            "gradient_checkpointing_disable",
        ):
            warnings.warn(f"`{name}` is deprecated and will be removed in v6.", FutureWarning, stacklevel=1)
        warnings.warn("`gradient_checkpointing_func` is deprecated.", FutureWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["`gradient_checkpointing_func` is deprecated."]


@pytest.mark.parametrize(("terminal", "by_user", "wanted"), [(False, "", "1"), (True, "", None), (False, "0", "0")])
def test_bars_of_libraries_are_off_where_nobody_watches_unless_wanted(monkeypatch, terminal, by_user, wanted):
    names = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS")
    for name in names:
        monkeypatch.setenv(name, by_user)
        if not by_user:
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    quiet_output()
    assert [os.environ.get(name) for name in names] == [wanted] * 2


def test_tied_weights_are_not_missing_and_others_are():
    result = namedtuple("Keys", "missing_keys unexpected_keys")(["lm_head.weight", "norm.weight"], ["x"])
    left = without_tied(result, {"lm_head.weight": "embed.weight"})
    assert (left.missing_keys, left.unexpected_keys) == (["norm.weight"], ["x"])


def test_resuming_peers_with_tied_weights_says_nothing(trainer, tmp_path, heard):
    run = trainer()
    messages = heard("transformers.trainer")
    for name, peer in run.trained.items():
        peer._save(tmp_path / name)
        peer._load_from_checkpoint(str(tmp_path / name))
    assert messages == [] and all(peer.model.all_tied_weights_keys for peer in run.trained.values())


def test_what_is_not_known_is_not_sent_to_reporters(trainer):
    run = trainer()
    name, peer = next(iter(run.trained.items()))
    peer._metrics["train"] |= {"reward": [math.nan], "entropy": [0.5]}  # every sample abstained
    peer.model.train()
    run.log({"loss": 0.1})
    logged = run.state.log_history[-1]
    assert logged[f"{name}/entropy"] == 0.5 and f"{name}/reward" not in logged and None not in logged.values()
