"""Measures untrained peers that answer one after another against the same peers answering independently.

    python scripts/sequential_protocol.py                                # the shipped peers, on validation questions
    python scripts/sequential_protocol.py --peers runs/readers/gemma2 runs/readers/llama runs/readers/qwen2 \
        --name readers                                                   # another set of peers

Every speaking order and every form of showing what earlier peers said; what independent answers give is measured on
the same questions with the same number of samples, and the first speakers share their samples with it. Prints Markdown
tables and files the figures under `--name` in `--json`. About 20 minutes on one core.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
from datasets import Dataset
from transformers import set_seed

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.aggregation.votes import Majority
from pst_rl.answers import is_correct
from pst_rl.measure import Interval, mean_interval, paired_bootstrap
from pst_rl.peers.prompts import show_peers
from pst_rl.quiet import quiet_output
from pst_rl.records import Response, Rollout
from pst_rl.stages.rollout import fit_prompt, parse, shown_text
from pst_rl.tiny import TINY_PEERS, tiny_questions

Order = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """How a peer is shown the earlier ones: `peer_context`, and which of their texts (oldest first) in which order."""

    context: str
    arrange: Callable[[list[str]], list[str]] = list


FORMS = {
    "responses": Form("responses"),
    "responses, newest first": Form("responses", lambda texts: texts[::-1]),
    "responses, previous only": Form("responses", lambda texts: texts[-1:]),
    "answers": Form("answers"),
    "answers, previous only": Form("answers", lambda texts: texts[-1:]),
}


@dataclass(frozen=True)
class Said:
    """One peer's responses to all questions: row q * chains + g."""

    rollout: Rollout
    gold: Sequence[str]
    chains: int

    @cached_property
    def keys(self) -> np.ndarray:
        """Canonical answers, `None` where there is none; (Q, G)."""
        keys = [None if answer is None else answer.key for answer in self.rollout.answers]
        return np.array(keys, dtype=object).reshape(-1, self.chains)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each answer is right, bool (Q, G)."""
        hits = [
            answer is not None and is_correct(answer, self.gold[row // self.chains])
            for row, answer in enumerate(self.rollout.answers)
        ]
        return np.array(hits).reshape(-1, self.chains)

    def ballots(self, question: int, peer: int) -> list[tuple[int, int, Response]]:
        rows = range(question * self.chains, (question + 1) * self.chains)
        texts, answers, finished = self.rollout.texts, self.rollout.answers, self.rollout.finished
        return [(peer, g, Response(texts[i], answers[i], finished[i], 1)) for g, i in enumerate(rows)]


class Speakers:
    """The peers and the questions; every turn draws from a seed of its own, so that turns can be left out."""

    def __init__(self, peers: dict[str, str], split: str, questions: int, seed: int):
        made = tiny_questions(split, questions)
        self.gold, self.families = ([row[column] for row in made] for column in ("answer", "family"))
        config = PSTConfig(
            output_dir=tempfile.mkdtemp(),
            seed=seed,
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=48,
            rows_per_generate=256,
            answer_style="hash",
            answer_template="#### {answer}",
            peer_template="\nP: {text}",
            report_to=[],
            save_strategy="no",
        )
        prompts = [[{"role": "user", "content": row["question"]}] for row in made]
        self.trainer = PSTTrainer(peers, config, train_dataset=Dataset.from_dict({"prompt": prompts}))
        self.names, self.engines = list(self.trainer.peers), self.trainer.engines
        self.prompts, self.seed = prompts, seed
        self.second: dict[tuple, Said] = {}  # what second speakers said: forms of one context share it
        for engine in self.engines:
            engine.model.eval()

    def answer(self, peer: int, form: Form, before: list[Said], chains: int, greedy: bool, turn: str) -> Said:
        """The peer's answers to every question, given what was said before in the same chain."""
        prompts = [prompt for prompt in self.prompts for _ in range(chains)]
        request = replace(
            self.trainer.rollout_request(prompts, greedy),
            peer_context=form.context,
            build_prompt=lambda prompt, texts: show_peers(prompt, form.arrange(texts), "\nP: {text}"),
        )
        engine = self.engines[peer]
        texts = [[shown_text(said.rollout, row, request) for said in before] for row in range(len(prompts))]
        fitted = [fit_prompt(engine, request, *row).prompt for row in zip(prompts, texts, strict=True)]
        set_seed(Random(f"{self.seed}/{turn}").getrandbits(31))
        return Said(parse(engine.answer(fitted, greedy), request), self.gold, chains)

    def independent(self, chains: int, greedy: bool) -> list[Said]:
        return [self.answer(p, FORMS["responses"], [], chains, greedy, f"{p}") for p in range(len(self.engines))]

    def in_order(self, order: Order, name: str, first: Said, greedy: bool) -> list[Said]:
        """What is said in this speaking order, in that order; `first` is what its first speaker said."""
        form, key = FORMS[name], (FORMS[name].context, order[:2], greedy)
        if key not in self.second:
            self.second[key] = self.answer(order[1], form, [first], first.chains, greedy, str(key))
        said = [first, self.second[key]]
        for peer in order[2:]:
            said.append(self.answer(peer, form, said, first.chains, greedy, f"{name}/{order}"))
        return said


def vote(saids: Iterable[Said]) -> np.ndarray:
    """Whether the plurality of all samples of a question is right, bool (Q,)."""
    saids, majority, hits = list(saids), Majority(), []
    for q, gold in enumerate(saids[0].gold):
        target = majority.vote([ballot for p, said in enumerate(saids) for ballot in said.ballots(q, p)])
        hits.append(target is not None and is_correct(target.answer, gold))
    return np.array(hits)


def same_wrong(saids: Sequence[Said], shift: int = 0) -> float:
    """Share of pairs of peers that give the same wrong answer in chains `shift` apart."""
    pairs = []
    for a, b in combinations(saids, 2):
        other = np.roll(b.keys, shift, axis=1)
        pairs.append(((a.keys == other) & (a.keys != None) & ~a.right).mean())  # noqa: E711
    return float(np.mean(pairs))


def difference(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Accuracies in percent and their paired difference with its 95 % interval over questions; inputs (Q,) or (Q, G).

    Right or wrong per question: a paired bootstrap. Means over chains or orders: Student's t of the question's means.
    """
    if before.ndim == after.ndim == 1 and before.dtype == after.dtype == bool:
        interval = paired_bootstrap(before, after)
    else:
        means = [x if x.ndim == 1 else x.mean(1) for x in (before.astype(float), after.astype(float))]
        interval = mean_interval((means[1] - means[0]).tolist())
    return {"independent": 100 * float(before.mean()), "sequential": 100 * float(after.mean())} | points(interval)


def points(interval: Interval) -> dict[str, float]:
    return {"difference": 100 * interval.gain, "low": 100 * interval.low, "high": 100 * interval.high}


@dataclass
class Reading:
    """Rows in which a peer read others, of one form: (rows,) each, to say what reading did to it."""

    peer: list[np.ndarray]
    question: list[np.ndarray]
    state: list[np.ndarray]  # of what was shown: 0 all wrong, 1 some right, 2 all right
    right: list[np.ndarray]
    alone: list[np.ndarray]  # the share of the same peer's independent samples of the question that are right
    copied_wrong: list[np.ndarray]  # repeats a shown wrong answer
    alone_wrong: list[np.ndarray]  # the share of its independent samples that give one of the shown wrong answers
    unparsed: list[np.ndarray]


def read(order: Order, said: list[Said], alone: list[Said], arrange, into: Reading) -> None:
    """Adds the later positions of one speaking order."""
    for position in range(1, len(order)):
        peer, now, own = order[position], said[position], alone[order[position]]
        shown = arrange(said[:position])
        hits = np.stack([s.right for s in shown])  # (shown, Q, G)
        state = np.where(hits.all(0), 2, np.where(hits.any(0), 1, 0))
        copied, expected = np.zeros_like(now.right), np.zeros(now.right.shape)
        for other in shown:
            wrong = ~other.right & (other.keys != None)  # noqa: E711
            copied |= wrong & (now.keys == other.keys)
        for g in range(now.chains):
            known = np.zeros(own.right.shape, dtype=bool)  # own samples that equal a wrong answer shown in chain g
            for other in shown:
                key = other.keys[:, g : g + 1]
                known |= (own.keys == key) & (key != None) & ~other.right[:, g : g + 1]  # noqa: E711
            expected[:, g] = known.mean(1)
        questions = np.broadcast_to(np.arange(len(now.right))[:, None], now.right.shape)
        values = {
            "peer": np.full(now.right.shape, peer),
            "question": questions,
            "state": state,
            "right": now.right,
            "alone": np.broadcast_to(own.right.mean(1)[:, None], now.right.shape),
            "copied_wrong": copied,
            "alone_wrong": expected,
            "unparsed": now.keys == None,  # noqa: E711
        }
        for name, value in values.items():
            getattr(into, name).append(value.flatten())


STATES = ("all shown are wrong", "some shown are right", "all shown are right")


def explain(reading: Reading, speakers: Speakers) -> dict:
    """By what was shown: how often, accuracy after reading and of the same peer alone, wrong answers repeated."""
    rows = {name: np.concatenate(value) for name, value in vars(reading).items()}
    families = np.array(speakers.families)[rows["question"]]

    def summary(chosen: np.ndarray) -> dict[str, float]:
        mean = lambda name: 100 * float(rows[name][chosen].mean()) if chosen.any() else None  # noqa: E731
        return {"share": 100 * float(chosen.mean())} | {
            name: mean(name) for name in ("alone", "right", "alone_wrong", "copied_wrong", "unparsed")
        }

    return {
        "all": summary(np.ones(len(families), dtype=bool)),
        "by_state": {state: summary(rows["state"] == s) for s, state in enumerate(STATES)},
        "by_peer": {
            f"{name}, {family}": {
                state: summary((rows["peer"] == p) & (families == family) & (rows["state"] == s))
                for s, state in enumerate(STATES)
            }
            for p, name in enumerate(speakers.names)
            for family in sorted(set(speakers.families))
        },
    }


@dataclass(frozen=True)
class Alone:
    """What independent answers give."""

    sampled: list[Said]
    greedy: list[Said]
    pooled_vote: np.ndarray  # (Q,)
    greedy_vote: np.ndarray

    @classmethod
    def of(cls, speakers: Speakers, chains: int) -> "Alone":
        sampled, greedy = speakers.independent(chains, False), speakers.independent(1, True)
        return cls(sampled, greedy, vote(sampled), vote(greedy))

    def report(self, names: Sequence[str]) -> dict:
        peers = {
            name: {
                "greedy": 100 * float(self.greedy[p].right.mean()),
                "sampled": 100 * float(self.sampled[p].right.mean()),
                "unparsed": 100 * float((self.sampled[p].keys == None).mean()),  # noqa: E711
            }
            for p, name in enumerate(names)
        }
        together = {
            "sampled": 100 * float(np.mean([said.right for said in self.sampled])),
            "pooled_vote": 100 * float(self.pooled_vote.mean()),
            "greedy_vote": 100 * float(self.greedy_vote.mean()),
            "same_wrong": 100 * same_wrong(self.sampled),
        }
        return {"peers": peers, "independent": together}


def measure(speakers: Speakers, name: str, alone: Alone) -> dict:
    """One form in every order."""
    reading = Reading(*([] for _ in range(8)))
    orders, gathered = {}, []
    for order in permutations(range(len(speakers.engines))):
        said = speakers.in_order(order, name, alone.sampled[order[0]], greedy=False)
        greedy = speakers.in_order(order, name, alone.greedy[order[0]], greedy=True)
        read(order, said, alone.sampled, FORMS[name].arrange, reading)
        second, last = (alone.sampled[order[position]] for position in (1, 2))
        greedy_last = greedy[-1].right[:, 0]
        pairs = {
            "speaker_2": (second.right, said[1].right),
            "speaker_3": (last.right, said[2].right),
            "last_vote": (vote([last]), vote([said[-1]])),
            "pooled_vote": (alone.pooled_vote, vote(said)),
            "greedy_last": (alone.greedy[order[-1]].right[:, 0], greedy_last),
            "greedy_vote": (alone.greedy_vote, vote(greedy)),
            "last_against_pooled": (alone.pooled_vote, said[-1].right),
            "greedy_last_against_vote": (alone.greedy_vote, greedy_last),
        }
        gathered.append({key: [x if x.ndim == 1 else x.mean(1) for x in pair] for key, pair in pairs.items()})
        shared = {"same_wrong_chain": same_wrong(said), "same_wrong_other_chain": same_wrong(said, shift=1)}
        orders[" > ".join(speakers.names[p] for p in order)] = {
            key: difference(*pair) for key, pair in pairs.items()
        } | {key: 100 * share for key, share in shared.items()}
        print(f"{name}: {order} done", file=sys.stderr, flush=True)
    mean = {
        key: difference(*(np.mean([g[key][side] for g in gathered], axis=0) for side in (0, 1))) for key in gathered[0]
    } | {key: float(np.mean([row[key] for row in orders.values()])) for key in shared}
    return {"orders": orders, "mean": mean, "reading": explain(reading, speakers)}


COLUMNS = {
    "speaker_2": "2nd speaker",
    "speaker_3": "3rd speaker",
    "last_vote": "last peer's vote",
    "pooled_vote": "pooled vote",
    "greedy_last": "greedy last",
    "greedy_last_against_vote": "greedy last, against the greedy vote",
}


def tables(report: dict) -> str:
    """The report as Markdown."""
    cell = lambda d: f"{d['sequential']:.1f}, {d['difference']:+.1f} [{d['low']:+.1f}, {d['high']:+.1f}]"  # noqa: E731
    lines = [f"independent: {report['independent']}", f"peers: {report['peers']}", ""]
    lines += ["| form | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, form in report["forms"].items():
        lines.append(f"| {name} | " + " | ".join(cell(form["mean"][key]) for key in COLUMNS) + " |")
    for name, form in report["forms"].items():
        lines += ["", f"| {name} | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
        for order, row in form["orders"].items():
            lines.append(f"| {order} | " + " | ".join(cell(row[key]) for key in COLUMNS) + " |")
    heads = "share | right alone | right after reading | gives that wrong answer alone | repeats it | unparsed"
    for name, form in report["forms"].items():
        lines += ["", f"| {name} | {heads} |", "|---|" + "---:|" * 6]
        rows = {"all": form["reading"]["all"]} | form["reading"]["by_state"]
        lines += [
            f"| {label} | " + " | ".join("" if v is None else f"{v:.1f}" for v in row.values()) + " |"
            for label, row in rows.items()
        ]
        chain, other = (form["mean"][key] for key in ("same_wrong_chain", "same_wrong_other_chain"))
        lines.append(f"\nthe same wrong answer: {chain:.1f} % of pairs in a chain, {other:.1f} % across chains")
    return "\n".join(lines)


def file(report: dict, name: str, path: Path) -> None:
    """Puts a report, rounded, under its name among those already in the file."""
    filed = json.loads(path.read_text()) if path.is_file() else {}
    rounded = json.loads(json.dumps(report), parse_float=lambda digits: round(float(digits), 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(filed | {name: rounded}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> dict:
    quiet_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs=3, type=Path, default=list(TINY_PEERS.values()), help="folders of the peers")
    parser.add_argument("--name", default="shipped", help="key of these peers in the JSON file")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS), metavar="FORM")
    parser.add_argument("--split", default="validation", choices=["validation", "test"])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--chains", type=int, default=8, help="samples per peer and question")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("docs/results/sequential_protocol.json"))
    args = parser.parse_args(arguments)
    peers = {folder.name: str(folder) for folder in args.peers}
    speakers = Speakers(peers, args.split, args.questions, args.seed)
    alone = Alone.of(speakers, args.chains)
    settings = {name: getattr(args, name) for name in ("split", "questions", "chains", "seed")}
    report = settings | alone.report(speakers.names) | {"forms": {}}
    for name in args.forms:
        report["forms"][name] = measure(speakers, name, alone)
        file(report, args.name, args.json)
    print(tables(report))
    return report


if __name__ == "__main__":
    main()
