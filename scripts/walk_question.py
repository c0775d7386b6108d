"""Follows one question from a trainer to its peers' updates: which files the walk visits, in which order.

    python scripts/walk_question.py                # this checkout
    python scripts/walk_question.py --root OTHER   # another checkout of the package

One question is answered by two embedded peers and one optimizer step is made, on the CPU, while every call of a
function of the package is noted. A file is visited when one of its functions runs; a jump is a call from one file to
another that has not been seen before. Fewer files and jumps are less to read before a change.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def walk(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Files in the order of their first visit, and the jumps in the order of their first use."""
    sys.path.insert(0, str(root))
    from pst_rl import PSTConfig, PSTTrainer, load_questions
    from pst_rl.tiny import TINY_PEERS

    with tempfile.TemporaryDirectory() as folder:
        args = PSTConfig(
            folder,
            max_steps=1,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=1,
            num_generations=4,
            max_completion_length=48,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            gradient_checkpointing=False,
        )
        peers = dict(list(TINY_PEERS.items())[:2])
        trainer = PSTTrainer(peers, args, train_dataset=load_questions("tiny", split="train", limit=1))
        return _watched(root / "pst_rl", trainer.train)


def _watched(package: Path, act) -> tuple[list[str], list[tuple[str, str]]]:
    """What `act()` visits."""
    files: dict[str, None] = {}
    jumps: dict[tuple[str, str], None] = {}
    inside: list[str] = []

    def place(frame) -> str | None:
        path = frame.f_code.co_filename
        return os.path.relpath(path, package) if path.startswith(f"{package}{os.sep}") else None

    def notice(frame, event, argument):
        here = place(frame)
        if here is None:
            return
        if event == "call":
            files.setdefault(here)
            if inside and inside[-1] != here:
                jumps.setdefault((inside[-1], here))
            inside.append(here)
        elif event == "return" and inside:
            inside.pop()

    sys.setprofile(notice)
    try:
        act()
    finally:
        sys.setprofile(None)
    return list(files), list(jumps)


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="a checkout of the package")
    root = parser.parse_args().root.resolve()
    files, jumps = walk(root)
    lines = {path: len(path.read_text().splitlines()) for path in (root / "pst_rl").rglob("*.py")}
    flat = sum(path.parent == root / "pst_rl" for path in lines)
    read = sum(lines[root / "pst_rl" / file] for file in files)
    print(f"visited: {len(files)} files of {read} lines; {len(jumps)} jumps")
    print(f"package: {len(lines)} files, {sum(lines.values())} lines; {flat} files directly in pst_rl/")
    print("\n".join(f"  {file}" for file in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
