"""Whether a name stands for something on this machine or on the Hub, before minutes go by in looking for it."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

OWN_FOLDER = "runs"  # where commands write by default
PATIENCE = 5.0  # seconds, for the one question to the Hub; our choice
Kind = Literal["model", "dataset"]
_CACHED = {"model": ("config.json", "adapter_config.json"), "dataset": ("README.md",)}


def check_place(name: str | os.PathLike, of: str = "", revision: str | None = None, kind: Kind = "model") -> None:
    """Refuses at once a name of something that is nowhere, where it is seen without waiting.

        ./x, ../x, /x, ~/x, a/b/c, runs/x     a folder here: refused if there is none
        a/b, and there is a folder a here     either: the Hub is asked once, without further tries
        everything else                       whoever loads it says so

    Args:
        name: A Hub id, or a path without the name of a peer before it.
        of: Words behind the name in the message, such as " of peer 'a'".
        revision: Of the repository.
        kind: Of repository.

    Raises:
        ValueError: There is no such folder, and it cannot be a Hub id or is not on the Hub.
    """
    path = os.fspath(name)
    first, slash, _ = path.partition("/")
    missing = f"The {'folder' if kind == 'model' else 'file'} {path!r}{of} does not exist"
    if os.path.exists(path) or not (slash or path.startswith((".", "~"))):
        return
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ValueError(f"{missing}{_near(path)}")
    if (first != OWN_FOLDER and not os.path.isdir(first)) or _is_cached(path, revision, kind):
        return
    if first == OWN_FOLDER:
        raise ValueError(f"{missing}{_near(path)}")
    if not _on_hub(path, revision, kind):
        raise ValueError(
            f"{missing}{_near(path)} Nor is there a {kind} of that name on the Hub, as "
            "far as it can be reached now: check the spelling, the connection, and `hf auth login`."
        )


def _near(path: str) -> str:
    """The end of a sentence: what lies beside it under a similar name."""
    folder = Path(path).expanduser().parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(Path(path).name, names, n=1)
    return f"; did you mean {os.path.join(os.path.dirname(path), near[0])!r}?" if near else "."


def _is_cached(repo: str, revision: str | None, kind: Kind) -> bool:
    found = (try_to_load_from_cache(repo, file, revision=revision, repo_type=kind) for file in _CACHED[kind])
    return any(isinstance(file, str) for file in found)


def _on_hub(repo: str, revision: str | None, kind: Kind) -> bool:
    """Whether the Hub has it; no, too, where it cannot be asked."""
    try:
        HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        return isinstance(error, GatedRepoError)  # who loads it says what to do
    except HfHubHTTPError:  # there is a Hub, with other things to say: they are said to who loads it
        return True
    except Exception:  # no connection, in the words of whatever lies below the Hub's client
        return False
    return True
