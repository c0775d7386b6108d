import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from search_helpers import EASY, PROBLEM, SEARCH, SEARCHERS, Breaking, Broken, Histories, Watched

from pst_rl.coherence.constraints import AtMostOne, OneAnswer, Pairwise
from pst_rl.coherence.predictor import Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search import FoldICM
from pst_rl.coherence.search.state import FILE, State, pack, unpack

SHORT = {name: replace(s, steps=12) if "icm" in name else s for name, s in SEARCHERS.items()}

every_searcher = pytest.mark.parametrize("searcher", SHORT.values(), ids=SHORT)


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """The files that were synced; none really is, as a busy disk takes its time."""
    files = []
    monkeypatch.setattr(os, "fsync", files.append)
    return files


def made():
    return Watched(*EASY, agree=3.0)


def broken_off(searcher, folder, calls, fault=Broken, **options):
    """Whether the search was broken off by a fault in the predictor's call number `calls`."""
    try:
        searcher.search(Breaking(*EASY, agree=3.0, last=calls, fault=fault), PROBLEM, folder=folder, **options)
    except fault:
        return True
    return False


def states(folder):
    return json.loads((folder / FILE).read_text())


@every_searcher
def test_broken_off_at_any_of_20_moments_it_ends_the_same(searcher, tmp_path):
    searcher = replace(searcher, start="few", initial=3, restarts=2)
    model = made()
    whole = searcher.search(model, PROBLEM, seed=5)
    moments = Random(0).sample(range(1, model.calls), 20)
    for moment in moments:
        folder = tmp_path / str(moment)
        assert broken_off(searcher, folder, moment, seed=5)
        assert searcher.search(made(), PROBLEM, seed=5, folder=folder) == whole


class Trained(Predictor):
    """Stands for a model fine-tuned on labelled items: it has read them as a context."""

    def __init__(self, base, demos):
        self.base, self.demos, self.tokens = base, tuple(demos), len(demos)
        self.n_items, self.n_labels = base.n_items, base.n_labels

    def open(self):
        return Histories(self.base, [self.demos])


def test_folds_broken_off_at_any_of_20_moments_end_the_same(tmp_path, monkeypatch):
    folds = "pst_rl.coherence.search.folds.fine_tuned"
    monkeypatch.setattr(folds, lambda predictor, demos, *options, **more: Trained(predictor, demos))
    searcher, model = FoldICM(folds=3, rounds=3, start="few", initial=3), made()
    whole = searcher.search(model, PROBLEM, seed=5)
    for moment in Random(0).sample(range(1, model.calls), 20):
        folder = tmp_path / str(moment)
        assert broken_off(searcher, folder, moment, seed=5)
        assert searcher.search(made(), PROBLEM, seed=5, folder=folder) == whole


@pytest.mark.parametrize("moment", [40, 130, 250])
def test_steps_since_the_last_write_are_done_again(moment, tmp_path):
    assert broken_off(SEARCH, tmp_path, moment, save_every=3)
    assert states(tmp_path)["step"] in (-1, 0, 3)
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path, save_every=3) == SEARCH.search(made(), PROBLEM)


def test_broken_off_again_and_again_it_gets_there(tmp_path):
    whole, breaks = SEARCH.search(made(), PROBLEM), 0
    while broken_off(SEARCH, tmp_path, 80):
        breaks += 1
    assert breaks >= 3
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path) == whole


def test_a_folder_changes_nothing(tmp_path):
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path) == SEARCH.search(made(), PROBLEM)


def test_a_finished_search_is_not_searched_again(tmp_path):
    whole = SEARCH.search(made(), PROBLEM, folder=tmp_path)
    again = made()
    assert SEARCH.search(again, PROBLEM, folder=tmp_path) == whole
    assert again.units < whole.units / 10


def test_ctrl_c_leaves_a_state_to_go_on_from(tmp_path):
    assert broken_off(SEARCH, tmp_path, 100, fault=KeyboardInterrupt)
    assert states(tmp_path)["step"] >= 1
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path) == SEARCH.search(made(), PROBLEM)


def test_a_write_that_is_cut_short_leaves_the_state_before_it(tmp_path, monkeypatch):
    writes = []

    def dies(source, target):
        writes.append(target)
        if len(writes) == 4:
            Path(source).write_text('{"half')
            raise Broken
        real(source, target)

    real = os.replace
    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(Broken):
        SEARCH.search(made(), PROBLEM, folder=tmp_path)
    assert states(tmp_path)["step"] == 2  # start, 1, 2 were written
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path) == SEARCH.search(made(), PROBLEM)


SCRIPT = """
import sys, time
from search_helpers import EASY, PROBLEM, SEARCH, Watched

class Slow(Watched):
    def law(self, history, item):
        time.sleep(0.005)
        return super().law(history, item)

SEARCH.search(Slow(*EASY, agree=3.0), PROBLEM, folder=sys.argv[1])
"""


def test_a_killed_process_can_be_taken_over(tmp_path):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path], env={**os.environ, "PYTHONPATH": paths})
    deadline = time.monotonic() + 120
    while not (tmp_path / FILE).exists() or states(tmp_path)["step"] < 2:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert states(tmp_path)["restart"] < SEARCH.restarts
    assert SEARCH.search(made(), PROBLEM, folder=tmp_path) == SEARCH.search(made(), PROBLEM)


@pytest.mark.parametrize(
    ("other", "problem", "seed", "difference"),
    [
        (replace(SEARCH, temperature=0.5), PROBLEM, 0, "temperature is 1.0 there and 0.5 here"),
        (replace(SEARCH, sweeps=9), PROBLEM, 1, "sweeps is 5 there and 9 here; seed is 0 there and 1 here"),
        (SEARCHERS["bootstrap"], PROBLEM, 0, "method is 'gibbs' there and 'bootstrap' here"),
        (SEARCH, replace(PROBLEM, clamped={3: 0}), 0, r"clamped\[0\] is \[3, 1\] there and \[3, 0\] here"),
        (SEARCH, replace(PROBLEM, constraints=()), 0, "constraints has 2 entries there and 0 here"),
    ],
)
def test_the_state_of_another_search_is_refused(other, problem, seed, difference, tmp_path):
    SEARCH.search(made(), PROBLEM, folder=tmp_path)
    before = (tmp_path / FILE).read_text()
    with pytest.raises(ValueError, match=difference):
        other.search(made(), problem, seed=seed, folder=tmp_path)
    assert (tmp_path / FILE).read_text() == before


def held(rule):
    """A problem in which only the content of one constraint can differ."""
    return replace(PROBLEM, constraints=(PROBLEM.constraints[0], rule))


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (OneAnswer((4, 5), answers=("5", "7")), OneAnswer((4, 5), answers=("5", "5"))),
        (AtMostOne((4, 5), value=1), AtMostOne((4, 5), value=0)),
        (Pairwise((4, 5), rule=lambda a, b: a <= b), Pairwise((4, 5), rule=lambda a, b: a >= b)),
    ],
)
def test_the_state_under_other_rules_of_the_same_items_is_refused(there, here, tmp_path):
    SEARCH.search(made(), held(there), folder=tmp_path)
    with pytest.raises(
        ValueError, match=rf"constraints\[1\] is .{type(there).__name__}\(items=\(4, 5\).* there and .* here"
    ):
        SEARCH.search(made(), held(here), folder=tmp_path)


def test_the_same_rule_written_again_is_the_same(tmp_path):
    whole = SEARCH.search(made(), held(Pairwise((4, 5), rule=lambda a, b: a <= b)), folder=tmp_path)
    assert SEARCH.search(made(), held(Pairwise((4, 5), rule=lambda a, b: not a > b)), folder=tmp_path) == whole


def test_the_state_of_another_predictor_is_refused(tmp_path):
    SEARCH.search(made(), PROBLEM, folder=tmp_path)
    with pytest.raises(ValueError, match="concepts is '.*' there and '.*' here"):
        SEARCH.search(Watched(*EASY, agree=4.0), PROBLEM, folder=tmp_path)


def test_the_state_of_a_problem_of_another_size_is_refused(tmp_path):
    SEARCH.search(made(), PROBLEM, folder=tmp_path)
    with pytest.raises(ValueError, match="n_items is 8 there and 2 here"):
        SEARCH.search(Watched([[1, 0]], [1.0]), Problem(2), folder=tmp_path)


def test_a_generator_goes_through_json():
    rng = Random(7)
    rng.random()
    same = unpack(json.loads(json.dumps(pack(rng))))
    assert [same.random() for _ in range(5)] == [rng.random() for _ in range(5)]


def test_a_state_goes_through_its_file(tmp_path, synced):
    state = State({"seed": 1}, pack(Random(1)), labels=[None, 1], changed_at=[0, 2], extra={"value": 0.1 + 0.2})
    state.save(tmp_path)
    assert len(synced) == 1
    assert State(**states(tmp_path)) == state
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_save_every_must_be_positive():
    with pytest.raises(ValueError, match="save_every"):
        SEARCH.search(made(), PROBLEM, save_every=0)
