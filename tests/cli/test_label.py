import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from datasets import load_dataset

from pst_rl.cli import main as cli
from pst_rl.cli.label import Label
from pst_rl.coherence.toy import ConceptMixture

ROWS = [{"question": f"Is {i} even?", "claim": claim, "label": int((claim == "Yes.") == (i % 2 == 0))}
        for i in range(8) for claim in ("Yes.", "No.")]  # fmt: skip
GOLD = [row["label"] for row in ROWS]


class Mixture(ConceptMixture):
    """Knows the right labels, and a more salient concept; stops after so many scores."""

    dropped = 0

    def __init__(self, stop_after=None):
        super().__init__([[0, 1] * 8, GOLD], [0.6, 0.4], agree=30.0)
        self.left = stop_after

    def law(self, counts, item):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().law(counts, item)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "claims.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture
def run(data, tmp_path, monkeypatch, tiny):
    """`run(*flags, stop_after=None, model=None)`: the status of a command on the toy predictor."""

    def label(*flags, stop_after=None, source=data, folder="run"):
        monkeypatch.setattr(Label, "_predictor", lambda self, claims: Mixture(stop_after))
        return cli.main(["label", source, "--model", tiny["llama"], "--output-dir", str(tmp_path / folder), *flags])

    label.folder = tmp_path / "run"
    return label


def labels(folder):
    return [json.loads(line)["label"] for line in (folder / "labels.jsonl").open()]


BOOTSTRAP = ("--method", "bootstrap", "--method-options", '{"rounds": 3, "context_size": 8}')


# Labelling


def test_a_command_writes_every_format_with_a_card(run):
    assert run(*BOOTSTRAP, "--format", "jsonl", "parquet", "sft", "preference") == 0
    names = {path.name for path in run.folder.iterdir() if path.is_file()}
    written = {"labels.jsonl", "labels.parquet", "sft.jsonl", "preference.jsonl", "README.md"}
    assert names == written | {"label.json", "summary.json"}


@pytest.mark.parametrize("method", ["icm", "icm_released_code", "gibbs", "bootstrap", "debate"])
def test_every_search_can_be_chosen(run, method):
    options = {"icm": '{"steps": 40}', "icm_released_code": '{"steps": 40}'}.get(method, "{}")
    assert run("--method", method, "--method-options", options, "--group-rule", "at_most_one") == 0
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["method"] == method.removesuffix("_released_code") and summary["constraints"] == 8
    assert summary["seeds"][0]["violations"] == 0


def test_labels_and_numbers_of_several_seeds(run, capsys):
    assert run(*BOOTSTRAP, "--seeds", "0", "1", "2") == 0
    summary = json.loads((run.folder / "summary.json").read_text())
    assert [seed["seed"] for seed in summary["seeds"]] == [0, 1, 2] and 0.5 <= summary["agreement"] <= 1
    row = json.loads((run.folder / "labels.jsonl").open().readline())
    assert row["agreement"] in (pytest.approx(2 / 3), 1.0)
    assert "agreement of the seeds" in capsys.readouterr().out


def test_zero_shot_labels_are_those_of_the_salient_concept(run):
    assert run("--method", "zero_shot") == 0
    assert labels(run.folder) == ["False", "True"] * 8


def test_clamped_labels_switch_the_concept_and_are_counted(run, capsys):
    assert run(*BOOTSTRAP, "--clamp", "6") == 0
    assert labels(run.folder) == [("False", "True")[g] for g in GOLD]
    assert "6 gold labels were given; accuracy leaves them out" in capsys.readouterr().out


def test_permuting_gold_changes_no_label(run, tmp_path):
    run(*BOOTSTRAP, "--group-rule", "at_most_one")
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row | {"label": 1 - row["label"]}) + "\n" for row in ROWS))
    run(*BOOTSTRAP, "--group-rule", "at_most_one", source=str(other), folder="other")
    assert (run.folder / "labels.jsonl").read_text() == (tmp_path / "other" / "labels.jsonl").read_text()


def test_sft_and_preference_load_as_data_sets_for_trl(run):
    run(*BOOTSTRAP, "--format", "sft", "preference", "--group-rule", "exactly_one")
    sft = load_dataset("json", data_files=str(run.folder / "sft.jsonl"), split="train")
    assert sft.column_names == ["prompt", "completion"] and set(sft["completion"]) == {" False", " True"}
    preference = load_dataset("json", data_files=str(run.folder / "preference.jsonl"), split="train")
    assert preference.column_names == ["prompt", "chosen", "rejected"] and len(preference) == 8


def test_recorded_responses_become_claims(run, tmp_path, monkeypatch):
    rows = [{"question": f"q{i}", "answer": "1", "responses": {"a": "#### 1", "b": "#### 2"}} for i in range(8)]
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("--form", "responses", "--method", "zero_shot", source=str(path)) == 0
    assert json.loads((run.folder / "summary.json").read_text())["constraints"] == 8


def test_a_language_model_labels(data, tmp_path, tiny):
    flags = ["--method", "zero_shot", "--calibrate", "--limit", "4", "--output-dir", str(tmp_path / "run")]
    assert cli.main(["label", data, "--model", tiny["llama"], *flags]) == 0
    assert len(labels(tmp_path / "run")) == 4
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["seeds"][0]["tokens"] > 0


# Interruption


def test_an_interrupted_run_ends_with_the_same_labels(run, tmp_path, capsys):
    flags = (*BOOTSTRAP, "--seeds", "0", "1")
    assert run(*flags, folder="whole") == 0
    for stop_after in (5, 60, 90):
        status = run(*flags, *(["--resume"] if run.folder.exists() else []), stop_after=stop_after)
        assert status == 130
    assert run(*flags, "--resume") == 0
    for name in ("labels.jsonl", "summary.json"):
        assert (run.folder / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_an_interrupted_run_says_how_to_resume(run, data, capsys):
    assert run(*BOOTSTRAP, stop_after=5) == 130
    error = capsys.readouterr().err.splitlines(keepends=True)[-1]
    assert re.fullmatch(r"Interrupted\. Resume with: pst-rl label .*claims\.jsonl .* --resume\n", error)


def test_a_killed_run_ends_with_the_same_labels(data, tmp_path, tiny):
    flags = ["--method", "gibbs", "--method-options", '{"sweeps": 20}', "--limit", "6", "--template", "{claim}"]
    command = ["label", data, "--model", tiny["llama"], *flags]
    killed = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-m", "pst_rl.cli", *command, "--output-dir", str(killed)])
    state, deadline = killed / "seed-0" / "search.json", time.monotonic() + 120
    while not state.exists() or json.loads(state.read_text())["step"] < 2:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not (killed / "labels.jsonl").exists()
    assert cli.main([*command, "--output-dir", str(killed), "--resume"]) == 0
    assert cli.main([*command, "--output-dir", str(tmp_path / "whole")]) == 0
    for name in ("labels.jsonl", "sft.jsonl", "summary.json"):
        assert (killed / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_finished_seed_is_not_searched_again(run):
    assert run(*BOOTSTRAP) == 0
    before = (run.folder / "labels.jsonl").read_text()
    assert run(*BOOTSTRAP, "--resume", "--format", "sft", stop_after=0) == 0
    assert (run.folder / "labels.jsonl").read_text() == before and (run.folder / "sft.jsonl").exists()


def test_a_seed_may_be_added(run):
    assert run(*BOOTSTRAP) == 0 and run(*BOOTSTRAP, "--seeds", "0", "1", "--resume") == 0
    assert len(json.loads((run.folder / "summary.json").read_text())["seeds"]) == 2


# What is refused: one line, status 2


def refused(status, capsys, loaded=False):
    *before, error = capsys.readouterr().err.splitlines()
    assert status == 2 and error.startswith("error: ") and bool(before) is loaded
    assert all(line.startswith("loading /") for line in before)
    return error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mehtod", "icm"], "Unrecognized options: --mehtod"),
        (["--method", "magic"], "--method: expected one of icm, .*, got 'magic'"),
        (["--method-options", "{"], "--method-options is no JSON"),
        (["--method-options", '{"alhpa": 3}'], "The method icm has no option 'alhpa': did you mean 'alpha'?"),
        (["--method-options", '{"alpha": -1}'], "`alpha` must be a number above 0, got -1"),
        (["--model", "/no/folder"], "The folder '/no/folder' does not exist"),
        (["--claim-column", "clam"], "has no column 'clam'; it has question, claim, label"),
        (["--clamp", "17"], "clamp=17 labels were asked for, but 16"),
        (["--clamp", "known"], "has no column 'known'"),
        (["--template", "{claim} "], "ends with a blank"),
        (["--seeds", "0", "0"], "--seeds must be different"),
        (["--format", "preference", "--true-label", "Yes"], "set question_column, claim_column and true_label"),
        (["--push-to-hub", "a/b/c"], "Repo id must be"),
        (["--label-names", "True"], "needs two or more labels"),
        (["--clamp", "label", "--group-rule", "all_equal"], "group 'Is 0 even.' contradict its rule"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(run, capsys, flags, message):
    assert re.search(message, refused(run(*flags), capsys))


@pytest.mark.parametrize(
    ("flags", "message", "loaded"),
    [
        (["--max-tokens", "8"], "Item 0 has a prompt of .* at most 7 fit the model. Shorten it or leave it out", True),
        (["--label-words", " zzq", " zzy"], "' zzq' and ' zzy' begin with the same token", False),
        (["--label-words", " zzq", " zzy", "--dry-run"], "' zzq' and ' zzy' begin with the same token", False),
    ],
)
def test_what_the_model_cannot_read_is_refused_and_leaves_no_run_behind(
    data, tmp_path, tiny, capsys, flags, message, loaded
):
    command = ["label", data, "--model", tiny["llama"], "--method", "zero_shot", "--output-dir", str(tmp_path / "run")]
    assert re.search(message, refused(cli.main([*command, *flags]), capsys, loaded))
    assert cli.main(command) == 0


def test_an_empty_file_is_refused(run, tmp_path, capsys):
    (tmp_path / "none.jsonl").write_text("")
    assert "none.jsonl is empty" in refused(run(source=str(tmp_path / "none.jsonl")), capsys)


def test_labels_that_are_all_one_value_are_written_without_pairs(run, tmp_path, caplog):
    path = tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps(row | {"label": 1}) + "\n" for row in ROWS))
    assert run("--method", "zero_shot", "--clamp", "label", "--format", "sft", "preference", source=str(path)) == 0
    assert set(labels(run.folder)) == {"True"} and not (run.folder / "preference.jsonl").exists()
    assert "every gold label is True" in caplog.text


def test_a_missing_file_and_a_wrong_command_are_refused(run, capsys):
    assert "There is no file none.jsonl" in refused(run(source="none.jsonl"), capsys)
    assert "Unrecognized options: lable" in refused(cli.main(["lable"]), capsys)


def test_a_folder_with_a_run_is_not_overwritten(run, capsys):
    assert run(*BOOTSTRAP) == 0 and capsys.readouterr()
    before = (run.folder / "labels.jsonl").read_text()
    assert "add --resume" in refused(run("--method", "gibbs"), capsys)
    message = "run with other settings: method was 'bootstrap' and is 'gibbs'"
    assert message in refused(run("--method", "gibbs", "--resume"), capsys)
    assert (run.folder / "labels.jsonl").read_text() == before


def test_changed_data_is_noticed(run, data, capsys):
    assert run(*BOOTSTRAP) == 0 and capsys.readouterr()
    Path(data).write_text(Path(data).read_text().replace("even", "odd"))
    assert "claims was" in refused(run(*BOOTSTRAP, "--resume"), capsys)


# Help


def test_the_command_is_registered():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert EntryPoint("pst-rl", project["scripts"]["pst-rl"], "console_scripts").load() is cli.main


def test_help_names_the_options_and_loads_no_model_library():
    heavy = "[m for m in ('torch', 'transformers', 'datasets') if m in sys.modules]"
    code = f"import sys; from pst_rl.cli.main import main; main(['label', '--help']); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("[]\n") and "--group-rule" in done.stdout, done.stderr
