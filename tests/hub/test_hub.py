"""Pushing, against a local server that speaks the Hub's calls. The address of the Hub is read at import, so the runs
that push are in a process of their own: this file as a script.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import HubServer

from pst_rl.tiny import TINY_PEERS

FULL = {"user/pst-gemma2", "user/pst-llama", "user/pst-qwen2"}
LORA = "user/my-run-llama"
TOKENS = ("first-secret", "second-secret")


def run_everything(folder: Path) -> None:
    """What the tests look at: four runs, and one model loaded back."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl import PeerSpec, PSTConfig, PSTTrainer
    from pst_rl.report import PeerResult, RunResults, VoteResult
    from pst_rl.tiny import tiny_questions

    tiny = {name: str(path) for name, path in TINY_PEERS.items()}
    rows = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in tiny_questions("train", 16)]

    def train(peers, name, peft=None, **options):
        config = PSTConfig(
            output_dir=str(folder / name),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=24,
            learning_rate=1e-3,
            rewards=["random"],  # which differ within every group: an update that changes nothing is not pushed
            save_steps=1,
            report_to="none",
            disable_tqdm=True,
            gradient_checkpointing=False,
            answer_template="#### {answer}",
            **{"max_steps": 1, "save_strategy": "no", "push_to_hub": False} | options,
        )
        trainer = PSTTrainer(peers, config, train_dataset=Dataset.from_list(rows), peft_config=peft)
        trainer.train()
        return trainer

    saving = {"push_to_hub": True, "save_strategy": "steps"}
    often = {"hub_strategy": "every_save", "hub_always_push": True, "save_total_limit": 1, "max_steps": 2}
    trainer = train(tiny, "full", hub_model_id="user/pst", **saving, **often)
    peers = {name: PeerResult(0.5, 0.625) for name in tiny}
    trainer.results = RunResults(peers, VoteResult(), VoteResult(), dataset="tiny", n_test=8, seed=42)
    trainer.push_to_hub(commit_message="Done")
    loaded = AutoModelForCausalLM.from_pretrained("user/pst-llama").state_dict()
    same = all(torch.equal(loaded[key], value) for key, value in trainer.peers["llama"].model.state_dict().items())
    words = AutoTokenizer.from_pretrained("user/pst-llama").get_vocab()
    same = same and words == trainer.peers["llama"].processing_class.get_vocab()

    pair = {"llama": tiny["llama"], "juror": PeerSpec(tiny["qwen2"], trainable=False)}
    options = {"hub_token": TOKENS[1], "hub_private_repo": True}
    trainer = train(pair, "my run", LoraConfig(r=2, target_modules=["q_proj"]), **options)
    try:
        trainer.push_to_hub(token="wrong")
    except ValueError as error:
        refusal = str(error)
    futures = trainer.push_to_hub(blocking=False)
    commit = futures["llama"].result()

    train(pair, "end", hub_model_id="user/end", hub_strategy="end", **saving).save_model()
    train({"llama": tiny["llama"]}, "locked", hub_model_id="user/locked", **saving)

    report = {"same": same, "refusal": refusal, "futures": list(futures), "commit": commit.oid}
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(tokens=set(TOKENS), read_only={"user/locked-llama"}) as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "cache"),
            "HF_TOKEN": TOKENS[0],
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, __file__, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        report = json.loads((folder / "report.json").read_text())
        yield SimpleNamespace(hub=hub, repos=hub.repos, folder=folder, stderr=done.stderr, **report)


def messages(repo):
    return [commit.message for commit in repo.commits]


def test_every_trained_peer_has_a_repository_and_a_frozen_one_none(pushed):
    assert set(pushed.repos) == FULL | {LORA, "user/end-llama", "user/locked-llama"}


def test_a_repository_holds_weights_tokenizer_and_card(pushed):
    needed = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert all(needed <= set(pushed.repos[name].files) for name in FULL)


def test_each_peer_goes_to_its_own_repository(pushed):
    for name in TINY_PEERS:
        local = (pushed.folder / "full" / name / "model.safetensors").read_bytes()
        assert pushed.repos[f"user/pst-{name}"].files["model.safetensors"] == local


def test_a_pushed_peer_can_be_loaded_from_the_hub(pushed):
    assert pushed.same


def test_every_save_pushes_during_training(pushed):
    for name in FULL:
        steps = [f"Training in progress, step {step}" for step in (1, 2)]
        assert messages(pushed.repos[name]) == ["initial commit", *steps, "Done"], pushed.stderr[-3000:]


def test_a_push_during_training_has_the_weights_of_its_step(pushed):
    steps = [[commit.files["model.safetensors"] for commit in pushed.repos[name].commits[1:]] for name in FULL]
    assert any(first != second for first, second, _ in steps)
    assert all(second == last for _, second, last in steps)


def test_the_strategy_end_pushes_only_what_is_saved_at_the_end(pushed):
    assert messages(pushed.repos["user/end-llama"]) == ["initial commit", "Model save"]


def test_a_push_that_fails_during_training_is_warned_of(pushed):
    assert "Pushing user/locked-llama during training failed" in pushed.stderr


def test_the_pushed_card_shows_the_table_and_links_the_other_peers(pushed):
    card = pushed.repos["user/pst-llama"].files["README.md"].decode()
    assert "| llama | 50.0 | 62.5 | +12.5 |" in card
    assert all(f"https://huggingface.co/{name}" in card for name in FULL)


def test_a_run_without_push_to_hub_can_be_pushed_afterwards(pushed):
    assert pushed.futures == ["llama"]
    assert pushed.repos[LORA].commits[-1].oid == pushed.commit


def test_lora_is_pushed_as_an_adapter(pushed):
    files = pushed.repos[LORA].files
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(files)
    assert "model.safetensors" not in files
    assert b"still names that folder" in files["README.md"]


def test_token_and_privacy_are_honoured(pushed):
    assert pushed.repos[LORA].private and not pushed.repos["user/pst-llama"].private
    assert {commit.token for commit in pushed.repos[LORA].commits} == {TOKENS[1]}
    assert {commit.token for commit in pushed.repos["user/pst-llama"].commits} == {TOKENS[0]}


def test_a_wrong_token_ends_in_one_line(pushed):
    assert "hf auth login" in pushed.refusal and "my-run-llama" in pushed.refusal


def test_no_folder_and_no_token_of_this_machine_is_pushed(pushed):
    secrets = [str(pushed.folder), str(Path.home()), str(TINY_PEERS["llama"].parent), *TOKENS]
    for name, repo in pushed.repos.items():
        for path, content in repo.files.items():
            if path != "adapter_config.json":  # PEFT needs the folder of the base model there; the card says so
                assert not [secret for secret in secrets if secret.encode() in content], (name, path)


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_checkpoints_are_not_pushed(config, strategy):
    from pst_rl.loop.repositories import check_hub_strategy

    with pytest.raises(ValueError, match="share one optimizer.*every_save"):
        check_hub_strategy(config(push_to_hub=True, hub_strategy=strategy))
    check_hub_strategy(config(hub_strategy=strategy))


def test_a_repository_that_cannot_be_called_so_is_refused_before_loading(config):
    from pst_rl.loop.repositories import repository_arguments

    with pytest.raises(ValueError, match="Cannot have -- or"):
        repository_arguments(config(push_to_hub=True, hub_model_id="user/pst"), ["-llama"])


@pytest.mark.parametrize(
    "folder, name", [("runs/my run", "my-run"), ("a/v1.5", "v1.5"), ("a-..b é", "a-b"), ("/", "pst")]
)
def test_repositories_are_named_after_the_output_folder(folder, name):
    from pst_rl.loop.repositories import default_repository

    assert default_repository(folder) == name


if __name__ == "__main__":
    run_everything(Path(sys.argv[1]))
