"""Strings that a fuzzer found worth keeping, and what it broke."""

import importlib.util
import json
from pathlib import Path

import pytest

from pst_rl.answers import canonical_key, is_correct

ROOT = Path(__file__).resolve().parents[2]
CORPUS = json.loads((ROOT / "tests" / "corpus" / "answers.json").read_text())


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_answers", ROOT / "scripts" / "fuzz_answers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_string_of_the_corpus_is_examined_without_a_fault(fuzz):
    for text, other in zip(CORPUS, [*CORPUS[1:], CORPUS[0]], strict=True):
        fuzz.examine(text, other)


def test_a_run_finds_nothing_in_a_few_hundred_new_strings(fuzz):
    result = fuzz.run(500, seed=1, corpus=CORPUS)
    assert result.exceptions == 0, result.first_exception


@pytest.mark.parametrize("text", ["1/0", "18/0", "0/0", "-7/0"])
def test_a_division_by_zero_is_an_answer_that_is_never_right(text):
    assert not is_correct(rf"\boxed{{{text}}}", "18") and not is_correct("18", text)


@pytest.mark.parametrize("text", [r"\ln 0", r"\log_0 5", r"\log_2 0", r"2^{\ln 0}", r"\cot 0", r"\arcsin{1e999}"])
def test_an_undefined_expression_is_compared_as_text(text):
    assert not canonical_key(text).startswith("~") and canonical_key(text) == canonical_key(f" {text} ")
