"""The examples, run as a user runs them, at the smallest size."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from examples_loader import EXAMPLES, load_example
from helpers import chat, group, targets

SMALL = """--per-device-train-batch-size 8 --steps-per-generation 1 --num-generations 4 --rows-per-generate 8
    --test-questions 8 --pooled-questions 4 --pooled-samples 2 --logging-steps 1 --train-questions 40""".split()


def start(*words):
    command = [sys.executable, *words]
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def test_the_demo_leaves_results_a_plot_and_three_loadable_peers(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    flags = ["--output-dir", str(tmp_path), "--max-steps", "2", "--log-completions"]
    process = start(str(EXAMPLES / "pst_math.py"), *SMALL, *flags)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["peers"]) == {"gemma2", "llama", "qwen2"}
    assert all(len(peer["ci95"]) == 2 for peer in results["peers"].values())
    assert {"generate", "pmi", "loss and backward"} <= set(results["seconds"])
    assert results["pooled_vote"]["before"] is not None
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert list((tmp_path / "completions").glob("*.parquet"))
    for name in results["peers"]:
        AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert AutoTokenizer.from_pretrained(tmp_path / name).chat_template
    assert "mean of the peers" in output


def test_the_demo_may_be_made_again_and_resumed():
    printed = {}
    for flags in ("", "--max-steps 2", "--resume-from-checkpoint last"):
        command = ["make", "--dry-run", "--assume-old", ".venv/.installed", "demo", f"ARGS={flags}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent, check=False)
        printed[flags] = done.stdout.split("pst_math.py", 1)[1].split()
    assert [("--overwrite" in words) for words in printed.values()] == [True, True, False]


def test_interrupted_run_says_how_to_resume_and_resumes(tmp_path):
    flags = ["--output-dir", str(tmp_path), "--max-steps", "40", "--save-steps", "40"]
    process = start("-m", "pst_rl.cli", "train", *SMALL, *flags)
    assert any(line.startswith("step  1/40") for line in process.stdout)  # before the first checkpoint is due
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    command = shlex.split(output.splitlines()[-1])
    done = int(command[-1].rsplit("-", 1)[1])
    assert command[:2] == ["pst-rl", "train"] and command[-2] == "--resume-from-checkpoint"
    again = start("-m", "pst_rl.cli", *command[1:], "--max-steps", str(done + 1))
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors[-2000:]
    assert f"step {done + 1}/{done + 1}" in output
    assert json.loads((tmp_path / "results.json").read_text())["config"]["max_steps"] == done + 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "nofile.jsonl"], "There is no file nofile.jsonl"),
        (["--peers", "./nope", "--dataset", "tiny"], "does not exist"),
        (["--resume-from-checkpoint", "last"], "no checkpoint"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(sys, "argv", ["pst_math.py", *flags, "--output-dir", str(tmp_path / "run")])
    assert load_example("pst_math").main() == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_first_steps_train_measure_and_save_and_are_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = (EXAMPLES / "first_steps.py").read_text()
    code = source.split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in (EXAMPLES.parent / "README.md").read_text()
    assert len(source.splitlines()) <= 22
    fewer = code.replace('"max_steps": 8', '"max_steps": 1').replace("limit=200", "limit=12")
    assert fewer.count('"max_steps": 1') == fewer.count("limit=12") == 1
    names = {}
    exec(compile(fewer, "first_steps.py", "exec"), names)
    said = capsys.readouterr().out
    assert names["trainer"].state.global_step == 1
    assert [name for name in names["trainer"].peers if f"\n{name}: " in f"\n{said}"] == ["gemma2", "llama", "qwen2"]
    assert all(
        (tmp_path / "runs/first_steps" / name / "model.safetensors").is_file() for name in names["trainer"].peers
    )


@pytest.mark.parametrize(
    ("use", "measured"),
    [("sft", "test claims judged right, each alone"), ("reward", "test questions answered with a true claim")],
)
def test_claims_without_labels_end_in_a_better_model(tmp_path, use, measured):
    flags = ["--use", use, "--restarts", "4", "--grpo-steps", "24", "--output-dir", str(tmp_path)]
    command = [sys.executable, str(EXAMPLES / "icm_labels.py"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split(": ") for line in done.stdout.splitlines() if " % (" in line]
    percent = {what: float(number.split()[0]) for what, number in lines}
    assert percent["labels that are right"] > 95
    assert percent[f"{measured}, after"] > percent[f"{measured}, before"] + 15
    assert (tmp_path / "labels.jsonl").is_file() and (tmp_path / "model" / "model.safetensors").is_file()


def test_custom_reward_prefers_the_brief_answer_that_agrees():
    batch = group([[["5", "5", "6"]]], targets=targets([[["5", "5", "5"]]]))
    lengths = [10, 20, 10]
    row = tuple(type(r)(r.text, r.answer, r.finished, n) for r, n in zip(batch.responses[0][0], lengths, strict=True))
    batch = type(batch)(**{**batch.__dict__, "responses": ((row,),)})
    assert load_example("custom_reward").brief(batch).values.flatten().tolist() == [1.0, 0.5, 0.0]


def test_custom_trainer_shows_only_the_first_opinion(config):
    example = load_example("custom_reward").FirstOpinion
    trainer = example.__new__(example)
    trainer.args = config()
    shown = trainer.build_prompt(chat("2+2?"), ["4", "5"])
    assert shown[-1]["content"] == "2+2?\nP: 4"
    assert len(Path(EXAMPLES / "custom_reward.py").read_text().splitlines()) <= 32
