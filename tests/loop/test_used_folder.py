"""Output folders that an earlier run has used: refused, begun anew, or warned of; nothing else in them is touched."""

import json
import logging

import pytest

from pst_rl.cli import main as cli
from pst_rl.loop.used_folder import check_folder, check_start, clear_folder, earlier_run

CARD = "---\ntags:\n- generated_from_trainer\n- pst-rl\n- trl\n---\n# A peer\n"
TRAINING = {"kind": "training", "version": 1, "peers": {"llama": {}}, "vote": {}}


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def used(tmp_path):
    """A folder with all that a run leaves, and with files that are none of its."""
    folder = tmp_path / "run"
    write(folder / "results.json", json.dumps(TRAINING))
    for name in ("trainer_state.json", "report.png", "checkpoint-8/manifest.json", ".unfinished/checkpoint-9/x"):
        write(folder / name)
    write(folder / "completions" / "completions_00001_00001.parquet")
    write(folder / "llama" / "training_args.bin")
    write(folder / "llama" / "README.md", CARD)
    write(folder / "notes.txt", "mine")
    write(folder / "completions" / "mine.parquet")
    write(folder / "model" / "training_args.bin")  # another trainer's
    write(folder / "model" / "README.md", "tags:\n- sft\n")
    write(folder / "checkpoint-best" / "x")
    write(folder / "report" / "report.html")
    return folder


KEPT = ["checkpoint-best", "completions", "model", "notes.txt", "report"]


def test_what_a_run_left_is_found_and_nothing_else(used):
    found = [str(path.relative_to(used)) for path in earlier_run(used)]
    assert found == [
        "results.json",
        "trainer_state.json",
        "report.png",
        "checkpoint-8",
        ".unfinished",
        "completions/completions_00001_00001.parquet",
        "llama",
    ]


def test_beginning_anew_takes_away_what_a_run_left_and_nothing_else(used):
    clear_folder(used)
    assert sorted(path.name for path in used.iterdir()) == KEPT
    assert [path.name for path in (used / "completions").iterdir()] == ["mine.parquet"]
    (used / "completions" / "mine.parquet").unlink()
    clear_folder(used)  # of which nothing is left
    assert "completions" not in [path.name for path in used.iterdir()]


def test_a_used_folder_is_refused_with_the_ways_out(used):
    with pytest.raises(ValueError, match="holds an earlier run") as caught:
        check_folder(used, [], overwrite=False)
    words = ["--resume-from-checkpoint", "--overwrite", "--output-dir", "results.json", "and 3 more"]
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    check_folder(used, [], overwrite=True)


@pytest.mark.parametrize("name", ["results.json", "checkpoint-1/x", "completions/completions_00000_00000.parquet"])
def test_each_trace_alone_makes_a_folder_used(tmp_path, name):
    write(tmp_path / name, json.dumps(TRAINING))
    with pytest.raises(ValueError, match="earlier run"):
        check_folder(tmp_path, [], overwrite=False)


def test_a_folder_that_is_new_empty_or_of_something_else_is_free(tmp_path):
    check_folder(tmp_path / "new", [], overwrite=False)
    write(tmp_path / "notes.txt")
    write(tmp_path / ".run.lock")
    check_folder(tmp_path, [], overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_results_of_another_command_are_never_replaced(tmp_path, overwrite):
    evaluation = {"kind": "evaluation", "version": 1, "peers": {}, "questions": [], "scores": {}}
    file = write(tmp_path / "results.json", json.dumps(evaluation))
    with pytest.raises(ValueError, match="holds an evaluation, made by pst-rl eval.*choose another --output-dir"):
        check_folder(tmp_path, [], overwrite)
    assert json.loads(file.read_text()) == evaluation


def test_a_peer_is_not_trained_over_its_source(used):
    for source in (used / "llama", used / "checkpoint-8" / "llama", used / "model"):
        source.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="lies in the output folder"):
            check_folder(used, ["org/on-the-hub", source], overwrite=True)
    check_folder(used, [used.parent], overwrite=True)


@pytest.mark.parametrize("resume", ["last", "true", True, "auto", "checkpoint-8"])
def test_a_run_that_goes_on_uses_its_folder(used, resume):
    check_start(used, str(used / resume) if resume == "checkpoint-8" else resume, [], overwrite=False)


def test_a_checkpoint_of_another_folder_begins_in_this_one(used, tmp_path):
    with pytest.raises(ValueError, match="earlier run"):
        check_start(used, str(tmp_path / "other" / "checkpoint-8"), [], overwrite=False)


def test_auto_begins_anew_where_a_run_ended_before_its_first_checkpoint_but_not_over_results(used):
    for name in ("manifest.json", ""):
        path = used / "checkpoint-8" / name
        path.unlink() if name else path.rmdir()
    with pytest.raises(ValueError, match="earlier run"):
        check_start(used, "auto", [], overwrite=False)
    (used / "results.json").unlink()
    check_start(used, "auto", [], overwrite=False)


def test_going_on_and_beginning_anew_exclude_each_other(used):
    with pytest.raises(ValueError, match="leave one of them out"):
        check_start(used, "last", [], overwrite=True)


# ---- the command, and Python ----

FLAGS = """--max-steps 1 --per-device-train-batch-size 8 --steps-per-generation 1 --num-generations 4 --dataset tiny
    --train-questions 8 --test-questions 2 --pooled-questions 0 --max-completion-length 8
    --on-nothing-read warn""".split()


def test_a_second_run_is_refused_before_anything_is_loaded_and_begins_anew_when_told_to(tmp_path, tiny, capsys):
    folder = tmp_path / "run"
    command = ["train", "--peers", tiny["llama"], *FLAGS, "--output-dir", str(folder)]
    write(folder / "results.json", json.dumps(TRAINING))
    write(folder / "completions" / "completions_00099_00099.parquet")
    write(folder / "notes.txt", "mine")
    assert cli.main([*command, "--dry-run"]) == cli.main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 2 and said.err.count("error: ") == 2
    assert cli.main([*command, "--overwrite", "--train-questions", "1"]) == 2  # nothing is lost where nothing begins
    assert json.loads((folder / "results.json").read_text()) == TRAINING
    assert cli.main([*command, "--overwrite", "--log-completions"]) == 0
    assert json.loads((folder / "results.json").read_text())["config"]["max_steps"] == 1
    assert [path.name for path in (folder / "completions").iterdir()] == ["completions_00000_00000.parquet"]
    assert (folder / "notes.txt").read_text() == "mine"
    left = {str(path.relative_to(folder)) for path in earlier_run(folder)}
    assert {"results.json", "trainer_state.json", "report.png", "checkpoint-1", "llama"} <= left


def test_from_python_a_used_folder_is_warned_of_in_one_line(trainer, tiny, caplog, tmp_path):
    write(tmp_path / "run" / "results.json", json.dumps(TRAINING))
    built = trainer(peers={"llama": tiny["llama"]}, max_steps=1)
    with caplog.at_level(logging.WARNING, "pst_rl.loop.used_folder"):
        built.train()
        built.args.max_steps = 2
        built.train()  # its own folder
    said = [record.getMessage() for record in caplog.records if record.name == "pst_rl.loop.used_folder"]
    assert len(said) == 1 and "holds an earlier run (results.json)" in said[0] and "\n" not in said[0]
