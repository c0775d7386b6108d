"""The fault table: every row names a test, which `test_docs` looks for."""

import json
import re

from pages import DOCS

PAGE = (DOCS / "trust-study.md").read_text()


def test_every_row_of_the_fault_table_names_a_test():
    rows = [line for line in PAGE.split("## Fault table")[1].split("##")[0].splitlines() if line.startswith("| ")][2:]
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py::\w+` \|$", row)] == [] and len(rows) > 20


def test_the_recorded_long_run_did_not_grow():
    result = json.loads((DOCS / "results" / "long_run.json").read_text())
    first = next(seen for seen in result["seen"] if seen["step"] == result["from_step"] == 200)
    last = result["seen"][-1]
    assert last["step"] == 2000 and result["memory_growth"] <= 0.02
    assert (last["open_files"], last["threads"]) == (first["open_files"], first["threads"])
