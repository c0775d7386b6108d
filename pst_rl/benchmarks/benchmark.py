"""What a benchmark is: where its rows are, what a peer is shown, and how an answer is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pst_rl.data import PRESETS, find_on_hub, is_file

if TYPE_CHECKING:
    from pst_rl.answers.reading import Style
    from pst_rl.answers.score import Metric


@dataclass(frozen=True)
class Scoring:
    """One way to read and to judge an answer; the arguments of `pst_rl.answers.is_correct`.

    Attributes:
        style: Where the answer stands in a response.
        metric: `"whole"` compares the whole answer, `"first"` the first quantity asked for, `"set"` asks for all
            solutions in any order, `"letter"` for a choice.
    """

    style: Style = "auto"
    metric: Metric = "whole"


@dataclass(frozen=True)
class Benchmark:
    """Attributes:
    name: What it is called.
    source: Hub id, `owner/name:config` where it has configurations, or `"tiny"`.
    split: The split that results are reported on; `None` for a source that is one test set.
    prompt: Name of the prompt file; see `pst_rl.benchmarks.prompts`.
    scorings: Ways to score by name. The first is the one that votes and tests use.
    form: What a row is: a question; one with choices, answered by a letter; a question with claims, each of them an
        item that is true or false.
    max_new_tokens: Room for a response.
    peer_template: How a peer is shown the response of one before it.
    """

    name: str
    source: str
    split: str | None
    prompt: str
    scorings: dict[str, Scoring]
    form: Literal["question", "choices", "claims"] = "question"
    max_new_tokens: int = 512
    peer_template: str = "\n\nAnother model answered:\n{text}"

    @property
    def metric(self) -> Metric:
        """How an answer is compared with gold where there is one way only."""
        return next(iter(self.scorings.values())).metric


_EXACT = {"exact_match": Scoring()}
_LETTER = {"exact_match": Scoring("choice", "letter")}

BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(
            "tiny",
            "tiny",
            "test",
            "plain.v1",
            {"exact_match": Scoring("hash")},
            max_new_tokens=48,
            peer_template="\nP: {text}",
        ),
        Benchmark("multiarith", "ChilleD/MultiArith", "test", "boxed.v1", _EXACT),
        Benchmark(
            "simuleq",
            "allenai/lila:simuleq",
            "test",
            "boxed.v1",
            {"first": Scoring(metric="first"), "set": Scoring(metric="set")},
        ),
        Benchmark("math500", "HuggingFaceH4/MATH-500", None, "boxed.v1", _EXACT, max_new_tokens=1024),
        Benchmark(
            "gsm8k",
            "openai/gsm8k:main",
            "test",
            "gsm8k.v1",
            {"strict": Scoring("hash"), "flexible": Scoring("number")},
        ),
        Benchmark(
            "commonsenseqa",
            "tau/commonsense_qa",
            "validation",
            "choice.v1",
            _LETTER,
            "choices",
            256,
        ),
        Benchmark("mmlu", "cais/mmlu:all", "test", "choice.v1", _LETTER, "choices", 256),
        Benchmark(
            "truthfulqa",
            "truthfulqa/truthful_qa:multiple_choice",
            "validation",
            "claim.v1",
            _EXACT,
            "claims",
            256,
        ),
    )
}
"""The named benchmarks. What is shown, and how long a response may be, are our choices; the rows are the sets' own."""


def metric_of(source: str) -> Metric:
    """How answers to the questions of a data set are compared with gold: as its benchmark does, if it has one.

    >>> metric_of("simuleq"), metric_of("allenai/lila:simuleq"), metric_of("gsm8k"), metric_of("owner/name")
    ('first', 'first', 'whole', 'whole')
    """
    known = source in PRESETS or ("/" in source and not is_file(source))
    preset = find_on_hub(source)[0] if known else None
    name = next((name for name, one in PRESETS.items() if one is preset), None)
    return "whole" if name is None else BENCHMARKS[name].metric
