"""The fault table: every row names a test that is there."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", (ROOT / "docs" / "trust.md").read_text(), re.MULTILINE)


def test_every_row_of_the_fault_table_names_a_test():
    table = (ROOT / "docs" / "trust.md").read_text().split("## Fault table")[1].split("##")[0]
    assert len(ROWS) == sum(line.startswith("| ") for line in table.splitlines()) - 2 > 20


@pytest.mark.parametrize(("file", "name"), ROWS)
def test_it_is_there(file, name):
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_the_recorded_long_run_did_not_grow():
    result = json.loads((ROOT / "docs" / "results" / "long_run.json").read_text())
    first = next(seen for seen in result["seen"] if seen["step"] == result["from_step"] == 200)
    last = result["seen"][-1]
    assert last["step"] == 2000 and result["memory_growth"] <= 0.02
    assert (last["open_files"], last["threads"]) == (first["open_files"], first["threads"])
