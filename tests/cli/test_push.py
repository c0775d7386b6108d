"""`pst-rl push`, against a local server that speaks the Hub's calls. The address of the Hub is read at import, so
what talks to it runs in a process of its own: this file as a script.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import HubServer, Refusal

from pst_rl.cli import main as cli
from pst_rl.tiny import TINY_PEERS

TOKEN = "hf_" + "s3cret" * 6
CARD = """---
base_model: org/base
---

# Model Card for run-llama

Judged by /home/someone/models/juror, with {token}.

generator = pipeline("text-generation", model="run-llama", device="cuda")
"""


def make_model(folder, name="llama"):
    shutil.copytree(TINY_PEERS[name], folder)
    (folder / "README.md").write_text(CARD.replace("{token}", TOKEN))
    (folder / "training_args.bin").write_bytes(b"a pickle")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/someone/models/base"}))


def make_run(folder, steps=(2, 4)):
    """A run of two trained peers and a frozen one, without training it."""
    from pst_rl.loop.checkpoint_files import seal

    peers = {name: {"trainable": name != "juror"} for name in ("llama", "qwen2", "juror")}
    for parent in [folder, *(folder / f"checkpoint-{step}" for step in steps)]:
        for name in ("llama", "qwen2"):
            make_model(parent / name, name)
    for step in steps:
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "run.json").write_text(json.dumps({"peers": peers}))
        state = {"best_model_checkpoint": f"/elsewhere/run/checkpoint-{steps[0]}"}
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        (checkpoint / "optimizer.pt").write_bytes(b"joint")
        seal(checkpoint)
    return folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "my run")


@pytest.fixture
def push(capsys):
    """`push(*words)`: status, stdout and stderr."""

    def call(*words):
        status = cli.main(["push", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def refused(result, *words):
    status, _, err = result
    *before, error = err.splitlines()
    assert status == 2 and all(line.startswith("pushing ") for line in before), err
    assert all(word in error for word in words), err


# Without a Hub


def test_a_dry_run_lists_repositories_files_and_sizes(push, run):
    status, out, _ = push(run, "--dry-run", "--repo-prefix", "org/mine")
    assert status == 0 and "org/mine-llama" in out and "org/mine-qwen2" in out and "juror" not in out
    assert "model.safetensors" in out and "1.3 MiB" in out and "not pushed: training_args.bin" in out


def test_a_chosen_peer_is_listed_alone(push, run):
    _, out, _ = push(run, "--dry-run", "--peers", "qwen2")
    assert "my-run-qwen2" in out and "llama" not in out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--checkpoint", "9"], "there are the steps 2, 4"),
        (["--checkpoint", "newest"], "a step, last or best"),
        (["--peers", "gemma"], "No trained peer is called gemma"),
        (["--repo-prefix", "org/--x"], "Repo id must use"),
        (["--chekpoint", "2"], "--chekpoint"),
    ],
)
def test_wrong_words_are_one_line(push, run, words, message):
    refused(push(run, "--dry-run", *words), message)


def test_a_folder_that_is_no_run_is_one_line(push, tmp_path):
    refused(push(tmp_path / "nothing", "--dry-run"), "no run folder")
    refused(push(tmp_path, "--dry-run"), "holds no trained peers")
    refused(push(tmp_path, "--dry-run", "--checkpoint", "last"), "has no checkpoint")


def test_a_run_that_never_ended_points_to_its_checkpoint(push, run):
    for name in ("llama", "qwen2"):
        shutil.rmtree(run / name)
    refused(push(run, "--dry-run"), "--checkpoint last")


def test_a_trained_peer_that_is_missing_is_refused(push, run):
    shutil.rmtree(run / "qwen2")
    refused(push(run, "--dry-run"), "qwen2 was trained but is not there")
    assert push(run, "--dry-run", "--peers", "llama")[0] == 0


@pytest.mark.parametrize("name", ["README.md", "tokenizer_config.json", "model.safetensors"])
def test_a_model_without_a_needed_file_is_refused(push, run, name):
    (run / "llama" / name).unlink()
    refused(push(run, "--dry-run"), name.rpartition(".")[2])


def test_weights_that_are_cut_off_are_refused(push, run):
    weights = run / "llama" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(push(run, "--dry-run"), "model.safetensors is cut off")


def test_a_damaged_checkpoint_is_refused_and_last_passes_it_by(push, run):
    weights = run / "checkpoint-4" / "llama" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused(push(run, "--dry-run", "--checkpoint", "4"), "does not match its checksum", "--checkpoint last")
    from pst_rl.hub.push import source_folder

    assert source_folder(run, "last").name == "checkpoint-2"


def test_best_is_found_where_the_run_was_moved_to(run):
    from pst_rl.hub.push import source_folder

    assert source_folder(run, "best") == run / "checkpoint-2"


def test_a_token_in_any_file_but_the_card_is_refused(push, run):
    (run / "llama" / "notes.txt").write_text(f"token {TOKEN}")
    refused(push(run, "--dry-run"), "notes.txt holds a Hub token")


def test_an_adapter_loses_the_folder_of_its_base_model(run):
    from pst_rl.hub.push import prepare

    path = run / "llama" / "adapter_config.json"
    path.write_text(json.dumps({"base_model_name_or_path": "/home/someone/base", "target_modules": ["q_proj"]}))
    sent = json.loads(prepare(run / "llama", "user/x").files["adapter_config.json"])
    assert sent == {"base_model_name_or_path": "base", "target_modules": ["q_proj"]}


def test_a_hub_id_in_a_configuration_stays(run):
    from pst_rl.hub.push import prepare

    path = run / "llama" / "adapter_config.json"
    path.write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    assert prepare(run / "llama", "user/x").files["adapter_config.json"] == path


def test_without_a_token_nothing_is_tried(push, run, monkeypatch):
    monkeypatch.setattr("pst_rl.hub.push.get_token", lambda: None)
    refused(push(run), "hf auth login")


def test_after_an_interruption_the_same_command_goes_on(run, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pst_rl.hub.push.push_peer", interrupted)
    monkeypatch.setattr("pst_rl.hub.push.get_token", lambda: TOKEN)
    assert cli.main(["push", str(run), "--repo-prefix", "user/x"]) == 130
    assert f"Resume with: pst-rl push '{run}' --repo-prefix user/x\n" in capsys.readouterr().err


# With one


class StrictHub(HubServer):
    """Lets nobody create repositories of the organisation `theirs`."""

    def create(self, body, token):
        if body["organization"] == "theirs":
            raise Refusal(HTTPStatus.FORBIDDEN, "You don't have the rights to create a model there")
        return super().create(body, token)


def push_everything(folder):
    """What the tests below look at: (status, stdout, stderr) of one command after the other."""
    results = {}

    def push(key, *words, token=TOKEN):
        os.environ["HF_TOKEN"] = token
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(["push", str(folder), *words])
        results[key] = (status, out.getvalue(), err.getvalue())

    push("first", "--private")
    push("again", "--private")
    push("checkpoint", "--checkpoint", "2", "--peers", "llama", "--repo-prefix", "user/step")
    push("public then private", "--checkpoint", "2", "--peers", "llama", "--repo-prefix", "user/step", "--private")
    push("wrong token", token="wrong")
    push("no rights", "--repo-prefix", "theirs/x")
    push("read only", "--repo-prefix", "user/locked", "--peers", "llama")
    (folder.parent / "results.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push")
    run = make_run(folder / "my run")
    with StrictHub(tokens={TOKEN}, read_only={"user/locked-llama"}) as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, __file__, str(run)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        results = json.loads((folder / "results.json").read_text())
        yield SimpleNamespace(repos=hub.repos, run=run, folder=folder, results=results)


def test_each_peer_gets_a_repository_with_model_tokenizer_and_card(pushed):
    assert pushed.results["first"][0] == 0, pushed.results["first"]
    for name in ("llama", "qwen2"):
        repo = pushed.repos[f"user/my-run-{name}"]
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(repo.files) and repo.private
        assert repo.files["model.safetensors"] == (pushed.run / name / "model.safetensors").read_bytes()


def test_the_card_goes_under_the_name_of_its_repository(pushed):
    card = pushed.repos["user/step-llama"].files["README.md"].decode()
    assert "# Model Card for step-llama" in card and 'model="user/step-llama"' in card


def test_no_folder_token_or_pickle_goes_up(pushed):
    for name, repo in pushed.repos.items():
        for path, content in repo.files.items():
            assert not [s for s in ("/home/someone", TOKEN, str(pushed.folder)) if s.encode() in content], (name, path)
        assert "training_args.bin" not in repo.files and "optimizer.pt" not in repo.files


def test_what_is_there_already_is_not_committed_again(pushed):
    assert pushed.results["again"][0] == 0
    messages = [commit.message for commit in pushed.repos["user/my-run-llama"].commits]
    assert messages == ["initial commit", "End of training"]


def test_a_checkpoint_is_pushed_as_such(pushed):
    assert pushed.repos["user/step-llama"].commits[-1].message == "Push of checkpoint-2"


def test_private_is_never_pushed_into_a_public_repository(pushed):
    refused(pushed.results["public then private"], "already and public")


@pytest.mark.parametrize("key", ["wrong token", "no rights", "read only"])
def test_what_the_hub_refuses_is_one_line(pushed, key):
    status, _, err = pushed.results[key]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and "does not let you" in errors[0] and "Traceback" not in err, err


if __name__ == "__main__":
    push_everything(Path(sys.argv[1]))
