"""The command `pst-rl`: one subcommand for each thing to do."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import tyro

from pst_rl.benchmarks.eval_command import Eval
from pst_rl.coherence.label_command import Label
from pst_rl.gv_gap.gap_command import GVGap
from pst_rl.peers_command import Peers
from pst_rl.push_command import Push
from pst_rl.report_command import Report


class Command(Protocol):
    """A subcommand: a dataclass of options that tyro reads, importing heavy libraries in `run` only.

    Attributes:
        resume_flag: What to add to the command line to go on after an interruption; nothing if the same one does.
    """

    resume_flag: str

    def run(self) -> None: ...


COMMANDS: dict[str, Callable[..., Command]] = {
    "label": Label,
    "eval": Eval,
    "gv-gap": GVGap,
    "report": Report,
    "peers": Peers,
    "push": Push,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's) and returns its status.

    0 when it is done; 2, with one line on stderr, for what cannot be parsed, found or used; 130 after Ctrl-C, with a
    line that says how to go on.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.extras.subcommand_cli_from_dict(
                COMMANDS, args=argv, prog="pst-rl", description="Language models that improve without labels."
            )
    except SystemExit as stop:
        if stop.code:
            print(f"error: {_unboxed(said.getvalue())}", file=sys.stderr)
        return int(stop.code or 0)
    try:
        command.run()
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        flags = [flag for flag in [command.resume_flag] if flag and flag not in argv]
        print(f"Interrupted. Resume with: {shlex.join(['pst-rl', *argv, *flags])}", file=sys.stderr)
        return 130
    return 0


def _unboxed(text: str) -> str:
    """tyro's message in one line, without its title and the box around it (drawn with blanks in some locales)."""
    lines = [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]
    title, *message = [line for line in lines if line.strip("-")]
    return " ".join(" ".join(message).split())


if __name__ == "__main__":
    sys.exit(main())
