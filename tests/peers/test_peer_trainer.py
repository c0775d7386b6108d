"""One peer: what it says when it is asked for an update too early."""

from types import SimpleNamespace

import pytest

from pst_rl.peers.peer_trainer import PeerTrainer


def test_a_peer_without_an_update_says_so():
    peer = SimpleNamespace(spec=SimpleNamespace(name="a"), update=None)
    with pytest.raises(RuntimeError, match="Peer 'a' has no update"):
        PeerTrainer.the_update.fget(peer)
    peer.update = object()
    assert PeerTrainer.the_update.fget(peer) is peer.update
