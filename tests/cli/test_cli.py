"""What all subcommands of `pst-rl` have in common: help, files of options, completion, exit statuses."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pst_rl.cli import main as cli
from pst_rl.cli.config_file import with_file
from pst_rl.cli.exit_status import Terminated, sigterm_raises

# A command line of each subcommand that parses, what in it is a file that is not there, and the class that runs it.
LINES = {
    "train": (["--dataset", "none.jsonl"], cli.TrainRun),
    "answers": (["none.jsonl"], cli.Answers),
    "label": (["none.jsonl", "--model", "none/"], cli.Label),
    "eval": (["tiny", "--peers", "./none"], cli.Eval),
    "gv-gap": (["tiny", "--peers", "./none"], cli.GVGap),
    "report": (["none"], cli.Report),
    "peers": (["./none"], cli.Peers),
    "push": (["none"], cli.Push),
    "sweep": (["none.yaml"], cli.Sweep),
    "merge": (["--peers", "./none"], cli.Merge),
    "completion": (["bash"], cli.Completion),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one_line(capsys):
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err, said.err
    return said.err


def test_every_subcommand_is_tested_here():
    assert set(LINES) == set(cli.COMMANDS)


# What goes wrong


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_wrong_flag_is_named(name, capsys):
    assert cli.main([name, *LINES[name][0], "--wrogn-flag"]) == 2
    assert re.match(r"error: Unrecognized options: --wrogn-flag", one_line(capsys))


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "completion"])
def test_a_wrong_file_is_named(name, capsys):
    assert cli.main([name, *LINES[name][0]]) == 2
    assert re.match(r"error: .*none", one_line(capsys))


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize(("interruption", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interruption_says_how_to_go_on(name, interruption, status, monkeypatch, capsys):
    words, command = LINES[name]

    def interrupted(self):
        raise interruption

    monkeypatch.setattr(command, "run", interrupted)
    assert cli.main([name, *words]) == status
    assert f"Resume with: pst-rl {name} {shlex.join(words)}" in one_line(capsys)


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize(
    ("error", "status"), [(OSError(errno.ENOSPC, "No space left on device"), 74), (PermissionError("not yours"), 2)]
)
def test_what_cannot_be_written_is_said(name, error, status, monkeypatch, capsys):
    words, command = LINES[name]

    def full(self):
        raise error

    monkeypatch.setattr(command, "run", full)
    assert cli.main([name, *words]) == status
    assert str(error) in one_line(capsys)


def test_ctrl_c_ends_a_process_with_130():
    assert _ended_by(signal.SIGINT) == (130, "Interrupted. Resume with: pst-rl report x\n")


def test_sigterm_ends_a_process_with_143():
    assert _ended_by(signal.SIGTERM) == (143, "Stopped by SIGTERM. Resume with: pst-rl report x\n")


def _ended_by(number):
    code = """if True:
        import signal, sys
        from pst_rl.cli import main as cli
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        cli.Report.run = lambda self: print("begun", flush=True) or signal.pause()
        sys.exit(cli.main(["report", "x"]))
    """
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    return process.wait(timeout=60), process.stderr.read()


def test_a_reader_that_goes_away_is_no_error():
    code = "import sys; from pst_rl.cli.main import main; sys.exit(main(['completion', 'bash']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, "")


def test_sigterm_still_ends_a_forked_child():
    with sigterm_raises():
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize(("argv", "said"), [([], "Expected one of"), (["lable"], "Unrecognized options: lable")])
def test_no_command_and_an_unknown_one_are_refused(argv, said, capsys):
    assert cli.main(argv) == 2
    assert said in one_line(capsys)


# Help


def test_help_lists_every_command_and_imports_no_model_library():
    code = "import sys; from pst_rl.cli.main import main; main(['--help']); print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "transformers", "trl", "datasets", "numpy"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("[]\n"), done.stdout
    listed = done.stdout[done.stdout.index("subcommands") :].split()
    assert set(cli.COMMANDS) <= set(listed)


# A file of options


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        (
            "label",
            {"data": "a.jsonl", "model": "m", "method-options": {"steps": 3}},
            {"method_options": '{"steps": 3}'},
        ),
        ("label", {"data": "a.jsonl", "model": "m", "format": ["sft"], "private": True}, {"private": True}),
        ("eval", {"benchmark": "gsm8k", "samples": 4, "collaborative": False}, {"benchmark": "gsm8k", "samples": 4}),
        ("gv-gap", {"benchmark": "tiny", "judges": ["self"], "threshold": None}, {"judges": ["self"]}),
        ("report", {"runs": ["a", "b"], "questions": 3}, {"runs": (Path("a"), Path("b")), "questions": 3}),
        ("peers", {"peers": ["a", "b"], "gpu_memory": 24}, {"peers": ("a", "b"), "gpu_memory": 24.0}),
        ("push", {"run_folder": "runs/a", "peers": ["x"]}, {"run_folder": Path("runs/a"), "peers": ("x",)}),
        ("answers", {"file": "a.jsonl", "column": "text", "limit": 3}, {"file": Path("a.jsonl"), "limit": 3}),
        ("completion", {"shell": "fish"}, {"shell": "fish"}),
    ],
)
@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_a_file_sets_options(name, options, wanted, ending):
    Path(f"o.{ending}").write_text(json.dumps(options))
    command = cli.parse([name, "--config", f"o.{ending}"])
    assert {option: getattr(command, option) for option in wanted} == wanted


def test_flags_and_arguments_override_the_file():
    Path("o.yaml").write_text("benchmark: gsm8k\nsamples: 4\npeers: [a, b]\ncollaborative: true\n")
    command = cli.parse(["eval", "tiny", "--config=o.yaml", "--samples", "2", "--peers", "c", "--no-collaborative"])
    assert (command.benchmark, command.samples, command.peers, command.collaborative) == ("tiny", 2, ["c"], False)


def test_what_the_file_leaves_out_is_still_required(capsys):
    Path("o.yaml").write_text("data: a.jsonl\n")
    assert cli.main(["label", "--config", "o.yaml"]) == 2
    assert "Missing from pst-rl label: --model" in one_line(capsys)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_of_a_command_may_stand_in_a_file(name):
    with_file(cli.COMMANDS[name], None)
    Path("o.yaml").write_text("outptu_dir: x\n")
    with pytest.raises(ValueError, match="Unknown option 'outptu_dir' in o.yaml"):
        with_file(cli.COMMANDS[name], "o.yaml")


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("none.yaml", None, "'none.yaml' does not exist"),
        ("o.yaml", "a: [\nb: 3", "o.yaml is not valid YAML"),
        ("o.json", "{'a': 3}", "o.json is not valid JSON"),
        ("o.yaml", "- a\n- b\n", "must hold option names and values"),
        ("o.yaml", "\x00\x01", "o.yaml is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(name, file, content, said, capsys):
    if content is not None:
        Path(file).write_text(content)
    assert cli.main([name, "--config", file]) == 2
    assert said in one_line(capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("smaples: 3", "Unknown option 'smaples' in o.yaml; did you mean 'samples'?"),
        ("collaborative: 3", "'collaborative' in o.yaml must be true or false, got 3"),
        ("samples: many", "--samples: expected a whole number, got 'many'."),
    ],
)
def test_a_wrong_option_in_a_file_is_said(content, said, capsys):
    Path("o.yaml").write_text(content)
    assert cli.main(["eval", "tiny", "--config", "o.yaml"]) == 2
    assert said in one_line(capsys)


# Completion


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "pst-rl.bash"
    code = (
        "import sys; from pst_rl.cli.main import main; main(['completion', 'bash']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path.write_text(done.stdout)
    return path


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["gv"], {"gv-gap"}),
        (["train", "--num-gen"], {"--num-generations", "--num-generations-eval"}),
        (["train", "--objective", "w"], {"weighted_sft"}),
        (["train", "--no-use-p"], {"--no-use-peft"}),
        (["train", "--dry"], {"--dry-run"}),
        (["train", "--prompt"], {"--prompt-template"}),
        (["eval", "--prompt"], {"--prompt-template"}),
        (["label", "--group-r"], {"--group-rule"}),
        (["eval", "tiny", "--style", "b"], {"boxed"}),
        (["gv-gap", "--sco"], {"--scope"}),
        (["report", "--que"], {"--questions"}),
        (["answers", "--style", "h"], {"hash"}),
        (["peers", "--gpu"], {"--gpu-memory"}),
        (["push", "--repo"], {"--repo-prefix"}),
    ],
)
def test_bash_completes(script, words, wanted):
    line = shlex.join(["pst-rl", *words])
    asked = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
    done = subprocess.run(
        ["bash", "-c", asked + '$(complete -p pst-rl | sed "s/.*-F //; s/ .*//"); printf "%s\\n" "${COMPREPLY[@]}"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "num-generations" in capsys.readouterr().out


def test_completion_knows_every_option_of_training():
    from dataclasses import fields

    from trl import ModelConfig

    from pst_rl import PSTConfig
    from pst_rl.cli.shell_completion import train_options

    known = {f.name for f in fields(train_options())}
    assert {f.name for part in (PSTConfig, ModelConfig) for f in fields(part) if f.init} <= known


# The documentation


def test_every_command_and_exit_status_is_documented():
    from pst_rl.cli import exit_status

    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert all(f"pst-rl {name}" in text for name in cli.COMMANDS)
    statuses = [value for name, value in vars(exit_status).items() if name.isupper() and isinstance(value, int)]
    assert all(re.search(rf"^\| {status} \|", text, re.MULTILINE) for status in statuses)
