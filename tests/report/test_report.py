import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pst_rl.answers import Answer
from pst_rl.records import Response
from pst_rl.report import (
    JointResult,
    PeerResult,
    RunResults,
    VoteResult,
    markdown_table,
    pipe_table,
    plot_report,
    print_table,
    write_results,
)
from pst_rl.report.compare import _answers, joint, votes_changed
from pst_rl.report.drawing import spread
from pst_rl.report.results import read_results
from pst_rl.report.text_table import text_table
from pst_rl.stages.evaluation import Evaluation

RESULTS = RunResults(
    peers={
        "gemma": PeerResult(0.4, 0.5, (0.06, 0.14), 0.9, 1.0, 0.8, 0.95, 30.0, 28.5, 0.25),
        "llama": PeerResult(0.6, 0.58, (-0.05, 0.01)),
    },
    vote=VoteResult(0.65, 0.7),
    pooled_vote=VoteResult(0.75, 0.76),
    dataset="tiny",
    n_test=900,
    seed=3,
    seconds={"generate": 12.0},
    peak_memory_mib=800.0,
    config={"output_dir": Path("runs/a"), "learning_rate": 2e-4, "epsilon": math.inf},
)
UNLABELLED = replace(
    RESULTS,
    peers={
        name: PeerResult(
            parsed_before=0.9, parsed_after=0.95, finished_before=0.8, finished_after=0.95,
            length_before=30.0, length_after=28.5, changed=0.25,
        )
        for name in RESULTS.peers
    },
    vote=VoteResult(changed=0.125),
    pooled_vote=VoteResult(changed=0.0625),
    joint=JointResult(0.5, 0.55, 2.4, 2.1, 24),
)  # fmt: skip
HISTORY = [
    {"step": step, "gemma/reward": 0.1 * step, "llama/reward": 0.5, "peers/agreement": 0.6, "gemma/pmi/mean": math.nan}
    for step in range(1, 6)
] + [{"step": 5, "train_runtime": 3.0}]


def printed(results, width=80):
    console = Console(width=width, file=StringIO())
    print_table(results, console)
    return console.file.getvalue()


def drawn_texts(results, history, tmp_path):
    """The texts in the picture, read from an SVG that keeps them as text."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return plot_report(results, history, tmp_path / "report.svg").read_text()


def test_results_have_the_documented_keys(tmp_path):
    content = json.loads(write_results(RESULTS, tmp_path / "new").read_text())
    assert list(content.items())[:2] == [("kind", "training"), ("version", 1)]
    assert content["peers"]["gemma"] == {
        "before": 0.4, "after": 0.5, "ci95": [0.06, 0.14], "parsed_before": 0.9, "parsed_after": 1.0,
        "finished_before": 0.8, "finished_after": 0.95, "length_before": 30.0, "length_after": 28.5, "changed": 0.25,
    }  # fmt: skip
    assert content["vote"]["after"] == 0.7 and content["pooled_vote"]["before"] == 0.75
    assert content["mean_gain"] == pytest.approx(4.0)
    assert content["seconds"] == {"generate": 12.0} and content["peak_memory_mib"] == 800 and content["seed"] == 3
    assert content["config"] == {"output_dir": "runs/a", "learning_rate": 2e-4, "epsilon": None}


def test_an_interrupted_write_leaves_the_old_results(tmp_path, monkeypatch):
    path = write_results(RESULTS, tmp_path)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_results(replace(RESULTS, seed=4), tmp_path)
    assert json.loads(path.read_text())["seed"] == 3


def test_a_second_write_replaces_the_first(tmp_path):
    write_results(RESULTS, tmp_path)
    write_results(replace(RESULTS, seed=4), tmp_path)
    assert [json.loads(path.read_text())["seed"] for path in tmp_path.iterdir()] == [4]


def test_numpy_numbers_stay_numbers(tmp_path):
    results = replace(RESULTS, seed=np.int64(3), peers={"gemma": PeerResult(np.float32(0.5), np.float64(0.75))})
    content = json.loads(write_results(results, tmp_path).read_text())
    assert (content["seed"], content["peers"]["gemma"]["before"], content["mean_gain"]) == (3, 0.5, 25.0)


def test_without_labels_accuracies_are_null(tmp_path):
    content = json.loads(write_results(UNLABELLED, tmp_path).read_text())
    assert content["mean_gain"] is content["vote"]["after"] is content["peers"]["llama"]["ci95"] is None


def test_the_table_shows_percents_and_fits_80_columns():
    text = printed(RESULTS)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("40.0", "50.0", "+10.0", "[+6.0, +14.0]", "-2.0", "mean of the peers", "+4.0", "90.0 → 100.0"):
        assert part in text


def test_the_table_says_when_accuracy_is_unknown():
    assert "No gold answers: the accuracy is unknown." in printed(UNLABELLED)
    assert "90.0 → 95.0" in printed(UNLABELLED)


def test_the_table_says_whether_labels_were_read():
    assert "Training read no label." in printed(RESULTS)
    assert "Training read labels." in printed(replace(RESULTS, supervised=True))


def test_peer_names_are_not_read_as_markup():
    assert "my[red]peer" in printed(replace(RESULTS, peers={"my[red]peer": PeerResult(0.1, 0.2)}))


def test_markdown_has_one_line_per_peer_and_vote():
    accuracies, answers, said = markdown_table(RESULTS).split("\n\n")
    assert "| gemma | 40.0 | 50.0 | +10.0 | [+6.0, +14.0] |" in accuracies.splitlines()
    assert len(accuracies.splitlines()) == 2 + 2 + 1 + 2
    assert answers.splitlines()[2:] == ["| gemma | 90.0 → 100.0 | 80.0 → 95.0 | 30.0 → 28.5 | 25.0 |"]
    assert said.startswith("Exact match on 900 held-out questions")


def test_without_labels_the_table_says_what_changed_and_has_no_dash(tmp_path):
    lines = printed(UNLABELLED).splitlines()
    assert lines[0] == "Answers to 900 held-out questions of tiny, seed 3"
    assert lines[2].split() == ["Parsed", "Finished", "Tokens", "Changed"]
    assert lines[4].split() == "gemma 90.0 → 95.0 80.0 → 95.0 30.0 → 28.5 25.0".split()
    said = " ".join(lines)
    assert "Agreement of the peers 50.0 → 55.0 %." in said
    assert "Distinct answers to a question 2.40 → 2.10, of 24 responses." in said
    assert "Votes that changed: 12.5 % of greedy answers, 6.2 % of newly drawn samples." in said
    assert " - " not in said and "Before" not in said and "Gain" not in said
    assert read_results(write_results(UNLABELLED, tmp_path)).joint == UNLABELLED.joint


def test_what_is_not_known_of_anyone_has_no_column_or_row():
    text = printed(replace(RESULTS, pooled_vote=VoteResult(), peers={"a": PeerResult(0.1, 0.2)}))
    assert "95 % interval" not in text and "pooled vote" not in text and "Parsed" not in text


def test_only_the_file_name_of_a_local_dataset_is_shown():
    text = markdown_table(replace(RESULTS, dataset="/home/me/rows.jsonl"))
    assert "questions of rows.jsonl" in text and "/home" not in text


def test_the_picture_is_written_in_full(tmp_path):
    path = plot_report(RESULTS, HISTORY, tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000
    assert [item.name for item in tmp_path.iterdir()] == ["report.png"]


def test_the_picture_labels_bars_and_lines(tmp_path):
    text = drawn_texts(RESULTS, HISTORY, tmp_path)
    assert "[+6.0, +14.0]" in text and "pooled vote" in text
    assert text.count(">gemma<") == 2  # its bars, and its reward: the PMI is never finite


def test_missing_series_are_noted(tmp_path):
    text = drawn_texts(RESULTS, HISTORY, tmp_path)
    assert text.count("not logged in this run") == 2  # PMI and distinct answers
    text = drawn_texts(RESULTS, [{"step": 1, "llama/reward": 0.5}], tmp_path)
    assert "not logged: gemma" in text


def test_the_picture_of_an_unlabelled_run_without_history(tmp_path):
    text = drawn_texts(UNLABELLED, [], tmp_path)
    assert "no gold answers" in text and text.count("not logged in this run") == 4


def test_labels_at_line_ends_are_kept_apart():
    heights = sorted(spread({"a": 0.50, "b": 0.50, "c": 0.51, "d": 0.9}, (0.0, 1.0)).values())
    assert all(upper - lower > 0.109 for lower, upper in zip(heights, heights[1:], strict=False))


def test_without_pmi_its_panel_shows_the_questions_left_out(tmp_path):
    assert "PMI (nats)" in drawn_texts(RESULTS, HISTORY, tmp_path)
    texts = drawn_texts(RESULTS, [{"step": 1, "peers/abstained": 0.5}], tmp_path)
    assert "Share of questions without a target" in texts and "PMI (nats)" not in texts


# Before and after


def evaluation(greedy, sampled=()):
    """Of peers whose answers are single letters, one string each; a space is no answer, and was cut off."""

    def said(letter):
        answer = None if letter == " " else Answer(letter, letter, 0)
        return Response("x" * 4, answer, answer is not None, 4 if answer else 8)

    rows = [[said(letter) for letter in peer] for peer in greedy]
    pooled = [[tuple(map(said, question)) for question in peer] for peer in sampled]
    return Evaluation(tuple("ab"[: len(greedy)]), rows, pooled, None)


def test_what_changed_needs_no_gold():
    before, after = evaluation(["xyx ", "xyz "]), evaluation(["xxx ", "xzzz"])
    assert joint(before, after) == JointResult(0.5, 0.25, 1.0, 1.5, 2)
    assert votes_changed(before, after) == 0.5  # at the second question, and at the last, which had none
    assert votes_changed(before, after, pooled=True) is None
    first, second = _answers(before, after, "a"), _answers(before, after, "b")
    assert (first["parsed_before"], first["finished_after"], first["length_before"]) == (0.75, 0.75, 5.0)
    assert (first["changed"], second["changed"], second["parsed_after"]) == (0.25, 0.5, 1.0)


def test_distinct_answers_are_of_the_samples_where_there_are_any():
    before = evaluation(["x", "x"], [["xyz"], ["xxx"]])
    after = evaluation(["x", "x"], [["yyy"], ["yyy"]])
    assert joint(before, after) == JointResult(1.0, 1.0, 3.0, 1.0, 6)
    assert votes_changed(before, after, pooled=True) == 1.0 and votes_changed(before, after) == 0.0


def test_one_peer_has_no_agreement():
    assert joint(evaluation(["x"]), evaluation(["y"])) == JointResult(None, None, 1.0, 1.0, 1)


# Tables of commands


LONG = "Qwen2.5-0.5B-Instruct-checkpoint-1200-and-more"


def test_long_names_stand_above_their_numbers_and_are_whole():
    lines = text_table(("peer", *"abcde"), [(LONG, *5 * ["1234567"]), ("x", *5 * ["1"])], width=60)
    assert lines[2] == LONG and lines[3].split() == 5 * ["1234567"]
    assert lines[4].startswith("x ") and len(lines[4]) == len(lines[3]) == len(lines[0])


def test_columns_that_do_not_fit_follow_below_with_the_names_again():
    header = ("peer", *(f"column {k}" for k in range(9)))
    lines = text_table(header, [("gemma2", *(f"{k}0.0 (1.0 to 2.0)" for k in range(9)))], width=80)
    assert max(map(len, lines)) <= 80 and lines.count("") == 2
    shown = " ".join(lines)
    assert all(f"column {k}" in shown and f"{k}0.0 (1.0 to 2.0)" in shown for k in range(9))
    assert [line.split()[0] for line in lines if "to" in line] == 3 * ["gemma2"]


def test_wide_letters_take_two_columns_and_control_characters_are_shown():
    lines = text_table(("", "n"), [("模型", "1"), ("a\x1b[1m\nb", "22")])
    assert lines[2:] == ["模型      1", "a␛[1m b  22"]


def test_a_table_of_a_run_with_long_names_fits_80_columns_and_cuts_nothing():
    peers = {f"{LONG}-{k}": one for k, one in enumerate(RESULTS.peers.values())}
    for results in (RESULTS, UNLABELLED):
        text = printed(replace(results, peers=dict(zip(peers, results.peers.values(), strict=True))))
        assert max(map(len, text.splitlines())) <= 80
        assert all(name in text for name in peers) and "…" not in text


# Markdown tables, everybody's


def test_a_bar_is_escaped_and_a_line_break_is_a_space():
    assert pipe_table(("a|b", "c"), [("x\ny", "p(z|x)")]) == [r"| a\|b | c |", "| --- | --- |", r"| x y | p(z\|x) |"]


def test_numbers_stand_at_the_right():
    assert pipe_table(("a", "b", "c"), [], numbers_from=1) == ["| a | b | c |", "| --- | ---: | ---: |"]


def test_even_columns_are_as_wide_as_their_widest_cell():
    assert pipe_table(("a", ""), [("|", "12")], even=True) == ["| a  |    |", "| -- | -- |", r"| \| | 12 |"]


def test_a_row_must_have_a_cell_for_every_column():
    with pytest.raises(ValueError):
        pipe_table(("a", "b"), [("1",)])


def test_hostile_names_break_no_table_of_results():
    table = markdown_table(replace(RESULTS, peers={"a|b\nc": PeerResult(0.1, 0.2)})).splitlines()
    assert r"| a\|b c | 10.0 | 20.0 | +10.0 |" in table
