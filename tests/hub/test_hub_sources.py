"""Adapters and GGUF files on the Hub: found, inspected, loaded and trained on, with a small Hub on localhost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import Commit, HubServer, Repo

from pst_rl.tiny import TINY_PEERS

pytest.importorskip("gguf")


def run_everything(folder: Path) -> None:
    """What the tests look at, in a process that may ask the Hub."""
    from pst_rl import PSTConfig, PSTTrainer, load_questions
    from pst_rl.benchmarks.model import LanguageModel
    from pst_rl.hub.peer_facts import inspect_peer
    from pst_rl.peers.spec import resolve_peers

    found = {}
    for name in ("org/files:nope.gguf", "org/none:m.gguf"):
        try:
            resolve_peers([name])
        except ValueError as error:
            found[name] = str(error)
    try:
        inspect_peer("org/files:m.gguf")
    except ValueError as error:
        found["not here"] = str(error)
    peers = ["org/adapter", "org/files:m.gguf", "org/base"]
    found["names"] = list(resolve_peers(peers))
    found["adapter"] = inspect_peer("org/adapter").shape.adapter
    found["digests"] = [LanguageModel.load(peer, "x").digest for peer in peers]
    config = PSTConfig(
        str(folder / "run"),
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=4,
        gradient_checkpointing=False,
        report_to="none",
        save_steps=1,
    )
    trainer = PSTTrainer(peers[:2], config, load_questions("tiny", limit=8))
    trainer.train()
    trainer.save_model()
    found["run"] = json.loads((folder / "run" / "checkpoint-1" / "run.json").read_text())["peers"]
    found["files"] = {name: sorted(file.name for file in (folder / "run" / name).iterdir()) for name in trainer.peers}
    found["card"] = (folder / "run" / "m" / "README.md").read_text()
    (folder / "found.json").write_text(json.dumps(found))


def repository(folder: Path) -> Repo:
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return Repo(False, [Commit("all", files, "")])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    from gguf_files import write_gguf
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("hub")
    load = AutoModelForCausalLM.from_pretrained
    adapted = get_peft_model(load(TINY_PEERS["llama"]), LoraConfig(r=4, target_modules=["q_proj"]))
    adapted.peft_config["default"].base_model_name_or_path = "org/base"
    adapted.save_pretrained(folder / "adapter")
    (folder / "files").mkdir()
    qwen = TINY_PEERS["qwen2"]
    write_gguf(load(qwen), AutoTokenizer.from_pretrained(qwen), folder / "files" / "m.gguf")
    with HubServer(tokens=set()) as hub:
        hub.repos["org/base"] = repository(TINY_PEERS["llama"])
        hub.repos |= {f"org/{name}": repository(folder / name) for name in ("adapter", "files")}
        there = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(folder / "home"),
        }
        done = subprocess.run(
            [sys.executable, __file__, str(folder)], env=os.environ | there, capture_output=True, text=True
        )
        commits = {name: repo.commits[-1].oid for name, repo in hub.repos.items()}
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text()) | {"commits": commits}


def test_a_file_that_a_repository_lacks_is_named(found):
    assert found["org/files:nope.gguf"] == "The repository 'org/files' has no file 'nope.gguf'."
    assert "'org/none'" in found["org/none:m.gguf"]
    assert "add --download" in found["not here"]


def test_peers_are_named_and_known_by_commit_or_content(found):
    assert found["names"] == ["adapter", "m", "base"] and found["adapter"] == [4, ["q_proj"]]
    assert found["digests"][2] == f"org/base@{found['commits']['org/base']}/torch.float32"
    known = found["run"]
    assert known["adapter"]["revision"] == found["commits"]["org/adapter"]
    assert known["adapter"]["base"] == {"model": "org/base", "revision": found["commits"]["org/base"]}
    assert known["m"]["model"] == "org/files:m.gguf" and len(known["m"]["weights"]) == 16


def test_they_are_saved_as_what_they_are(found):
    assert "adapter_model.safetensors" in found["files"]["adapter"] and "config.json" not in found["files"]["adapter"]
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(found["files"]["m"])
    assert "base_model: org/files\n" in found["card"]
    assert "[org/files](https://huggingface.co/org/files) (`org/files:m.gguf`)" in found["card"]


if __name__ == "__main__":
    run_everything(Path(sys.argv[1]))
