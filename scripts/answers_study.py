"""How recorded responses of real models are read: agreement with the recorded verdicts, and who is right where not.

    python scripts/answers_study.py                 # writes docs/results/answers_recorded.md and .json
    python scripts/answers_study.py --open          # prints the disagreements that nobody has judged

The rules of the reader were developed on one half of the responses (seed 0) and checked on the other. Every
disagreement was judged by reading the response; the judgements are in `answers_adjudicated.json`, keyed by a hash of
gold and response. A row without a verdict counts nowhere.
"""

import argparse
import hashlib
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pst_rl.answers import find_answer, is_correct

ROOT = Path(__file__).resolve().parents[1]
JUDGED = ROOT / "scripts" / "answers_adjudicated.json"
REPORT = ROOT / "docs" / "results" / "answers_recorded.md"
SETS = {"math": "recorded_math.jsonl", "GSM8K": "recorded_gsm8k.jsonl", "SimulEq": "recorded_simuleq.jsonl"}
FIRST = ("SimulEq",)  # sets whose gold is the first unknown only
MEANING = {
    "ours": "we are right",
    "recorded": "the recorded verdict is right",
    "neither": "cannot be said: the question or the gold is broken",
}


@dataclass(frozen=True)
class Row:
    """One recorded response with its verdict and ours."""

    data: str
    hash: str
    development: bool
    gold: str
    response: str
    recorded: bool
    ours: bool
    read: str | None
    reason: str


def rows_of(data: str, path: Path) -> list[Row]:
    """The rows of a recorded set, in order; half of them belong to development."""
    cases = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "response" in row:
            cases.append((row["answer"], row["response"], row["verdict"]))
        else:
            cases += [(row["answer"], text, row["verdicts"][model]) for model, text in row["responses"].items()]
    order = list(range(len(cases)))
    random.Random(0).shuffle(order)
    development = set(order[: len(order) // 2])
    return [_row(data, index in development, *case) for index, case in enumerate(cases) if case[2] is not None]


def _row(data: str, development: bool, gold: str, response: str, recorded: bool) -> Row:
    answer = find_answer(response)
    return Row(
        data,
        hashlib.sha256(f"{gold}\0{response}".encode("utf-8", "surrogatepass")).hexdigest()[:12],
        development,
        gold,
        response,
        recorded,
        is_correct(response, gold, metric="first") if data in FIRST else is_correct(response, gold),
        answer and answer.text,
        answer.reason if answer else "unparsed",
    )


def agreement(rows: list[Row]) -> float:
    """Share of the rows where both verdicts are the same."""
    return sum(row.recorded == row.ours for row in rows) / len(rows) if rows else 0.0


def figures(rows: list[Row], judged: dict[str, dict[str, str]]) -> dict[str, float | int | dict[str, int]]:
    """What is said of one set."""
    apart = [row for row in rows if row.recorded != row.ours]
    verdicts = Counter(judged[row.hash]["right"] if row.hash in judged else "open" for row in apart)
    return {
        "responses": len(rows),
        "agreement": agreement(rows),
        "agreement_development": agreement([row for row in rows if row.development]),
        "agreement_check": agreement([row for row in rows if not row.development]),
        "disagreements": len(apart),
        "judged": dict(verdicts),
        "right_after_judging": (len(rows) - len(apart) + verdicts["ours"]) / len(rows),
        "reasons": dict(Counter(row.reason for row in rows)),
    }


def markdown(found: dict[str, dict], apart: list[Row], judged: dict[str, dict[str, str]]) -> str:
    """The page of results."""
    lines = [
        "# Recorded answers",
        "",
        "Written by `python scripts/answers_study.py`; do not edit. What it means: [answers](../answers-study.md).",
        "",
        "| responses | count | agree with the verdict | development half | other half | disagreements | we are right "
        "| verdict is right | cannot be said | not judged | right after judging |",
        "| --- " * 11 + "|",
    ]
    for name, its in found.items():
        its_judged = [str(its["judged"].get(kind, 0)) for kind in (*MEANING, "open")]
        shares = [f"{its[key]:.1%}" for key in ("agreement", "agreement_development", "agreement_check")]
        cells = [name, str(its["responses"]), *shares, str(its["disagreements"]), *its_judged]
        lines.append(f"| {' | '.join(cells)} | {its['right_after_judging']:.1%} |")
    lines += ["", "## How they were read", "", "| responses | reason | count |", "| --- | --- | --- |"]
    for name, its in found.items():
        lines += [f"| {name} | {reason} | {count} |" for reason, count in sorted(its["reasons"].items())]
    lines += ["", "## Disagreements by class", "", "| who is right | class | count |", "| --- | --- | --- |"]
    classes = Counter((judged[row.hash]["right"], judged[row.hash]["class"]) for row in apart if row.hash in judged)
    lines += [f"| {MEANING[right]} | {kind} | {n} |" for (right, kind), n in sorted(classes.items())]
    lines += [
        "",
        "## Every disagreement",
        "",
        "| data | row | gold | read | recorded | right | class |",
        "| --- " * 7 + "|",
    ]
    for row in sorted(apart, key=lambda row: (row.data, row.hash)):
        its = judged.get(row.hash, {"right": "not judged", "class": ""})
        cells = (
            row.data,
            row.hash,
            _cell(row.gold),
            _cell(row.read or "nothing"),
            "right" if row.recorded else "wrong",
        )
        lines.append(f"| {' | '.join(cells)} | {its['right']} | {its['class']} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """A short quote that a Markdown table can hold."""
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{text[:40]}`" if text else ""


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the records")
    parser.add_argument("--judged", type=Path, default=JUDGED, help="judgements (JSON)")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results; figures go beside it as JSON")
    parser.add_argument("--open", action="store_true", help="only print the disagreements that nobody has judged")
    args = parser.parse_args()
    if not args.data.is_dir():
        parser.error(f"there is no folder {args.data}: name one with --data")
    judged = json.loads(args.judged.read_text()) if args.judged.is_file() else {}
    rows = {name: rows_of(name, args.data / file) for name, file in SETS.items()}
    apart = [row for its in rows.values() for row in its if row.recorded != row.ours]
    if args.open:
        for row in apart:
            if row.hash not in judged:
                print(f"{row.data} {row.hash} gold {row.gold!r} read {row.read!r} recorded {row.recorded}")
                print(f"    {row.response[-300:]!r}")
        return 0
    found = {name: figures(its, judged) for name, its in rows.items()}
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(markdown(found, apart, judged))
    args.report.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    print(args.report.read_text().split("\n## How")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
