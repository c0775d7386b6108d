"""What of a run goes to the Hub: which folders are whole, which of their files, under which names."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # HTTPError: of its HTTP client
from huggingface_hub.utils import validate_repo_id

from pst_rl.hub.cards import HUB_TOKEN, without_secrets
from pst_rl.loop.checkpoint_files import checkpoints_of, fault_of, newest_complete
from pst_rl.loop.identity import IDENTITY
from pst_rl.loop.repositories import NOT_PUSHED, default_repository

MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".md")
CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """One peer's repository and what goes there.

    Attributes:
        repo: `owner/name`, or only the name where the owner is not known.
        files: By name, the file, or the text that is sent instead of it.
        left_out: Files of the folder that stay here.
    """

    repo: str
    files: dict[str, Path | bytes]
    left_out: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        return {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}


# ---- which folders ----


def source_folder(run: Path, checkpoint: str | None) -> Path:
    """The folder with the peers' models: the run's own, or that of a checkpoint that is whole.

    Args:
        checkpoint: A step, `"last"` (the newest whole one) or `"best"` (the trainer's best); `None` for the models
            saved at the end.

    Raises:
        ValueError: There is no such run or checkpoint, or it is damaged.
    """
    if not run.is_dir():
        raise ValueError(f"There is no run folder {str(run)!r}.")
    if checkpoint is None:
        return run
    there = checkpoints_of(run)
    steps = ", ".join(folder.name.removeprefix("checkpoint-") for folder in reversed(there))
    if not there:
        raise ValueError(
            f"{str(run)!r} has no checkpoint; leave --checkpoint out to push the models saved at the end."
        )
    if checkpoint == "last":
        folder, skipped = newest_complete(run)
        if folder is None:
            raise ValueError(f"No checkpoint in {str(run)!r} is complete: {'; '.join(skipped.values())}.")
        return folder
    if checkpoint == "best":
        folder = best_checkpoint(there[0])
    elif checkpoint.isdigit():
        folder = run / f"checkpoint-{checkpoint}"
    else:
        raise ValueError(f"--checkpoint is a step, last or best, not {checkpoint!r}; there are the steps {steps}.")
    if not folder.is_dir():
        raise ValueError(f"There is no {folder.name} in {str(run)!r}; there are the steps {steps}.")
    if (fault := fault_of(folder)) is not None:
        raise ValueError(f"{folder} is not pushed: {fault}. Use --checkpoint last for the newest one that is whole.")
    return folder


def best_checkpoint(newest: Path) -> Path:
    """The best checkpoint of a run, as its newest one knows it; the folder may have been moved since."""
    try:
        best = json.loads((newest / "trainer_state.json").read_text())["best_model_checkpoint"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{newest} does not say which checkpoint is best: its trainer_state.json is bad.") from error
    if best is None:
        raise ValueError(f"{newest} names no best checkpoint; give a step, or last.")
    return newest.with_name(Path(best).name)


def trained_peers(run: Path, folder: Path, wanted: Sequence[str] | None = None) -> list[str]:
    """The peers to push, each with a whole model in `folder`.

    Raises:
        ValueError: There are no models, a wanted peer has none, a trained peer is missing, or a model is incomplete.
    """
    there = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and is_model(path)]
    if not there:
        ways = (
            "push a checkpoint with --checkpoint last" if checkpoints_of(run) else "is it the output folder of a run?"
        )
        raise ValueError(f"{str(folder)!r} holds no trained peers: {ways}")
    if unknown := sorted(set(wanted or ()) - set(there)):
        raise ValueError(f"No trained peer is called {', '.join(unknown)}; {folder.name} holds {', '.join(there)}.")
    if missing := sorted(set(expected_peers(run)) - set(there)) if wanted is None else []:
        raise ValueError(
            f"{str(folder)!r} is incomplete: {', '.join(missing)} was trained but is not there. Push a checkpoint "
            f"(--checkpoint last), or only some peers (--peers {' '.join(there)})."
        )
    names = [name for name in there if wanted is None or name in wanted]
    for name in names:
        if (fault := model_fault(folder / name)) is not None:
            raise ValueError(f"{folder / name} is not pushed: {fault}. Push a checkpoint (--checkpoint last) instead.")
    return names


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model or an adapter."""
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def expected_peers(run: Path) -> list[str]:
    """The peers that were trained, as the newest checkpoint says; none where there is none."""
    for folder in checkpoints_of(run):
        if (folder / IDENTITY).is_file():
            peers = json.loads((folder / IDENTITY).read_text())["peers"]
            return [name for name, peer in peers.items() if peer.get("trainable", True)]
    return []


def model_fault(folder: Path) -> str | None:
    """Why a model's folder is not whole; `None` if it is. Saving writes the card last, so it must be there."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        return "it has no safetensors file"
    for path in weights:
        if (whole := safetensors_length(path)) != path.stat().st_size:
            return f"{path.name} is cut off" if whole is not None else f"{path.name} cannot be read"
    for index in folder.glob("*.safetensors.index.json"):
        needed = set(json.loads(index.read_text())["weight_map"].values())
        if missing := sorted(needed - {path.name for path in weights}):
            return f"{missing[0]} is missing"
    for name in ("tokenizer_config.json", CARD):
        if not (folder / name).is_file():
            return f"{name} is missing, so its save was interrupted"
    return None


def safetensors_length(path: Path) -> int | None:
    """The bytes a safetensors file should have by its own header; `None` if that cannot be read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= path.stat().st_size:
            return None
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return None
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + length + max(ends, default=0)


# ---- which files ----


def prepare(folder: Path, repo: str) -> Upload:
    """The files of a model, with no folder and no token of this machine in them.

    The card gets the repository's name. Configurations lose the folders before a local model's name; a token in the
    card is taken out, and one in any other text is refused.

    Raises:
        ValueError: The repository cannot be called so, or a file holds a token.
    """
    validate_repo_id(repo)
    files: dict[str, Path | bytes] = {}
    left_out = []
    for path in sorted(folder.iterdir()):
        name = path.name
        hidden = name.startswith(".") or any(fnmatch.fnmatch(name, pattern) for pattern in NOT_PUSHED)
        if not path.is_file() or hidden or path.suffix not in MODEL_FILES:
            left_out.append(name)
        elif name == CARD:
            files[name] = named_card(path.read_text(), repo).encode()
        elif name.endswith("config.json"):
            files[name] = without_folders(path)
        else:
            files[name] = path
        if name in files and path.suffix != ".safetensors" and holds_token(files[name]):
            raise ValueError(f"{path} holds a Hub token and is not pushed: remove the token, and revoke it.")
    return Upload(repo, files, tuple(left_out))


def named_card(text: str, repo: str) -> str:
    """A model card under the name of the repository it goes to, without secrets."""
    name = repo.split("/")[-1]
    text = re.sub(r"^# Model Card for \S+", f"# Model Card for {name}", text, count=1, flags=re.MULTILINE)
    text = re.sub(r'(pipeline\([^\n]*model=)"[^"\n]*"', rf'\1"{repo}"', text, count=1)
    text = text.replace(
        "`adapter_config.json` still names that folder", "`adapter_config.json` has only that folder's name"
    )
    return without_secrets(text)


def without_folders(path: Path) -> Path | bytes:
    """A configuration in which local folders are cut to their last part; the file itself where there are none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON and is not pushed.") from error
    cut = _cut_folders(content)
    return path if cut == content else json.dumps(cut, indent=2).encode()


def _cut_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut_folders(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"(/|~/|\.{1,2}/|[A-Za-z]:[/\\])[^\s{}<>|]+", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def holds_token(file: Path | bytes) -> bool:
    """Whether a file holds an access token of the Hub, the one in use or any other."""
    text = file.decode() if isinstance(file, bytes) else file.read_text(errors="replace")
    own = get_token()
    return bool(HUB_TOKEN.search(text)) or (own is not None and own in text)


# ---- where to ----


def repository_prefix(run: Path, given: str | None, offline: bool = False) -> str:
    """`owner/name`, to which each peer's name is added.

    Args:
        given: As the user wants it; without an owner it is the token's.
        offline: Leave the owner out rather than ask the Hub.

    Raises:
        ValueError: No token, or a wrong one.
    """
    prefix = given or default_repository(str(run))
    if not offline and get_token() is None:
        raise ValueError("There is no Hub token: log in with `hf auth login`, or set HF_TOKEN.")
    if "/" in prefix or offline:
        return prefix
    return f"{asking(None, HfApi().whoami)['name']}/{prefix}"


def push_peer(upload: Upload, private: bool, message: str) -> str:
    """Creates the repository where it is missing, and uploads in one commit what is not there yet.

    Returns:
        The repository's address.

    Raises:
        ValueError: The token may not write there, the repository is public but was to be private, or the Hub cannot
            be reached.
    """
    api = HfApi()
    address = asking(upload.repo, api.create_repo, upload.repo, private=private or None, exist_ok=True)
    if private and not asking(upload.repo, api.model_info, upload.repo).private:
        raise ValueError(f"{upload.repo} is there already and public: make it private on its page, or choose another.")
    operations = [
        CommitOperationAdd(name, file if isinstance(file, bytes) else os.fspath(file))
        for name, file in upload.files.items()
    ]
    asking(upload.repo, api.create_commit, upload.repo, operations, commit_message=message)
    return str(address)


def asking(repo: str | None, call, *args, **kwargs):
    """A call to the Hub, whose refusals say what to do."""
    try:
        return call(*args, **kwargs)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            what = f"write to {repo!r}" if repo else "log in"
            raise ValueError(
                f"The Hub does not let you {what}: log in with `hf auth login`, use a token that may write there "
                "(HF_TOKEN), or choose another --repo-prefix."
            ) from error
        raise ValueError(
            f"The Hub answered: {str(error).strip().splitlines()[0]} Run the same command again to go on."
        ) from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise ValueError(f"The Hub cannot be reached ({error}). Run the same command again to go on.") from error
