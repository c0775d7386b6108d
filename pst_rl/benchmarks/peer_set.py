"""The models to measure: names and places, and loading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def find_peers(peers: Sequence[str]) -> dict[str, str]:
    """Names and places of models: of `"tiny"`, of a folder with a folder for each peer, of Hub ids and folders.

    Raises:
        ValueError: For a place where no model is, a folder of peers among other models, or two of one name.
    """
    from pst_rl.peers.spec import PeerSpec, check_spec, default_name
    from pst_rl.peers.words import read_peers
    from pst_rl.tiny import TINY_PEERS

    if not peers:
        raise ValueError("No peers were given: name at least one model.")
    if list(peers) == ["tiny"]:
        return {name: str(folder) for name, folder in TINY_PEERS.items()}
    if len(peers) == 1 and (found := peers_in(Path(peers[0]))):
        return found
    named: dict[str, str] = {}
    for peer in read_peers(peers):
        path, name = peer.model, peer.name or default_name(peer.model)
        if name in named:
            raise ValueError(
                f"Two models are called {name!r}: {named[name]} and {path}. Name one of them: NAME={path}."
            )
        check_spec(PeerSpec(path))
        named[name] = path
    return named


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def peers_in(folder: Path) -> dict[str, str]:
    """Names and places of a trained set: one folder a peer, checkpoints left out; nothing if it is a model itself."""
    if not folder.is_dir() or _is_model(folder):
        return {}
    inside = [f for f in sorted(folder.iterdir()) if f.is_dir() and not f.name.startswith("checkpoint-")]
    return {f.name: str(f) for f in inside if _is_model(f)}
