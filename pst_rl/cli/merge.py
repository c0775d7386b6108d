"""`pst-rl merge`: trained LoRA peers (or GGUF files) in, plain model folders out."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar


@dataclass
class Merge:
    """Make a plain model of each peer: adapters are added to their base's weights, GGUF files are unpacked.

    A peer that is trained with LoRA is saved as an adapter, which needs its base model wherever it is used. The plain
    folders are for `from_pretrained`, for engines that take no adapter, and as peers of a run that trains all weights.
    """

    peers: list[str] = field(default_factory=list)
    """Adapters, GGUF files or models: folders, Hub ids, `NAME=PLACE`, or the output folder of a run."""
    output_dir: str = "runs/merged"
    """A folder for each peer is made in it."""
    dtype: str = "auto"
    """Of the weights: auto as they are stored (of an adapter: as its base is), float32, bfloat16 or float16."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Does it.

        Raises:
            ValueError: No peers, one that is nowhere, a dtype that there is not, or a folder that is there already.
        """
        from pst_rl.benchmarks.peer_set import find_peers
        from pst_rl.cli.eval import quiet
        from pst_rl.peers.asked import read_asked, write_asked
        from pst_rl.peers.loading import load_model
        from pst_rl.peers.reader import load_tokenizer
        from pst_rl.progress.phases import phase

        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(f"--dtype must be auto, float32, bfloat16 or float16, got {self.dtype!r}.")
        quiet()
        peers = find_peers(self.peers)
        folders = {name: Path(self.output_dir, name) for name in peers}
        if used := [str(folder) for folder in folders.values() if folder.exists() and any(folder.iterdir())]:
            raise ValueError(
                f"{used[0]} is there already, and a model is not replaced: remove it, or add --output-dir "
                f"{free_folder(self.output_dir)}."
            )
        with phase("merging", len(peers), "peers") as merging:
            for name, place in peers.items():
                merging.at(name)
                model = load_model(place, dtype=self.dtype)
                plain = model.merge_and_unload(safe_merge=True) if hasattr(model, "merge_and_unload") else model
                plain.save_pretrained(folders[name])
                load_tokenizer(place).save_pretrained(folders[name])
                if asked := read_asked(place):  # it is measured as before
                    write_asked(asked, folders[name])
                merging.advance()
                print(f"{name}: {folders[name]}")


def free_folder(folder: str) -> Path:
    """The first of `folder-2`, `folder-3` ... that is not there."""
    return next(place for n in count(2) if not (place := Path(f"{Path(folder)}-{n}")).exists())
