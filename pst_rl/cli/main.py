"""The command `pst-rl`: one subcommand for each thing to do."""

import contextlib
import inspect
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, ClassVar, Literal, Protocol

import tyro

from pst_rl import __version__
from pst_rl.cli.answers import Answers
from pst_rl.cli.config_file import by_one_name, check_old_flags, option_types, option_value, with_file
from pst_rl.cli.eval import Eval
from pst_rl.cli.exit_status import DONE, INTERRUPTED, OUTPUT_CLOSED, TERMINATED, Terminated, sigterm_raises, status_of
from pst_rl.cli.gv_gap import GVGap
from pst_rl.cli.label import Label
from pst_rl.cli.merge import Merge
from pst_rl.cli.options import Train
from pst_rl.cli.parse import fail, in_one_line, json_options
from pst_rl.cli.peers import Peers
from pst_rl.cli.push import Push
from pst_rl.cli.report import Report
from pst_rl.cli.shell_completion import print_script
from pst_rl.cli.sweep import Sweep
from pst_rl.cli.train import TrainRun
from pst_rl.cli.trl_names import spelt_booleans
from pst_rl.progress.show import showing
from pst_rl.quiet import quiet_output


class Command(Protocol):
    """A subcommand: a dataclass of options that tyro reads, importing heavy libraries in `run` only.

    Attributes:
        resume_flag: What to add to the command line to go on after an interruption; nothing if the same one does.
    """

    resume_flag: ClassVar[str]

    def run(self) -> int | None:
        """Does it; returns the exit status, `None` for 0."""


@dataclass
class Completion:
    """Print a script with which bash, zsh or fish completes commands, options and choices.

    For bash: pst-rl completion bash > ~/.local/share/bash-completion/completions/pst-rl
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell."""

    resume_flag: ClassVar[str] = ""

    def run(self) -> int:
        """Prints it."""
        return print_script(self.shell, COMMANDS)


COMMANDS: dict[str, type] = {
    "train": Train,  # its options, which `TrainRun` parses together with those of the trainer
    "sweep": Sweep,
    "answers": Answers,
    "label": Label,
    "eval": Eval,
    "gv-gap": GVGap,
    "report": Report,
    "peers": Peers,
    "merge": Merge,
    "push": Push,
    "completion": Completion,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's) and returns its status, see `pst_rl.cli.exit_status`.

    What cannot be parsed, found or used, and what could not be written, is one line on stderr; after Ctrl-C or
    SIGTERM a line says how to go on.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv in (["--version"], ["-V"]):
        print(versions())
        return DONE
    quiet_output()
    command: Command | None = None
    try:
        with sigterm_raises():
            command = parse(argv)
            with showing(f"pst-rl {argv[0]}"):
                return command.run() or DONE
    except SystemExit as stop:  # after --help
        return int(stop.code or DONE)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        return OUTPUT_CLOSED
    except (ValueError, OSError) as error:
        fail(error)
        return status_of(error)
    except KeyboardInterrupt:
        _say_how_to_go_on("Interrupted", argv, command)
        return INTERRUPTED
    except Terminated:
        _say_how_to_go_on("Stopped by SIGTERM", argv, command)
        return TERMINATED


def versions() -> str:
    """The versions of this package and of those that decide what a run computes."""
    found = [f"pst-rl {__version__}", f"python {platform.python_version()}"]
    for package in ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return "\n".join(found)


def parse(argv: Sequence[str]) -> Command:
    """The command of a command line, with the options of `--config FILE` where there are no flags.

    Raises:
        ValueError, FileNotFoundError: One line, for anything that cannot be parsed.
        SystemExit: With status 0, after `--help`.
    """
    name, words = (argv[0], list(argv[1:])) if argv else ("", [])
    if name not in COMMANDS:
        listed = _listed()
        return in_one_line(
            lambda: tyro.extras.subcommand_cli_from_dict(listed, args=argv, prog="pst-rl", description=_WHAT)
        )
    if name == "train":
        return TrainRun.parse(words)
    words = by_one_name(words)
    check_old_flags(words)
    types = option_types(COMMANDS[name])
    words = spelt_booleans(words, types)
    default, from_file = in_one_line(lambda: with_file(COMMANDS[name], option_value(words, "config")))
    # A type that only tyro reads, of a command that is known at run time.
    flat = Annotated[COMMANDS[name], tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]  # type: ignore[valid-type]

    def command(options: Any = default, config: Annotated[str | None, _CONFIG] = None) -> Command:
        return options

    command.__annotations__["options"] = flat
    command.__doc__ = COMMANDS[name].__doc__
    with json_options():

        def parsed(stands_on: Sequence[str] = ()) -> Command:
            args = [*stands_on, *from_file, *words]
            return in_one_line(partial(tyro.cli, command, args=args, prog=f"pst-rl {name}"), args, types)

        found = parsed()
        return parsed(found.preset_flags()) if isinstance(found, Peers) else found


_WHAT = "Language models that improve without labels. `pst-rl COMMAND --help` lists a command's options."
_CONFIG = tyro.conf.arg(help="YAML or JSON file with options; flags override it.")


def _listed() -> dict[str, Callable[..., Any]]:
    """The subcommands without their options: what `pst-rl --help` needs."""
    listed: dict[str, Callable[..., Any]] = {}
    for name, command in COMMANDS.items():
        listed[name] = make_dataclass(name, [])
        listed[name].__doc__ = (inspect.getdoc(command) or "").split("\n\n")[0]
    return listed


def _say_how_to_go_on(reason: str, argv: Sequence[str], command: Command | None) -> None:
    flag = command.resume_flag if command else ""
    flags = [flag] if flag and flag not in argv else []
    print(f"{reason}. Resume with: {shlex.join(['pst-rl', *argv, *flags])}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
