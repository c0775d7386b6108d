"""The records that travel between the stages: what they compute from themselves."""

import random
from dataclasses import replace

import pytest
import torch
from helpers import group

from pst_rl.answers import Answer
from pst_rl.records import Group, LocalRows


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        (LocalRows(0, 4, 2), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (LocalRows(3, 3, 2), [(1, 1), (2, 0), (2, 1)]),  # a process may begin within a question, and end within one
        (LocalRows(2, 1, 4), [(0, 2)]),
    ],
)
def test_local_rows_are_the_cells_of_the_complete_batch_in_order(rows, cells):
    assert rows.cells == cells
    assert [divmod(place, rows.chains) for place in rows.places] == cells


def test_a_group_without_gold_answers_says_why():
    with pytest.raises(RuntimeError, match="no gold answers: the run is not declared supervised=True"):
        _ = group([[["1"]]]).the_gold
    assert group([[["1"]]], gold=("1",)).the_gold == ("1",)


def test_local_rows_take_their_own_entries_of_tensors_and_of_nested_tuples():
    values = torch.arange(24).view(3, 2, 4)  # (Q, G, any)
    for rows in (LocalRows(0, 6, 2), LocalRows(1, 3, 2), LocalRows(5, 1, 2)):
        assert torch.equal(rows.pick(values), torch.stack([values[q, g] for q, g in rows.cells]))
        assert rows.take(values.tolist()) == rows.pick(values).tolist()
    assert LocalRows(2, 2, 2).pick(torch.tensor([[1, 2], [3, 4]])).tolist() == [3, 4]


def test_a_group_says_what_it_lacks_when_it_is_asked_too_early():
    early = Group(("a",), ("?",), ({},), ((0,),), (((),),), random.Random(0))
    with pytest.raises(RuntimeError, match="no targets yet: the aggregator has not spoken"):
        _ = early.the_targets
    with pytest.raises(RuntimeError, match="no scorer"):
        _ = early.the_scorer
    scorer = object()
    settled = replace(early, targets=(((None,),),), scorer=scorer)
    assert settled.the_targets == (((None,),),) and settled.the_scorer is scorer


def test_a_group_compares_answers_with_gold_by_the_runs_metric():
    both, one = Answer.of("4, 5"), Answer.of("4")
    whole, first = group([[["1"]]]), group([[["1"]]], answer_metric="first")
    assert [whole.is_right(answer, "4") for answer in (both, one, None)] == [False, True, False]
    assert [first.is_right(answer, "4") for answer in (both, one, None)] == [True, True, False]
