import math
from collections import Counter
from copy import deepcopy
from random import Random

import pytest
from scipy.stats import binom
from search_helpers import Watched, joint

from pst_rl.coherence.constraints import AllEqual, AtMostOne, ExactlyOne, OneAnswer, Pairwise
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search import ICM
from pst_rl.coherence.search.icm import accept
from pst_rl.coherence.search.mutual import Labelled, Utility
from pst_rl.coherence.search.run import Run
from pst_rl.coherence.search.state import State

CONCEPTS = [[1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1]]
RULES = {
    "at most one": (AtMostOne((0, 1, 2)), AtMostOne((3, 4))),
    "exactly one": (ExactlyOne((0, 1, 2)), ExactlyOne((3, 4, 5))),
    "all equal": (AllEqual((0, 1, 2, 3)), AllEqual((4, 5))),
    "one answer": (OneAnswer((0, 1, 2, 3), answers=("7", "7", "8", "9")),),
    "own": (Pairwise((0, 1, 2, 3, 4), rule=lambda a, b: a <= b),),
    "overlapping": (AllEqual((0, 1)), AtMostOne((1, 2, 3)), ExactlyOne((3, 4, 5))),
}


def predictor(**options):
    return Watched(CONCEPTS, [0.6, 0.4], **{"agree": 4.0, **options})


def utility(problem=None, order=range(6), model=None, **options):
    defaults = {"alpha": 1.0, "reduction": "sum", "score": "logprob", "delta": "exact"}
    return Utility(model or predictor(), problem or Problem(6), list(order), **{**defaults, **options})


def run_of(icm, problem, labels, model=None, seed=0):
    run = Run(model or predictor(), problem, State({}, [], labels=list(labels), changed_at=[0] * 6), Random(seed))
    icm._begin(run)
    return run


def odds(labels, item):
    """log p(label) / p(other label) of an item given all the others, from joints."""
    given = [(i, label) for i, label in enumerate(labels) if label is not None]
    flipped = [(i, 1 - label if i == item else label) for i, label in given]
    return predictor().log_joint(given) - predictor().log_joint(flipped)


def log_probability(labels, item):
    return -math.log1p(math.exp(-odds(labels, item)))


# U(D)


@pytest.mark.parametrize("labels", [(1, 0, 1, 1, 0, 0), (1, 1, 1, 0, 1, 0), (1, None, 0, None, None, 1)])
@pytest.mark.parametrize("score", ["logprob", "logodds"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_mutual_predictability_is_what_joints_say(labels, score, reduction):
    given = [i for i, label in enumerate(labels) if label is not None]
    parts = [{"logprob": log_probability, "logodds": odds}[score](labels, i) for i in given]
    expected = 30 * sum(parts) / (len(given) if reduction == "mean" else 1)
    found = utility(alpha=30.0, score=score, reduction=reduction)
    assert found(found.measured(labels)) == pytest.approx(expected, abs=1e-3)


def test_log_odds_of_three_labels_are_against_both_others():
    model = Watched([[2, 0, 1]], [1.0], n_labels=3)
    found = utility(Problem(3, 3), range(3), model, score="logodds")
    p = math.exp(joint(model, (2, 0, 1))) / sum(math.exp(joint(model, (2, 0, label))) for label in range(3))
    assert found.measured((2, 0, 1)).value == pytest.approx(3 * math.log(p / (1 - p)), abs=1e-4)


def test_each_broken_pair_costs_one():
    problem = Problem(6, constraints=(AllEqual((0, 1, 2)),))
    assert utility(problem)(Labelled((1, 0, 0, 0, 0, 0), -5.0)) == -7.0


def test_no_labels_are_worth_nothing():
    for delta in ("exact", "conditional"):
        found = utility(reduction="mean", delta=delta)
        assert found(found.measured([None] * 6)) == 0


def test_a_conditional_move_changes_the_value_by_the_change_of_the_joint():
    found = utility(delta="conditional")
    before = found.measured((1, 0, None, 0, 0, 0))
    after = found.moved(before, (1, 1, 1, 1, 0, 0))
    assert before.value == pytest.approx(predictor().log_joint([(0, 1), (1, 0), (3, 0), (4, 0), (5, 0)]), abs=1e-4)
    assert after.value == pytest.approx(joint(predictor(), after.labels), abs=1e-4)


def test_a_conditional_step_reads_at_most_n_units_an_item():
    model = predictor()
    found = utility(model=model, delta="conditional")
    before = found.measured((1, 0, 1, 0, 0, 0))
    model.units = 0
    row = found.predicted(3, before.labels)
    found.moved(before, (1, 0, 1, row.index(max(row)), 0, 0))
    assert model.units == 6  # what was read to propose the label is all that is needed


def test_an_exact_candidate_reads_in_divide_and_conquer_order():
    model = Watched([[0] * 8], [1.0])
    utility(Problem(8), range(8), model).measured([0] * 8)
    assert model.units == 8 * (3 + 1)


# Acceptance and temperature


@pytest.mark.parametrize(("delta", "temperature"), [(-1.0, 2.0), (-0.1, 0.05), (-20.0, 10.0)])
def test_acceptance_follows_its_formula_over_10000_draws(delta, temperature):
    # two-sided binomial test, false alarm rate 1e-3, fixed seed
    rng, p = Random(1), math.exp(delta / temperature)
    accepted = sum(accept(delta, temperature, rng.random()) for _ in range(10_000))
    assert binom.ppf(5e-4, 10_000, p) <= accepted <= binom.ppf(1 - 5e-4, 10_000, p)


def test_a_rise_is_always_accepted_and_a_deep_fall_never():
    assert all(accept(1e-9, 0.01, draw) for draw in (0.0, 0.5, 1 - 1e-16))
    assert not accept(-1e6, 0.01, 0.0)
    assert accept(0.0, 0.01, 1 - 1e-16)


def test_temperature_falls_with_the_logarithm_down_to_its_floor():
    icm = ICM()
    assert [icm.temperature_at(n) for n in (1, 2, 100)] == pytest.approx([10, 5.9305, 1.7989], abs=1e-4)
    assert ICM(t_min=6.0).temperature_at(2) == 6.0


def test_presets_differ_in_scale_and_clock():
    assert ICM.paper() == ICM()
    code = ICM.released_code()
    assert (code.reduction, code.score, code.clock, code.alpha) == ("mean", "logodds", "accepted", 30.0)
    assert code.temperature_at(1) == 10.0
    assert code.temperature_at(1 + 5) == pytest.approx(10 / (1 + 2 * math.log(6)))
    assert ICM.released_code(alpha=50.0).alpha == 50.0


@pytest.mark.parametrize(("clock", "temperatures"), [("steps", [3, 4, 5]), ("accepted", [1, 2, 3])])
def test_the_clock_counts_steps_or_accepted_sets(clock, temperatures, monkeypatch):
    seen = []
    monkeypatch.setattr(ICM, "temperature_at", lambda self, n: seen.append(n) or 1e9)  # accepts everything
    icm = ICM(clock=clock)
    run = run_of(icm, Problem(6), [None] * 6)
    for step in (3, 4, 5):
        icm._step(run, step)
        run.state.labels[:] = [None] * 6  # so that the next label is new again
    assert seen == temperatures


# Steps


def test_a_rejected_move_leaves_everything_as_it_was():
    # an uncertain label added to D lowers the sum of log-probabilities; T is so low that none is accepted
    icm, moved = ICM(t0=1e-9, t_min=1e-9), 0
    for seed in range(30):
        run = run_of(icm, Problem(6, constraints=RULES["overlapping"]), [0, None, 1, None, None, 0], seed=seed)
        before = deepcopy((run.state.labels, run.state.changed_at, run.state.extra, run.state.history))
        icm._step(run, 1)
        if run.state.extra["accepted"] == 0:
            assert (run.state.labels, run.state.changed_at, run.state.extra, run.state.history) == before
        moved += run.state.extra["accepted"]
    assert moved < 30


def test_a_rejection_happens_and_an_accepted_label_is_noted():
    cold, hot = ICM(t0=1e-9, t_min=1e-9), ICM(t0=1e9)
    weak = Watched(CONCEPTS, [0.5, 0.5], agree=1.0)  # predicts nothing well, so that a new label costs log 2 or so
    for icm, labelled in ((cold, 1), (hot, 2)):
        run = run_of(icm, Problem(6), [1, None, None, None, None, None], weak, seed=3)
        icm._step(run, 9)
        assert sum(label is not None for label in run.state.labels) == labelled
        assert sorted(run.state.changed_at) == [0] * (7 - labelled) + [9] * (labelled - 1)


@pytest.mark.parametrize("options", [{}, {"delta": "conditional"}, {"score": "logodds", "reduction": "mean"}])
def test_the_value_that_is_kept_stays_that_of_the_labels(options):
    icm, problem = ICM(**options), Problem(6, constraints=RULES["overlapping"])
    run = run_of(icm, problem, [0, 0, None, None, None, None])
    for step in range(1, 40):
        icm._step(run, step)
        fresh = icm._utility(run, run.state.extra["order"]).measured(run.state.labels).value
        assert run.state.extra["value"] == pytest.approx(fresh, abs=1e-3)
        assert problem.violations(run.state.labels) == []


def test_a_labelled_sibling_makes_an_item_likelier():
    problem = Problem(6, constraints=(AtMostOne((0, 1)), AtMostOne((2, 3))), clamped={5: 1})
    run = run_of(ICM(), problem, [1, None, None, None, 0, 1])
    counts = Counter(ICM(sibling_weight=6.0)._pick(run) for _ in range(2000))
    expected = {0: 0.1, 1: 0.6, 2: 0.1, 3: 0.1, 4: 0.1}
    assert set(counts) == set(expected)
    assert all(abs(counts[i] / 2000 - p) < 5 * math.sqrt(p * (1 - p) / 2000) for i, p in expected.items())


def test_items_left_open_are_filled_in_at_the_end():
    found = ICM(steps=1, initial=2).search(predictor(agree=50.0), Problem(6), seed=2)
    assert found.changed_at.count(2) >= 3  # one step, then the end
    assert found.labels in {tuple(concept) for concept in CONCEPTS}


def test_twelve_steps_an_item_by_default():
    assert ICM()._steps(Problem(6, clamped={0: 1})) == 60
    assert ICM(steps=7)._steps(Problem(6)) == 7
    assert ICM(steps=7)._steps(Problem(1, clamped={0: 1})) == 0


# ConsistencyFix


@pytest.mark.parametrize("delta", ["exact", "conditional"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_consistency_fix_leaves_no_broken_pair(rules, delta):
    icm, rng = ICM(delta=delta), Random(0)
    for seed in range(15):
        for problem in (Problem(6, constraints=rules), Problem(6, constraints=rules, clamped={0: 0, 5: 1})):
            labels = [problem.clamped.get(i, rng.choice((0, 1, 1, None))) for i in range(6)]
            run = run_of(icm, problem, labels, seed=seed)
            u = icm._utility(run, run.state.extra["order"])
            fixed = icm._fix(run, u, u.measured(labels))
            assert problem.violations(fixed.labels) == []
            assert [x is None for x in fixed.labels] == [x is None for x in labels]
            assert all(fixed.labels[i] == label for i, label in problem.clamped.items())


def test_the_better_of_two_consistent_pairs_is_taken():
    problem = Problem(6, constraints=(ExactlyOne((0, 4)),))
    icm = ICM()
    run = run_of(icm, problem, [1, 0, 1, 1, 1, 0])  # as the first concept, but for item 4
    u = icm._utility(run, run.state.extra["order"])
    assert icm._fix(run, u, u.measured(run.state.labels)).labels == tuple(CONCEPTS[0])


def test_a_pair_that_only_lowers_u_is_settled_all_the_same():
    problem = Problem(6, constraints=(ExactlyOne((0, 2)),))
    icm = ICM(alpha=1e6)  # no rule weighs as much as a nat
    run = run_of(icm, problem, CONCEPTS[0], predictor(agree=50.0))
    u = icm._utility(run, run.state.extra["order"])
    before = u.measured(run.state.labels)
    fixed = icm._fix(run, u, before)
    assert u(fixed) < u(before)
    assert fixed.labels[0] + fixed.labels[2] == 1
    assert fixed.labels[3:] == before.labels[3:]


def test_a_rule_that_the_pair_alone_cannot_mend_is_settled_by_the_block():
    problem = Problem(6, constraints=(ExactlyOne((0, 1, 2)),), clamped={0: 0, 1: 0})
    icm = ICM()
    run = run_of(icm, problem, [0, 0, 0, 1, 0, 0])  # (0, 1) is named as the broken pair, and both are clamped
    u = icm._utility(run, run.state.extra["order"])
    assert icm._fix(run, u, u.measured(run.state.labels)).labels[:3] == (0, 0, 1)


# Refusals


@pytest.mark.parametrize(
    "options",
    [
        {"clock": "hours"},
        {"reduction": "max"},
        {"score": "p"},
        {"delta": "none"},
        {"alpha": 0.0},
        {"t0": 0.0},
        {"t_min": float("nan")},
        {"beta": -1.0},
        {"sibling_weight": 0.0},
        {"steps": 0},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ICM(**options)


def test_log_odds_have_no_joint():
    with pytest.raises(ValueError, match="conditional.*logprob"):
        ICM(delta="conditional", score="logodds")
