"""scripts/real_matrix.py: which cells there are, what is checked of them, and that a failure is a row."""

import json
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def matrix(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module("real_matrix")


def test_each_scheme_each_kind_and_each_command_has_a_cell(matrix):
    names = [cell.what for cell in matrix.cells()]
    assert names[0] == matrix.BASE and len(set(names)) == len(names)
    wanted = {f"GRPO, {kind}" for kind in matrix.KINDS} | {f"{scheme}, LoRA" for scheme in matrix.SCHEMES}
    assert wanted | {"resume", "eval", "gv-gap", "label", "report", "push --dry-run"} <= set(names)


@pytest.mark.parametrize("kind", ["full", "LoRA"])
def test_tensors_that_moved_are_counted(matrix, tmp_path, kind):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir(), after.mkdir()
    name = "q.lora_B.weight" if kind == "LoRA" else "q"
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    save_file({"q": zero, "k": one}, before / "model.safetensors")
    still = {"k": one} if kind == "full" else {"k.lora_B.weight": zero, "k.lora_A.weight": one}
    save_file({name: torch.eye(2), **still}, after / "model.safetensors")
    assert matrix.movement(before, after, kind) == (1, 2, True)
    save_file({name: one / 0, **still}, after / "model.safetensors")
    assert matrix.movement(before, after, kind) == (1, 2, False)


def test_a_refusal_and_a_hang_are_rows_and_are_not_run_again(matrix, tmp_path):
    refused = matrix.Cell("refused", lambda place, folder: ["evall"], None)
    row = matrix.run(refused, "model", "place", tmp_path, 300)
    assert not row["ok"] and row["note"].startswith("status 2: error: ") and "evall" in row["note"]
    assert matrix.run(refused, "model", "place", tmp_path, 0) == row
    slow = matrix.Cell("slow", lambda place, folder: [], lambda place, folder: time.sleep(60))
    hung = matrix.run(slow, "model", "place", tmp_path, 0.01)
    assert not hung["ok"] and hung["note"] == "longer than 0 s"


def test_the_page_says_what_failed_and_names_no_folder_of_this_machine(matrix, tmp_path):
    good = {"model": "a", "what": "eval", "ok": True, "seconds": 3.0, "cpu_seconds": 2.0, "memory_mib": 1200}
    good |= {
        "estimate_error": 0.1,
        "note": "2 of 2 ended",
        "texts": ["Africa\n|", "x"],
        "command": "--peers /home/me/a",
    }
    bad = {"model": "a", "what": "label", "ok": False, "note": "status 2: error: /home/me/a is no model"}
    rows = [matrix.without_places(row, {"/home/me/a": "models/a"}) for row in (good, bad)]
    matrix.write_results(rows, "python it", tmp_path)
    page = (tmp_path / "real_matrix.md").read_text()
    assert "| eval | 2 s, 1,200, +0.10 |" in page and "| label | **no** |" in page and "1 of 2 cells are ok." in page
    assert f"{len(matrix.cells()) - 2} more have not been run yet" in page
    assert "- a, label: status 2: error: models/a is no model" in page and "/home" not in page
    assert json.loads((tmp_path / "real_matrix.json").read_text())["rows"] == rows
