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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

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
    """A Markdown table of gains in points: mean with 95 % t-interval over seeds, extremes, and the difference to the
    first arm paired by seed; then each peer's and the greedy vote's mean gain."""
    found = {arm: load_results(arm, args) for arm in args.arms}
    found = {arm: results for arm, results in found.items() if results}
    if not found:
        return "no results"
    first = next(iter(found))
    peers = list(next(iter(found[first].values()))["peers"])
    heads = ["arm", "seeds", "mean gain (95 %)", "lowest, highest", f"minus {first}, paired", *peers, "greedy vote"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    for arm, results in found.items():
        gains = {seed: r["mean_gain"] for seed, r in results.items()}
        paired = [gains[s] - found[first][s]["mean_gain"] for s in gains if s in found[first]]
        cells = [arm, str(len(gains)), spread(list(gains.values()))]
        cells += [f"{min(gains.values()):+.1f}, {max(gains.values()):+.1f}", "-" if arm == first else spread(paired)]
        cells += [f"{mean_points(r['peers'][p] for r in results.values()):+.1f}" for p in peers]
        cells.append(f"{mean_points(r['vote'] for r in results.values()):+.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def load_results(arm: str, args: argparse.Namespace) -> dict[int, dict]:
    """The finished runs of an arm, by seed."""
    files = {seed: run_folder(arm, seed, args) / "results.json" for seed in args.seeds}
    return {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}


def spread(values: list[float]) -> str:
    """Mean and 95 % t-interval; the values alone where there are fewer than two."""
    if len(values) < 2:
        return " ".join(f"{value:+.1f}" for value in values) or "-"
    interval = mean_interval(values)
    return f"{interval.gain:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def mean_points(rows: Iterable[dict]) -> float:
    """Mean of after - before over runs, in points."""
    return fmean(100 * (row["after"] - row["before"]) for row in rows)


if __name__ == "__main__":
    main()
