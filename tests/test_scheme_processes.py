"""What two processes see of scores, views and discussions is what one sees: they run once, for all tests here."""

import pytest
import torch
from two_processes_scheme import answers_of, scorer, seen_by_two


def test_two_processes_get_the_answers_of_one(trainer, tiny):
    """Five queries and two shares; three questions of two chains, the second one split between the processes."""
    engines = trainer({name: tiny[name] for name in ("llama", "qwen2")}).engines
    alone = answers_of(scorer(engines))
    both = seen_by_two()
    assert [both[0][k] for k in alone] == [both[1][k] for k in alone]
    assert both[0]["tokens"] == alone["tokens"]
    assert both[0]["logprobs"] == pytest.approx(alone["logprobs"], rel=1e-5, abs=1e-5)
    assert torch.allclose(torch.tensor(both[0]["statistics"]), torch.tensor(alone["statistics"]), atol=1e-5)


def test_views_and_turns_of_two_processes_become_one_group():
    """Three rows a process and questions of two chains: the second question is split between them."""
    first, second = seen_by_two()
    assert first["view"] == second["view"] == [[[str(100 * p + 2 * q + g) for g in range(2)] for q in range(3)]
                                               for p in range(2)]  # fmt: skip
    assert first["remarks"] == second["remarks"] == [[[[str(2 * q + g)] for g in range(2)] for q in range(3)]] * 2
