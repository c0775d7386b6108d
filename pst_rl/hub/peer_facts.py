"""What there is to know of a peer before it is loaded: its folder or repository, configuration and tokenizer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from jinja2.exceptions import TemplateError

from pst_rl.files import edges_digest
from pst_rl.loop.identity import weights_fingerprint
from pst_rl.memory.model_shape import ModelShape
from pst_rl.peers.kinship import TOGETHER, Kin, alike
from pst_rl.peers.prompts import PromptFormat
from pst_rl.peers.reader import load_tokenizer
from pst_rl.peers.sources import GgufFile, gguf_on_hub, gguf_path, is_gguf, read_config
from pst_rl.peers.spec import PeerSpec, check_spec, default_name

# Everything of a repository that loading a model reads, and no pickles.
SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "README.md")
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class PeerFacts:
    """One peer, inspected; its weights are not read.

    Attributes:
        name, model: Name in logs and folders; Hub id, folder or GGUF file.
        shape: Sizes, of the base model where it is an adapter.
        dtype: Of the stored weights, as the configuration says; of a GGUF file the kind of its blocks.
        chat_template: Whether the tokenizer has one; `system_role`: whether it accepts a system message.
        tokenizer: Its class and, of a fast one, the kind of its model (BPE, Unigram, WordPiece).
        special_tokens: Token by role: bos, eos, pad.
        files: The safetensors files, or the GGUF file, with their bytes where they are known.
        missing: Those that are not on this machine.
        license: As the model card says; `None` if it does not.
        revision: Commit of the repository; a hash of the weights for a folder.
        notes: What training will do about something that is lacking.
        refusals: Why the peer cannot be trained as it is.
    """

    name: str
    model: str
    shape: ModelShape
    dtype: str | None
    chat_template: bool
    system_role: bool
    tokenizer: str
    special_tokens: dict[str, str | None]
    files: dict[str, int | None]
    missing: tuple[str, ...]
    license: str | None
    revision: str | None
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def inspect_peer(model: str, revision: str | None = None) -> PeerFacts:
    """Reads the small files of a model: nothing but its configuration, tokenizer and card is downloaded.

    Raises:
        ValueError: No such model, a gated one, no connection, no usable folder; the message says what to do.
    """
    check_spec(PeerSpec(model, revision=revision))
    there = _files_of(model, revision)
    try:
        shape = replace(ModelShape.of(there.place), name=model)
        dtype = there.kind or read_config(there.place).dtype
        tokenizer = load_tokenizer(there.place)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"Cannot read {model!r}: {str(error).strip().splitlines()[0]}") from error
    broken = None
    try:
        style = PromptFormat.of(tokenizer, "Question: {prompt}\nAnswer:")
    except TemplateError as error:
        broken = f"its chat template fails: {error}"
        style = PromptFormat(chat=True, system=True, base_template="")
    kind = type(tokenizer).__name__
    if tokenizer.is_fast:
        kind += f" ({type(tokenizer.backend_tokenizer.model).__name__})"
    facts = PeerFacts(
        name=default_name(model),
        model=model,
        shape=shape,
        dtype=str(dtype).removeprefix("torch.") if dtype is not None else None,
        chat_template=style.chat,
        system_role=style.system,
        tokenizer=kind,
        special_tokens={role: getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "pad")},
        files=there.files,
        missing=there.missing,
        license=there.license,
        revision=there.revision,
    )
    return replace(
        facts, notes=tuple(notes(facts)), refusals=(*refusals(facts, len(tokenizer)), *filter(None, [broken]))
    )


@dataclass(frozen=True)
class _Files:
    """A model's files: where they are, and what is known of them; `kind` is that of a GGUF file."""

    place: Path
    files: dict[str, int | None]
    missing: tuple[str, ...]
    license: str | None
    revision: str
    kind: str | None = None


def _files_of(model: str, revision: str | None) -> _Files:
    if is_gguf(model):
        if (there := gguf_on_hub(model)) is not None and not is_cached(*there, revision or "main"):
            raise ValueError(
                f"{model!r} is not on this machine, and what it is stands in the file itself: add --download, which "
                "fetches it."
            )
        file = GgufFile.read(gguf_path(model, revision))
        says = file.metadata.get("general.license")
        size: dict[str, int | None] = {file.path.name: file.path.stat().st_size}
        return _Files(file.path, size, (), says, edges_digest([file.path]), f"GGUF {file.kind}")
    if os.path.isdir(model):
        folder = Path(model)
        return _Files(folder, local_files(folder), (), license_of(folder / "README.md"), weights_fingerprint(folder))
    folder = Path(fetch(model, revision, weights=False))
    files = hub_files(model, folder)
    missing = tuple(name for name in files if not is_cached(model, name, folder.name))
    return _Files(folder, files, missing, license_of(folder / "README.md"), folder.name)


def notes(facts: PeerFacts):
    """What to know of a peer that can be trained as it is."""
    if facts.shape.adapter is not None:
        yield f"a LoRA adapter of rank {facts.shape.adapter[0]}, which is trained on; sizes are its base model's"
    if not facts.chat_template:
        yield "no chat template: prompted by base_template, and its responses end at stop strings"
    elif not facts.system_role:
        yield "no system role: system text goes into the user's message"
    if facts.special_tokens["pad"] is None and facts.special_tokens["eos"] is not None:
        yield "no pad token: TRL pads with the end-of-sequence token"


def refusals(facts: PeerFacts, words: int):
    """Why a model cannot be a peer; `words` is the number of its tokenizer's tokens."""
    if not facts.files:
        yield "no safetensors file: convert the weights with save_pretrained where you trust them"
    if facts.special_tokens["eos"] is None:
        yield "no end-of-sequence token: answers would never end"
    if words > facts.shape.vocabulary:
        yield f"its tokenizer has {words} tokens, but the model {facts.shape.vocabulary}"


def compare_peers(peers: Sequence[PeerFacts]) -> list[str]:
    """Where peers are less different than they should be: only different models know different things."""
    names = Counter(peer.name for peer in peers)
    kin = [
        Kin(peer.name if names[peer.name] == 1 else peer.model, peer.revision or peer.model, peer.shape.model_type)
        for peer in peers
    ]
    twice = [(name, number) for name, number in names.items() if number > 1]
    return [
        *(f"{text}: {TOGETHER}" for text in alike(kin)),
        *(f"{number} peers would be called {name}: name them, peers={{'a': ..., 'b': ...}}" for name, number in twice),
    ]


# ---- files ----


def fetch(model: str, revision: str | None = None, weights: bool = True) -> str:
    """The folder of a repository's files in the cache, downloaded where they are missing; what a download that broke
    off has left is continued. Only safetensors are taken, never pickles.

    Raises:
        ValueError: The repository is gated, or does not exist, or the Hub cannot be reached.
    """
    patterns = [*SMALL, WEIGHTS] if weights else list(SMALL)
    try:
        return snapshot_download(model, revision=revision, allow_patterns=patterns, ignore_patterns=["original/*"])
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403, 404):
            advice = f"accept its terms at https://huggingface.co/{model}, and log in with `hf auth login`"
        else:
            advice = f"the Hub answered: {str(error).strip().splitlines()[0]}; run the command again to continue"
        raise ValueError(f"Cannot download {model!r}: {advice}.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise ValueError(
            f"Cannot download {model!r}: the Hub cannot be reached; run the command again to continue, or give a "
            "local folder."
        ) from error


def local_files(folder: Path) -> dict[str, int | None]:
    """The safetensors files in a folder with their bytes."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob(WEIGHTS))}


def hub_files(model: str, folder: Path) -> dict[str, int | None]:
    """The repository's safetensors files with their bytes; without a connection, those in the cache."""
    try:
        listed = HfApi().model_info(model, revision=folder.name, files_metadata=True).siblings or []
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return local_files(folder)
    names = {entry.rfilename: entry.size for entry in listed if entry.rfilename.endswith(".safetensors")}
    return {name: size for name, size in names.items() if "/" not in name}


def is_cached(model: str, name: str, revision: str) -> bool:
    """Whether a file of this revision of a repository is in the cache."""
    return isinstance(try_to_load_from_cache(model, name, revision=revision), str)


def license_of(card: Path) -> str | None:
    """What the metadata of a model card call its license."""
    if not card.is_file():
        return None
    try:
        return ModelCard.load(card).data.license
    except ValueError:  # metadata that are no valid YAML
        return None
