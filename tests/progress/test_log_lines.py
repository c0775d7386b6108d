"""A trainer's logs as lines, by either of transformers' callbacks and by ours."""

import pytest

from pst_rl.progress.log_lines import EACH, WHOLE, log_line
from pst_rl.progress.training import ReadablePrinter, ReadableProgress

PEERS = ("gemma2", "llama")
LOGS = {"loss": -0.5, "peers/agreement": 0.5, "peers/abstained": 0.25, "aggregate/accuracy": 1.0} | {
    f"{peer}/{name}": value
    for peer in PEERS
    for name, value in {"reward": -1.0, "completions/mean_length": 31.6, "entropy": 0.125}.items()
}


def test_the_line_of_a_log_names_loss_agreement_reward_length_and_entropy():
    assert log_line(LOGS, 8, 24, PEERS) == (
        "step  8/24  loss -0.5000  agreement 0.50  abstained 0.25  reward -1.00/-1.00  length   32/  32  "
        "entropy 0.12/0.12  accuracy 1.00"
    )


def test_lines_are_aligned_whatever_is_missing():
    less = {name: value for name, value in LOGS.items() if name not in ("llama/entropy", "gemma2/reward", "loss")}
    line = log_line(less | {"loss": 12.25}, 10, 24, PEERS)
    assert "reward     -/-1.00" in line and "entropy 0.12/   -" in line
    assert len(line) == len(log_line(LOGS, 8, 24, PEERS))
    between = log_line({"loss": 0.5}, 11, 24, PEERS)  # no generation batch since the last log
    assert [between.index(word) for word in EACH if word != "pmi"] == [line.index(w) for w in EACH if w != "pmi"]


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        (
            {"eval_gemma2/accuracy": 0.25, "eval_llama/accuracy": 0.5, "eval_vote/accuracy": 0.75, "epoch": 1},
            "step 8/9  eval  accuracy 0.250/0.500  vote 0.750",
        ),
        (
            {"eval_hard_gemma2/parsed": 1.0, "eval_hard_llama/parsed": 0.5, "eval_hard_peers/pairwise_agreement": 0.5},
            "step 8/9  eval_hard  parsed 1.000/0.500  agreement 0.500",
        ),
        ({"train_runtime": 75.2, "train_loss": 0.5}, "step 8/9  trained in 1:15, mean loss 0.5000"),
        ({"mine/number": 0.123456, "epoch": 2}, "step 8/9  mine/number 0.1235  epoch 2"),
    ],
    ids=["labels", "no labels", "end", "else"],
)
def test_other_logs_have_a_line_too(logs, line):
    assert log_line(logs, 8, 9, PEERS) == line


def test_a_line_that_is_too_long_goes_on_below_between_two_words():
    nine = [f"peer{i}" for i in range(9)]
    for peers, width in [(PEERS, 80), (PEERS, 200), (nine, 80)]:
        line, lines = log_line(LOGS, 8, 24, peers), log_line(LOGS, 8, 24, peers, width).splitlines()
        assert max(map(len, lines)) <= width and "  ".join(part.strip() for part in lines) == line
        assert lines[0].startswith("step  8/24") and all(part.startswith("  ") for part in lines[1:])
    assert len(log_line(LOGS, 8, 24, PEERS, 80).splitlines()) == 2


@pytest.mark.parametrize(("bar", "kind"), [(False, ReadableProgress), (True, ReadablePrinter)])
def test_from_python_the_logs_are_readable_too(trainer, tiny, capsys, bar, kind):
    built = trainer(peers={"llama": tiny["llama"]}, disable_tqdm=bar, max_steps=1)
    assert sum(type(callback) is kind for callback in built.callback_handler.callbacks) == 1
    built.train()
    lines = capsys.readouterr().out.splitlines()
    first = built.state.log_history[0]
    shown = log_line(first, 1, 1, ["llama"], 80).splitlines()
    assert set(shown) <= set(lines) and max(map(len, lines)) <= 80 and not any("{" in line for line in lines)
    assert set(WHOLE.values()) <= set(first) and f"llama/{EACH['length'][0]}" in first
