"""NEFTune for several peers: noise on the embeddings in the update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers.integrations.neftune import activate_neftune, deactivate_neftune

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer


@contextmanager
def noisy_embeddings(peers: Iterable[PeerTrainer], alpha: float | None) -> Iterator[None]:
    """Inside, embeddings of these peers have uniform noise in training mode, at most alpha / sqrt(length x width).

    transformers would look for the embeddings of one model; here each trained peer gets the same hook.
    """
    if alpha is None:
        yield
        return
    hooked = [(peer, activate_neftune(peer.model, alpha, peer.accelerator)) for peer in peers]
    try:
        yield
    finally:
        for peer, handle in hooked:
            deactivate_neftune(peer.model, handle, peer.accelerator)
