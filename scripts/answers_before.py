"""The answers code beside that of another checkout: the targets of votes on recorded answers, and the time of a call.

    git worktree add /tmp/before 5e9f4c8
    python scripts/answers_before.py /tmp/before       # writes docs/results/answers_before.md and .json

Each version runs in a process of its own and only reads, votes and is timed; the targets of both are scored by this
one's `is_correct`, so that what differs is the reading and the merging of votes. The runs that are timed alternate,
and of each call the fastest run counts (CPU time, keys not cached).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "answers_before.md"
VOTES = {"GSM8K": ("recorded_gsm8k.jsonl", "whole"), "SimulEq": ("recorded_simuleq.jsonl", "first")}
MATH = "recorded_math.jsonl"  # its questions have responses of different models, some more than one
AGGREGATES = ("majority", "reliability")
CALLS = ("find_answer", "canonical_key", "equivalent", "is_correct")
RUNS = 3


def ask(checkout: Path, task: str, given: Any) -> Any:
    """What the code of a checkout makes of `given`: see `CHILDREN`."""
    command = [sys.executable, "-P", __file__, "--child", task]
    env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=json.dumps(given), env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# ---- in the process of one version ----


def votes(questions: list[list[list[str]]]) -> dict[str, Any]:
    """What is read in the responses of each question (peers, each with its chains), and the targets of both votes."""
    from pst_rl.aggregation import Majority
    from pst_rl.aggregation.reliability import Reliability
    from pst_rl.answers import find_answer
    from pst_rl.records import Group, Response

    peers, count = len(questions[0]), len(questions)
    read = [[[find_answer(text) for text in chains] for chains in question] for question in questions]
    group = Group(
        peers=tuple(f"peer{p}" for p in range(peers)),
        prompts=tuple(str(q) for q in range(count)),
        columns=({},) * count,
        order=(tuple(range(peers)),) * count,
        responses=tuple(
            tuple(
                tuple(
                    Response(text, answer, finished=True, length=len(text))
                    for text, answer in zip(questions[q][p], read[q][p], strict=True)
                )
                for q in range(count)
            )
            for p in range(peers)
        ),
        rng=Random(0),
    )
    targets = {}
    for name, aggregate in zip(AGGREGATES, (Majority(), Reliability()), strict=True):
        targets[name] = [chains[0] and chains[0].answer.text for chains in aggregate(group)[0]]
    return {
        "read": [[[answer and answer.text for answer in chains] for chains in row] for row in read],
        "targets": targets,
    }


def times(rows: list[list[str]]) -> dict[str, list[float]]:
    """Milliseconds of each call on each (response, answer in it, gold), with cold caches."""
    from pst_rl.answers import canonical, canonical_key, equivalent, find_answer, is_correct, latex

    caches = [
        value for module in (canonical, latex) for value in vars(module).values() if hasattr(value, "cache_clear")
    ]

    calls = {
        "find_answer": lambda text, answer, gold: find_answer(text),
        "canonical_key": lambda text, answer, gold: canonical_key(answer),
        "equivalent": lambda text, answer, gold: equivalent(answer, gold),
        "is_correct": lambda text, answer, gold: is_correct(text, gold),
    }
    is_correct("x < 5", r"(-\infty, 5)")  # the first comparison with math-verify imports sympy
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for row in rows:
        for name, call in calls.items():
            for cache in caches:
                cache.cache_clear()
            started = time.thread_time()
            call(*row)
            taken[name].append(1000 * (time.thread_time() - started))
    return taken


CHILDREN = {"votes": votes, "times": times}


# ---- in this process ----


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def right_targets(data: Path, before: Path) -> list[dict[str, Any]]:
    """Per set and aggregate: right targets and abstentions of both versions, and where they differ."""
    from pst_rl.answers import Answer, is_correct

    rows = []
    for name, metric, golds, texts in _sets(data):
        made = [ask(checkout, "votes", texts)["targets"] for checkout in (before, ROOT)]
        for aggregate in AGGREGATES[:1] if name.startswith("MATH") else AGGREGATES:
            hits = [
                [t is not None and is_correct(Answer.of(t), gold, metric=metric) for t, gold in pairs]
                for pairs in (list(zip(targets[aggregate], golds, strict=True)) for targets in made)
            ]
            rows.append(
                {
                    "data": name,
                    "aggregate": aggregate,
                    "questions": len(golds),
                    "before": sum(hits[0]),
                    "now": sum(hits[1]),
                    "gained": sum(b and not a for a, b in zip(*hits, strict=True)),
                    "lost": sum(a and not b for a, b in zip(*hits, strict=True)),
                    "no_target": [targets[aggregate].count(None) for targets in made],
                }
            )
    return rows


def _sets(data: Path) -> Iterator[tuple[str, str, list[str], list[list[list[str]]]]]:
    """Name, metric, golds and [question][peer][chain] of each set; MATH's peers are the first three responses."""
    for name, (file, metric) in VOTES.items():
        recorded = read(data / file)
        models = sorted(recorded[0]["responses"])
        texts = [[[row["responses"][model]] for model in models] for row in recorded]
        yield name, metric, [row["answer"] for row in recorded], texts
    questions: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in read(data / MATH):
        questions[row["question"], str(row["answer"])].append(row["response"])
    several = {asked: said[:3] for asked, said in questions.items() if len(said) >= 3}
    texts = [[[text] for text in said] for said in several.values()]
    yield "MATH, three responses", "whole", [gold for _, gold in several], texts


def timed_rows(data: Path) -> list[tuple[str, str, str]]:
    """Every recorded response with the answer found in it and its gold."""
    from pst_rl.answers import extract_answer

    found = [(row["response"], str(row["answer"])) for row in read(data / MATH)]
    for file, _ in VOTES.values():
        found += [(text, str(row["answer"])) for row in read(data / file) for text in row["responses"].values()]
    return [(text, extract_answer(text) or "", gold) for text, gold in found]


def time_of_calls(data: Path, before: Path) -> dict[str, Any]:
    """Median and 99th percentile of each call by both versions, in milliseconds, and their ratios."""
    rows = timed_rows(data)
    runs = [[ask(checkout, "times", rows) for checkout in (before, ROOT)] for _ in range(RUNS)]
    result: dict[str, Any] = {"responses": len(rows)}
    for name in CALLS:
        figures = []
        for version in (0, 1):
            best = sorted(map(min, zip(*(run[version][name] for run in runs), strict=True)))
            figures.append((best[len(best) // 2], best[int(0.99 * len(best))], best[-1]))
        old, new = figures
        result[name] = {
            "before": dict(zip(("median", "p99", "slowest"), old, strict=True)),
            "now": dict(zip(("median", "p99", "slowest"), new, strict=True)),
            "ratio": {"median": new[0] / old[0], "p99": new[1] / old[1]},
        }
    return result


def markdown(result: dict[str, Any]) -> str:
    """The page of results."""
    lines = [
        "# The answers code before and now",
        "",
        "Written by `python scripts/answers_before.py CHECKOUT`; do not edit.",
        f"What it means: [answers](../answers-study.md). Before: commit {result['before']}.",
        "",
        "## Right targets on recorded answers",
        "",
        "Both versions read and vote; this one scores (SimulEq by the first quantity asked for).",
        "",
        "| data | aggregate | questions | right before | right now | gained | lost | no target before | now |",
        "| --- " * 9 + "|",
    ]
    for row in result["votes"]:
        cells = [row[key] for key in ("data", "aggregate", "questions", "before", "now", "gained", "lost")]
        lines.append(f"| {' | '.join(map(str, [*cells, *row['no_target']]))} |")
    lines += [
        "",
        f"## Time of a call on {result['time']['responses']:,} recorded responses",
        "",
        f"Milliseconds of CPU time, cold cache, the fastest of {RUNS} alternating runs of each call.",
        "",
        "| call | median before | now | ratio | 99th percentile before | now | ratio | slowest before | now |",
        "| --- " * 9 + "|",
    ]
    for name in CALLS:
        its = result["time"][name]
        cells = [name]
        for key in ("median", "p99"):
            cells += [f"{its['before'][key]:.3f}", f"{its['now'][key]:.3f}", f"{its['ratio'][key]:.2f}"]
        cells += [f"{its[version]['slowest']:.1f}" for version in ("before", "now")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, short."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Entry point; see the module's docstring."""
    if sys.argv[1:2] == ["--child"]:
        json.dump(CHILDREN[sys.argv[2]](json.load(sys.stdin)), sys.stdout)
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the records")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results; figures go beside it as JSON")
    args = parser.parse_args()
    for folder in (args.data, args.before / "pst_rl"):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    result = {
        "before": commit_of(args.before),
        "votes": right_targets(args.data, args.before),
        "time": time_of_calls(args.data, args.before),
    }
    args.report.write_text(markdown(result))
    args.report.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(args.report.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
