"""The fault table: every row names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(r"\| `(tests/\w+\.py)::(\w+)` \|$", (ROOT / "docs" / "trust.md").read_text(), re.MULTILINE)


def test_every_row_of_the_fault_table_names_a_test():
    table = (ROOT / "docs" / "trust.md").read_text().split("## Fault table")[1].split("##")[0]
    assert len(ROWS) == sum(line.startswith("| ") for line in table.splitlines()) - 2 > 20


@pytest.mark.parametrize(("file", "name"), ROWS)
def test_it_is_there(file, name):
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions
