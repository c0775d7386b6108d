"""The records that travel between the stages: what they compute from themselves."""

import random
from dataclasses import replace

import pytest
import torch
from helpers import group

from pst_rl.answers import Answer
from pst_rl.records import Group, LocalRows, PeerUpdate, Query, Response, Rewards, Score, Turn, Weights


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


def test_a_key_is_that_of_the_answer_and_none_without_one():
    turn = Turn("really?", "attack", "4", Answer.of("4"), True, 0, 1)
    assert (turn.key, replace(turn, answer=None).key) == ("4", None)
    said = Response("4", Answer.of("4"), True, 1)
    assert (said.key, replace(said, answer=None).key) == ("4", None)


def test_a_group_counts_peers_questions_and_chains_and_pools_a_question():
    made = group([[["1"], ["2"], ["3"]], [["4"], ["5"], ["6"]]])
    assert made.shape == (2, 3, 1) and group([[["1"]]]).shape == (1, 1, 1)
    assert [(p, g, r.key) for p, g, r in made.pooled(1)] == [(0, 0, "2"), (1, 0, "5")]
    assert [(p, q, g, r.key) for p, q, g, r in made.cells()][-1] == (1, 2, 0, "6")


def test_what_is_left_out_of_a_record_is_nothing():
    assert Rewards(torch.zeros(1), torch.zeros(1)).metrics == Weights(torch.ones(1), torch.ones(1)).metrics == {}
    assert not PeerUpdate([], [], [], None, {}).on_policy
    assert Score(-6.0, 3).mean == -2.0 and not Query(0, "4").whole
    first = Group((), (), (), (), (), random.Random())
    assert (first.step, first.block) == (0, 0)
