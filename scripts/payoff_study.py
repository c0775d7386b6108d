"""Can the first four generation batches tell, without labels, which reward will make the peers better?

    python scripts/payoff_study.py                 # docs/results/payoff.*: every scheme at five seeds

For every scheme that `compare_rewards.py` trains peers together with by GRPO, it measures the payoff of agreement
(`pst_rl.stages.vitals.payoffs`) over the first 128 training questions, and sets it beside the scheme's gain on
held-out questions at the full budget, as `docs/results/compare_rewards.json` has it. A constant-answer reward stands
beside them (`collapse_study.py`).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collapse_study import ConstantAnswer
from compare_report import COLOURS, interval, spread
from reward_schemes import BUDGET, SCHEMES
from run_jobs import Job, result_file, run_jobs, study_parser, with_changes

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.report import pipe_table
from pst_rl.tiny import TINY_PEERS

GROUPS = ("rewards", "controls")
CONSTANT = "one constant answer (planted)"
NAMES = [*(name for name, scheme in SCHEMES.items() if scheme.group in GROUPS), CONSTANT]
BATCHES = 4  # of 32 questions


def main(arguments: Sequence[str] | None = None) -> int:
    args = study_parser(__doc__, "payoff_study", "schemes", NAMES).parse_args(arguments)
    args.budget = with_changes(BUDGET, args.set)
    args.budget |= {"max_steps": BATCHES * args.budget["steps_per_generation"], "logging_steps": 1}
    failed = run_jobs([make_job(name, seed, args) for seed in args.seeds for name in args.schemes], args.jobs)
    write_report(args)
    return 1 if failed else 0


def make_job(name: str, seed: int, args: argparse.Namespace) -> Job:
    def work() -> dict:
        planted = name == CONSTANT
        trainer = PSTTrainer(
            {peer: str(folder) for peer, folder in TINY_PEERS.items()},
            PSTConfig(
                output_dir=str(args.out / "scratch" / f"{name}{seed}"),
                seed=seed,
                **args.budget | ({} if planted else SCHEMES[name].config),
            ),
            train_dataset=load_questions("tiny", split="train"),
            reward_providers=[ConstantAnswer()] if planted else None,
        )
        trainer.train()
        seen = [row["peers/payoff"] for row in trainer.state.log_history if "peers/payoff" in row]
        return {"scheme": name, "seed": seed, "payoff": fmean(seen), "batches": seen}

    return Job(f"{name}, seed {seed}", result_file(args.out, name, seed), work, lambda result: result["payoff"])


def write_report(args: argparse.Namespace) -> None:
    """payoff.json, .md and .png from every finished run."""
    gains = {row["scheme"]: row for row in json.loads((args.docs / "compare_rewards.json").read_text())["rows"]}
    rows = []
    for name in args.schemes:
        files = [result_file(args.out, name, seed) for seed in args.seeds]
        found = [json.loads(file.read_text())["payoff"] for file in files if file.is_file()]
        if found:
            gain = {key: gains[name][key] for key in ("gain", "ci95", "group")} if name in gains else {}
            rows.append(
                {"scheme": name, "payoff": fmean(found), "payoff_ci95": interval(found), "seeds": found} | gain
            )
    rows.sort(key=lambda row: -row["payoff"])
    known = [row for row in rows if "gain" in row]
    if not known:
        return
    rho = rank_correlation([row["payoff"] for row in known], [row["gain"] for row in known])
    (args.docs / "payoff.json").write_text(json.dumps({"spearman": rho, "rows": rows}, indent=1) + "\n")
    cells = [
        [
            row["scheme"],
            f"{row['payoff']:.2f}" + ("" if (ci := row["payoff_ci95"]) is None else f" ({ci[0]:.2f} to {ci[1]:.2f})"),
            spread(row["gain"], row["ci95"]) if "gain" in row else "loses, see [collapse](collapse.md)",
        ]
        for row in rows
    ]
    table = "\n".join(pipe_table(("scheme", "payoff (95 %)", "gain in points (95 %)"), cells))
    text = INTRODUCTION.format(rho=rho, count=len(known), seeds=len(args.seeds)) + "\n" + table + "\n"
    (args.docs / "payoff.md").write_text(text)
    plot(known, args)
    print(text)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def plot(rows: list[dict], args: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        errors = [[row["gain"] - row["ci95"][0]], [row["ci95"][1] - row["gain"]]]
        axes.errorbar(row["payoff"], row["gain"], errors, fmt="o", ms=5, lw=1, color=COLOURS[row["group"]])
    crowded = 0
    for row in sorted(rows, key=lambda row: -row["gain"]):
        if row["payoff"] > 0.7:  # named beside the crowd, they would cover each other
            crowded += 1
            at = {"xytext": (0.42, 1.02 - 0.042 * crowded), "textcoords": "axes fraction"}
            at |= {"arrowprops": {"arrowstyle": "-", "lw": 0.4, "color": "#999999"}}
        else:
            at = {"xytext": (7, 5), "textcoords": "offset points"}
        axes.annotate(row["scheme"], (row["payoff"], row["gain"]), fontsize=8, va="center", **at)
    axes.axhline(0, color="#999999", lw=0.8)
    axes.set_xlabel("payoff of agreement in the first 128 questions (no label read)")
    axes.set_ylabel("gain on held-out questions, points")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.docs / "payoff.png", dpi=130)
    plt.close(figure)


INTRODUCTION = """# The payoff of agreement, and what a reward gains

Written by `python scripts/payoff_study.py`; do not edit.

Payoff: within a question, the correlation of a sample's reward with the share of the other samples that give its
answer (`pst_rl.stages.vitals.payoffs`), mean over the first 128 training questions of the tiny peers; {seeds} seed(s),
from two on with the 95 % t-interval. Gain: held-out points at the full budget, from
[the comparison](compare_rewards.md). Rank correlation over {count} schemes (Spearman): {rho:.2f}. One test bed, on
which the peers err differently: where they share their errors, agreement is no guide, and neither is this.

![payoff and gain](payoff.png)
"""


if __name__ == "__main__":
    sys.exit(main())
