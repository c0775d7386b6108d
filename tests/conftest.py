"""Shared fixtures: the embedded tiny peers, short question sets and a trainer that is built in one line."""

import os
import shutil

os.environ["OMP_NUM_THREADS"] = "1"  # two spinning threads on two shared cores are slower than one
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest

# Processes that a test starts find the helpers too, from whichever folder of tests.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder with real benchmark rows is not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny():
    from pst_rl.tiny import TINY_PEERS

    return {name: str(folder) for name, folder in TINY_PEERS.items()}


@pytest.fixture(scope="session")
def questions():
    """`questions(n)`: n training questions with gold answers."""
    from datasets import Dataset

    from pst_rl.tiny import tiny_questions

    def build(n=32, split="train"):
        rows = tiny_questions(split, n)
        return Dataset.from_list(
            [{"prompt": [{"role": "user", "content": r["question"]}], "answer": r["answer"]} for r in rows]
        )

    return build


@pytest.fixture
def config(tmp_path):
    """`config(**overrides)`: a small, fast PSTConfig in the tiny peers' style."""
    from pst_rl import PSTConfig

    def build(**overrides):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 16,
            "num_generations": 4,
            "max_completion_length": 40,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "loss_type": "grpo",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "gradient_checkpointing": False,
            "weighting": "pmi",  # off by default, but it is part of what is tested
            "answer_template": "#### {answer}",
            "answer_style": "hash",
            "peer_template": "\nP: {text}",
        }
        return PSTConfig(**defaults | overrides)

    return build


@pytest.fixture
def trainer(config, questions, tiny):
    """`trainer(peers=..., data=..., weigh=..., **config)`: a PSTTrainer on the tiny peers; `weigh` weighs."""
    from pst_rl import PSTTrainer

    def build(
        peers=None,
        data=None,
        eval_data=None,
        reward_providers=None,
        aggregator=None,
        weigh=None,
        peft=None,
        **overrides,
    ):
        return PSTTrainer(
            peers or dict(list(tiny.items())[:2]),
            config(**overrides),
            train_dataset=questions() if data is None else data,
            eval_dataset=eval_data,
            reward_providers=reward_providers,
            aggregator=aggregator,
            weighting=weigh,
            peft_config=peft,
        )

    return build


def weights(model):
    """All trainable tensors, copied."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def same(a, b):
    """Whether two sets of tensors are equal bit for bit."""
    import torch

    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="session")
def browser():
    """A Chromium that Playwright drives; where there is none, the test is skipped."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()
