"""Checkpoints: whole or not there, checked on resume, never of another run; one run in a folder; SIGTERM."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import same, weights
from examples_loader import load_example
from transformers import TrainerCallback

import pst_rl.loop.checkpoints as joint_checkpoints
from pst_rl.loop.checkpoint_files import (
    MANIFEST,
    UNFINISHED,
    CheckpointError,
    checkpoints_of,
    fault_of,
    find_checkpoint,
    publish,
    seal,
)
from pst_rl.loop.identity import differences
from pst_rl.loop.lock import RunLock

SAVED = {"save_strategy": "steps", "save_steps": 1}
# Few tokens, and a gradient whatever they are.
SMALL = {"per_device_train_batch_size": 8, "max_completion_length": 6, "rewards": ["random"], "weighting": "none"}


def all_weights(trainer):
    return {f"{n}.{k}": v for n, peer in trainer.peers.items() for k, v in weights(peer.model).items()}


@pytest.fixture
def run(tmp_path):
    """A run folder with three small sealed checkpoints, of steps 8, 16 and 104."""
    for step in (8, 16, 104):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "llama").mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        (folder / "llama" / "model.safetensors").write_bytes(bytes(range(100)))
        seal(folder)
    return tmp_path


# ---- on disk -------------------------------------------------------------------------------------------------------


def flip(folder):
    path = folder / "llama" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


DAMAGES = {
    "a changed byte": (flip, "llama/model.safetensors does not match its checksum"),
    "a cut file": (lambda f: (f / "trainer_state.json").write_text("{"), "1 bytes instead of 2"),
    "a lost file": (lambda f: (f / "trainer_state.json").unlink(), "trainer_state.json is missing"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "it has no manifest.json"),
    "half a manifest": (lambda f: (f / MANIFEST).write_text('{"version": 1, "fi'), "its manifest.json cannot be read"),
    "another manifest": (lambda f: (f / MANIFEST).write_text("[]"), "its manifest.json cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_skips_a_damaged_checkpoint_and_says_why(run, caplog, damage):
    make, reason = DAMAGES[damage]
    make(run / "checkpoint-104")
    assert find_checkpoint(run, "last") == str(run / "checkpoint-16")
    assert f"Skipped {run}/checkpoint-104" in caplog.text and reason in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_given_by_name_is_refused_unless_told_to_go_on(run, damage):
    make, reason = DAMAGES[damage]
    make(run / "checkpoint-8")
    with pytest.raises(ValueError, match=f"cannot be trusted: .*{reason}"):
        find_checkpoint(run, run / "checkpoint-8")
    assert find_checkpoint(run, run / "checkpoint-8", anyway=True) == str(run / "checkpoint-8")


def test_newest_is_by_step_not_by_name(run):
    assert [folder.name for folder in checkpoints_of(run)] == ["checkpoint-104", "checkpoint-16", "checkpoint-8"]


def test_auto_starts_anew_only_where_there_is_no_checkpoint(run, tmp_path):
    assert find_checkpoint(tmp_path / "nothing", "auto") is None
    for folder in checkpoints_of(run):
        flip(folder)
    with pytest.raises(FileNotFoundError, match="no complete checkpoint(.|\n)*checkpoint-8: llama/model"):
        find_checkpoint(run, "auto")


def test_publishing_replaces_a_checkpoint_of_the_same_step(run):
    unfinished = run / UNFINISHED / "checkpoint-8"
    unfinished.mkdir(parents=True)
    (unfinished / "trainer_state.json").write_text("new")
    publish(unfinished, run / "checkpoint-8")
    assert (run / "checkpoint-8" / "trainer_state.json").read_text() == "new"
    assert fault_of(run / "checkpoint-8") is None and not (run / UNFINISHED).exists()


# ---- written by the trainer ----------------------------------------------------------------------------------------


def test_every_file_of_a_checkpoint_is_in_its_manifest(trainer):
    made = trainer(max_steps=1, **SAVED)
    made.train()
    folder = Path(made.args.output_dir) / "checkpoint-1"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == there - {MANIFEST}
    assert {"optimizer.pt", "joint_state_0.pt", "run.json", "rng_state.pth", "llama/model.safetensors"} <= there
    assert fault_of(folder) is None


@pytest.mark.parametrize("moment", ["torch.save", "publish"])
def test_a_full_disk_stops_the_run_and_leaves_the_earlier_checkpoint(trainer, monkeypatch, moment):
    module, name = (torch, "save") if moment == "torch.save" else (joint_checkpoints, "publish")
    original = getattr(module, name)

    def full(*args):
        if made.state.global_step == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*args)

    monkeypatch.setattr(module, name, full)
    made = trainer(max_steps=3, **SAVED)
    folder = Path(made.args.output_dir)
    with pytest.raises(
        CheckpointError,
        match="step 2 could not be written (.|\n)*No space left(.|\n)*The last checkpoint is .*-1",
    ):
        made.train()
    assert [path.name for path in checkpoints_of(folder)] == ["checkpoint-1"]
    assert fault_of(folder / "checkpoint-1") is None and not (folder / UNFINISHED).exists()


def test_what_a_kill_left_half_written_is_no_checkpoint_and_goes_with_the_next_save(trainer, monkeypatch):
    made = trainer(max_steps=2, **SAVED)
    folder = Path(made.args.output_dir)
    (folder / UNFINISHED / "checkpoint-7").mkdir(parents=True)
    (folder / UNFINISHED / "checkpoint-7" / "optimizer.pt").write_bytes(b"half")
    assert find_checkpoint(folder, "auto") is None
    made.train()
    assert not (folder / UNFINISHED).exists() and len(checkpoints_of(folder)) == 2


def test_the_best_checkpoint_is_known_by_its_final_name_and_survives_rotation(trainer, questions):
    made = trainer(
        eval_data=questions(8, "test"), max_steps=3, eval_strategy="steps", eval_steps=1, save_total_limit=1,
        load_best_model_at_end=True, metric_for_best_model="llama/parsed", greater_is_better=False,
        on_collapse="off", **SAVED,
    )  # fmt: skip
    made.train()
    folder = Path(made.args.output_dir)
    best = folder / f"checkpoint-{made.state.best_global_step}"
    assert made.state.best_model_checkpoint == str(best) and fault_of(best) is None
    assert len(checkpoints_of(folder)) <= 2
    state = json.loads((best / "trainer_state.json").read_text())
    assert UNFINISHED not in str(state["best_model_checkpoint"])


# ---- resume --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"steps_per_generation": 1}, {"steps_per_generation": 3, "gradient_accumulation_steps": 2}],
    ids=["whole epochs", "epochs that end in a smaller step"],
)
def test_resume_in_a_later_epoch_goes_on_in_its_order(trainer, questions, tiny, settings):
    """TRL's sampler would begin again with the order of the first epoch."""
    build = lambda: trainer(
        peers={"llama": tiny["llama"]}, data=questions(6), max_steps=5, **SMALL, **SAVED, **settings
    )
    straight = build()
    straight.train()
    assert straight.state.epoch > 1 and straight.state.log_history[-2]["grad_norm"] > 0
    resumed = build()
    resumed.train(resume_from_checkpoint=str(Path(straight.args.output_dir) / "checkpoint-4"))
    assert same(all_weights(straight), all_weights(resumed))


def test_resume_from_the_last_steps_checkpoint_trains_no_further(trainer, tiny):
    """As after a kill between the last save and the end of the process."""
    build = lambda: trainer(peers={"llama": tiny["llama"]}, max_steps=1, **SMALL, **SAVED)
    straight = build()
    straight.train()
    drawn = torch.rand(1)
    resumed = build()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 1 and resumed.state.epoch < 1
    assert same(all_weights(straight), all_weights(resumed))
    assert torch.equal(torch.rand(1), drawn)  # so that what is sampled next is the same, too


@pytest.fixture
def one_step(trainer):
    made = trainer(max_steps=1, **SAVED)
    made.train()
    return made


CHANGES = {
    "seed": ({"seed": 7}, r"seeds\.seed: 42 in the checkpoint, 7 now"),
    "setting": ({"num_generations": 8}, r"settings\.num_generations: 4 in the checkpoint, 8 now"),
    "reward": ({"rewards": ["random"]}, r'settings\.rewards: \["matches_aggregate"\] in the checkpoint, \["random"\]'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_resume_with_other_settings_is_refused_with_the_difference(trainer, one_step, change):
    settings, message = CHANGES[change]
    with pytest.raises(ValueError, match=f"written by another run:(.|\n)*{message}"):
        trainer(max_steps=2, **settings).train(resume_from_checkpoint=True)


def test_how_answers_are_compared_with_gold_belongs_to_a_supervised_run_only(trainer):
    assert "answer_metric" not in trainer(answer_metric="first").identity()["settings"]
    supervised = trainer(answer_metric="first", supervised=True, rewards=["supervised_gold"])
    assert supervised.identity()["settings"]["answer_metric"] == "first"


def test_resume_with_other_peers_is_refused_with_the_difference(trainer, one_step, tiny):
    swapped = trainer({"gemma2": tiny["gemma2"], "llama": tiny["qwen2"]}, max_steps=2)
    with pytest.raises(ValueError, match='peers.llama.model: "llama" in the checkpoint, "qwen2" now'):
        swapped.train(resume_from_checkpoint=True)
    fewer = trainer({"gemma2": tiny["gemma2"]}, max_steps=2)
    with pytest.raises(ValueError, match="peers.llama: model 'llama' in the checkpoint, nothing now"):
        fewer.train(resume_from_checkpoint=True)


def test_resume_on_other_data_is_refused_unless_told_to_go_on(trainer, one_step, questions):
    with pytest.raises(ValueError, match="data.questions: 32 in the checkpoint, 16 now"):
        trainer(data=questions(16), max_steps=2).train(resume_from_checkpoint=True)
    told = trainer(data=questions(16), max_steps=2, resume_anyway=True)
    told.train(resume_from_checkpoint=True)
    assert told.state.global_step == 2


OLD_FIELDS = {
    "pmi_scorer": "responder", "pmi_target": "answer", "pmi_conditioning": "own_reasoning",
    "pmi_marginal": "own_samples", "pmi_reduction": "sum", "pmi_direction": "less", "pmi_from_cache": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "old"),
    [
        ({"weighting": "none"}, {"pmi": "off", "pmi_tau": None}),
        ({"weighting": "pmi"}, {"pmi": "on", "pmi_tau": None}),
        ({"weighting": "pmi", "weighting_options": {"tau": 2.0}}, {"pmi": "on", "pmi_tau": 2.0}),
    ],
)
def test_a_checkpoint_from_before_the_weights_had_a_registry_is_read(trainer, now, old):
    settings = {"per_device_train_batch_size": 8, "max_completion_length": 6, "rewards": ["random"]} | now
    made = trainer(max_steps=1, **SAVED | settings)
    made.train()
    folder = Path(made.args.output_dir) / "checkpoint-1"
    identity = json.loads((folder / "run.json").read_text())
    for name in ("weighting", "weighting_options"):
        del identity["settings"][name]
    del identity["weighting"]
    identity["settings"] |= OLD_FIELDS | old
    (folder / "run.json").write_text(json.dumps(identity))
    state = torch.load(folder / "joint_state_0.pt", weights_only=True)
    state["parts"].pop("weighting", None)
    state["parts"]["pmi_scale"] = {"variance": {"gemma2": 4.0}}
    torch.save(state, folder / "joint_state_0.pt")
    seal(folder)  # its checksums were those of what was written
    other = {"weighting": "none" if now["weighting"] == "pmi" else "pmi", "weighting_options": None}
    with pytest.raises(ValueError, match="settings.weighting: "):
        trainer(max_steps=2, **settings | other).train(resume_from_checkpoint=str(folder))
    resumed = trainer(max_steps=1, **settings)
    resumed.train(resume_from_checkpoint=str(folder))
    if now["weighting"] == "pmi":
        assert resumed.weighting.scale.variance == {"gemma2": 4.0}


def test_a_longer_run_or_another_folder_for_the_model_is_the_same_run():
    then = {"peers": {"a": {"model": "llama"}}}
    assert differences(then, json.loads(json.dumps(then))) == []


# ---- one run in a folder -------------------------------------------------------------------------------------------

HOLD = (
    "import sys; from pst_rl.loop.lock import RunLock\nwith RunLock(sys.argv[1]): print('held', flush=True); input()"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / 'run'`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_run_in_a_folder_is_refused_and_told_who_holds_it(trainer, holder):
    with pytest.raises(ValueError, match=f"Another run writes to .*process {holder.pid} on "):
        trainer()


def test_lock_of_a_killed_run_is_free_again(trainer, holder):
    holder.kill()
    holder.wait()
    trainer(max_steps=1).train()


def test_one_process_may_hold_a_folder_several_times(tmp_path):
    with RunLock(tmp_path):
        with RunLock(tmp_path):
            pass
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        refused = subprocess.run(command, input="", capture_output=True, text=True)
    assert "Another run writes to" in refused.stderr  # leaving the inner one did not give the folder away


def test_folder_that_cannot_be_written_to_is_refused_before_a_model_is_loaded(trainer, tmp_path, monkeypatch):
    import pst_rl.loop.joint_trainer as module

    monkeypatch.setattr(module, "PeerTrainer", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written to \(Not a directory\)"):
        trainer(output_dir=str(tmp_path / "file" / "run"))


# ---- SIGTERM -------------------------------------------------------------------------------------------------------


class Sends(TrainerCallback):
    """Sends this process a signal when an event comes for the n-th time."""

    def __init__(self, event, step):
        self.step = step
        setattr(self, event, self.send)

    def send(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_finishes_the_step_saves_and_stops_and_the_resumed_run_is_equal(trainer, tiny):
    """Between two steps, inside a step (when the batch in use has to be kept), and while a checkpoint is written."""
    steps = {"max_steps": 3, "steps_per_generation": 2, "gradient_accumulation_steps": 2}
    build = lambda: trainer(peers={"llama": tiny["llama"]}, enable_jit_checkpoint=True, **steps, **SMALL, **SAVED)
    straight = build()
    straight.train()
    assert straight.state.log_history[-2]["grad_norm"] > 0
    before = signal.getsignal(signal.SIGTERM)
    for event, step, last in [("on_step_begin", 1, 2), ("on_substep_end", 0, 1), ("on_save", 2, 2)]:
        stopped = build()
        stopped.callback_handler.callbacks.insert(0, Sends(event, step))
        stopped.train()
        assert (stopped.state.global_step, stopped.preemption.stopped) == (last, True)
        assert signal.getsignal(signal.SIGTERM) is before
        resumed = build()
        resumed.train(resume_from_checkpoint=str(Path(stopped.args.output_dir) / f"checkpoint-{last}"))
        assert not resumed.preemption.stopped
        assert same(all_weights(straight), all_weights(resumed))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """`example(*flags)`: the status `examples/pst_math.py` ends with, on two tiny peers."""
    from pst_rl.tiny import TINY_PEERS

    small = """--max-steps 3 --save-steps 1 --per-device-train-batch-size 16 --steps-per-generation 1
        --num-generations 4 --train-questions 16 --test-questions 4 --pooled-questions 0 --dataset tiny""".split()
    peers = [str(TINY_PEERS[name]) for name in ("llama", "qwen2")]

    def start(*flags):
        argv = ["pst_math.py", "--peers", *peers, *small, "--output-dir", str(tmp_path / "run"), *flags]
        monkeypatch.setattr(sys, "argv", argv)
        return load_example("pst_math").main()

    return start


@pytest.mark.parametrize(("fault", "status"), [("sigterm", 143), ("disk", 74), ("nan", 70)])
def test_example_ends_with_a_status_and_the_command_to_go_on(example, monkeypatch, capsys, fault, status):
    from pst_rl import PSTTrainer
    from pst_rl.peers.peer_trainer import PeerTrainer

    rollout = PSTTrainer.joint_rollout
    loss = PeerTrainer.compute_loss

    def with_fault(self, rows):
        rollout(self, rows)
        if self.state.global_step == 1 and fault == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PSTTrainer, "joint_rollout", with_fault)
    if fault == "nan":
        monkeypatch.setattr(PeerTrainer, "compute_loss", lambda *a, **k: loss(*a, **k) * float("nan"))
    if fault == "disk":
        publish = joint_checkpoints.publish
        monkeypatch.setattr(joint_checkpoints, "publish", lambda a, b: (full if b.name[-1] == "2" else publish)(a, b))
    assert example("--fault-patience", "2") == status
    assert "--resume-from-checkpoint" in capsys.readouterr().out
