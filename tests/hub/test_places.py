"""Names that can only be something here are refused at once; the Hub is asked where a name may be either."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

from pst_rl.cli.options import TrainOptions, load_splits
from pst_rl.hub.places import check_place
from pst_rl.peers.spec import PeerSpec, check_spec
from pst_rl.questions.sources import load_hub
from pst_rl.scoring.juror import Juror


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the Hub was asked for, in an empty folder; a function in it is what it answers."""
    found = {"names": [], "answer": lambda: None}

    def repo_info(self, repo_id, **_):
        found["names"].append(repo_id)
        return found["answer"]()

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.parametrize("name", ["runs/nope", "./nope", "../nope", "/no/nope", "~/nope", "a/b/nope"])
def test_what_can_only_be_a_folder_is_refused_at_once(asked, name):
    with pytest.raises(ValueError, match=f"The folder '{name}' of peer 'a' does not exist"):
        check_spec(PeerSpec(name, "a"))
    with pytest.raises(ValueError, match="does not exist"):
        Juror(name)
    with pytest.raises(ValueError, match="does not exist"):
        load_splits(TrainOptions(peers=[f"a={name}"], dataset="gsm8k"))  # before the questions are fetched
    assert not asked["names"]


def test_the_nearest_name_beside_it_is_said(asked, tmp_path):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    with pytest.raises(ValueError, match="did you mean 'runs/demo'"):
        check_place("runs/demos")


@pytest.mark.parametrize("name", ["gpt2", "org/model"])
def test_a_name_of_the_hub_is_left_to_who_loads_it(asked, name):
    check_place(name)
    assert not asked["names"]


def test_where_it_may_be_either_the_hub_is_asked_once(asked, tmp_path):
    (tmp_path / "org").mkdir()
    check_place("org/model")
    assert asked["names"] == ["org/model"]


NOT_THERE = RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # it is made of a response otherwise


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), OSError("no connection"), NOT_THERE])
def test_neither_here_nor_on_the_hub_says_both(asked, tmp_path, error):
    (tmp_path / "org").mkdir()

    def fail():
        raise error

    asked["answer"] = fail
    with pytest.raises(ValueError, match="'org/model' does not exist.*Nor is there a model of that name on the Hub"):
        check_spec(PeerSpec("org/model"))
    with pytest.raises(ValueError, match="file 'org/rows' does not exist.*Nor is there a dataset"):
        load_hub("org/rows", None)
    assert asked["names"] == ["org/model", "org/rows"]
