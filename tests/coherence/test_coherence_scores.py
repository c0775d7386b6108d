import math
from contextlib import contextmanager
from itertools import permutations, product
from random import Random

import pytest
import torch

from pst_rl.coherence.predictor import Context, Predictor
from pst_rl.coherence.scores import (
    coherence,
    contexts_of,
    leave_one_out,
    leave_one_out_naive,
    score_given,
    sweep,
)
from pst_rl.coherence.toy import ConceptMixture


def toy(n=6, concepts=2, seed=0, **options):
    """Random concepts, the first the most salient."""
    rng = Random(seed)
    rows = [[rng.randrange(options.get("n_labels", 2)) for _ in range(n)] for _ in range(concepts)]
    return ConceptMixture(
        rows, [(k + 1) * 2 / concepts / (concepts + 1) for k in reversed(range(concepts))], **options
    )


def singles(n, seed=0):
    return [[item] for item in Random(seed).sample(range(n), n)]


def drawn(n, seed=0, values=(0, 1)):
    rng = Random(seed)
    return [rng.choice(values) for _ in range(n)]


class Scribe(Predictor):
    """Writes down what every item was shown, in order."""

    def __init__(self, n):
        self.n_items, self.n_labels, self.shown, self.most_rows = n, 2, {}, 0

    def open(self):
        return _Written(self, [[]])


class _Written(Context):
    def __init__(self, predictor, histories):
        self.predictor, self.histories, self.rows = predictor, histories, len(histories)
        predictor.most_rows = max(predictor.most_rows, self.rows)

    @contextmanager
    def _extended(self, demos, parents):
        yield _Written(
            self.predictor, [self.histories[p] + list(more) for p, more in zip(parents, demos, strict=True)]
        )

    def _score(self, items):
        for history, asked in zip(self.histories, items, strict=True):
            self.predictor.shown |= dict.fromkeys(asked, history)
        return torch.zeros(sum(map(len, items)), 2)

    def _chain(self, demos):
        raise NotImplementedError


# The toy's law, by hand


def test_the_joint_of_one_concept_is_a_beta_binomial():
    one = ConceptMixture([[1, 1, 1]], [1.0], agree=3.0, disagree=2.0)
    beta = lambda a, b: math.gamma(a) * math.gamma(b) / math.gamma(a + b)
    assert one.log_joint([(0, 1), (1, 1), (2, 0)]) == pytest.approx(math.log(beta(5, 3) / beta(3, 2)))


def test_a_disobedient_label_is_any_of_the_others():
    one = ConceptMixture([[2]], [1.0], n_labels=3, agree=3.0, disagree=1.0)
    assert one.open().score([[0]])[0].exp().tolist() == pytest.approx([1 / 8, 1 / 8, 3 / 4])


@pytest.mark.parametrize("n_labels", [2, 3])
def test_the_joint_sums_to_one_over_all_labellings(n_labels):
    mixture = toy(n=4, concepts=3, n_labels=n_labels)
    labellings = product(range(n_labels), repeat=4)
    assert sum(math.exp(mixture.log_joint(list(enumerate(labels)))) for labels in labellings) == pytest.approx(1)


def test_the_toys_conditional_is_a_ratio_of_joints():
    mixture, shown = toy(), [(0, 1), (1, 0), (2, 1)]
    with mixture.open().extended([shown]) as context:
        scores = context.score([[4]])[0]
    expected = [mixture.log_joint([*shown, (4, label)]) - mixture.log_joint(shown) for label in (0, 1)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_each_concept_of_the_toy_may_have_its_own_reliability():
    mixture = ConceptMixture([[1] * 4, [0, 1] * 2], [0.5, 0.5], agree=[900.0, 600.0], disagree=[100.0, 400.0])
    of_first, of_second = (mixture.log_joint(list(enumerate(labels))) for labels in mixture.concepts)
    assert math.exp(of_first) == pytest.approx((0.9**4 + 0.6**2 * 0.4**2) / 2, rel=0.01)
    assert math.exp(of_second) == pytest.approx((0.9**2 * 0.1**2 + 0.6**4) / 2, rel=0.01)


def test_the_toy_is_exchangeable():
    mixture, demos = toy(), list(enumerate([1, 0, 1, 1]))
    assert {round(mixture.log_joint(order), 9) for order in permutations(demos)} == {
        round(mixture.log_joint(demos), 9)
    }


@pytest.mark.parametrize(
    ("concepts", "prior", "options", "message"),
    [
        ([[0, 1]], [0.5, 0.5], {}, "one prior per concept"),
        ([[0, 1], [0]], [0.5, 0.5], {}, "one length"),
        ([[0, 2]], [1.0], {}, "L = 2"),
        ([[0, 1]], [0.9], {}, "sum to 1"),
        ([[0, 1]], [1.0], {"agree": 0.0}, "positive"),
        ([[0, 1]], [1.0], {"agree": [8.0, 8.0]}, "one in all or per concept"),
    ],
)
def test_a_toy_that_does_not_fit_is_refused(concepts, prior, options, message):
    with pytest.raises(ValueError, match=message):
        ConceptMixture(concepts, prior, **options)


# Leave one out


@pytest.mark.parametrize("leaf_batch", [1, 4, 16])
def test_leave_one_out_is_the_ratio_of_joints(leaf_batch):
    mixture, labels = toy(n=9), drawn(9)
    scores = leave_one_out(mixture, labels, singles(9), leaf_batch=leaf_batch)
    for item in range(9):
        others = [(i, labels[i]) for i in range(9) if i != item]
        expected = [mixture.log_joint([*others, (item, v)]) - mixture.log_joint(others) for v in (0, 1)]
        assert scores[item].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("leaf_batch", [1, 2, 5, 16, 100])
@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_every_item_is_shown_its_specified_context(n, leaf_batch):
    labels, scribe = drawn(n, values=(0, 1, None)), Scribe(n)
    leave_one_out(scribe, labels, singles(n), leaf_batch=leaf_batch)
    assert scribe.shown == contexts_of(singles(n), labels)


@pytest.mark.parametrize("leaf_batch", [1, 3, 16])
def test_a_group_is_left_out_whole(leaf_batch):
    blocks, scribe = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9]], Scribe(10)
    leave_one_out(scribe, [1] * 10, blocks, leaf_batch=leaf_batch)
    for block in blocks:
        assert all({i for i, _ in scribe.shown[item]} == set(range(10)) - set(block) for item in block)


def test_the_naive_form_shows_the_same():
    labels, blocks, fast, slow = (
        drawn(12, values=(0, 1, None)),
        [[0, 1], *([i] for i in range(2, 12))],
        Scribe(12),
        Scribe(12),
    )
    leave_one_out(fast, labels, blocks)
    leave_one_out_naive(slow, labels, blocks)
    assert fast.shown == slow.shown


def test_the_context_of_four_items_written_out():
    shown = contexts_of([[0], [1], [2], [3]], [1, 0, None, 1])
    assert shown == {0: [(3, 1), (1, 0)], 1: [(3, 1), (0, 1)], 2: [(0, 1), (1, 0), (3, 1)], 3: [(0, 1), (1, 0)]}


def test_items_without_a_label_are_scored_and_never_shown():
    scribe = Scribe(8)
    leave_one_out(scribe, [None, 1] * 4, singles(8))
    assert set(scribe.shown) == set(range(8))
    assert {item for history in scribe.shown.values() for item, _ in history} == {1, 3, 5, 7}


def test_items_in_no_block_stay_nan():
    scores = leave_one_out(toy(), [1] * 6, [[0], [3]])
    assert scores.isnan().all(1).tolist() == [False, True, True, False, True, True]
    assert leave_one_out(toy(), [1] * 6, []).isnan().all()


@pytest.mark.parametrize("leaf_batch", [1, 16])
@pytest.mark.parametrize("n", [64, 256, 1024])
def test_it_reads_n_log_n_units(n, leaf_batch):
    scribe = Scribe(n)
    leave_one_out(scribe, [1] * n, singles(n), leaf_batch=leaf_batch)
    assert scribe.units == n * (math.log2(n) + 1)


def test_groups_of_four_cost_less():
    scribe = Scribe(256)
    leave_one_out(scribe, [1] * 256, [list(range(i, i + 4)) for i in range(0, 256, 4)])
    assert scribe.units == 1792


def test_the_naive_form_reads_n_squared_units():
    scribe = Scribe(64)
    leave_one_out_naive(scribe, [1] * 64, singles(64))
    assert scribe.units == 64**2


@pytest.mark.parametrize("leaf_batch", [1, 4, 16])
def test_no_more_rows_than_the_leaf_batch_are_side_by_side(leaf_batch):
    scribe = Scribe(100)
    leave_one_out(scribe, [1] * 100, singles(100), leaf_batch=leaf_batch)
    assert scribe.most_rows <= leaf_batch


# Sweeps, shared contexts, chains


def test_a_sweep_shows_current_labels():
    scribe, labels = Scribe(6), [0] * 6
    blocks, visited = singles(6), []

    def visit(block, scores):
        visited.extend(block)
        return [1] * len(block)

    sweep(scribe, labels, blocks, visit)
    assert labels == [1] * 6
    for step, item in enumerate(visited):
        assert dict(scribe.shown[item]) == {i: int(i in visited[:step]) for i in range(6) if i != item}


def test_a_sweep_scores_given_all_other_labels():
    mixture, labels, seen = toy(), drawn(6), {}
    sweep(
        mixture,
        list(labels),
        singles(6),
        lambda block, scores: [seen.update({block[0]: scores[0]}) or labels[block[0]]],
    )
    once = leave_one_out(mixture, labels, singles(6))
    assert torch.allclose(torch.stack([seen[i] for i in range(6)]), once, atol=1e-6)


def test_a_sweep_costs_as_much_as_one_leave_one_out():
    scribe = Scribe(64)
    sweep(scribe, [0] * 64, singles(64), lambda block, scores: [1])
    assert scribe.units == 64 * 7


def test_one_context_is_shared_by_many_items():
    scribe = Scribe(8)
    score_given(scribe, [1, 0, None, 1, 1, 1, 1, 1], [3, 2, 1], [5, 6, 7])
    assert scribe.shown == dict.fromkeys([5, 6, 7], [(3, 1), (1, 0)])
    assert scribe.units == 2 + 3


def test_coherence_is_the_log_joint_in_every_order():
    mixture, labels = toy(), [1, 0, None, 1, 0, 1]
    found = coherence(mixture, labels, [range(6), [5, 3, 1, 0, 2, 4]])
    joint = mixture.log_joint([(i, v) for i, v in enumerate(labels) if v is not None])
    assert found.by_order == pytest.approx([joint] * 2, abs=1e-5)
    assert found.nats == pytest.approx(joint, abs=1e-5)
    assert found.bits == pytest.approx(-joint / math.log(2), abs=1e-5)


def test_coherence_over_orders_costs_their_lengths():
    mixture = toy()
    coherence(mixture, [1] * 6, [range(6)] * 3)
    assert mixture.units == 18
