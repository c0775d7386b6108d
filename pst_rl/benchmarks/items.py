"""From the rows of a benchmark to items: what is shown, and the gold answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from pst_rl.benchmarks.benchmark import BENCHMARKS, Benchmark, Scoring
from pst_rl.benchmarks.prompts import PromptFile, load_prompt
from pst_rl.data import PRESETS, is_file, load_questions
from pst_rl.questions.choices import read_choices

if TYPE_CHECKING:
    from pst_rl.answers.extract import Style

CLAIM_COLUMNS = ("claim", "choice", "statement")
NEEDS = {"question": ("question",), "choices": ("question", "choices"), "claims": ("question", "claim")}


@dataclass(frozen=True)
class Item:
    """One thing to answer: the question, the text of the user's message, and the gold answer or all solutions."""

    question: str
    shown: str
    gold: str | list[str]


def find_benchmark(name: str) -> Benchmark:
    """A named benchmark, or one of questions and answers made of a file or a Hub id.

    Raises:
        ValueError: It is none of them.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if "/" not in name and not is_file(name):
        nearest = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(BENCHMARKS)},"
        raise ValueError(f"Unknown benchmark {name!r}: {hint} Or give a Hub id (owner/name) or a file.")
    return Benchmark(name, name, "test", "boxed.v1", {"exact_match": Scoring()})


def load_items(
    benchmark: Benchmark,
    *,
    data: str | None = None,
    split: str | None = None,
    prompt: PromptFile | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Item]:
    """The items of a benchmark.

    Args:
        data: Where its rows are, instead of the benchmark's own source: a file with the same columns, or a Hub id.
        split: By default the benchmark's; of a file all rows.
        prompt: By default the benchmark's.
        question_column, answer_column: Where the usual names do not fit; of questions only.
        limit: So many items, drawn by `seed`, in their order.

    Raises:
        FileNotFoundError: The file, the data set on the Hub or the prompt is not there.
        ValueError: For columns that do not fit, and for items without a gold answer.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    prompt = prompt or load_prompt(benchmark.prompt, NEEDS[benchmark.form])
    place = data or benchmark.source
    if place in ("tiny", *PRESETS) or not is_file(place):
        split = split or benchmark.split
    if benchmark.form == "question":
        named = benchmark.name if data is None and benchmark.name in PRESETS else place
        rows = load_questions(
            named, split=split, question_column=question_column, answer_column=answer_column, limit=limit, seed=seed
        )
        if "answer" not in rows.column_names:
            raise ValueError(f"{place} has no gold answers to measure against: set answer_column to the column.")
        questions, answers = list(rows["question"]), list(rows["answer"])
        if None in answers:
            row = answers.index(None)
            raise ValueError(f"{place} has no gold answer for {questions[row]!r}: fill in the row or remove it.")
        return [Item(q, prompt.fill({"question": q}), a) for q, a in zip(questions, answers, strict=True)]
    if question_column or answer_column:
        raise ValueError(f"{benchmark.name} has {benchmark.form}, whose columns are fixed: leave --*-column out.")
    from pst_rl.coherence.claims import load_rows

    rows = load_rows(place, place, split, "question").to_list()
    read = _choices if benchmark.form == "choices" else _claims
    items = [Item(q, prompt.fill(v), gold) for i, row in enumerate(rows) for q, v, gold in read(row, i, place)]
    if limit is not None and limit < len(items):
        items = [items[i] for i in sorted(Random(seed).sample(range(len(items)), limit))]
    return items


def _choices(row: Mapping[str, Any], index: int, place: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """CommonsenseQA's `choices` {label, text} with `answerKey`, or MMLU's list with the `answer`'s index."""
    choices, gold = (_column(row, names, index, place) for names in (("choices",), ("answerKey", "answer")))
    try:
        found = read_choices(choices)
        letter = found.label_of(gold) if found else None
    except ValueError as error:
        raise ValueError(f"Row {index} of {place} has {error}.") from error
    if found is None or letter is None:
        raise ValueError(f"Row {index} of {place} has no choices or no answer.")
    yield row["question"], {"question": row["question"], "choices": found.lines}, letter


def _claims(row: Mapping[str, Any], index: int, place: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """A claim with its label, or every choice of TruthfulQA's `mc1_targets`, whose first is the true one."""
    if targets := row.get("mc1_targets"):
        claims = list(zip(targets["choices"], targets["labels"], strict=True))
    else:
        claims = [(_column(row, CLAIM_COLUMNS, index, place), _column(row, ("label",), index, place))]
    for claim, label in claims:
        if label not in (0, 1):
            raise ValueError(f"Row {index} of {place} has the label {label!r}; it must be 0 (false) or 1 (true).")
        values = {"question": row["question"], "claim": str(claim)}
        yield f"{row['question']} {claim}", values, ("False", "True")[label]


def _column(row: Mapping[str, Any], names: Sequence[str], index: int, place: str) -> Any:
    found = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    if found is None:
        raise ValueError(f"Row {index} of {place} has nothing in {' or '.join(names)}; it has {', '.join(row)}.")
    return found


def with_style(benchmark: Benchmark, style: Style | None) -> Benchmark:
    """The benchmark scored by one other answer style, if one is given."""
    if style is None:
        return benchmark
    return replace(benchmark, scorings={style: Scoring(style, benchmark.metric)})
