"""The monitor of collapse: what a batch's vitals are, which of them raise an alarm, and what happens then."""

from types import SimpleNamespace

import pytest
import torch
from conftest import same, weights
from helpers import group, response
from transformers import TrainerControl

from pst_rl.monitors.collapse import CollapseMonitor
from pst_rl.stages.vitals import agreement_beyond_chance, copying, payoffs, vitals


def answered(answers, block=0, **fields):
    return group(answers, block=block, **fields)


# ---- vitals --------------------------------------------------------------------------------------------------------


def test_shares_are_means_over_questions_and_unparsed_samples_count():
    seen = vitals(answered([[["1", "1"], ["2", None]]]))["a"]
    assert seen.shares == {"1": 0.5, "2": 0.25}
    assert (seen.questions, seen.parsed) == (2, 0.75)


def test_a_constant_answer_agrees_with_itself_everywhere():
    assert vitals(answered([[["7", "7"], ["7", "7"]]]))["a"].shuffled_agreement == 1.0
    assert vitals(answered([[["1", "1"], ["2", "2"]]]))["a"].shuffled_agreement == 0.5


def test_copying_is_agreement_within_chains_beyond_that_across():
    first, copies, alone = ["1", "2", "3"], ["1", "2", "3"], ["1", "1", "1"]
    copied = vitals(answered([[first], [copies]]))
    assert (copying([copied["a"]]), copying([copied["b"]])) == (0.0, 1.0)
    assert copying([vitals(answered([[first], [alone]]))["b"]]) == 0.0


def test_agreement_beyond_chance_gives_a_constant_answer_nothing():
    assert agreement_beyond_chance(answered([[["7", "7"], ["7", "7"]]])) == 0.0
    assert agreement_beyond_chance(answered([[["1", "1"], ["2", "2"]]])) == 0.5


def test_payoff_is_the_correlation_of_reward_and_agreement_within_each_peer():
    split = answered([[["1", "1", "2", None]], [["1", "1", "1", "1"]]])
    agreed = [5 / 7, 5 / 7, 0.0, 0.0]
    of_first = lambda *values: torch.tensor([[values], [(9.0, 9.0, 9.0, 9.0)]])
    assert payoffs(split, of_first(*agreed)) == [pytest.approx(1.0)]
    assert payoffs(split, of_first(0.0, 0.0, 1.0, 1.0)) == [pytest.approx(-1.0)]
    assert payoffs(split, of_first(1.0, 0.0, 1.0, 0.0)) == [pytest.approx(0.0)]


def test_payoff_is_undefined_where_all_samples_agree_or_earn_the_same():
    assert payoffs(answered([[["1", "1"], ["1", "2"]]]), torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])) == []


# ---- alarms --------------------------------------------------------------------------------------------------------


class Run:
    """A monitor that is shown groups and logs, without a trainer."""

    def __init__(self, action="warn", peers=("a",), supervised=False):
        self.recorded, self.restored = [], []
        self.monitor = CollapseMonitor(
            peers, self.recorded.append, self.restored.append, action, supervised=supervised
        )
        self.control = TrainerControl()
        self.state = SimpleNamespace(global_step=0, best_model_checkpoint=None)
        self.args = SimpleNamespace(output_dir="out", load_best_model_at_end=False)

    def show(self, *groups, rewards=None):
        for shown in groups:
            self.state.global_step += 1
            self.monitor.show(shown, torch.zeros(shown.shape) if rewards is None else rewards.expand(shown.shape))
            self.monitor.on_step_end(self.args, self.state, self.control)
        return self.monitor.alarms

    def log(self, **logs):
        self.state.global_step += 1
        logs = {f"a/{name}": value for name, value in logs.items()}
        self.monitor.on_log(self.args, self.state, self.control, logs)
        return self.monitor.alarms


def batch(block, constant=0, length=10, parsed=64):
    """64 questions with different answers, of which the first `constant` are answered 7."""
    answers = ["7" if q < constant else str(1000 + q) for q in range(64)]
    rows = [[response(a if q < parsed else None, length=length)] * 2 for q, a in enumerate(answers)]
    return answered([rows], block=block)


def test_a_constant_answer_is_named_once():
    alarms = Run().show(batch(0), batch(1, constant=20), batch(2, constant=40))
    assert alarms == ["step 2: a: concentration: 31 % of its answers are '7', 2 % before"]


def test_a_constant_answer_is_named_as_it_is_written_lastly_and_mostly():
    halves = {key: [response(text)] * 2 for key, text in (("old", "1/2"), ("new", "0.50"), ("once", "\\frac{1}{2}"))}
    spread = [[response(str(1000 + q))] * 2 for q in range(64)]
    start, old = answered([spread]), answered([[halves["old"]] * 40 + spread[40:]], block=1)
    new = answered([[halves["new"]] * 40 + [halves["once"]] * 2 + spread[42:]], block=2)
    assert Run().show(start, new) == ["step 2: a: concentration: 66 % of its answers are '0.50', 2 % before"]
    run = Run()
    run.show(start)
    saved = run.monitor.state_dict()
    for kept in ("start", "recent"):
        saved[kept] = {name: [{k: v for k, v in row.items() if k != "spellings"} for row in rows]
                       for name, rows in saved[kept].items()}  # fmt: skip
    run = Run()
    run.monitor.load_state_dict(saved)  # of a checkpoint from before answers were named as they are written
    assert "are '1/2', 2 % before" in run.show(old)[0]


@pytest.mark.parametrize("change", [{"constant": 4}, {"length": 20}, {"parsed": 56}])
def test_small_changes_raise_no_alarm(change):
    assert Run().show(batch(0), batch(1, **change)) == []


def test_small_batches_are_judged_together():
    few = [answered([[["7"] * 4] * 4], block=block) for block in range(15)]
    run = Run()
    assert run.show(answered([[[str(i)] * 4 for i in range(64)]], block=99), few[0]) == []  # 4 of 68 questions
    assert len(run.show(*few[1:])) == 1


def unsure(block, disagree, reward):
    """64 questions of two chains, which differ in the first `disagree`; and what each question earned."""
    rows = [[str(1000 + q), str(2000 + q) if q < disagree else str(1000 + q)] for q in range(64)]
    return answered([rows], block=block), torch.tensor([reward + 0.01 * (q % 2) for q in range(64)])[None, :, None]


@pytest.mark.parametrize(("disagree", "reward", "alarms"), [(40, 0.9, 1), (40, 0.1, 0), (2, 0.9, 0)])
def test_reward_that_parts_from_agreement_is_named(disagree, reward, alarms):
    run = Run()
    for shown, rewards in (unsure(0, 4, 0.5), unsure(1, disagree, reward)):
        run.show(shown, rewards=rewards)
    assert len(run.monitor.alarms) == alarms
    assert all("all peers: divergence" in alarm for alarm in run.monitor.alarms)


def two_to_one(block):
    """64 questions, of whose three samples two agree; what pays for agreement, and what does not."""
    rows = [[str(q), str(q), str(1000 + q)] for q in range(64)]
    follows = torch.tensor([1.0, 1.0, 0.0])
    return answered([rows], block=block), follows, torch.stack([follows.roll(q) for q in range(64)])


def test_reward_that_has_nothing_to_do_with_agreement_is_named_and_one_that_follows_it_is_not():
    shown, follows, ignores = two_to_one(0)
    assert Run().show(shown, rewards=follows) == []
    assert Run().show(shown, rewards=ignores)[0].startswith("step 1: all peers: payoff: the reward hardly follows")


def test_gold_may_part_from_agreement():
    shown, _, ignores = two_to_one(0)
    assert Run(supervised=True).show(shown, rewards=ignores) == []


def test_payoff_is_recorded_once_a_batch():
    run, (shown, follows, _) = Run(), two_to_one(0)
    run.show(shown, rewards=follows)
    run.monitor.on_step_end(run.args, run.state, run.control)  # another step on the same batch
    assert run.recorded == [{"peers/payoff": pytest.approx(1.0)}]


@pytest.mark.parametrize(("change", "sign"), [({"parsed": 40}, "parsed"), ({"length": 31}, "length")])
def test_other_signs_are_named(change, sign):
    assert f"a: {sign}" in Run().show(batch(0), batch(1, **change))[0]


def test_exploding_entropy_and_norms_are_named_and_falling_entropy_is_not():
    run = Run()
    assert [run.log(entropy=e, grad_norm=1.0) for e in (0.5, 0.1, 0.01, 0.01, 0.01)][-1] == []
    assert run.log(entropy=0.02, grad_norm=30.0) == []  # one large norm is none
    run.log(grad_norm=30.0)
    assert "update norm" in run.log(grad_norm=30.0)[0]
    assert "entropy" in run.log(entropy=1.6)[1]


def test_stop_ends_training_and_warn_does_not():
    for action, stops in (("warn", False), ("stop", True)):
        run = Run(action)
        run.show(batch(0), batch(1, constant=40))
        assert run.control.should_training_stop is stops


def test_unknown_action_is_refused():
    with pytest.raises(ValueError, match="on_collapse must be"):
        Run("panic")


def test_state_survives_a_checkpoint():
    run, resumed = Run(), Run()
    run.show(batch(0))
    run.log(entropy=0.5, grad_norm=1.0)
    resumed.state.global_step = run.state.global_step
    resumed.monitor.load_state_dict(run.monitor.state_dict())
    assert resumed.show(batch(1, constant=20)) == run.show(batch(1, constant=20))


# ---- with a probe --------------------------------------------------------------------------------------------------


class Probe:
    """Finds a fall at the second step it is asked at; its agreement is 0.9, 0.8, 0.7, ..."""

    def __init__(self):
        self.history = []

    def ask(self, step):
        self.history.append((step, 0.9 - 0.1 * len(self.history), 0.0))
        return "agreement fell" if len(self.history) == 3 else None


def probed(action="warn", steps=2):
    run = Run(action)
    run.monitor.probe, run.monitor.probe_steps = Probe(), steps
    run.monitor.on_train_begin(run.args, run.state, run.control)
    return run


def test_probe_asks_at_the_start_and_every_so_many_steps_and_its_fall_is_an_alarm():
    run = probed()
    run.show(*[batch(block // 2) for block in range(5)])
    assert [step for step, *_ in run.monitor.probe.history] == [0, 2, 4]
    assert run.monitor.alarms == ["step 4: all peers: agreement fell"]


def test_resumed_probe_does_not_start_again():
    run = probed()
    run.monitor.on_train_begin(run.args, run.state, run.control)
    assert len(run.monitor.probe.history) == 1


def test_best_checkpoint_is_that_of_the_best_probe():
    run = probed(steps=1)
    for block in range(2):  # the second batch agrees more, and its probe less
        run.show(answered([[["1", "1" if block else "2"]]], block=block))
        run.monitor.on_save(run.args, run.state, run.control)
    assert run.monitor.best == (pytest.approx(0.8), "out/checkpoint-1")


# ---- in a run ------------------------------------------------------------------------------------------------------


def test_restored_peers_are_those_of_the_best_checkpoint(trainer, monkeypatch):
    run = trainer(
        max_steps=3,
        save_strategy="steps",
        save_steps=1,
        on_collapse="restore",
        weighting="none",
        reward_providers=["random"],
    )
    monkeypatch.setattr(
        run.collapse, "_signs", lambda name: ["concentration: planted"] if run.state.global_step == 3 else []
    )
    kept = {}
    save = run._save_checkpoint

    def remember(model, trial):
        kept[run.state.global_step] = {name: weights(peer.model) for name, peer in run.peers.items()}
        save(model, trial)

    monkeypatch.setattr(run, "_save_checkpoint", remember)
    run.train()
    step = int(run.collapse.best[1].rsplit("-", 1)[1])
    assert step in (1, 2)  # saved before the alarm
    assert all(same(kept[step][name], weights(peer.model)) for name, peer in run.peers.items())
    assert not same(kept[3]["llama"], kept[step]["llama"])


def test_healthy_run_raises_no_alarm(trainer):
    run = trainer(max_steps=3)
    run.train()
    assert run.collapse.alarms == []
