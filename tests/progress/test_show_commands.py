"""No command is silent: a model that does not go on before a line says what it is doing, in every phase of each.

The interval is a hundredth of a second; nothing is timed. A command that says nothing waits here until it fails.
"""

import contextlib
import io
import json
import re
import threading

import pytest

from pst_rl.benchmarks.model import LanguageModel
from pst_rl.benchmarks.verifiers import Likelihood, TrueFalse
from pst_rl.cli import main as cli
from pst_rl.progress import lines


class Log(io.StringIO):
    """A log file: what is written to it, and whoever waits for a line."""

    def __init__(self):
        super().__init__()
        self.changed = threading.Condition()

    def write(self, text):
        with self.changed:
            count = super().write(text)
            self.changed.notify_all()
        return count

    def wait_for(self, line):
        """Returns when a line that is written from now on matches; fails after 20 s of other lines."""
        with self.changed:
            start = len(self.getvalue())
            found = lambda: re.search(rf"(?m)^{line}.*\n", self.getvalue()[start:].replace("\n    ", " "))  # noqa: E731
            assert self.changed.wait_for(found, timeout=20), f"{line!r} was not said: {self.getvalue()[-2000:]}"


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lines, "INTERVAL", 0.01)
    return Log()


@pytest.fixture
def run(log):
    """`run(*words)`: the status of a command whose standard error is the log."""

    def command(*words):
        with contextlib.redirect_stderr(log):
            return cli.main(list(words))

    return command


@pytest.fixture
def slow(monkeypatch, log):
    """`slow(owner, name, *lines)`: each of the first calls waits for its line before it does what it does."""
    waiting = []

    def make(owner, name, *said):
        inner, left = getattr(owner, name), list(said)
        waiting.append(left)

        def waits(*args, **kwargs):
            if left:
                log.wait_for(left.pop(0))
            return inner(*args, **kwargs)

        kind = owner.__dict__.get(name) if isinstance(owner, type) else None
        monkeypatch.setattr(owner, name, staticmethod(waits) if isinstance(kind, classmethod) else waits)

    yield make
    assert not any(waiting), f"never called for: {waiting}"


def test_eval(run, slow, tiny):
    beat = r"responses, \d+:\d\d so far"
    slow(LanguageModel, "load", r"loading: llama 0/2 models, ", r"loading: qwen2 1/2 models, ")
    slow(LanguageModel, "complete", f"llama, greedy: 0/2 {beat}", f"llama, 2 samples: 0/4 {beat}",
         f"qwen2, greedy: 0/2 {beat}", f"qwen2, 2 samples: 0/4 {beat}", f"qwen2, in turn: 0/2 {beat}")  # fmt: skip
    peers = ["--peers", tiny["llama"], tiny["qwen2"], "--max-new-tokens", "8"]
    assert run("eval", "tiny", "--limit", "2", "--samples", "2", *peers) == 0


def test_gv_gap(run, slow, tiny):
    slow(LanguageModel, "complete", r"llama, 2 samples: 0/4 responses")
    slow(TrueFalse, "score", r"true_false/self on llama: \d/4 responses")
    slow(Likelihood, "score", r"likelihood/self on llama: \d/4 responses")
    small = ["--limit", "2", "--samples", "2", "--max-new-tokens", "8", "--judges", "self"]
    assert run("gv-gap", "tiny", "--peers", tiny["llama"], *small) == 0


@pytest.mark.parametrize("method", ["zero_shot", "bootstrap"])
def test_label(run, slow, tmp_path, tiny, method):
    import pst_rl.peers.loading as loading
    from pst_rl.coherence.language_model import LanguageModelPredictor

    rows = [{"question": f"Is {i} even?", "claim": "Yes."} for i in range(4)]
    (tmp_path / "claims.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    slow(loading, "load_model", f"loading {re.escape(tiny['llama'])}: ")
    slow(LanguageModelPredictor, "read", rf"seed 0, {method}: 0/\d+ \w+, .*so far")
    flags = ["--method", method, "--batch-size", "2", "--output-dir", "labels"]
    assert run("label", "claims.jsonl", "--model", tiny["llama"], *flags) == 0


def test_train(run, slow, tiny, tmp_path):
    from pst_rl.peers.peer_trainer import PeerTrainer

    measured = r"measuring {} training, greedy: {} 0/2 questions, "
    sampled = [
        *(measured.format("before", name) for name in ("llama", "qwen2")),
        *(rf"training: 0/1 steps, .*; generate: {name} 0/8 responses, " for name in ("llama", "qwen2")),
        *(measured.format("after", name) for name in ("llama", "qwen2")),
    ]
    slow(PeerTrainer, "__init__", "loading: llama 0/2 peers", "loading: qwen2 1/2 peers")
    slow(PeerTrainer, "_sample", *sampled)
    slow(PeerTrainer, "compute_loss", r"training: 0/1 steps, .*; loss and backward: ")
    slow(PeerTrainer, "_save", r".*saving: llama 0/2 peers", ".*saving: qwen2 1/2 peers", "saving, saving: llama 0/2")
    flags = """--max-steps 1 --per-device-train-batch-size 8 --steps-per-generation 1 --num-generations 4
        --train-questions 8 --test-questions 2 --pooled-questions 0 --max-completion-length 8 --dataset tiny
        --on-nothing-read warn""".split()
    assert run("train", "--peers", tiny["llama"], tiny["qwen2"], *flags, "--output-dir", "run") == 0


def test_the_other_commands(run, slow, tmp_path, tiny):
    import pst_rl.hub.peer_facts as peer_facts
    import pst_rl.report.page as page

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trainer_state.json").write_text(json.dumps({"global_step": 0, "log_history": []}))
    slow(page, "write_page", "drawing: ")
    assert run("report", "run") == 0
    slow(peer_facts, "inspect_peer", "pst-rl peers: at work, ")  # of a phase it has none
    assert run("peers", tiny["llama"]) == 0
