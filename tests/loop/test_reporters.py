"""Where logs go: a reporter that is not there is refused in one line, before a model is loaded."""

import pytest

from pst_rl.cli import main as cli
from pst_rl.loop import reporters
from pst_rl.loop.reporters import check_reporters


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(reporters, "get_available_reporting_integrations", lambda: ["tensorboard"])


@pytest.mark.parametrize("wanted", [None, [], "none", ["tensorboard"], "tensorboard", ["flyte"], "all"])
def test_what_is_there_is_taken(installed, wanted):
    check_reporters(wanted)


def test_what_is_not_installed_is_refused_with_what_to_install_and_to_choose(installed):
    with pytest.raises(ValueError, match="'wandb', but .*pip install wandb.*choose none or tensorboard") as caught:
        check_reporters(["tensorboard", "wandb"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "hint"), [("wanbd", "did you mean 'wandb'"), ("?", "choose from none, azure_ml")])
def test_what_nobody_knows_is_refused_with_a_hint(installed, name, hint):
    with pytest.raises(ValueError, match=hint):
        check_reporters(name)


def test_the_command_and_the_trainer_refuse_it(installed, trainer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pst_rl.loop.joint_trainer.PeerTrainer", None)
    assert cli.main(["train", "--report-to", "wandb"]) == cli.main(["train", "--report-to", "wandb", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == error.count("error: report_to='wandb'") == 2
    with pytest.raises(ValueError, match="pip install wandb"):
        trainer(report_to=["wandb"])
