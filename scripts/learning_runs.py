"""Runs arms of the tiny-peers demo at several seeds and tabulates the gains; results go to docs/demo.md.

    python scripts/learning_runs.py --seeds 0 1 2 3 4 --jobs 2 --out runs/learning
    python scripts/learning_runs.py --arms grpo random --seeds 10 --split validation --extra --learning-rate 1e-4

Every arm runs `examples/pst_math.py` with the same questions, updates and seeds; only the named flags differ. A run
whose results.json exists is not repeated. Needs 2 to 6 minutes a run on one core.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pst_rl.measure import mean_interval

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pst_math.py"

ARMS = {
    "grpo": [],
    "grpo, PMI off": ["--pmi", "off"],
    "aggregate_sft": ["--objective", "aggregate_sft"],
    "aggregate_sft, PMI off": ["--objective", "aggregate_sft", "--pmi", "off"],
    "random reward": ["--rewards", "random"],
    "supervised gold": ["--rewards", "supervised_gold", "--supervised"],
    "supervised gold, aggregate_sft": [
        "--objective", "aggregate_sft", "--aggregator", "supervised_gold", "--supervised",
    ],
    "paper preset": ["--preset", "paper", "--peers", "tiny"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="questions to measure on")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="further flags for every run")
    args = parser.parse_args()
    jobs = [(arm, seed) for seed in args.seeds for arm in args.arms]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: run(*job, args), jobs))
    print(tabulate(args))


def run(arm: str, seed: int, args: argparse.Namespace) -> None:
    folder = run_folder(arm, seed, args)
    if (folder / "results.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(EXAMPLE), *ARMS[arm], "--seed", str(seed), "--eval-split", args.split]
    command += ["--output-dir", str(folder), "--save-strategy", "no", *args.extra]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        print(f"{arm}, seed {seed}: failed, see {folder / 'log.txt'}", file=sys.stderr)
    else:
        results = json.loads((folder / "results.json").read_text())
        print(f"{arm}, seed {seed}: mean gain {results['mean_gain']:+.2f}", flush=True)


def run_folder(arm: str, seed: int, args: argparse.Namespace) -> Path:
    return args.out / arm.replace(", ", "-").replace(" ", "_") / f"seed{seed}"


def tabulate(args: argparse.Namespace) -> str:
    """A Markdown table: mean gain in points with its 95 % t-interval over seeds, lowest seed, votes, seconds."""
    lines = ["| arm | seeds | mean gain (95 %) | lowest seed | vote | pooled vote | training s |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for arm in args.arms:
        files = [run_folder(arm, seed, args) / "results.json" for seed in args.seeds]
        results = [json.loads(f.read_text()) for f in files if f.is_file()]
        if not results:
            continue
        gains = [r["mean_gain"] for r in results]
        mean = f"{gains[0]:+.2f}"
        if len(gains) > 1:
            interval = mean_interval(gains)
            mean = f"{interval.gain:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
        cells = [
            arm,
            str(len(gains)),
            mean,
            f"{min(gains):+.2f}",
            *(_votes(results, v) for v in ("vote", "pooled_vote")),
        ]
        cells.append(
            f"{sum(sum(r['seconds'].values()) - r['seconds']['evaluate'] for r in results) / len(results):.0f}"
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _votes(results: list[dict], name: str) -> str:
    pairs = [(r[name]["before"], r[name]["after"]) for r in results if r[name]["before"] is not None]
    if not pairs:
        return "-"
    before, after = (100 * sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return f"{before:.1f} -> {after:.1f}"


if __name__ == "__main__":
    main()
