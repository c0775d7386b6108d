"""A newcomer's walk: every command of the quick start, as printed, in a fresh clone in an empty folder.

    python scripts/walk_docs.py                              # clones this repository's last commit
    python scripts/walk_docs.py --json runs/walk.json --keep /tmp/walk

Prints the status and the seconds of each command, and ends with status 1 at the first one that fails. What was not
committed is not in the clone.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPTURE = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


def blocks(page: Path) -> list[str]:
    """The page's blocks of commands."""
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[str]:
    """The commands of a block; one that goes on (a heredoc, a backslash) stays whole."""
    found, rest = [], block
    while rest := rest.lstrip("\n"):
        heredoc = re.match(r"[^\n]*<<'(\w+)'\n.*?^\1\n", rest, re.DOTALL | re.MULTILINE)
        whole = heredoc or re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", rest)
        found.append(whole[0].rstrip("\n"))
        rest = rest[whole.end() :]
    return found


def walk(page: Path, folder: Path) -> list[dict]:
    """Runs the page's commands in `folder`; each goes on in the environment that the ones before have left."""
    environment, steps = folder / ".walk-environment", []
    outside = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    for command in [command for block in blocks(page) for command in commands(block)]:
        before = f". {environment}\n" if environment.exists() else ""
        script = f"{before}{command}\nstatus=$?\nexport -p > {environment}\nexit $status\n"
        begin = time.perf_counter()
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=outside, text=True, **CAPTURE)
        seconds = time.perf_counter() - begin
        lines = done.stdout.strip().splitlines()
        steps.append({"command": command, "status": done.returncode, "seconds": round(seconds, 1), "last": lines[-3:]})
        print(f"{done.returncode:>3} {seconds:8.1f} s  {command.splitlines()[0]}", flush=True)
        if done.returncode:
            print("\n".join(lines[-30:]))
            break
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "quick-start.md", help="whose commands are run")
    parser.add_argument("--keep", type=Path, help="clone into this folder, which must not exist, and leave it")
    parser.add_argument("--json", type=Path, help="write commands, statuses and seconds to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.keep or Path(made) / "pst_rl"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        steps = walk(args.page, folder)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
        args.json.write_text(json.dumps({"page": args.page.name, "machine": machine, "steps": steps}, indent=2) + "\n")
    failed = [step for step in steps if step["status"]]
    print(f"{len(steps) - len(failed)} commands done in {sum(step['seconds'] for step in steps):.0f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
