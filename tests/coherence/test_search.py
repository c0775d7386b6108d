import inspect
import math
from collections import Counter
from dataclasses import fields, replace
from itertools import product
from random import Random

import pytest
import torch
from scipy.stats import chi2
from search_helpers import SEARCHERS, Watched, joint

from pst_rl.coherence.constraints import AtMostOne, ExactlyOne
from pst_rl.coherence.labelling import Labelling, agreement
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.scores import score_given
from pst_rl.coherence.search import Bootstrap, Debate, Gibbs, Searcher
from pst_rl.coherence.search.base import orders_of
from pst_rl.coherence.search.choose import draw, keeping, project
from pst_rl.coherence.search.gibbs import gibbs_step, gibbs_sweep
from pst_rl.coherence.search.run import Run
from pst_rl.coherence.search.state import State

FIRST = [1, 0, 1, 1, 0, 0, 1, 0, 1, 0]
SECOND = [0, 0, 1, 0, 0, 1, 0, 1, 1, 1]
THIRD = [0, 1, 0, 1, 1, 0, 0, 0, 1, 0]
FOURTH = [0, 1, 1, 1, 1, 0, 0, 1, 0, 1]
EASY = ([FIRST, SECOND, THIRD, FOURTH], [0.43, 0.19, 0.19, 0.19])  # zero-shot labels of items 0 and 6 are not FIRST's
FALSE_ALARM = 1e-3  # of each statistical test, with a fixed seed

every_searcher = pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)


def easy(**options):
    return Watched(*EASY, agree=16.0, **options)


def started(searcher, start):
    return replace(searcher, start=start)


def run_of(problem, labels, predictor=None, seed=0):
    return Run(predictor, problem, State({}, [], labels=list(labels), changed_at=[0] * len(labels)), Random(seed))


def rows(scores):
    return torch.tensor(scores).log()


def chi_square(counts, probabilities):
    """Whether counts could come from these probabilities; cells that expect less than 5 are pooled."""
    total = sum(counts.values())
    small = {key for key, p in probabilities.items() if p * total < 5}
    cells = [(counts[key], p * total) for key, p in probabilities.items() if key not in small]
    if small:
        cells.append((sum(counts[k] for k in small), total * sum(probabilities[k] for k in small)))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    return chi2.sf(statistic, len(cells) - 1) > FALSE_ALARM


# What all searchers find


@every_searcher
def test_the_most_coherent_labelling_is_found_from_zero_shot_labels(searcher):
    predictor = easy()
    best = max(product((0, 1), repeat=10), key=lambda labels: joint(predictor, labels))
    zero_shot = score_given(predictor, [None] * 10, [], range(10)).argmax(1).tolist()
    found = started(searcher, "zero_shot").search(predictor, Problem(10))
    assert found.labels == best == tuple(FIRST) != tuple(zero_shot)


@every_searcher
@pytest.mark.parametrize("start", ["zero_shot", "random", "few"])
def test_clamped_labels_stay_and_are_followed(searcher, start):
    clamped = {item: THIRD[item] for item in (0, 1, 2, 4)}
    found = started(searcher, start).search(easy(), Problem(10, clamped=clamped))
    assert found.labels == tuple(THIRD)
    assert all(found.changed_at[item] == 0 for item in clamped)


@every_searcher
def test_a_clamp_against_all_evidence_stays(searcher):
    clamped = {3: 0, 5: 1, 8: 0, 9: 1}  # of no concept
    found = searcher.search(easy(), Problem(10, clamped=clamped))
    assert {item: found.labels[item] for item in clamped} == clamped


@every_searcher
@pytest.mark.parametrize("start", ["zero_shot", "random", "few"])
def test_no_rule_is_broken(searcher, start):
    # all concepts break them
    rules = (ExactlyOne((0, 2, 3)), AtMostOne((4, 7)), ExactlyOne((5, 6)))
    problem = Problem(10, constraints=rules, clamped={1: 1})
    found = started(searcher, start).search(easy(), problem)
    assert problem.violations(found.labels) == []
    assert found.violations == 0


@every_searcher
def test_three_label_values(searcher):
    concepts = [[0, 1, 2, 2, 1, 0, 1, 2], [2, 2, 0, 0, 1, 0, 1, 1]]
    predictor = Watched(concepts, [0.7, 0.3], n_labels=3, agree=16.0)
    assert started(searcher, "zero_shot").search(predictor, Problem(8, 3)).labels == tuple(concepts[0])


@every_searcher
@pytest.mark.parametrize("start", ["zero_shot", "random", "few"])
def test_one_item(searcher, start):
    found = started(searcher, start).search(Watched([[1]], [1.0], agree=1e6), Problem(1))
    assert len(found.labels) == 1
    assert found.probabilities[0][1] == pytest.approx(1.0, abs=1e-5)


@every_searcher
def test_everything_clamped(searcher):
    found = searcher.search(easy(), Problem(10, clamped=dict(enumerate(SECOND))))
    assert found.labels == tuple(SECOND)
    assert found.coherence == pytest.approx(joint(easy(), SECOND), abs=1e-4)


@every_searcher
def test_one_label_value_for_all(searcher):
    found = searcher.search(Watched([[1] * 6], [1.0], agree=1000.0), Problem(6))
    assert found.labels == (1,) * 6


def test_gold_is_no_argument():
    assert set(inspect.signature(Searcher.search).parameters) == {
        *("self", "predictor", "problem", "seed", "folder", "save_every", "progress")
    }
    assert {field.name for field in fields(Problem)} == {"n_items", "n_labels", "constraints", "clamped"}


# What they return


@every_searcher
def test_a_seed_says_it_all(searcher):
    first, again = (started(searcher, "few").search(easy(), Problem(10), seed=3) for _ in range(2))
    assert first == again


@every_searcher
def test_coherence_is_the_joint_and_probabilities_leave_one_out(searcher):
    found = searcher.search(easy(), Problem(10), seed=1)
    flipped = [1 - found.labels[0], *found.labels[1:]]
    odds = joint(easy(), found.labels) - joint(easy(), flipped)
    assert found.coherence == pytest.approx(joint(easy(), found.labels), abs=1e-4)
    assert found.confidences[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-5)


def test_probabilities_leave_the_whole_group_out():
    predictor, problem = easy(), Problem(10, constraints=(AtMostOne((0, 1)),))
    found = Gibbs(sweeps=2).search(predictor, problem)
    outside = list(enumerate(found.labels))[2:]
    law = torch.tensor([predictor.log_joint((*outside, (0, label))) for label in (0, 1)]).softmax(0)
    assert found.probabilities[0] == pytest.approx(law.tolist(), abs=1e-5)


def test_the_cost_is_counted():
    found = Gibbs(sweeps=3, keep="last", orders=2).search(Watched([[0] * 8], [1.0]), Problem(8))
    assert found.units == 8 + 3 * 8 * (3 + 1) + 2 * 8 + 8 * (3 + 1)  # start, sweeps, coherence, probabilities
    assert found.tokens == found.units


def test_a_bootstrap_round_is_far_cheaper():
    found = Bootstrap(rounds=3, keep="last", orders=1).search(Watched([[0] * 8], [1.0]), Problem(8))
    assert found.units == 8 + 3 * (8 + 4 + 4) + 8 + 8 * (3 + 1)


def test_the_step_of_each_change_is_noted():
    run = run_of(Problem(3), [0, None, 1])
    run.take([0, 1, 0], 4)
    run.take([0, 1, 1], 5)
    assert run.state.changed_at == [0, 4, 5]


def test_agreement_is_the_share_of_the_most_common_label():
    made = [Labelling(labels, (), (), 0.0, 0, 0, 0, 0, "") for labels in [(0, 1, 2), (0, 1, 1), (0, 0, 0)]]
    assert agreement(made) == pytest.approx((1, 2 / 3, 1 / 3))
    with pytest.raises(ValueError, match="same items"):
        agreement([made[0], replace(made[0], labels=(1,))])


# Starts, restarts, what is kept


@pytest.mark.parametrize("start", ["zero_shot", "random", "few"])
def test_start_labels_fit_the_rules(start):
    problem = Problem(10, constraints=(ExactlyOne((0, 1, 2)), AtMostOne((3, 4))), clamped={4: 1})
    for seed in range(20):
        run = run_of(problem, [problem.clamped.get(i) for i in range(10)], easy(), seed)
        labels = Gibbs(start=start, initial=4)._start(run)
        assert problem.violations(labels) == []
        assert labels[4] == 1
        assert sum(label is not None for label in labels) == (5 if start == "few" else 10)


def test_random_starts_differ_by_seed():
    starts = {tuple(Gibbs(start="random")._start(run_of(Problem(10), [None] * 10, seed=s))) for s in range(20)}
    assert len(starts) > 10


def test_the_most_coherent_restart_is_kept():
    search = lambda restarts, seed: Gibbs(sweeps=2, start="random", anneal_to=0.0, restarts=restarts).search(
        easy(), Problem(10), seed=seed
    )
    alone, together = [search(1, seed) for seed in range(8)], [search(4, seed) for seed in range(8)]
    assert all(four.coherence >= one.coherence for four, one in zip(together, alone, strict=True))
    assert sum(four.labels == tuple(FIRST) for four in together) > sum(one.labels == tuple(FIRST) for one in alone)


def test_the_last_labelling_of_a_sampler_can_be_kept(tmp_path):
    flat = lambda: Watched(*EASY, agree=2.0)
    best = Gibbs(sweeps=15).search(flat(), Problem(10), seed=1)
    last = Gibbs(sweeps=15, keep="last").search(flat(), Problem(10), seed=1)
    assert best.coherence > last.coherence == pytest.approx(joint(flat(), last.labels), abs=1e-4)


def test_orders_depend_on_the_number_of_items_alone():
    assert orders_of(5, 3) == orders_of(5, 3)
    assert orders_of(5, 3)[:2] == orders_of(5, 2)
    assert all(sorted(order) == list(range(5)) for order in orders_of(5, 3))


# Choosing the labels of a block


def test_the_projection_is_the_best_consistent_assignment():
    scores = rows([[0.1, 0.9], [0.4, 0.6], [0.2, 0.8]])  # all three would be 1
    problem = Problem(3, constraints=(ExactlyOne((0, 1, 2)),))
    best = max(([1, 0, 0], [0, 1, 0], [0, 0, 1]), key=lambda labels: sum(scores[i][x] for i, x in enumerate(labels)))
    assert project(scores, problem, (0, 1, 2)) == best == [1, 0, 0]


def test_a_draw_follows_the_product_of_the_items_laws():
    problem, scores, rng = Problem(2, constraints=(AtMostOne((0, 1)),)), rows([[0.3, 0.7], [0.6, 0.4]]), Random(0)
    weights = {(0, 0): 0.18**0.5, (0, 1): 0.12**0.5, (1, 0): 0.42**0.5}  # temperature 2
    counts = Counter(tuple(draw(scores, problem, (0, 1), 2.0, rng)) for _ in range(5000))
    assert chi_square(counts, {key: w / sum(weights.values()) for key, w in weights.items()})


def test_a_draw_at_temperature_zero_is_the_projection():
    scores, rng = rows([[0.49, 0.51]]), Random(0)
    assert all(draw(scores, Problem(1), (0,), 0.0, rng) == [1] for _ in range(50))


def test_labels_that_an_item_has_are_kept_if_they_can_be():
    problem = Problem(3, constraints=(ExactlyOne((0, 1, 2)),))
    assert keeping(problem, (0, 1, 2), [0, None, None]).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert len(keeping(problem, (0, 1, 2), [1, 1, None])) == 3


# Gibbs


@pytest.mark.parametrize(("move", "thinning"), [(gibbs_sweep, 2), (gibbs_step, 8)], ids=["sweep", "step"])
def test_gibbs_samples_labellings_by_their_coherence(move, thinning):
    # chi-square over all 16 labellings, false alarm rate 1e-3, fixed seed; thinned, as draws in a row depend
    predictor, problem, rng = Watched([[1, 0, 1, 1], [0, 0, 1, 0]], [0.7, 0.3], agree=2.0), Problem(4), Random(0)
    law = {labels: math.exp(joint(predictor, labels)) for labels in product((0, 1), repeat=4)}
    labels, counts = [0] * 4, Counter()
    for _ in range(3000):
        for _ in range(thinning):
            labels = move(predictor, problem, labels, rng)
        counts[tuple(labels)] += 1
    assert chi_square(counts, law)


def test_a_sweep_from_nothing_is_a_draw_from_the_joint():
    # every item is drawn given those before it; chi-square as above
    predictor, rng = Watched([[1, 0, 1, 1], [0, 0, 1, 0]], [0.7, 0.3], agree=2.0), Random(0)
    law = {labels: math.exp(joint(predictor, labels)) for labels in product((0, 1), repeat=4)}
    counts = Counter(tuple(gibbs_sweep(predictor, Problem(4), [None] * 4, rng)) for _ in range(4000))
    assert chi_square(counts, law)


def test_an_empty_start_has_the_clamped_labels_alone():
    problem, gibbs = Problem(10, 2, (), {3: 1}), Gibbs(start="empty", restarts=2, sweeps=1)
    assert gibbs._start(run_of(problem, [None] * 3 + [1] + [None] * 6)) == [None] * 3 + [1] + [None] * 6
    assert gibbs.search(easy(), problem, seed=1).labels[3] == 1


def test_the_law_test_notices_another_temperature():
    predictor, rng = Watched([[1, 0, 1, 1], [0, 0, 1, 0]], [0.7, 0.3], agree=2.0), Random(0)
    law = {labels: math.exp(joint(predictor, labels)) for labels in product((0, 1), repeat=4)}
    labels, counts = [0] * 4, Counter()
    for _ in range(3000):
        labels = gibbs_sweep(predictor, Problem(4), labels, rng, 0.8)
        counts[tuple(labels)] += 1
    assert not chi_square(counts, law)


def test_gibbs_moves_leave_their_input_alone():
    labels = [0] * 10
    for move in (gibbs_sweep, gibbs_step):
        move(easy(), Problem(10), labels, Random(0), 1.0)
    assert labels == [0] * 10


def test_temperature_is_annealed_in_equal_steps():
    gibbs = Gibbs(sweeps=5, temperature=2.0, anneal_to=0.0)
    assert [gibbs.temperature_at(step) for step in range(1, 6)] == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert Gibbs(sweeps=5).temperature_at(5) == 1.0


# Bootstrap


def test_demonstrations_are_balanced_as_far_as_labels_exist():
    run = run_of(Problem(10), [1, 1, 1, 1, 1, 1, 1, 0, None, None])
    shown = run.demonstrations([(i,) for i in range(10)], 6)
    assert Counter(run.state.labels[i] for i in shown) == {1: 3, 0: 1}
    assert len(run.demonstrations([(i,) for i in range(10)], 6, balanced=False)) == 6


def test_clamped_items_are_always_shown_and_count_for_the_balance():
    run = run_of(Problem(10, clamped={8: 1, 9: 1}), [1, 1, 1, 1, 0, 0, 0, 0, 1, 1])
    shown = run.demonstrations([(i,) for i in range(8)], 4)
    assert {8, 9} < set(shown)
    assert Counter(run.state.labels[i] for i in shown) == {1: 2, 0: 2}


def test_few_labels_grow_to_all():
    run = run_of(Problem(10), [*FIRST[:4], *[None] * 6], easy())
    Bootstrap()._step(run, 1)
    assert None not in run.state.labels


# Debate


def test_a_debate_hears_its_own_block_alone():
    seen = set()

    class Listening(Watched):
        def law(self, history, item):
            seen.add(frozenset([item, *(i for i, _ in history)]))
            return super().law(history, item)

    problem = Problem(10, constraints=(AtMostOne((0, 1, 2)), AtMostOne((3, 4))))
    run = run_of(problem, SECOND, Listening(*EASY))
    Debate()._step(run, 1)
    blocks = list(map(set, problem.blocks))
    assert all(any(items <= block for block in blocks) for items in seen)
    assert {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})} <= seen


def test_a_speaker_hears_what_was_just_said():
    # each repeats what the other has: the first gives in, and the second stays; at once, they would swap
    predictor = Watched([[1, 1], [0, 0]], [0.6, 0.4], agree=1000.0)
    for seed in range(5):
        run = run_of(Problem(2, constraints=(AtMostOne((0, 1), value=2),)), [0, 1], predictor, seed)
        Debate()._step(run, 1)
        assert run.state.labels in ([0, 0], [1, 1])


def test_debaters_give_in_to_the_rest_of_their_block():
    # p(0) = .6 for every item alone, but nine siblings that say 1 outweigh it
    predictor = Watched([[0] * 10, [1] * 10], [0.6, 0.4], agree=50.0)
    problem = Problem(10, constraints=(AtMostOne(tuple(range(10)), value=2),))
    run = run_of(problem, [0, *[1] * 9], predictor)
    Debate()._step(run, 1)
    assert run.state.labels == [1] * 10


# Refusals, progress


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Gibbs, {"start": "gold"}),
        (Gibbs, {"keep": "first"}),
        (Gibbs, {"restarts": 0}),
        (Gibbs, {"orders": 0}),
        (Gibbs, {"initial": 0}),
        (Gibbs, {"sweeps": 0}),
        (Gibbs, {"temperature": -1.0}),
        (Gibbs, {"anneal_to": float("nan")}),
        (Bootstrap, {"rounds": 0}),
        (Bootstrap, {"context_size": 0}),
        (Debate, {"rounds": 0}),
        (Debate, {"temperature": float("inf")}),
        (Debate, {"context_size": -1}),
    ],
)
def test_bad_options_are_refused(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)


def test_a_predictor_of_other_items_is_refused():
    with pytest.raises(ValueError, match="10 items with 2 labels.* 9 with 2"):
        Gibbs().search(easy(), Problem(9))


def test_progress_is_shown_when_asked(capsys):
    Bootstrap(rounds=2).search(easy(), Problem(10))
    assert capsys.readouterr().out == ""
    Bootstrap(rounds=2).search(easy(), Problem(10), progress=True)
    assert "bootstrap" in (out := capsys.readouterr().out) and "4/4" in out and "nats" in out
