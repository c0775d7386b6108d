"""Ctrl-C: the step is finished and saved first, once more stops at once; what others do with it stays theirs."""

import os
import signal
from itertools import count
from pathlib import Path

import pytest
from conftest import same, weights
from transformers import TrainerCallback

from pst_rl.loop.checkpoint_files import checkpoints_of

ONE = {
    "max_steps": 3, "steps_per_generation": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 8,
    "max_completion_length": 6, "rewards": ["random"], "weighting": "none", "save_strategy": "steps",
    "save_steps": 100,
}  # fmt: skip


class Presses(TrainerCallback):
    """Ctrl-C, so many times, when an event comes at a step."""

    def __init__(self, event, step, times=1):
        self.step, self.times = step, times
        setattr(self, event, self.press)

    def press(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def build(trainer, tiny, tmp_path):
    """`build(callback, **settings)`: a trainer of one peer in a new folder; the callback is the first to hear."""
    folders = count()

    def made(*callbacks, **settings):
        settings["output_dir"] = str(tmp_path / f"run{next(folders)}")
        built = trainer(peers={"llama": tiny["llama"]}, **ONE | settings)
        built.callback_handler.callbacks[:0] = callbacks
        return built

    return made


@pytest.fixture(autouse=True)
def heed():
    """A shell's background jobs ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_before_the_first_checkpoint_keeps_the_whole_step_and_the_resumed_run_is_equal(build, capfd):
    straight = build()
    straight.train()
    assert straight.state.log_history[-2]["grad_norm"] > 0
    for event, step, last in [("on_step_begin", 1, 2), ("on_substep_end", 0, 1)]:
        stopped = build(Presses(event, step))
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
        assert "once more stops at once" in capfd.readouterr().err
        left = checkpoints_of(stopped.args.output_dir)
        assert [folder.name for folder in left] == [f"checkpoint-{last}"]
        resumed = build()
        resumed.train(resume_from_checkpoint=str(left[0]))
        assert same(weights(straight.peers["llama"].model), weights(resumed.peers["llama"].model))


def test_ctrl_c_while_a_step_is_evaluated_saves_that_step(build, questions):
    stopped = build(Presses("on_evaluate", 1), eval_data=questions(2, "test"), eval_strategy="steps", eval_steps=1)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert (stopped.state.global_step, stopped.preemption.interrupted) == (1, True)
    assert Path(stopped.args.output_dir, "checkpoint-1").is_dir()


def test_a_second_ctrl_c_stops_at_once_but_not_one_that_a_launcher_passes_on(build, monkeypatch):
    stopped = build(Presses("on_substep_end", 0, times=2))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert stopped.state.global_step == 0 and checkpoints_of(stopped.args.output_dir) == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    passed_on = build(Presses("on_substep_end", 0, times=2))
    with pytest.raises(KeyboardInterrupt):
        passed_on.train()
    assert [folder.name for folder in checkpoints_of(passed_on.args.output_dir)] == ["checkpoint-1"]


def test_without_checkpoints_ctrl_c_stops_at_once_and_a_handler_of_the_users_stays(build):
    with pytest.raises(KeyboardInterrupt):
        build(Presses("on_step_begin", 0), save_strategy="no").train()
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    run = build(Presses("on_step_begin", 1), max_steps=2)
    run.train()
    assert heard == [signal.SIGINT] and not run.preemption.stopped
    signal.signal(signal.SIGINT, signal.default_int_handler)
