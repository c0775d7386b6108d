"""Compares label-free aggregates on recorded answers: each model is a peer, each question a group with one chain.

    python scripts/bench_aggregates.py --data recorded_gsm8k.jsonl --json runs/aggregates_gsm8k.json
    python scripts/bench_aggregates.py --data gsm8k.jsonl simuleq.jsonl --metric whole first --teams 3

Several files are aggregated one by one and scored together; the best single model is then the best one of each file.
`--metric` says what the gold of each file is: the whole answer, or the first quantity asked for (SimulEq).
`--teams K` adds the mean over all teams of K models. A line of a file is a JSON object with `question`, `answer` (the
gold answer, which only scores) and `responses` {model: text}. Intervals are 95 % bootstrap intervals over questions.
The difference to the majority is also given with the majority's ties drawn at random (in expectation).
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from pst_rl.aggregation import Aggregator, Majority, Weighted
from pst_rl.aggregation.reliability import Reliability
from pst_rl.answers import Answer, find_answer, is_correct
from pst_rl.answers.score import Metric
from pst_rl.measure import paired_bootstrap
from pst_rl.records import Group, Response, Target, Targets


class AgreementWeighted(Aggregator):
    """Vote in which a peer counts by the share of questions on which it agrees with another peer, mean over peers."""

    def __call__(self, group: Group) -> Targets:
        keys = [[row[0].key for row in peer] for peer in group.responses]
        agree = lambda a, b: fmean(x is not None and x == y for x, y in zip(a, b, strict=True))  # noqa: E731
        scores = {
            name: fmean(agree(keys[p], other) for o, other in enumerate(keys) if o != p)
            for p, name in enumerate(group.peers)
        }
        return Weighted(scores)(group)


class MostReliable(Aggregator):
    """The answer of the one peer whom `Reliability` finds most reliable: a choice of model without labels."""

    def __call__(self, group: Group) -> Targets:
        judge = Reliability()
        judge(group)
        best = max(group.peers, key=judge.reliabilities.__getitem__)
        return Weighted({name: float(name == best) for name in group.peers})(group)


# Factories: an aggregator with a memory must not carry it from one file or team to the next.
AGGREGATES: dict[str, Callable[[], Aggregator]] = {
    "majority": Majority,
    "agreement_weighted": AgreementWeighted,
    "reliability": Reliability,
    "reliability_two_classes": partial(Reliability, classes=2),
    "most_reliable_peer": MostReliable,
}


@dataclass(frozen=True)
class Recorded:
    """The recorded answers of one file: the group has no gold; `gold[q]` only scores, by `metric`."""

    name: str
    group: Group
    gold: list[Any]
    metric: Metric = "whole"


@dataclass(frozen=True)
class Plurality:
    """The plurality of one question: whether it is tied, and how likely a winner drawn at random is right."""

    tied: bool
    right: float


@dataclass(frozen=True)
class Scores:
    """Whether each question of a file was right, by aggregate and by model, and what the aggregates said."""

    aggregates: dict[str, list[bool]]
    models: dict[str, list[bool]]
    targets: dict[str, list[Target | None]]
    plurality: list[Plurality]

    @property
    def best(self) -> str:
        """The best single model, chosen by gold."""
        return max(self.models, key=lambda name: sum(self.models[name]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FILE", help="recorded answers, JSONL")
    metrics = get_args(Metric)
    parser.add_argument("--metric", nargs="+", choices=metrics, default=["whole"], help="one for all files, or each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--teams", type=int, metavar="K", help="also the mean over all teams of K models")
    args = parser.parse_args()
    if len(args.metric) not in (1, len(args.data)):
        parser.error(f"--metric takes one metric for all files or one for each of {len(args.data)}.")
    given = args.metric if len(args.metric) > 1 else args.metric * len(args.data)
    try:
        files = [read(path, metric) for path, metric in zip(args.data, given, strict=True)]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.teams is not None and not 2 <= args.teams <= min(len(file.group.peers) for file in files):
        parser.error(f"--teams must lie between 2 and the number of models in each file, got {args.teams}.")
    apart = [report([file], args.teams) for file in files]
    result = apart[0] if len(files) == 1 else report(files, args.teams) | {"files": apart}
    for figures in [*apart, result] if len(files) > 1 else apart:
        show(figures)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def read(path: Path, metric: Metric = "whole") -> Recorded:
    """The recorded answers of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has another format; the message names the line.
    """
    rows = [_row(path, number, line) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)]
    if not rows:
        raise ValueError(f"{path} is empty: give one JSON object a line.")
    models = sorted(rows[0]["responses"])
    for number, row in enumerate(rows, 1):
        if sorted(row["responses"]) != models:
            raise ValueError(f"{path}, line {number}: every question needs responses of the same models, {models}.")
    return Recorded(path.name, group_of(rows, models), [row["answer"] for row in rows], metric)


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number} is not JSON ({error}): give one JSON object a line.") from error
    if not isinstance(row, dict) or (missing := {"question", "answer", "responses"} - set(row)):
        lacks = f"lacks {', '.join(sorted(missing))}" if isinstance(row, dict) else "is no JSON object"
        raise ValueError(f"{path}, line {number} {lacks}: recorded answers need question, answer and responses.")
    texts = row["responses"]
    if not isinstance(texts, dict) or len(texts) < 2 or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{path}, line {number}: `responses` must map at least two models to their texts.")
    return row


def group_of(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> Group:
    """All questions as one generation batch of these models, without gold."""
    said = lambda text: Response(text, find_answer(text), finished=True, length=len(text))  # noqa: E731
    return Group(
        peers=tuple(models),
        prompts=tuple(row["question"] for row in rows),
        columns=({},) * len(rows),
        order=(tuple(range(len(models))),) * len(rows),
        responses=tuple(tuple((said(row["responses"][m]),) for row in rows) for m in models),
        rng=Random(0),
    )


def vote(aggregator: Aggregator, group: Group) -> list[Target | None]:
    """The aggregate of each question.

    Raises:
        ValueError: the aggregator gives different peers different targets, so that there is no one answer to score.
    """
    targets = aggregator(group)
    if any(peer != targets[0] for peer in targets):
        raise ValueError(f"{type(aggregator).__name__} makes a target per peer; only one per question can be scored.")
    return [chains[0] for chains in targets[0]]


def score(recorded: Recorded) -> Scores:
    """Every aggregate and every model against gold; an abstention is not right."""
    group, gold, metric = recorded.group, recorded.gold, recorded.metric
    targets = {name: vote(make(), group) for name, make in AGGREGATES.items()}
    return Scores(
        {name: _hits([t and t.answer for t in made], gold, metric) for name, made in targets.items()},
        {
            m: _hits([row[0].answer for row in rows], gold, metric)
            for m, rows in zip(group.peers, group.responses, strict=True)
        },
        targets,
        [_plurality(group, q, g, metric) for q, g in enumerate(gold)],
    )


def _hits(answers: Sequence[Answer | None], gold: Sequence[Any], metric: Metric) -> list[bool]:
    return [a is not None and is_correct(a, g, metric=metric) for a, g in zip(answers, gold, strict=True)]


def _plurality(group: Group, question: int, gold: Any, metric: Metric) -> Plurality:
    answers = [r.answer for _, _, r in group.pooled(question) if r.answer is not None]
    counts = Counter(answer.key for answer in answers)
    winners = [next(a for a in answers if a.key == key) for key, n in counts.items() if n == max(counts.values())]
    return Plurality(len(winners) > 1, fmean(is_correct(a, gold, metric=metric) for a in winners) if winners else 0.0)


def report(files: list[Recorded], teams: int | None = None) -> dict[str, Any]:
    """The figures of all files' questions together, as fractions; `teams` is the size of the teams, if any."""
    scores = [score(file) for file in files]
    majority = [hit for s in scores for hit in s.aggregates["majority"]]
    best = [hit for s in scores for hit in s.models[s.best]]
    drawn = np.array([p.right for s in scores for p in s.plurality])
    aggregates = {}
    for name in AGGREGATES:
        hits = [hit for s in scores for hit in s.aggregates[name]]
        shares = [target.share for s in scores for target in s.targets[name] if target is not None]
        aggregates[name] = _accuracy(hits) | {
            "minus_majority": _difference(majority, hits),
            "minus_majority_ties_drawn": _mean_difference(hits - drawn),
            "minus_best_single": _difference(best, hits),
            "answered": len(shares) / len(hits),
            "mean_share": fmean(shares) if shares else None,
        }
    result = {
        "data": [file.name for file in files],
        "questions": len(majority),
        "aggregates": aggregates,
        "majority": _accuracy(majority)
        | {
            "tied_questions": sum(p.tied for s in scores for p in s.plurality),
            "accuracy_ties_drawn": float(drawn.mean()),
        },
        "best_single": _accuracy(best) | {"model": [s.best for s in scores]},
        "any_right": _accuracy([any(hits) for s in scores for hits in zip(*s.models.values(), strict=True)]),
        "models": [{name: _accuracy(hits) for name, hits in s.models.items()} for s in scores],
    }
    return result if teams is None else result | {"teams": report_teams(files, teams)}


def _accuracy(hits: Sequence[bool]) -> dict[str, Any]:
    interval = paired_bootstrap([False] * len(hits), hits)
    return {"accuracy": interval.gain, "ci95": [interval.low, interval.high]}


def _difference(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    interval = paired_bootstrap(before, after)
    return {"difference": interval.gain, "ci95": [interval.low, interval.high]}


def report_teams(files: list[Recorded], size: int) -> dict[str, Any]:
    """Mean over all teams of `size` models: per question first, so that the intervals are over questions."""
    hits = {name: [] for name in [*AGGREGATES, "best_single", "ties_drawn"]}  # mean over the teams, by question
    teams = 0
    for file in files:
        scores = [score(_team(file, members)) for members in combinations(range(len(file.group.peers)), size)]
        teams += len(scores)
        for name in AGGREGATES:
            hits[name].extend(np.mean([s.aggregates[name] for s in scores], axis=0))
        hits["best_single"].extend(np.mean([s.models[s.best] for s in scores], axis=0))
        hits["ties_drawn"].extend(np.mean([[p.right for p in s.plurality] for s in scores], axis=0))
    means = {name: np.array(values) for name, values in hits.items()}  # (questions,)
    return {
        "size": size,
        "teams": teams,
        "best_single": {"accuracy": float(means["best_single"].mean())},
        "aggregates": {
            name: {
                "accuracy": float(means[name].mean()),
                "minus_majority": _mean_difference(means[name] - means["majority"]),
                "minus_majority_ties_drawn": _mean_difference(means[name] - means["ties_drawn"]),
                "minus_best_single": _mean_difference(means[name] - means["best_single"]),
            }
            for name in AGGREGATES
        },
    }


def _team(file: Recorded, members: Sequence[int]) -> Recorded:
    group = replace(
        file.group,
        peers=tuple(file.group.peers[p] for p in members),
        responses=tuple(file.group.responses[p] for p in members),
        order=(tuple(range(len(members))),) * len(file.gold),
    )
    return replace(file, group=group)


def _mean_difference(values: np.ndarray) -> dict[str, Any]:
    """Mean of fractions with its percentile bootstrap interval; `paired_bootstrap` takes right or wrong only."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    return {"difference": float(values.mean()), "ci95": [float(x) for x in np.quantile(draws, [0.025, 0.975])]}


def show(result: dict[str, Any]) -> None:
    """Prints the figures as tables, in percent and points."""
    console = Console()
    title = f"{', '.join(result['data'])}: {result['questions']} questions, "
    title += f"{result['majority']['tied_questions']} with a tied plurality"
    rows = list(result["aggregates"].items())
    rows += [(f"best single: {', '.join(result['best_single']['model'])}", result["best_single"])]
    if len(result["models"]) == 1:
        rows += [(f"{name} alone", figures) for name, figures in result["models"][0].items()]
    rows += [("any model right (bound)", result["any_right"])]
    console.print(_table(title, rows))
    if "teams" in result:
        teams = result["teams"]
        rows = [*teams["aggregates"].items(), ("best single of each team", teams["best_single"])]
        console.print(_table(f"Mean over {teams['teams']} teams of {teams['size']} models", rows))


def _table(title: str, rows: list[tuple[str, dict[str, Any]]]) -> Table:
    table = Table(title=title)
    table.add_column("aggregate")
    for head in ("right, %", "minus majority, points", "the same, its ties drawn", "minus best single, points"):
        table.add_column(head, justify="right")
    for name, figures in rows:
        cells = [_span(figures["accuracy"], figures.get("ci95"), "")]
        for key in ("minus_majority", "minus_majority_ties_drawn", "minus_best_single"):
            cells.append(_span(figures[key]["difference"], figures[key]["ci95"], "+") if key in figures else "")
        table.add_row(name, *cells)
    return table


def _span(value: float, interval: list[float] | None, sign: str) -> str:
    """A value in percent with its interval, if it has one."""
    ends = "" if interval is None else " ({:{s}.1f} to {:{s}.1f})".format(*(100 * x for x in interval), s=sign)
    return f"{100 * value:{sign}.1f}{ends}"


if __name__ == "__main__":
    sys.exit(main())
