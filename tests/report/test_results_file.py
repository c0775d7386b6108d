"""Three commands write a `results.json`: each file says whose it is, and no reader takes one for another."""

import json
from itertools import product

import pytest

from pst_rl.benchmarks.model import LanguageModel
from pst_rl.cli import main as cli
from pst_rl.report import PeerResult, RunResults, VoteResult, write_results
from pst_rl.report.results import read_results
from pst_rl.report.results_file import FILE, KINDS, VERSION, WrongKind, read_results_file, write_results_file
from pst_rl.report.run import read_run

RUN = RunResults({"a": PeerResult(0.1, 0.2)}, VoteResult(0.3, 0.4), VoteResult(), dataset="tiny", n_test=5, seed=1)
MEASURED = {"questions": ["q"], "scores": {}, "peers": {"a": {}}}
COMMANDS = {
    "training": lambda folder: ["report", folder],
    "evaluation": lambda folder: ["eval", "tiny", "--compare", folder],
    "gap": lambda folder: ["gv-gap", "tiny", "--compare", folder],
}
PAIRS = [(made, asked) for made, asked in product(KINDS, KINDS) if made != asked]


def write(kind, folder):
    return write_results(RUN, folder) if kind == "training" else write_results_file(folder, kind, MEASURED)


def without_kind(path):
    """The file as a version wrote it that knew no kinds."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in ("kind", "version")}))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is_and_is_read_from_its_file_or_folder(kind, tmp_path):
    path = write(kind, tmp_path / "new")
    content = json.loads(path.read_text())
    assert path.name == FILE and list(content.items())[:2] == [("kind", kind), ("version", VERSION)]
    assert read_results_file(path, kind) == read_results_file(path.parent, kind) == content


@pytest.mark.parametrize("made, asked", PAIRS)
def test_a_file_of_another_kind_is_refused_with_what_it_is_and_what_to_use(made, asked, tmp_path):
    path = write(made, tmp_path)
    with pytest.raises(WrongKind) as refused:
        read_results_file(path, asked)
    said = str(refused.value)
    for part in (path, KINDS[made].what, KINDS[made].made_by, KINDS[made].read_by, KINDS[asked].made_by):
        assert str(part) in said
    assert "\n" not in said


@pytest.mark.parametrize("made, asked", [(made, asked) for made, asked in PAIRS if asked != "training"])
def test_every_command_that_compares_refuses_the_others_files_in_one_line(made, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(LanguageModel, "load", None)
    write(made, tmp_path)
    assert cli.main(COMMANDS[asked](str(tmp_path))) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert f"holds {KINDS[made].what}, made by {KINDS[made].made_by}" in said and KINDS[asked].made_by in said


@pytest.mark.parametrize("made", ["evaluation", "gap"])
def test_the_page_takes_every_kind(made, tmp_path):
    write(made, tmp_path)
    assert cli.main(COMMANDS["training"](str(tmp_path))) == 0


def test_the_page_of_a_run_names_the_foreign_file_in_its_folder(tmp_path):
    write("evaluation", tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 1, "log_history": [{"step": 1}]}')
    run = read_run(tmp_path)
    assert run.results is None and any("holds an evaluation, made by pst-rl eval" in part for part in run.missing)


def test_a_run_of_an_older_version_is_still_read(tmp_path):
    assert read_results(without_kind(write_results(RUN, tmp_path))) == RUN


@pytest.mark.parametrize("asked", ["evaluation", "gap"])
def test_a_run_of_an_older_version_is_known_as_a_run(asked, tmp_path):
    path = without_kind(write_results(RUN, tmp_path))
    with pytest.raises(WrongKind, match="holds a training run, made by pst-rl train"):
        read_results_file(path, asked)


@pytest.mark.parametrize("asked", KINDS)
def test_other_results_of_an_older_version_are_to_be_written_again(asked, tmp_path):
    path = without_kind(write("evaluation", tmp_path))
    with pytest.raises(WrongKind, match=f"does not say which command made it.* again with {KINDS[asked].made_by}"):
        read_results_file(path, asked)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is no JSON"),
        ("[]", "has no results of pst-rl eval"),
        ('{"kind": "dream"}', "holds 'dream'. What is needed here is an evaluation"),
        ('{"kind": ["evaluation"]}', "holds \\['evaluation'\\]"),
        ('{"kind": "evaluation", "version": 2}', "has version 2, and this pst_rl reads 1"),
        ('{"kind": "evaluation", "version": 1, "peers": {}, "scores": {}}', "lacks one of questions, scores, peers"),
        ('{"kind": "evaluation", "questions": [], "peers": [], "scores": {}}', "lacks one of questions"),
    ],
)
def test_what_is_no_such_file_is_refused(content, message, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_results_file(tmp_path, "evaluation")


def test_where_there_is_no_file_the_command_that_makes_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results in .*: give the results.json of an earlier pst-rl gv-gap"):
        read_results_file(tmp_path, "gap")
