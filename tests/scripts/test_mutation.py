"""The recorded mutation testing: nine tenths of the mutants are killed, and each that lives is explained."""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND = json.loads((ROOT / "docs" / "results" / "mutation.json").read_text())


@pytest.fixture
def mutation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return import_module("mutation")


def test_the_tests_of_every_module_are_found(mutation):
    found = {module: [path.stem for path in mutation.files_of_tests(module)] for module in mutation.TESTS}
    assert found == {module: list(names) for module, names in mutation.TESTS.items()}


def test_nine_tenths_are_killed_in_all_modules_together(mutation):
    planted = sum(found["planted"] for found in FOUND.values())
    lived = sum(len(found["survivors"]) for found in FOUND.values())
    assert set(FOUND) == set(mutation.TESTS) and planted > 400 and lived <= 0.1 * planted


def test_every_survivor_is_explained(mutation):
    lived = [(module, change) for module, found in FOUND.items() for _, change in found["survivors"]]
    assert [survivor for survivor in lived if survivor not in mutation.EXPLAINED] == []


def test_the_page_says_what_was_recorded(mutation):
    lines = [line for line in mutation.markdown(FOUND).splitlines() if not line.startswith("Changed since")]
    assert lines == [line for line in mutation.REPORT.read_text().splitlines() if not line.startswith("Changed since")]


def test_a_mutant_is_another_program(mutation):
    planted = list(mutation.mutants("stages/reward_mix"))
    sources = {ast.dump(ast.parse(mutant.source)) for mutant in planted}
    assert len(sources) > 0.9 * len(planted) and len(planted) > 30
