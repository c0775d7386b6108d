"""`pst-rl push`: the trained peers of a run, each to a repository of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.hub.push import Upload


@dataclass
class Push:
    """Push the trained peers of a run to the Hub: weights, tokenizer and card, one repository for each.

    Only whole models are pushed, and no folder or token of this machine. Files that are there already are not uploaded
    again, so an interrupted push goes on with the same command.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Output folder of the run."""
    peers: tuple[str, ...] | None = None
    """Which peers; by default all that were trained."""
    repo_prefix: str | None = None
    """Repositories are called PREFIX-<peer>, as in org/name-<peer>; default: the folder's name, in your name space."""
    private: bool = False
    """Create the repositories as private ones."""
    checkpoint: str | None = None
    """A step, `last` or `best`; by default the models saved at the end of training."""
    dry_run: bool = False
    """List repositories and files with their sizes; push nothing."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> None:
        """Checks everything, then pushes one peer after the other.

        Raises:
            ValueError: No such run, peer or checkpoint, an incomplete model, no token, or no right to write.
        """
        from pst_rl.hub.push import prepare, push_peer, repository_prefix, source_folder, trained_peers

        folder = source_folder(self.run_folder, self.checkpoint)
        names = trained_peers(self.run_folder, folder, self.peers)
        prefix = repository_prefix(self.run_folder, self.repo_prefix, offline=self.dry_run)
        uploads = [prepare(folder / name, f"{prefix}-{name}") for name in names]
        for upload in uploads:
            self.list_files(upload)
        if self.dry_run:
            print("Nothing was pushed (--dry-run).")
            return
        message = f"Push of {folder.name}" if self.checkpoint else "End of training"
        for upload in uploads:
            with phase(f"pushing {upload.repo}"):
                url = push_peer(upload, self.private, message)
            print(f"Pushed {url}", flush=True)

    def list_files(self, upload: Upload) -> None:
        total = sum(upload.sizes.values())
        print(f"{upload.repo}: {len(upload.sizes)} files, {readable(total)}")
        if self.dry_run:
            for name, amount in upload.sizes.items():
                print(f"  {name:40} {readable(amount):>12}")
        if upload.left_out:
            print(f"  not pushed: {', '.join(upload.left_out)}")


def readable(amount: int) -> str:
    """
    >>> readable(3 * 2**29), readable(2**20), readable(10)
    ('1.50 GiB', '1.0 MiB', '10 bytes')
    """
    if amount >= 2**30:
        return f"{amount / 2**30:.2f} GiB"
    return f"{amount / 2**20:.1f} MiB" if amount >= 2**19 else f"{amount:,} bytes"
