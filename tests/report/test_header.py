"""What a run says of itself before it begins."""

import types

import psutil
import pytest

from pst_rl.peers.spec import PeerSpec
from pst_rl.report.header import asked_processes, changed_settings, disk, processes, run_header


@pytest.fixture(scope="module")
def lines(tiny, tmp_path_factory):
    """The header of a run of a trained, a LoRA and a frozen peer."""
    from peft import LoraConfig

    from pst_rl import PSTConfig, PSTTrainer, load_questions

    args = PSTConfig(
        str(tmp_path_factory.mktemp("run")), max_steps=4, save_steps=2, learning_rate=3e-4, report_to="none",
        per_device_train_batch_size=8, num_generations=4, rewards=["vote_share", "random"], reward_weights=[1, 0.5],
        answer_style="hash", use_cpu=True, bf16=False,
    )  # fmt: skip
    peers = {
        "llama": PeerSpec(tiny["llama"], learning_rate=1e-3),
        "qwen2": PeerSpec(tiny["qwen2"], peft_config=LoraConfig(r=2, target_modules="all-linear")),
        "gemma2": PeerSpec(tiny["gemma2"], trainable=False),
    }
    trainer = PSTTrainer(peers, args, load_questions("tiny", limit=32))
    return trainer, run_header(trainer, ["a lever is left out: why"], [("preset", "own")])


def test_every_peer_is_described(lines):
    text = " ".join(" ".join(lines[1]).split())
    assert "llama: 340 k parameters, all trained at 0.001, float32, chat template" in text
    assert "qwen2: " in text and "of them trained (LoRA) at 0.0003" in text
    assert "gemma2: " in text and "parameters, frozen, float32" in text


def test_scheme_sizes_and_settings_are_there(lines):
    text = " ".join(" ".join(lines[1]).split())
    assert "independent answers; target: majority; reward: vote_share + 0.5 random; weights: none" in text
    assert "no label is read" in text and "32 to train on; 2 at a time, 4 answers of at most 512 tokens" in text
    for setting in ("learning_rate=0.0003", "answer_style='hash'", "rewards=['vote_share', 'random']", "save_steps=2"):
        assert setting in text
    assert "temperature" not in text and "preset own" in text and "note a lever is left out: why" in text


def test_no_line_is_wider_than_a_terminal(lines):
    assert max(map(len, lines[1])) <= 80


def test_the_prompt_is_shown_in_each_form_in_which_a_peer_reads_it(lines):
    trainer, found = lines
    shown, who = {}, None
    for line in found[next(i for i, line in enumerate(found) if line.startswith("prompt")) :]:
        if line.startswith("  |"):
            shown[who].append(line.removeprefix("  | "))
        else:
            who = line.removeprefix("prompt").strip()
            shown[who] = []
    prompt = trainer.train_dataset[0]["prompt"]
    forms = {name: engine.render(prompt) for name, engine in trainer.peers.items()}
    assert len(set(forms.values())) > 1
    assert {who: "\n".join(text) for who, text in shown.items()} == {
        f"as {' and '.join(names)} {'read' if len(names) > 1 else 'reads'} the first question:": form
        for form in forms.values()
        for names in [[name for name in forms if forms[name] == form]]
    }


def test_peers_that_read_alike_share_a_prompt_and_those_of_one_family_are_named(lines, monkeypatch):
    trainer, found = lines
    assert "family" not in "".join(found) and "resuming" not in "".join(found)
    monkeypatch.setitem(trainer.peers, "gemma2", trainer.peers["llama"])
    text = " ".join(" ".join(run_header(trainer, checkpoint="runs/mine/checkpoint-20")).split())
    assert "llama and gemma2 are of one family (llama): a vote of such peers says less" in text
    assert "as llama and gemma2 read the first question:" in text
    assert text.startswith("resuming from runs/mine/checkpoint-20")


def test_a_long_prompt_goes_on_and_is_cut_at_twelve_lines(lines, monkeypatch):
    trainer, _ = lines
    text = "x" * 200 + "\n" + "line\n" * 20
    for engine in trainer.engines:
        monkeypatch.setattr(engine, "render", lambda prompt: text)
    found = run_header(trainer)
    assert max(map(len, found)) <= 80 and found[-1] == "  ... (11 lines more)"
    assert found[-13:-10] == [f"  | {'x' * 76}", f"  ||{'x' * 76}", f"  ||{'x' * 48}"]


def test_the_disk_counts_models_and_checkpoints(lines):
    trainer, _ = lines
    trained = [p for engine in trainer.engines for p in engine.model.parameters() if p.requires_grad]
    weights = sum(p.numel() * 4 for p in trained)
    assert disk(trainer).startswith(f"about {7 * weights / 2**30:.2f} GiB for the models and 2 checkpoints")


def test_a_full_disk_is_said_before(lines, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=1000))
    assert "NOT ENOUGH" in disk(lines[0])


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["python", "/bin/accelerate", "launch", "--num_processes", "2", "train.py"], 2),
        (["python", "/bin/accelerate", "launch", "--num-processes=4", "train.py"], 4),
        (["python", "/bin/accelerate", "launch", "train.py"], None),
        (["python", "launch.py", "--num_processes", "2"], None),
    ],
)
def test_processes_that_were_asked_for_and_do_not_run_are_named(lines, monkeypatch, command, asked):
    parent = types.SimpleNamespace(cmdline=lambda: command)
    monkeypatch.setattr(psutil, "Process", lambda: types.SimpleNamespace(parents=lambda: [parent]))
    assert asked_processes() == asked
    assert ("--cpu" in processes(lines[0])) is (asked is not None)


def test_defaults_are_not_listed(tmp_path):
    from pst_rl import PSTConfig

    found = changed_settings(PSTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False))
    assert [s for s in found if not s.startswith(("use_cpu", "bf16", "steps_per_generation"))] == []
