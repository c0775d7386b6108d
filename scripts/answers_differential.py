"""Our scoring beside math-verify's on recorded answers: each class of difference, and who is right.

    python scripts/answers_differential.py ../shared/data       # writes docs/results/answers_differential.md and .json

The folder holds `recorded_math.jsonl`, `recorded_gsm8k.jsonl`, `recorded_simuleq.jsonl` and `answer_pairs.jsonl`. Both
judge the same found answer against the same gold, so reading a response is not compared. math-verify reads LaTeX only
here: what would evaluate text as Python is shut off, as in the library.
"""

import argparse
import importlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pst_rl.answers import Answer, canonical_key, find_answer, is_correct

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "answers_differential.md"
EXAMPLES = 3
CURRENCY = r"\\?\$"  # math-verify is not held to account for our delimiters around a dollar sign


@dataclass(frozen=True)
class Case:
    """One answer against its gold, with the verdict that was recorded with it and both judgements."""

    source: str
    gold: str
    answer: str
    recorded: bool | None
    ours: bool
    theirs: bool


def _with(pattern: str) -> Callable[[Case], bool]:
    found = re.compile(pattern)
    return lambda case: bool(found.search(case.answer) or found.search(case.gold))


def _is_decimal_for_exact(case: Case) -> bool:
    return bool(re.search(r"\d\.\d", case.answer)) != bool(re.search(r"\d\.\d", case.gold))


def _is_swapped(case: Case) -> bool:
    return sorted(re.findall(r"[\w.]+", case.answer)) == sorted(re.findall(r"[\w.]+", case.gold))


# The classes in the order in which they are tried: name, test, who is right and why.
CLASSES: tuple[tuple[str, Callable[[Case], bool], str], ...] = (
    (
        "time of day, base or ratio",
        _with(r"\d\s*:\s*\d|\d_\{?\d|[ap]\.?m\.?\b"),
        "ours: its spelling is free; the base is the question's",
    ),
    ("several values, the first asked for", lambda c: c.source == "SimulEq", "ours: the benchmark asks for the first"),
    (
        "choice and its text",
        lambda c: bool(re.fullmatch(r"\W*(text)?\W*[A-Za-z]\W*", c.gold)),
        "ours: a choice is its letter; theirs multiplies letters or drops them",
    ),
    ("percent", _with(r"%|percent|pct"), "ours: 50% is 50 here and never 0.5 of the gold"),
    (
        "matrix or vector",
        _with(r"matrix|array"),
        "ours: a row break that lost a backslash is one; a vector with a name is a vector",
    ),
    (
        "inequality or interval",
        _with(r"<|>|\\leq?|\\geq?|\\infty|\\cup|\\in\b"),
        "ours where an end is written in another way; theirs: |z| in an interval",
    ),
    (
        "equation or label",
        _with(r"="),
        "ours where a name stands before the value; an equation is never a bare number",
    ),
    ("tuple, list or set", _with(r"[,;]|\\text\{ ?(and|or)|\b(and|or)\b"), "ours: tuples keep order, sets do not"),
    (
        "a decimal for an exact value",
        _is_decimal_for_exact,
        "ours: three significant digits of the value's rounding; theirs compares six digits or evaluates exactly",
    ),
    ("unit or words", _with(r"\\(text|mbox|mathrm)|[A-Za-z]{3,}|\^\\?\{?\\circ"), "ours: a unit is dropped"),
    ("same symbols in another order", _is_swapped, "either"),
    ("other", lambda case: True, "see the examples"),
)


def cases(folder: Path) -> Iterator[Case]:
    """Every recorded answer that was found, once for each gold, with both judgements."""
    seen: dict[tuple[str, str, str], Case] = {}
    for source, gold, answer, recorded in _rows(folder):
        if (source, gold, answer.text) in seen:
            continue
        metric = "first" if source == "SimulEq" else "whole"
        case = Case(
            source, gold, answer.text, recorded, is_correct(answer, gold, metric=metric), _theirs(gold, answer.text)
        )
        seen[source, gold, answer.text] = case
        yield case


def _rows(folder: Path) -> Iterator[tuple[str, str, Answer, bool | None]]:
    for row in _read(folder / "answer_pairs.jsonl"):
        yield "pairs", row["gold"], Answer.of(row["answer"]), row["equal"]
    for row in _read(folder / "recorded_math.jsonl"):
        if (answer := find_answer(row["response"])) is not None:
            yield "MATH", row["answer"], answer, row["verdict"]
    for source, name in (("GSM8K", "recorded_gsm8k.jsonl"), ("SimulEq", "recorded_simuleq.jsonl")):
        for row in _read(folder / name):
            for model, text in row["responses"].items():
                if (answer := find_answer(text)) is not None:
                    yield source, str(row["answer"]), answer, row["verdicts"][model]


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- math-verify ----


def _shut_off_evaluation() -> None:
    """Text must not reach sympy's `parse_expr`, which evaluates it as Python: such a reading fails instead."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("not read: it would be evaluated")

    for name in ("math_verify.parser", "latex2sympy2_extended.latex2sympy2"):
        importlib.import_module(name).parse_expr = refuse


def _theirs(gold: str, answer: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig()]
    read = [
        parse(
            text if text.count("$") > 1 or "boxed" in text else rf"\({re.sub(CURRENCY, '', text)}\)",
            config,
            parsing_timeout=3,
        )
        for text in (gold, answer)
    ]
    return bool(verify(*read, timeout_seconds=3))


# ---- the report ----


def classify(case: Case) -> str:
    """The first class of difference that a case belongs to."""
    return next(name for name, test, _ in CLASSES if test(case))


def summary(found: list[Case]) -> dict:
    """Counts of both, and the differences by class with short examples."""
    differences: dict[str, list[Case]] = defaultdict(list)
    for case in found:
        if case.ours != case.theirs:
            differences[classify(case)].append(case)
    judged = [case for case in found if case.recorded is not None]
    return {
        "answers": len(found),
        "ours_agree_with_recorded": sum(case.ours == case.recorded for case in judged) / len(judged),
        "theirs_agree_with_recorded": sum(case.theirs == case.recorded for case in judged) / len(judged),
        "differences": sum(map(len, differences.values())),
        "classes": [
            {
                "class": name,
                "who_is_right": why,
                "only_ours_accepts": sum(case.ours for case in differences[name]),
                "only_theirs_accepts": sum(case.theirs for case in differences[name]),
                "recorded_agrees_with_ours": sum(case.ours == case.recorded for case in differences[name]),
                "examples": [
                    {"gold": case.gold[:50], "answer": case.answer[:50], "ours": case.ours}
                    for case in sorted(differences[name], key=lambda case: len(case.gold + case.answer))[:EXAMPLES]
                ],
            }
            for name, _, why in CLASSES
            if name in differences
        ],
    }


def markdown(result: dict) -> str:
    """The page of results."""
    lines = [
        "# Our scoring beside math-verify's",
        "",
        "Written by `python scripts/answers_differential.py FOLDER`; do not edit. Rules: [answers](../answers.md).",
        "",
        f"{result['answers']:,} different recorded answers with their golds; {result['differences']} are judged "
        "differently.",
        "Agreement with the recorded verdicts, some of which are wrong: "
        f"ours {result['ours_agree_with_recorded']:.1%}, math-verify {result['theirs_agree_with_recorded']:.1%}.",
        "",
        "| class | only we accept | only math-verify accepts | recorded verdict is ours | who is right | examples |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["classes"]:
        total = row["only_ours_accepts"] + row["only_theirs_accepts"]
        quotes = "; ".join(
            f"{_quoted(e['answer'])} for {_quoted(e['gold'])} ({'right' if e['ours'] else 'wrong'} by ours)"
            for e in row["examples"]
        )
        lines.append(
            f"| {row['class']} | {row['only_ours_accepts']} | {row['only_theirs_accepts']} "
            f"| {row['recorded_agrees_with_ours']} of {total} | {row['who_is_right']} | {quotes} |"
        )
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return "`" + " ".join(text.replace("|", "/").replace("`", "'").split()) + "`"


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="recorded answers, JSON lines")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results; its figures beside it, .json")
    parser.add_argument("--list", metavar="CLASS", help="print all differences of a class")
    args = parser.parse_args()
    _shut_off_evaluation()
    found = list(cases(args.folder))
    if args.list:
        for case in found:
            if case.ours != case.theirs and classify(case) == args.list:
                print(case, canonical_key(case.gold), canonical_key(case.answer))
        return 0
    result = summary(found)
    args.report.write_text(markdown(result))
    args.report.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(args.report.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
