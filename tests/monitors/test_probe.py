"""The probe: fixed questions, the vote at the start, and when a fall of the agreement with it is one."""

from statistics import fmean

import pytest
import torch
from conftest import same, weights
from datasets import Dataset
from helpers import response

from pst_rl.monitors.probe import AgreementProbe, draw_questions
from pst_rl.stages.evaluation import Evaluation

Q = 100
DATASET = Dataset.from_dict({"prompt": [f"q{i}" for i in range(200)], "question_id": list(range(200))})


class Scripted:
    """Two peers that answer `wrong` of the questions unlike their first vote; no model."""

    def __init__(self):
        self.wrong = 0
        self.asked, self.logged = [], []

    def measure(self, dataset, samples):
        torch.rand(1)  # a sample is drawn
        self.asked.append((dataset["prompt"][:], samples))
        greedy = [[response("no" if q < self.wrong else str(q)) for q in range(Q)]] * 2
        return Evaluation(("a", "b"), greedy, [[(response(str(q)),) * samples for q in range(Q)]] * 2, None)

    def record(self, values):
        self.logged.append(values["peers/probe_agreement"])

    def probe(self, trained=("a", "b")):
        asked = draw_questions(DATASET, Q, seed=0)
        return AgreementProbe(asked, lambda *a, **k: self.measure(*a, **k), self.record, trained, torch.device("cpu"))


@pytest.fixture
def scripted():
    peers = Scripted()
    return peers, peers.probe()


def ask(scripted, *wrong):
    peers, probe = scripted
    found = []
    for step, peers.wrong in enumerate(wrong, start=len(probe.history)):  # noqa: B020
        found.append(probe.ask(step))
    return found


def test_a_fall_beyond_two_standard_errors_is_named(scripted):
    *before, found = ask(scripted, 0, 3, 8)
    assert before == [None, None]  # 3 of 100: 1.8 standard errors
    assert found == "agreement with the first vote: 92.0 %, 100.0 % before"


def test_a_small_fall_is_nothing_however_sure(scripted):
    peers, probe = scripted
    probe._vote, probe._best = [str(q) for q in range(Q)], [1.0] * 50 + [0.02] * 50
    probe.history = [(0, fmean(probe._best), 0.0)]
    peers.measure = lambda *_, **__: Evaluation(("a", "b"), [[response("no")] * Q] * 2, [], None)
    assert probe.ask(1) is not None
    probe._best = [0.01] * Q
    probe._best[0] = 0.0
    assert probe.ask(2) is None  # one point, without any doubt


def test_the_fall_is_counted_from_the_best_so_far(scripted):
    assert ask(scripted, 20, 10, 20)[:2] == [None, None]
    assert ask(scripted, 20)[0] is not None


def test_rising_agreement_is_none_of_its_business(scripted):
    assert ask(scripted, 40, 30, 20, 20, 0) == [None] * 5


def test_peers_that_are_not_updated_do_not_count(scripted):
    peers, _ = scripted
    only_a = peers.probe(trained=("a",))
    right = [response(str(q)) for q in range(Q)]
    wrong = [response("no")] * Q
    sampled = [[(r,) for r in right]] * 2
    peers.measure = lambda *_, **__: Evaluation(("a", "b"), [right, wrong], sampled, None)
    assert (ask((peers, only_a), 0), only_a.history[-1][1]) == ([None], 1.0)


def test_the_same_questions_are_asked_again_and_sampled_once_only(scripted):
    ask(scripted, 0, 0, 0)
    prompts, samples = zip(*scripted[0].asked, strict=True)
    assert prompts[0] == prompts[1] == prompts[2] and len(set(prompts[0])) == Q
    assert samples == (4, 0, 0)


def test_agreement_is_logged_and_kept(scripted):
    ask(scripted, 0, 50)
    assert scripted[0].logged == [1.0, 0.5]
    assert scripted[1].history == [(0, 1.0, 0.0), (1, 0.5, pytest.approx(10.0))]


def test_random_numbers_of_the_run_are_left_as_they_were(scripted):
    before = torch.get_rng_state()
    ask(scripted, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_its_state_survives_a_checkpoint(scripted):
    ask(scripted, 0)
    again = scripted[0].probe()
    again.load_state_dict(scripted[1].state_dict())
    assert ask((scripted[0], again), 10)[0] is not None


def test_more_questions_than_there_are_is_refused():
    with pytest.raises(ValueError, match="collapse_probe=201, but there are 200 training questions"):
        draw_questions(DATASET, 201, seed=0)


def test_a_probe_that_nothing_listens_to_is_refused(config):
    with pytest.raises(ValueError, match="on_collapse='off'"):
        config(collapse_probe=8, on_collapse="off")
    with pytest.raises(ValueError, match="collapse_probe must be"):
        config(collapse_probe=-1)


def test_probed_run_trains_the_same_weights_and_asks_between_generation_batches(trainer):
    runs = []
    for probe in (0, 8):
        few = {"max_steps": 4, "steps_per_generation": 2, "max_completion_length": 12, "weighting": "none"}
        run = trainer(collapse_probe=probe, reward_providers=["random"], **few)
        run.train()
        runs.append(run)
    plain, probed = runs
    assert [step for step, *_ in probed.collapse.probe.history] == [0, 2, 4]
    assert all(same(weights(plain.peers[n].model), weights(probed.peers[n].model)) for n in plain.peers)
    assert any("peers/probe_agreement" in row for row in probed.state.log_history)
