from itertools import product

import pytest

from pst_rl.coherence.constraints import AllEqual, Antisymmetric, AtMostOne, ExactlyOne, OneAnswer, Pairwise
from pst_rl.coherence.problem import Problem


def allowed(constraint, n_labels=2):
    """All labels of the constraint's items, 0 .. n - 1, that it does not object to."""
    return {
        labels
        for labels in product(range(n_labels), repeat=len(constraint.items))
        if not constraint.violations(labels)
    }


# Rules, as the set of labels they leave


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (AtMostOne((0, 1, 2)), {(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)}),
        (AtMostOne((0, 1), value=0), {(1, 1), (1, 0), (0, 1)}),
        (ExactlyOne((0, 1, 2)), {(1, 0, 0), (0, 1, 0), (0, 0, 1)}),
        (AllEqual((0, 1, 2)), {(0, 0, 0), (1, 1, 1)}),
        (Antisymmetric((0, 1)), {(0, 1), (1, 0)}),
        (OneAnswer((0, 1, 2), answers=("5", "5", "7")), {(0, 0, 0), (1, 1, 0), (0, 0, 1)}),
        (Pairwise((0, 1), rule=lambda a, b: a <= b), {(0, 0), (0, 1), (1, 1)}),
    ],
)
def test_a_rule_allows_just_these_labels(constraint, expected):
    assert allowed(constraint) == expected


def test_with_three_labels_only_the_value_is_rival():
    assert allowed(AtMostOne((0, 1), value=2), 3) == set(product(range(3), repeat=2)) - {(2, 2)}


def test_every_pair_that_cannot_both_hold_is_counted():
    assert AtMostOne((0, 1, 2)).violations((1, 1, 1)) == [(0, 1), (0, 2), (1, 2)]


def test_labels_that_are_wrong_only_together_count_once():
    assert ExactlyOne((0, 1, 2)).violations((0, 0, 0)) == [(0, 1)]


def test_an_item_without_a_label_violates_nothing():
    assert ExactlyOne((0, 1)).violations((None, 0)) == []
    assert AllEqual((0, 1, 2)).violations((0, None, 1)) == [(0, 2)]


def test_items_are_named_by_their_index_in_the_problem():
    assert Antisymmetric((3, 1)).violations((0, 1, 0, 1)) == [(3, 1)]


@pytest.mark.parametrize("items", [(0,), (1, 1)])
def test_a_constraint_needs_two_different_items(items):
    with pytest.raises(ValueError, match="at least two different items"):
        AllEqual(items)


def test_an_antisymmetric_pair_is_a_pair():
    with pytest.raises(ValueError, match="has two items"):
        Antisymmetric((0, 1, 2))


def test_one_answer_needs_an_answer_for_each_item():
    with pytest.raises(ValueError, match="2 items need as many answers, got 1"):
        OneAnswer((0, 1), answers=("5",))


# Problems


def test_items_that_share_constraints_through_others_are_one_block():
    problem = Problem(5, constraints=(AllEqual((0, 3)), Antisymmetric((3, 4))))
    assert problem.blocks == ((0, 3, 4), (1,), (2,))
    assert problem.block_of == (0, 1, 2, 0, 0)


def test_assignments_of_a_block_satisfy_all_its_constraints():
    problem = Problem(3, constraints=(AllEqual((0, 1)), Antisymmetric((1, 2))))
    assert problem.assignments((0, 1, 2)).tolist() == [[0, 0, 1], [1, 1, 0]]


def test_an_item_without_constraints_may_have_every_label():
    assert Problem(1, n_labels=3).assignments((0,)).tolist() == [[0], [1], [2]]


def test_clamped_labels_are_kept_in_every_assignment():
    problem = Problem(3, constraints=(AtMostOne((0, 1, 2)),), clamped={1: 1})
    assert problem.assignments((0, 1, 2)).tolist() == [[0, 1, 0]]


def test_violations_are_summed_over_constraints():
    problem = Problem(4, constraints=(AllEqual((0, 1)), Antisymmetric((2, 3))))
    assert problem.violations([0, 1, 1, 1]) == [(0, 1), (2, 3)]
    assert problem.violations([0, 0, 1, 0]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_items": 0}, "no items"),
        ({"n_items": 1, "n_labels": 1}, "at least two label values"),
        ({"n_items": 2, "constraints": (AllEqual((0, 2)),)}, "no item 2: the problem has 2"),
        ({"n_items": 2, "clamped": {2: 0}}, "no item 2"),
        ({"n_items": 2, "clamped": {0: 2}}, "clamped to label 2 of 2"),
        ({"n_items": 2, "constraints": (AllEqual((0, 1)),), "clamped": {0: 0, 1: 1}}, "No labels of the items"),
        ({"n_items": 2, "constraints": (ExactlyOne((0, 1)),), "clamped": {0: 0, 1: 0}}, "No labels of the items"),
        (
            {"n_items": 6, "n_labels": 10, "constraints": (Pairwise(tuple(range(6))),)},
            "more than 100000 ways; split the group",
        ),
    ],
)
def test_a_problem_that_cannot_be_solved_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Problem(**arguments)


def test_a_large_group_of_rivals_is_no_problem():
    problem = Problem(80, constraints=(AtMostOne(tuple(range(80))),))
    assert len(problem.assignments(problem.blocks[0])) == 81
