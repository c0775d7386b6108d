"""What the folders of `pst-rl eval` and `pst-rl gv-gap` hold: scores, and responses with why each is read as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pst_rl.report.questions import Limits, cut
from pst_rl.report.results_file import FILE, KINDS, WrongKind, read_results_file
from pst_rl.report.run import Run, read_run
from pst_rl.report.text import visible

RESPONSES = "responses.jsonl"
_TOLD = {"responses": "greedy", "collaborative": "in turn"}  # as a row of the file calls them -> as the page does


@dataclass(frozen=True)
class Measured:
    """One evaluation, or one measurement of generator-verifier gaps.

    Attributes:
        name: What it is called on the page.
        folder: Where it lies.
        kind: `"evaluation"` or `"gap"`, as in `results.json`.
        results: Its content.
        rows: Of an evaluation, what was said to each question, as in `responses.jsonl`.
        missing: One sentence for each part that is not there or cannot be read.
    """

    name: str
    folder: Path
    kind: str
    results: dict[str, Any]
    rows: tuple[dict[str, Any], ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def peers(self) -> list[str]:
        """Names of the peers."""
        return list(self.results["peers"])


def read_folders(folders: Sequence[str | Path]) -> tuple[list[Run], list[Measured]]:
    """The runs, and the evaluations and gaps, in these folders; folders of one name are called by what was typed.

    Raises:
        FileNotFoundError: A folder is not there, or holds nothing of either.
        WrongKind: All it holds is the results of another command.
    """
    names = [Path(folder).resolve().name for folder in folders]
    runs: list[Run] = []
    measured: list[Measured] = []
    for folder, name in zip(folders, names, strict=True):
        called = name if names.count(name) == 1 else str(folder)
        try:
            runs.append(read_run(folder, called))
        except WrongKind as foreign:
            try:
                measured.append(read_measured(folder, called))
            except WrongKind:
                raise foreign from None
    return runs, measured


def read_measured(folder: str | Path, name: str | None = None) -> Measured:
    """Reads an evaluation or gaps.

    Raises:
        FileNotFoundError, ValueError: As `read_results_file`: the folder has no results, or those of another command.
    """
    folder = Path(folder)
    try:
        kind, results = "evaluation", read_results_file(folder, "evaluation")
    except WrongKind:
        kind, results = "gap", read_results_file(folder, "gap")
    name = name or folder.resolve().name
    if kind == "gap":
        return Measured(name, folder, kind, results)
    rows, missing = _rows(folder / RESPONSES)
    if rows and len(rows) != len(results["questions"]):
        missing = (f"{RESPONSES} is of {len(rows)} questions and {FILE} of {len(results['questions'])}.",)
        rows = ()
    if rows and "finished" not in rows[0]:
        missing += (
            f"which responses were cut off: {RESPONSES} is of an older version; run {KINDS[kind].made_by} again.",
        )
    return Measured(name, folder, kind, results, rows, missing)


def _rows(path: Path) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """What was said, and what is missing of it."""
    if not path.is_file():
        return (), (f"{RESPONSES}: what was said is not known.",)
    try:
        rows = tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        if not all(isinstance(row, dict) and isinstance(row.get("responses"), dict) for row in rows):
            raise ValueError("a line has no responses")
    except ValueError as error:
        return (), (f"{RESPONSES} cannot be read ({error}).",)
    return rows, ()


# ---- what was said, read once more ----


def response_rows(measured: Sequence[Measured], limits: Limits) -> list[dict[str, Any]]:
    """One record for each evaluation and question, of JSON's types only, every text `visible`.

    `said` has for each response its peer, how it was made (greedy, in turn, a sample), text, answer, whether it was
    cut off (`null`: not known), for each scoring whether it is right, and `why` it is read so, in lines.
    """
    found = []
    for index, one in enumerate(measured):
        for number, row in enumerate(one.rows[: limits.measured]):
            found.append(
                {
                    "measured": index,
                    "question": cut(row.get("question", ""), limits.characters),
                    "gold": visible(_plain(row.get("answer"))),
                    "said": [_said(one, row, number, limits, *place) for place in _places(row)],
                }
            )
    return found


def not_shown(measured: Sequence[Measured], limits: Limits) -> list[str]:
    """What the page does not show of the responses, one sentence for each evaluation."""
    return [
        f"{one.name}: {limits.measured} of {len(one.rows)} questions; more with --questions."
        for one in measured
        if len(one.rows) > limits.measured
    ]


def _places(row: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Where each response of a row is: kind, peer, and number of the sample."""
    for kind in _TOLD:
        yield from ((kind, peer, None) for peer in row.get(kind) or {})
    for peer, texts in (row.get("samples") or {}).items():
        yield from (("samples", peer, number) for number in range(len(texts)))


def _said(
    one: Measured, row: Mapping[str, Any], question: int, limits: Limits, kind: str, peer: str, sample: int | None
) -> dict[str, Any]:
    from pst_rl.measure.samples import judge

    def at(place: Any) -> Any:
        return place if sample is None or place is None else place[sample]

    text = at(row[kind][peer])
    finished = at((row.get("finished") or {}).get(kind, {}).get(peer))
    read = finished is not False or one.results.get("settings", {}).get("parse_truncated", False)
    scorings = one.results.get("scorings") or {"exact_match": {}}
    right = {
        visible(name): judge(text, row.get("answer"), **_reading(scoring), finished=read).correct
        for name, scoring in scorings.items()
    }
    if kind == "responses":  # as it was scored then, by the version of that time
        right |= {
            visible(name): bool(scored[question])
            for name in scorings
            if (scored := one.results["scores"].get(name, {}).get(peer, {}).get("greedy", {}).get("by_question"))
        }
    answer, why = _why(text, scorings, read)
    return {
        "peer": visible(peer),
        "kind": _TOLD.get(kind) or f"sample {(sample or 0) + 1}",
        "text": cut(text, limits.characters),
        "answer": answer,
        "cut": None if finished is None else not finished,
        "right": right,
        "why": why,
    }


def _why(text: str, scorings: Mapping[str, Any], read: bool) -> tuple[str | None, list[str]]:
    """The answer by the first scoring, and why it is that, by each style that differs."""
    from pst_rl.answers.explain import describe, explain

    styles = {str(scoring.get("style", "auto")): name for name, scoring in scorings.items()}
    answer, lines = None, []
    for number, (style, name) in enumerate(styles.items()):
        found = explain(text, style)  # type: ignore[arg-type]  # it was checked when it was scored
        if number == 0 and read and found.answer is not None:
            answer = visible(found.answer.text)
        said = [visible(line) for line in describe(found)]
        lines += [f"{name}: {line}" for line in said] if len(styles) > 1 else said
    return answer, lines if read else ["cut off, so no answer is read; if it were:", *lines]


def _reading(scoring: Mapping[str, Any]) -> dict[str, Any]:
    return {name: scoring[name] for name in ("style", "metric") if name in scoring}


def _plain(gold: Any) -> str:
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False)
