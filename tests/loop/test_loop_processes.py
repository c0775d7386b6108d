"""Several processes: the same tokens give the update of one, launched and resumed as the documentation says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import ROOT, blocks
from replay import KINDS

REPLAY = str(Path(__file__).with_name("replay.py"))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The folder of a run that one process recorded, and two and four replayed."""
    folder = tmp_path_factory.mktemp("replayed")
    wait(start(sys.executable, REPLAY, str(folder), "1", "2", "4"))
    return folder


def start(*command):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": path}
    )


def wait(*running):
    outputs = [process.communicate(timeout=400)[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


def ended(folder, kind, world, process=0):
    return torch.load(folder / f"{kind}-{world}-{process}.pt", weights_only=False)


def distances(one, other):
    """Per peer, the distance between two runs' trained parameters, as a share of how far they moved."""
    found = {}
    for peer in {name.split("/")[0] for name in one["start"]}:
        names = [name for name in one["start"] if name.startswith(f"{peer}/")]
        runs = (one["start"], one["end"], other)
        start, end, end_of_other = (torch.cat([run[name].flatten() for name in names]) for run in runs)
        found[peer] = float((end_of_other - end).norm() / (end - start).norm())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_run_trains_every_tensor_of_every_peer(replayed, kind):
    one = ended(replayed, kind, 1)
    assert [n for n, tensor in one["start"].items() if torch.equal(tensor, one["end"][n])] == []
    first = one["logs"][0]
    for peer in ("gemma2", "llama", "qwen2"):
        assert first[f"{peer}/weight/min"] < first[f"{peer}/weight/max"]  # PMI tells samples apart
        assert first[f"{peer}/frac_reward_zero_std"] == 0.0


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_update_of_several_processes_is_that_of_one(replayed, kind, world):
    """Two steps, groups split between processes; measured 1e-5, and above 0.1 if gradients are not averaged."""
    one = ended(replayed, kind, 1)
    for process in range(world):
        several = ended(replayed, kind, world, process)
        assert several["world"] == world
        assert several["prompts"] == one["prompts"]
        assert max(distances(one, several["end"]).values()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_ends_with_the_same_parameters(replayed, kind):
    first, *others = (ended(replayed, kind, 4, process) for process in range(4))
    for other in others:
        assert max(distances(first, other["end"]).values()) < 1e-6


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("2-1-0", "was written by 2 process"),
        ("1-2-0", "was written by 1 process"),
        ("1-2-1", "joint_state_1.pt is missing: .* another number of processes"),
    ],
)
def test_resume_with_another_number_of_processes_is_refused(replayed, case, message):
    """`case`: the checkpoint's number of processes, this run's, and which of them."""
    assert re.search(message, (replayed / f"resume-{case}.txt").read_text())


# ---- the documented launch -----------------------------------------------------------------------------------------


@pytest.fixture
def machines(tmp_path):
    """The documented file for several machines."""
    (text,) = blocks(ROOT / "docs" / "several-gpus.md", "yaml")
    (tmp_path / "machines.yaml").write_text(text)
    return str(tmp_path / "machines.yaml")


def test_documented_file_is_read_by_accelerate(machines):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(machines)
    assert (config.distributed_type, config.num_machines, config.num_processes) == ("MULTI_GPU", 2, 16)


def test_documented_launch_of_two_machines_gives_the_update_of_one_process(replayed, machines):
    """Both launchers run here; only address, port and number of processes differ from the documentation."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"--main_process_ip 127.0.0.1 --main_process_port {free.getsockname()[1]} --num_processes 2".split()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", machines, *address]
    wait(*(start(*launcher, "--machine_rank", str(rank), REPLAY, str(replayed)) for rank in range(2)))
    launched = ended(replayed, "launched", 2)
    assert launched["world"] == 2
    assert max(distances(ended(replayed, "full", 1), launched["end"]).values()) < 1e-3
