import pytest

from pst_rl.benchmarks.peer_set import find_peers
from pst_rl.peers.words import PeerWords, read_peers
from pst_rl.tiny import TINY_PEERS


def test_a_word_is_a_place_or_a_name_and_a_place():
    assert read_peers(["org/a", "b=org/c"]) == [PeerWords("org/a"), PeerWords("org/c", "b")]


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1").mkdir()
    assert read_peers(["lr=1"]) == [PeerWords("lr=1")]


def test_json_and_mappings_may_have_options():
    wanted = [PeerWords("org/a", "a", {"trainable": False}), PeerWords("org/b", "b")]
    assert read_peers({"a": {"model": "org/a", "trainable": False}, "b": "org/b"}) == wanted
    assert read_peers(['{"a": {"model": "org/a", "trainable": false}, "b": "org/b"}']) == wanted


@pytest.mark.parametrize(
    ("peers", "said"),
    [
        ({"a": {"model": "x", "trainble": False}}, "did you mean 'trainable'"),
        ({"a": {"dtype": "bfloat16"}}, "with a `model`"),
        ({"a": 3}, "with a `model`"),
        (["{a: b"], "neither names nor JSON"),
    ],
)
def test_what_is_no_peer_is_refused_in_one_line(peers, said):
    with pytest.raises(ValueError, match=said):
        read_peers(peers)


def test_models_to_measure_may_be_named():
    folder = str(TINY_PEERS["llama"])
    assert find_peers([f"one={folder}", f"two={folder}"]) == {"one": folder, "two": folder}
    with pytest.raises(ValueError, match="NAME="):
        find_peers([folder, folder])
