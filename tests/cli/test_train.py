"""`pst-rl train`: its dry run, and what it shares with the example."""

from pathlib import Path

import pytest
from datasets import Dataset
from helpers import chat

from pst_rl.cli import main as cli
from pst_rl.cli import train_dry_run
from pst_rl.cli.prompt_preview import Prompts, read_prompts
from pst_rl.cli.train import TrainRun
from pst_rl.cli.train_dry_run import Steps, flops
from pst_rl.memory.estimate import estimate

SMALL = ["--train-questions", "64", "--test-questions", "8", "--pooled-questions", "4", "--num-generations", "8"]


@pytest.fixture
def planned(tmp_path, monkeypatch, capsys):
    """`planned(*flags)`: what a dry run prints; it writes nothing and builds no trainer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pst_rl.trainer.PSTTrainer", None)
    monkeypatch.setattr("pst_rl.cli.train_dry_run.measured_flops", lambda device: 1e9)

    def build(*flags):
        assert cli.main(["train", "--dry-run", *SMALL, *flags]) == 0
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().out

    return build


# What a dry run says


def test_a_dry_run_shows_each_peers_prompt_and_counts(planned):
    said = planned("--max-steps", "8", "--tokens-per-second", "1000")
    assert all(f"---- {name}: " in said for name in ("gemma2", "llama", "qwen2"))
    assert "<bos>Q: " in said and "<|begin_of_text|>Q: " in said
    assert "2 generation batches of 32 questions x 8 generations x 3 peers" in said
    assert "1,536 responses of at most 48 tokens" in said and "73,728 written" in said
    assert "at most 74 s of training at 1000 completion tokens a second" in said
    assert "72 responses more" not in said and f"{2 * 3 * (8 + 4 * 8)} responses more" in said


def test_without_a_rate_the_time_is_that_of_a_measured_matrix_product(planned):
    said = planned("--max-steps", "8")
    assert "TFLOP at 1 GFLOP/s, the speed of a matrix product measured here (1 x cpu)" in said


def test_in_a_sequential_run_later_peers_are_shown_with_a_mark_for_the_earlier(planned):
    said = planned("--context", "sequential")
    first, second, third = said.split("---- ")[1:4]
    assert "what gemma2 says" not in first and "P: [what gemma2 says]" in second and "[what llama says]" in third


def test_a_data_set_that_is_scored_in_a_way_of_its_own_says_so(planned, monkeypatch):
    rows = Dataset.from_list([{"prompt": chat(f"{n}?"), "question": f"{n}?", "answer": "4"} for n in range(64)])
    monkeypatch.setattr("pst_rl.data.load_questions", lambda source, **options: rows)
    simuleq = ["--dataset", "simuleq", "--tokens-per-second", "10"]
    note = "note        simuleq is scored as its benchmark does: --answer-metric first\n"
    assert note in planned(*simuleq) and "note  " not in planned(*simuleq, "--answer-metric", "whole")
    assert "note  " not in planned("--tokens-per-second", "10")


def test_a_setting_that_the_memory_estimate_does_not_know_is_said_and_the_rest_is_shown(planned):
    said = planned("--optim", "adafactor", "--tokens-per-second", "10")
    assert "not estimated: Memory is estimated for" in said and "completion tokens a second" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--dry-run", "--train-questions", "8"],
            "A generation batch takes 32 questions, but the training set has only 8",
        ),
        (["--dry-run", "--tokens-per-second", "0"], "must be above 0"),
        (["--dry-run", "--peers", "./none", "--dataset", "tiny"], "The folder './none' of peer 'none' does not exist"),
        (["--dry-run", "--rewards", "magic"], "magic"),
        (["--dry-run", "--resume-from-checkpoint", "last"], "no checkpoint"),
        (["--tokens-per-second", "9"], "add --dry-run"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *SMALL, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


# Whether it is true


def test_prompts_are_as_long_as_the_trainer_reads_them(trainer, questions, tiny):
    built = trainer(data=questions(8))
    prompts = list(questions(8)["prompt"])
    for engine in built.engines:
        lengths = [len(engine.prompt_ids(engine.format.adapt(prompt))) for prompt in prompts]
        assert read_prompts(tiny[engine.spec.name], prompts, built.args.base_template).lengths == tuple(lengths)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_epochs": 1.5},
        {"num_train_epochs": 2, "steps_per_generation": 2},
        {"num_train_epochs": 1, "gradient_accumulation_steps": 2},
        {"num_train_epochs": 1, "num_iterations": 2, "steps_per_generation": 2, "gradient_accumulation_steps": 2},
        {"max_steps": 5, "steps_per_generation": 2},
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(trainer, questions, settings):
    built = trainer(data=questions(30), **{"max_steps": -1} | settings)
    steps = Steps.of(built.args, 30, 2)
    assert steps.steps == built.set_initial_training_values(built.args, built.get_train_dataloader())[-1]
    assert steps.rows == built.args.per_device_train_batch_size * built.args.steps_per_generation


def test_a_forward_pass_costs_two_operations_for_each_parameter_and_token(config):
    class LoRA:
        use_peft = True

    args, steps = config(weighting="none", beta=0.0), Steps(questions=4, generations=4, batches=3, steps=3, peers=2)
    tokens = 16 * 3 * (10 + 40)
    assert flops(args, LoRA, steps, 1000, 10) == 1000 * tokens * (2 + 4)
    LoRA.use_peft = False
    args = config(weighting="pmi", beta=0.1, gradient_checkpointing=True)
    assert flops(args, LoRA, steps, 1000, 10) == 1000 * tokens * (2 + 2 + 6 + 2 + 2)
    args = config(weighting_options={"from_cache": True}, gradient_checkpointing=False)
    assert flops(args, LoRA, steps, 1000, 10) == 1000 * tokens * (2 + 6)


def test_lengths_are_summed_up_as_least_most_and_median():
    assert str(Prompts("hi", (3, 9, 4))) == "hi\n3 prompts of 3 to 9 tokens, median 4"


def test_a_model_without_a_template_is_shown_the_base_template(tmp_path, tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(Path(tiny["llama"], "config.json").read_text())
    assert (
        read_prompts(str(tmp_path), [chat("2+2?")], "Question: {prompt}\nAnswer:").first == "Question: 2+2?\nAnswer:"
    )


def test_the_dtype_of_the_weights_reaches_the_estimate_and_the_peers(planned, monkeypatch):
    shapes = []
    monkeypatch.setattr(train_dry_run, "estimate", lambda peers, run: shapes.append(run) or estimate(peers, run))
    for dtype in ("float32", "bfloat16"):
        planned("--max-steps", "8", "--tokens-per-second", "9", "--dtype", dtype)
    assert [shape.weight_width for shape in shapes] == [4, 2]

    built = []
    monkeypatch.setattr("pst_rl.trainer.PSTTrainer", lambda peers, *args, **kwargs: built.append(peers) or 1 / 0)
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ZeroDivisionError):
            cli.main(["train", *SMALL, "--dtype", dtype])
    kwargs = [{spec.init_kwargs()["dtype"] for spec in peers.values()} for peers in built]
    assert kwargs == [{"float32"}, {"bfloat16"}]


# Other commands


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "tiny", "--limit", "5", "--samples", "2"], "5 questions x 4 responses x 3 peers"),
        (["gv-gap", "tiny", "--limit", "5", "--samples", "2"], "30 responses to score by each verifier"),
        (["label", "claims.jsonl", "--model", "MODEL"], "4 claims, 0 rules between them"),
    ],
)
def test_other_commands_show_prompts_and_write_nothing(tmp_path, monkeypatch, capsys, tiny, words, said):
    monkeypatch.chdir(tmp_path)
    Path("claims.jsonl").write_text('{"question": "Is 2 even?", "claim": "Yes."}\n' * 4)
    assert cli.main([*(tiny["llama"] if word == "MODEL" else word for word in words), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert (
        said in printed and "prompts of" in printed and [path.name for path in tmp_path.iterdir()] == ["claims.jsonl"]
    )


# How to go on


def test_the_command_to_go_on_with_is_the_one_that_ran(monkeypatch):
    run = TrainRun(None, ("train", "--max-steps", "3"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert run.command() == ["pst-rl", "train", "--max-steps", "3"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run.command()[:6] == ["accelerate", "launch", "--num_processes", "2", "-m", "pst_rl.cli"]
