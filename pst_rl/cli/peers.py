"""`pst-rl peers`: models in, and out comes what they are, how they differ and what training them needs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

import tyro

from pst_rl.cli.config_file import as_flags
from pst_rl.cli.presets import PRESETS, preset_for
from pst_rl.memory.run_shape import MemoryOptions, RunShape
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.hub.peer_facts import PeerFacts
    from pst_rl.memory.estimate import MemoryEstimate, PeerMemory

GIB = 2**30
ROOM = 0.9  # of a GPU: the rest is for the CUDA context and fragmentation, which the estimate leaves out


@dataclass
class Peers(MemoryOptions):
    """Inspect models before training: what they are, whether they differ, how much memory a run needs.

    Reads configuration, tokenizer and card of each; weights are fetched with --download only. Memory is that of
    `pst-rl train` with these peers: its options have the same names and meanings, and stand on the same preset.
    """

    peers: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PEER [PEER ...]")]
    """Hub ids, folders (also of LoRA adapters) or GGUF files, `NAME=PLACE` to name one; the output folder of a run for
    its peers; `tiny` stands for the three embedded ones."""
    preset: str | None = None
    """Of `pst-rl train`: demo, own, small, qlora or paper; `none` for TRL's defaults. By default the one that training
    takes for these peers."""
    download: bool = False
    """Fetch the weights (safetensors only) into the Hub's cache; goes on where it was interrupted."""
    revision: str | None = None
    """Branch, tag or commit, the same for all peers."""
    prompt_length: int = 512
    """Tokens of the longest prompt."""
    gpu_memory: float | None = None
    """Memory of the GPU in GiB: says whether the run fits (into 90 % of it)."""
    json: bool = False
    """Print JSON instead of tables; sizes in bytes."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Inspects, downloads if asked to, and prints.

        Raises:
            ValueError: No peers, one that cannot be found or read, settings that cannot be; with what to do.
        """
        if not self.peers:
            raise ValueError("Name at least one peer: a Hub id, a folder, or tiny.")
        if self.gpu_memory is not None and not self.gpu_memory > 0:
            raise ValueError(f"--gpu-memory must be positive (GiB), got {self.gpu_memory:g}.")
        from transformers.utils.logging import disable_progress_bar

        from pst_rl.hub.peer_facts import compare_peers, fetch, inspect_peer
        from pst_rl.memory.estimate import estimate
        from pst_rl.peers.sources import gguf_path, is_gguf

        disable_progress_bar()
        named = self.named()
        models = [model for _, model in named]
        run = self.run_shape()

        def inspect(name: str | None, model: str) -> PeerFacts:
            facts = inspect_peer(model, self.revision)
            return replace(facts, name=name or facts.name)

        if self.download:
            for model in filter(is_gguf, models):
                gguf_path(model, self.revision)  # what it is stands in the file
        peers = [inspect(*peer) for peer in named]
        if self.download:
            for k, peer in enumerate(peers):
                if peer.missing:
                    with phase(f"Downloading {peer.model} ({size(peer)})"):
                        fetch(peer.model, peer.revision)
                    peers[k] = inspect(peer.name, peer.model)
        estimated = estimate([peer.shape for peer in peers], run)
        warnings = compare_peers(peers) + [
            f"{peer.name}: prompt and completion of {run.row} tokens do not fit its {peer.shape.context} positions"
            for peer in peers
            if run.row > peer.shape.context
        ]
        if self.json:
            print(json.dumps(self.as_json(peers, warnings, estimated), indent=1))
        else:
            self.show(peers, warnings, estimated)

    def named(self) -> list[tuple[str | None, str]]:
        """Name, where one was given, and place of each peer."""
        from pst_rl.benchmarks.peer_set import peers_in
        from pst_rl.peers.words import read_peers
        from pst_rl.tiny import TINY_PEERS

        found: list[tuple[str | None, str]] = []
        for peer in read_peers(self.peers):
            inside = TINY_PEERS if peer.model == "tiny" else peers_in(Path(peer.model))
            found += [(None, str(place)) for place in inside.values()] or [(peer.name, peer.model)]
        return found

    def preset_flags(self) -> list[str]:
        """What of the preset memory depends on, as flags below those that are given.

        Raises:
            ValueError: There is no such preset, or it is not for these peers.
        """
        if self.preset == "none" or not self.peers:
            return []
        name = preset_for([place for _, place in self.named()], self.preset or "auto")
        hints = get_type_hints(MemoryOptions)
        options = {option: value for option, value in PRESETS[name].items() if option in hints}
        return ["--preset", name, *as_flags(options, hints, name)]

    def run_shape(self) -> RunShape:
        """The settings, as the estimate takes them."""
        return RunShape.of(self, self, self.prompt_length)

    def fits(self, estimated: MemoryEstimate) -> bool | None:
        """Whether the run fits into the GPU; `None` if its memory was not given."""
        return None if self.gpu_memory is None else estimated.total <= ROOM * self.gpu_memory * GIB

    def described(self) -> str:
        """What the estimate is for, in two lines."""
        run = self.run_shape()
        trained = f"LoRA of rank {run.lora_rank}" if run.lora_rank else "all weights"
        weights = ", weights in 4 bits" if run.quantization != "none" else ""
        preset = "no preset" if self.preset in (None, "none") else f"preset {self.preset}"
        lengths = f"prompts of {run.prompt_length} tokens, answers of {run.completion_length}"
        return (
            f"for a run of {preset}: {trained}{weights}\n"
            f"{run.batch} rows a pass, {run.generation_rows} sampled together; {lengths}"
        )

    # ---- output ----

    def as_json(self, peers: list[PeerFacts], warnings: list[str], estimated: MemoryEstimate) -> dict[str, Any]:
        from pst_rl.memory.estimate import as_json

        rows = []
        for peer in peers:
            shape = {"architecture": peer.shape.architecture, "model_type": peer.shape.model_type}
            shape |= {key: getattr(peer.shape, key) for key in ("parameters", "vocabulary", "context", "layers")}
            rows.append({key: value for key, value in vars(peer).items() if key != "shape"} | shape)
        memory = as_json(estimated) | {"gpu_memory_gib": self.gpu_memory, "fits": self.fits(estimated)}
        memory |= {"preset": self.preset or "none", "run": vars(self.run_shape())}
        return {"peers": rows, "warnings": warnings, "memory": memory}

    def show(self, peers: list[PeerFacts], warnings: list[str], estimated: MemoryEstimate) -> None:
        """Two tables, one column for each peer, and what is to be said about them."""
        from rich.console import Console
        from rich.markup import escape

        from pst_rl.progress.words import terminal_width

        width = terminal_width()
        console = Console(width=width, highlight=False)
        print("\n".join(table("", [(peer.name, facts_rows(peer)) for peer in peers], width)))
        print()
        for peer in peers:
            for note in peer.notes:
                console.print(escape(f"note: {peer.name}: {note}"))
        for warning in warnings:
            console.print(escape(f"warning: {warning}"), style="yellow")
        for peer in peers:
            for refusal in peer.refusals:
                console.print(escape(f"cannot be trained: {peer.name}: {refusal}"), style="red")
        console.print()
        named = [(peer.name, memory_rows(row)) for peer, row in zip(peers, estimated.peers, strict=True)]
        print("\n".join(table("memory, MiB", named, width, numbers=True)))
        print()
        console.print(self.described())
        console.print(f"resident {gib(estimated.resident)} + {estimated.peak} {gib(max(estimated.phases.values()))}")
        console.print(f"estimate for one process: {gib(estimated.total)} (docs/memory.md says what is not counted)")
        if self.gpu_memory is not None:
            verdict = "fits" if self.fits(estimated) else "does not fit"
            console.print(f"{verdict} into 90 % of {self.gpu_memory:g} GiB", style="bold")


def table(title: str, columns: list[tuple[str, dict[str, str]]], width: int, numbers: bool = False) -> list[str]:
    """The lines of a table with a column for each peer, (name, cell by row), and the rows' names at the left."""
    from pst_rl.report.text_table import text_table

    rows = [[label, *(cells[label] for _, cells in columns)] for label in columns[0][1]]
    texts = (0,) if numbers else range(len(columns) + 1)
    return text_table([title, *(name for name, _ in columns)], rows, width=width, texts=texts)


def facts_rows(peer: PeerFacts) -> dict[str, str]:
    """What a peer's files say of it: row of the table -> cell."""
    here = "all" if not peer.missing else f"{len(peer.files) - len(peer.missing)} of {len(peer.files)}"
    return {
        "model": peer.model if peer.model.count("/") < 2 else f".../{'/'.join(Path(peer.model).parts[-2:])}",
        "architecture": peer.shape.architecture,
        "parameters": f"{peer.shape.parameters:,}",
        "vocabulary": f"{peer.shape.vocabulary:,}",
        "context": f"{peer.shape.context:,}" if peer.shape.context < sys.maxsize else "no limit",
        "chat template": "yes" if peer.chat_template else "no",
        "tokenizer": peer.tokenizer,
        **{f"{role} token": token or "none" for role, token in peer.special_tokens.items()},
        "dtype": peer.dtype or "not said",
        "safetensors": f"{size(peer)}, {here} here" if peer.files else "none",
        "license": peer.license or "not said",
        "revision": (peer.revision or "")[:12],
    }


def memory_rows(peer: PeerMemory) -> dict[str, str]:
    """A peer's memory by purpose: row of the table -> MiB."""
    labels = {
        "weights": "weights",
        "adapters": "adapters",
        "optimizer": "optimizer states",
        "reference": "reference model",
        "gradients": "gradients",
        "kv_cache": "keys and values",
        "sampling": "sampling",
        "scoring": "PMI scoring",
        "activations": "activations",
        "backward": "backward pass",
        "loss": "loss",
    }
    found = {label: getattr(peer, key) / 2**20 for key, label in labels.items()}
    return {label: f"{amount:,.1f}" if amount else "-" for label, amount in found.items()}


def size(peer: PeerFacts) -> str:
    """Bytes of the weights' files, readable."""
    known = [amount for amount in peer.files.values() if amount is not None]
    return gib(sum(known)) if len(known) == len(peer.files) else "size unknown"


def gib(amount: int) -> str:
    """
    >>> gib(3 * 2**29), gib(2**20)
    ('1.50 GiB', '1.0 MiB')
    """
    return f"{amount / GIB:.2f} GiB" if amount >= GIB else f"{amount / 2**20:.1f} MiB"
