"""The completions that a run shows: printed rows, and one row for each peer and prompt."""

import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import group, targets

from pst_rl.records import Rewards, Weights
from pst_rl.stages.completions_table import completions_table, print_completions, report_completions


@pytest.fixture
def table():
    """Two peers, one question, three samples each; the second peer's last sample has no reward."""
    made = group([[["1", "2", "3"]], [["4", "5", "6"]]], targets=targets([[["1"] * 3]] * 2), step=7)
    rewards = Rewards(torch.ones(2, 1, 3), torch.tensor([[[False] * 3], [[False, False, True]]]))
    weights = Weights(torch.ones(2, 1, 3), torch.full((2, 1, 3), float("nan")))
    return completions_table(made, {"pays": rewards}, weights)


def test_so_many_rows_are_printed_with_their_peer(table, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    print_completions(table, 6)
    printed = capsys.readouterr().out
    assert "Step 7" in printed and "pays" in printed and printed.count("#### ") == 6
    print_completions(table, 2)
    assert capsys.readouterr().out.count("#### ") == 2


def test_printing_draws_no_random_number(table, capsys):
    import random

    state = random.getstate()
    print_completions(table, 2)
    assert random.getstate() == state and capsys.readouterr().out


def test_trackers_get_one_row_for_each_peer_and_prompt(table, monkeypatch):
    logged = []
    tracker = SimpleNamespace(log=logged.append, Table=lambda dataframe: list(dataframe["completion"]))
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    report_completions(table, ["wandb"], unique=True)
    assert logged == [{"completions": ["#### 1", "#### 4"]}]


def test_a_run_prints_and_thins_out_as_told(trainer, capsys, monkeypatch):
    thinned = []
    monkeypatch.setattr("pst_rl.trainer.report_completions", lambda table, report_to, unique: thinned.append(unique))
    small = {"per_device_train_batch_size": 8, "max_completion_length": 4, "rewards": ["random"], "weighting": "none"}
    trainer(max_steps=1, log_completions=True, num_completions_to_print=2, log_unique_prompts=True, **small).train()
    assert "Step 0" in capsys.readouterr().out and thinned == [True]
