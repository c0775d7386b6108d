"""`pst-rl peers`: the tiny peers here, and repositories of a local server that speaks the Hub's calls. The address of
the Hub is read at import, so what talks to it runs in a process of its own: this file as a script.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
from hub_server import Commit, HubServer, Refusal, Repo

from pst_rl import PSTConfig
from pst_rl.cli import main as cli
from pst_rl.cli.config_file import as_flags
from pst_rl.memory.run_shape import MemoryOptions, RunShape
from pst_rl.peers.spec import PeerSpec, check_spec
from pst_rl.tiny import TINY_PEERS

HINTS = get_type_hints(MemoryOptions)


@pytest.fixture
def peers(capsys):
    """`peers(*words)`: status, stdout and stderr."""

    def call(*words):
        status = cli.main(["peers", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def copy(tmp_path):
    """`copy(name, **changes)`: a tiny peer's folder, its tokenizer's configuration changed; `None` takes a key out."""

    def make(name="llama", folder="copy", **changes):
        target = tmp_path / folder
        shutil.copytree(TINY_PEERS[name], target)
        path = target / "tokenizer_config.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return target

    return make


def refused(result, *words):
    status, _, err = result
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and all(word in errors[0] for word in words), err
    assert "Traceback" not in err


def test_the_tiny_peers_are_inspected_within_80_columns(peers):
    status, out, _ = peers("tiny", "--use-peft", "--load-in-4bit", "--gpu-memory", "16")
    assert status == 0 and max(map(len, out.splitlines())) <= 80
    shown = [
        "<|finetune_right_pad_id|>",
        "Gemma2ForCausalLM",
        "340,128",
        "TokenizersBackend",
        "apache-2.0",
        "no system role",
        "fits into 90 %",
    ]
    assert [word for word in shown if word not in out] == []


def test_json_has_facts_memory_and_verdict(peers):
    status, out, _ = peers("tiny", "--json", "--gpu-memory", "0.001")
    found = json.loads(out)
    assert status == 0 and [peer["name"] for peer in found["peers"]] == ["gemma2", "llama", "qwen2"]
    assert found["peers"][0]["parameters"] == 316128 and found["peers"][0]["special_tokens"]["eos"] == "<eos>"
    assert found["memory"]["fits"] is False and found["memory"]["peers"][1]["weights"] == 4 * 340128


# What is estimated is the run that training would make


def test_the_output_folder_of_a_run_stands_for_its_peers(peers, copy, tmp_path):
    copy(folder="run/a"), copy("qwen2", folder="run/b"), (tmp_path / "run" / "completions").mkdir()
    status, out, _ = peers(tmp_path / "run", "--json")
    assert status == 0 and [peer["name"] for peer in json.loads(out)["peers"]] == ["a", "b"]
    refused(peers(TINY_PEERS["llama"], tmp_path), "holds no model")
    with pytest.raises(ValueError, match=f"Name the model in it: '{tmp_path / 'run' / 'a'}'"):
        check_spec(PeerSpec(str(tmp_path / "run")))
    status, out, _ = peers(f"mine={tmp_path / 'run' / 'a'}", "--json")
    assert status == 0 and [peer["name"] for peer in json.loads(out)["peers"]] == ["mine"]


@pytest.fixture
def other(tmp_path):
    """A peer that is none of the embedded ones: by its tokenizer."""
    folder = tmp_path / "other"
    shutil.copytree(TINY_PEERS["llama"], folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    return folder


def test_the_estimate_is_that_of_the_preset_which_training_takes(peers, other):
    from pst_rl.cli.options import Train
    from pst_rl.cli.parse import parse
    from pst_rl.cli.presets import PRESETS, TINY_STYLE

    flags = ["--use-cpu", "--peers", str(other), "--dataset", "x.csv", "--report-to", "none"]
    training = parse(Train, PRESETS, TINY_STYLE, flags)
    shape = RunShape.of(training.config, training.model, 512)
    assert cli.parse(["peers", str(other), "--use-cpu"]).run_shape() == shape
    assert shape.lora_rank == 16
    status, out, _ = peers(other)
    assert status == 0 and "for a run of preset own: LoRA of rank 16\n8 rows a pass, 64 sampled together" in out


def test_flags_and_another_preset_come_before_it(peers, other):
    assert "for a run of preset own: all weights" in peers(other, "--no-use-peft")[1]
    assert "for a run of no preset: all weights" in peers(other, "--preset", "none")[1]
    assert "for a run of preset qlora: LoRA of rank 16, weights in 4 bits" in peers(other, "--preset", "qlora")[1]
    assert "for a run of preset demo: all weights" in peers("tiny")[1]
    refused(peers(other, "--preset", "demo"), "was chosen for the tiny peers")
    refused(peers(other, "--preset", "dmo"), "Unknown preset 'dmo'")


def test_settings_change_the_estimate(peers):
    totals = [json.loads(peers("tiny", "--json", *w)[1])["memory"]["resident"] for w in ([], ["--beta", "0.1"])]
    assert totals[1] > totals[0]


# The options that training has, too


def shapes(**options):
    """The shape of a run as `pst-rl peers` has it from its flags, and as training has it from the same."""
    from trl import ModelConfig

    options = {"use_cpu": True} | options
    words = as_flags(options, HINTS, "here")
    ours = cli.parse(["peers", "x", "--preset", "none", "--prompt-length", "50", *words]).run_shape()
    of_model = {field.name for field in dataclasses.fields(ModelConfig)}
    model = {name: value for name, value in options.items() if name in of_model}
    rest = {name: value for name, value in options.items() if name not in of_model}
    rest |= {"report_to": "none", "shared_prefill": "pmi_from_cache" in rest}
    return ours, RunShape.of(PSTConfig("x", **rest), ModelConfig(**model), 50)


OTHER = {  # a value that is not the default, for each option
    "use_peft": True,
    "lora_r": 8,
    "lora_dropout": 0.0,
    "lora_target_modules": ["q_proj", "v_proj"],
    "load_in_4bit": True,
    "load_in_8bit": True,
    "use_bnb_nested_quant": True,
    "dtype": "bfloat16",
    "optim": "adamw_8bit",
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 4,
    "steps_per_generation": 2,
    "rows_per_generate": 4,
    "max_completion_length": 40,
    "gradient_checkpointing": False,
    "bf16": True,
    "fp16": True,
    "beta": 0.1,
    "weighting": "pmi",
    "weighting_options": {"target": "response", "from_cache": True},
    "use_cpu": True,
}
NEEDS = {"load_in_4bit": {"use_peft": True}, "lora_r": {"use_peft": True}, "weighting_options": {"weighting": "pmi"}}


def test_options_of_memory_are_those_of_training_with_their_defaults():
    from trl import ModelConfig

    theirs = {field.name: field.default for part in (PSTConfig, ModelConfig) for field in dataclasses.fields(part)}
    ours = vars(MemoryOptions())
    assert ours == {name: theirs[name] for name in ours} and set(ours) == set(OTHER)


@pytest.mark.parametrize("name", [None, *sorted(set(OTHER) - {"load_in_8bit"})])
def test_an_option_means_for_peers_what_it_means_for_training(name):
    ours, theirs = shapes(**({} if name is None else NEEDS.get(name, {}) | {name: OTHER[name]}))
    assert ours == theirs


@pytest.mark.parametrize("options", [{"load_in_8bit": True}, {"optim": "adafactor"}, {"dtype": "auto"}])
def test_what_is_not_estimated_is_refused_by_both(options):
    from trl import ModelConfig

    of_model = {name: value for name, value in options.items() if name != "optim"}
    rest = {name: value for name, value in options.items() if name == "optim"}
    said = []
    for config, model in [
        (PSTConfig("x", use_cpu=True, report_to="none", **rest), ModelConfig(**of_model)),
        (MemoryOptions(**options),) * 2,
    ]:
        with pytest.raises(ValueError, match="not") as refusal:
            RunShape.of(config, model, 50)
        said.append(str(refusal.value))
    assert said[0] == said[1]


# Warnings


def test_the_same_weights_twice_are_warned_of(peers, copy):
    _, out, _ = peers(TINY_PEERS["llama"], copy())
    assert "have the same weights" in " ".join(out.split())


def test_one_family_is_warned_of(peers, copy):
    folder = copy()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    _, out, _ = peers(TINY_PEERS["llama"], folder)
    assert "are of one family (llama)" in " ".join(out.split())


def test_a_model_without_a_chat_template_is_noted(peers, copy):
    folder = copy(chat_template=None)
    (folder / "chat_template.jinja").unlink()
    assert "prompted by base_template" in " ".join(peers(folder)[1].split())


def test_a_tokenizer_without_special_tokens_is_refused_or_noted(peers, copy):
    assert "no end-of-sequence token" in peers(copy(eos_token=None))[1]
    assert "no pad token" in peers(copy(folder="padless", pad_token=None))[1]


def test_a_window_that_is_too_short_is_warned_of(peers):
    _, out, _ = peers(TINY_PEERS["llama"], "--max-completion-length", "2000")
    assert "do not fit its 1024 positions" in " ".join(out.split())


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "at least one peer"),
        (["tiny", "--load-in-4bit"], "--use-peft"),
        (["tiny", "--gpu-memory", "0"], "--gpu-memory must be positive"),
        (["tiny", "--use-peft", "--lora-target-modules", "c_attn"], "no layer named c_attn"),
        (["./nothing"], "does not exist"),
        (["org/not-cached"], "cannot be reached"),
        (["tiny", "--gpu-memroy", "8"], "--gpu-memroy"),
    ],
)
def test_what_cannot_be_is_one_line(peers, words, message):
    refused(peers(*words), message)


def test_a_folder_with_pickles_only_is_one_line(peers, copy):
    folder = copy()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(peers(folder), "pickles")


def test_a_configuration_that_cannot_be_read_is_one_line(peers, copy):
    folder = copy()
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    refused(peers(folder), "Cannot read", "no-such-model")


def test_after_an_interruption_the_same_command_goes_on(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pst_rl.hub.peer_facts.inspect_peer", interrupted)
    assert cli.main(["peers", "tiny", "--download"]) == 130
    assert "Resume with: pst-rl peers tiny --download\n" in capsys.readouterr().err


# With a Hub


class GatedHub(HubServer):
    """`user/gated` shows nothing to anybody."""

    def commit(self, name, revision, token):
        if name == "user/gated":
            raise Refusal(HTTPStatus.FORBIDDEN, "Access to model user/gated is restricted", "GatedRepo")
        return super().commit(name, revision, token)

    def info(self, token, name, revision="main"):
        found = super().info(token, name, revision)
        files = self.commit(name, revision, token).files
        return found | {"siblings": [{"rfilename": path, "size": len(content)} for path, content in files.items()]}


def inspect_everything(folder):
    """What the tests below look at: (status, stdout, stderr) and the weights in the cache after each command."""
    results = {}

    def peers(key, *words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(["peers", *words])
        cached = sorted({path.name for path in Path(os.environ["HF_HOME"]).rglob("*.*") if path.is_file()})
        results[key] = (status, out.getvalue(), err.getvalue(), cached)

    peers("inspected", "user/model", "--json")
    peers("downloaded", "user/model", "--json", "--download")
    peers("gated", "user/gated")
    peers("missing", "user/nothing")
    peers("revision", "user/model", "--revision", "v9")
    (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    files = {path.name: path.read_bytes() for path in TINY_PEERS["llama"].iterdir()}
    files["pytorch_model.bin"] = b"a pickle"
    with GatedHub(tokens=set()) as server:
        server.repos["user/model"] = Repo(False, [Commit("first", files, "")])
        server.repos["user/gated"] = Repo(False, [Commit("first", files, "")])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, __file__, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        results = json.loads((folder / "results.json").read_text())
        yield SimpleNamespace(oid=server.repos["user/model"].commits[0].oid, **results)


def test_inspecting_reads_no_weights(hub):
    status, out, err, cached = hub.inspected
    assert status == 0, err
    peer = json.loads(out)["peers"][0]
    assert peer["missing"] == ["model.safetensors"] and "model.safetensors" not in cached
    assert peer["files"] == {"model.safetensors": (TINY_PEERS["llama"] / "model.safetensors").stat().st_size}
    assert (peer["revision"], peer["license"]) == (hub.oid, "apache-2.0")


def test_download_takes_safetensors_and_no_pickles(hub):
    status, out, err, cached = hub.downloaded
    assert status == 0 and "Downloading user/model (1.3 MiB)" in err
    assert json.loads(out)["peers"][0]["missing"] == []
    assert "model.safetensors" in cached and "pytorch_model.bin" not in cached


@pytest.mark.parametrize(
    "key, words",
    [
        ("gated", ["accept its terms", "hf auth login"]),
        ("missing", ["no such folder or Hub repository", "hf auth login"]),
        ("revision", ["user/model"]),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, key, words):
    refused(getattr(hub, key)[:3], *words)


if __name__ == "__main__":
    inspect_everything(Path(sys.argv[1]))
