"""Pretrain the embedded tiny peers and the tiny learner, and measure them.

    python scripts/train_tiny_peers.py                              # remake the shipped peers
    python scripts/train_tiny_peers.py --out /tmp/peers             # leave them alone
    python scripts/train_tiny_peers.py --learner                    # remake the shipped learner
    python scripts/train_tiny_peers.py --learner --measure-only     # measure it, with the shipped peers as partners

Writes one folder per model (weights, tokenizer, card) and `checksums.json` with the SHA-256 of every file and what was
measured. The three peers train in parallel, one thread each.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

from tiny_models.card import write_card, write_learner_card

import pst_rl.tiny as tiny
from pst_rl.files import file_digest
from pst_rl.quiet import quiet_output
from pst_rl.tiny.mistakes import corrupt
from pst_rl.tiny.problems import FAMILIES, Problem
from pst_rl.tiny.questions import stated_answer, tiny_problems, tiny_questions

MEASURED = {"validation": 450, "test": 900}
SAMPLES = 8
DISCUSSED = 600  # validation questions
STANCES = ("support", "attack")
MAX_NEW_TOKENS = 64
GENERATION_BATCH = 64  # questions

Answers = list[list[str | None]]  # one list of answers per question


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=tiny.FOLDER, help="where the folders go (default: the package)")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps of every peer (default: per peer)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learner", action="store_true", help="the learner instead of the three peers")
    parser.add_argument("--measure-only", action="store_true", help="measure the folders that are there already")
    return parser.parse_args()


def make_peer(name: str, folder: Path, steps: int | None, seed: int, train: bool) -> tuple[dict[str, Answers], int]:
    """Pretrain a peer into its folder (if `train`), load it as a user would, and answer the measured questions.

    Returns its answers per split, with those of `test_samples`, and its number of parameters.
    """
    import torch
    from tiny_models.pretrain import pretrain_peer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    if train:
        model, tokenizer = pretrain_peer(name, steps, seed, log=lambda line: print(line, flush=True))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    answers = {}
    for split, n in MEASURED.items():
        questions = [row["question"] for row in tiny_questions(split, n)]
        answers[split] = answer(model, tokenizer, questions, samples=1)
    torch.manual_seed(seed)
    answers["test_samples"] = answer(model, tokenizer, questions, samples=SAMPLES)
    return answers, model.num_parameters()


def answer(model, tokenizer, questions: list[str], samples: int) -> Answers:
    """Return each question's answers: one greedy answer, or `samples` at temperature 1; `None` where unfinished."""
    prompts = [[{"role": "user", "content": question}] for question in questions]
    sampling = {"do_sample": samples > 1, "num_return_sequences": samples, "max_new_tokens": MAX_NEW_TOKENS}
    if samples > 1:
        sampling |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    answers: Answers = [[] for _ in questions]
    by_length = sorted(range(len(questions)), key=lambda i: len(questions[i]))
    for start in range(0, len(questions), GENERATION_BATCH):
        rows = by_length[start : start + GENERATION_BATCH]
        inputs = tokenizer.apply_chat_template(
            [prompts[i] for i in rows],
            add_generation_prompt=True,
            return_tensors="pt",
            padding=True,
            return_dict=True,
        )
        completions = model.generate(**inputs, **sampling)[:, inputs["input_ids"].shape[1] :]  # (B * samples, T)
        for place, ids in enumerate(completions.tolist()):
            finished = tokenizer.eos_token_id in ids
            text = tokenizer.decode(ids, skip_special_tokens=True)
            answers[rows[place // samples]].append(stated_answer(text) if finished else None)
    return answers


def plurality(answers: list[str | None]) -> str | None:
    """Return the most common answer, the smallest text first among equals, ignoring unfinished responses."""
    votes = Counter(a for a in answers if a is not None)
    return min(votes, key=lambda a: (-votes[a], a), default=None)


def accuracy(predicted: list[str | None], rows: list[dict[str, str]]) -> dict[str, float]:
    """Return the fraction right over all rows and per family."""
    right = {family: [] for family in ("all", *FAMILIES)}
    for prediction, row in zip(predicted, rows, strict=True):
        for key in ("all", row["family"]):
            right[key].append(prediction == row["answer"])
    return {key: round(sum(values) / len(values), 4) for key, values in right.items()}


def measure(answers: dict[str, dict[str, Answers]]) -> dict[str, dict]:
    """Return the accuracies of each peer, and those of the votes on the test split."""
    report: dict[str, dict] = {name: measure_alone(of_peer) for name, of_peer in answers.items()}
    rows = tiny_questions("test", MEASURED["test"])
    for key, source in (("greedy_vote", "test"), ("pooled_vote", "test_samples")):
        pooled = [list(chain(*lists)) for lists in zip(*(answers[name][source] for name in answers), strict=True)]
        report[key] = {"test": accuracy([plurality(votes) for votes in pooled], rows)}
    return report


def measure_alone(answers: dict[str, Answers]) -> dict[str, dict[str, float]]:
    """Return a model's greedy accuracy per split, and on the test split the mean accuracy of its samples."""
    report = {}
    for split, n in MEASURED.items():
        rows = tiny_questions(split, n)
        report[split] = accuracy([greedy for (greedy,) in answers[split]], rows)
    of_samples = [accuracy(list(column), rows) for column in zip(*answers["test_samples"], strict=True)]
    report["test_sampled"] = {key: round(sum(a[key] for a in of_samples) / SAMPLES, 4) for key in of_samples[0]}
    return report


# Discussions


class Speaker:
    """A model that goes on, greedily, from token ids."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model, self.tokenizer = (
            AutoModelForCausalLM.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )

    def prompt(self, content: str) -> list[int]:
        """Return the ids of a user's message, ready for the answer."""
        chat = [{"role": "user", "content": content}]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)

    def more(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def go_on(self, contexts: list[list[int]]) -> list[list[int]]:
        """Return what the model says after each context, with its end token if it came to one."""
        import torch

        said: list[list[int]] = [[] for _ in contexts]
        by_length = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        for start in range(0, len(contexts), GENERATION_BATCH):
            rows = by_length[start : start + GENERATION_BATCH]
            width = len(contexts[rows[-1]])
            padding = [width - len(contexts[i]) for i in rows]
            ids = torch.tensor([[0] * n + contexts[i] for n, i in zip(padding, rows, strict=True)])
            mask = torch.tensor([[0] * n + [1] * (width - n) for n in padding])
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW_TOKENS
            )
            for i, tokens in zip(rows, out[:, width:].tolist(), strict=True):
                end = tokens.index(self.tokenizer.eos_token_id) + 1 if self.finished(tokens) else len(tokens)
                said[i] = tokens[:end]
        return said

    def finished(self, ids: list[int]) -> bool:
        return self.tokenizer.eos_token_id in ids

    def answer(self, ids: list[int]) -> str | None:
        """Return the stated answer of a finished response."""
        return stated_answer(self.text(ids)) if self.finished(ids) else None


@dataclass
class Talk:
    """A discussion with the learner so far: its context up to its current answer, and that answer."""

    problem: Problem
    context: list[int]
    draft: list[int]
    text: str
    answer: str | None

    @property
    def right(self) -> bool:
        return self.answer == self.problem.answer


Partner = Callable[[list[Talk]], list[str]]  # a remark on every current answer


def begin(learner: Speaker, problems: list[Problem]) -> list[Talk]:
    """Let the learner answer the questions."""
    return _talks(learner, problems, [learner.prompt(problem.question) for problem in problems])


def take_turn(learner: Speaker, talks: list[Talk], remarks: list[str]) -> list[Talk]:
    """Let the learner hear the remarks and answer again."""
    template = tiny.LEARNER_STYLE["revise_template"]
    contexts = [
        [*talk.context, *talk.draft, *learner.more(template.replace("{remark}", remark))]
        for talk, remark in zip(talks, remarks, strict=True)
    ]
    return _talks(learner, [talk.problem for talk in talks], contexts)


def _talks(learner: Speaker, problems: list[Problem], contexts: list[list[int]]) -> list[Talk]:
    drafts = learner.go_on(contexts)
    return [
        Talk(problem, context, draft, learner.text(draft), learner.answer(draft))
        for problem, context, draft in zip(problems, contexts, drafts, strict=True)
    ]


def model_partner(speaker: Speaker, template: str) -> Partner:
    """A model that is shown the question and the draft."""

    def remark(talks: list[Talk]) -> list[str]:
        prompts = [speaker.prompt(talk.problem.question + template.replace("{draft}", talk.text)) for talk in talks]
        return [speaker.text(ids) for ids in speaker.go_on(prompts)]

    return remark


def partners(learner: Speaker, peers: dict[str, Speaker]) -> dict[str, Partner]:
    """Return every partner by name: constructed ones, the tiny peers, and the learner itself."""
    rng = Random(0)
    shown = tiny.PEER_STYLE["neutral_template"]
    return {
        "the right solution": lambda talks: [talk.problem.solution for talk in talks],
        "a solution with a slip": lambda talks: [corrupt(rng, talk.problem).solution for talk in talks],
        "the answer itself": lambda talks: [talk.text for talk in talks],
        "another question's solution": lambda talks: [talk.problem.solution for talk in [*talks[1:], talks[0]]],
        **{f"`{name}`": model_partner(speaker, shown) for name, speaker in peers.items()},
        **{f"itself, {side}": model_partner(learner, tiny.LEARNER_STYLE[f"{side}_template"]) for side in STANCES},
    }


def measure_discussions(folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return, per partner, what a remark does to the learner's first answers to validation questions (fractions).

    `remark_well_formed`: remarks of one line that state an answer; `remark_right`, `remark_agrees`: that state the
    right one, or that of the answer remarked on. `right`: revised answers that are right. `abandoned`: of the right
    first answers, those revised to a wrong one; `kept`, `mended`: of the wrong ones, those that stay the same, or that
    become right. `right_after_two` (peers): after a second remark.
    """
    learner, problems = Speaker(folders["learner"]), tiny_problems("validation", DISCUSSED)
    talks = begin(learner, problems)
    answered = [talk for talk in talks if talk.answer is not None]
    report = {"first": {"right": share(t.right for t in talks), "answered": len(answered) / len(talks)}}
    talks = answered  # a row without an answer is not discussed
    known = partners(learner, {name: Speaker(folder) for name, folder in folders.items() if name != "learner"})
    outcomes: dict[str, list[tuple[str, Talk]]] = {}
    for name, partner in known.items():
        remarks = partner(talks)
        outcomes[name] = list(zip(remarks, take_turn(learner, talks, remarks), strict=True))
    support, attack = (outcomes[f"itself, {side}"] for side in STANCES)
    sides = list(zip(talks, support, attack, strict=True))
    outcomes["itself, right: support, wrong: attack"] = [s if talk.right else a for talk, s, a in sides]
    outcomes["itself, right: attack, wrong: support"] = [a if talk.right else s for talk, s, a in sides]
    for name, outcome in outcomes.items():
        report[name] = effect(talks, *zip(*outcome, strict=True))
    for name in (f"`{peer}`" for peer in tiny.TINY_PEERS):
        revised = [talk for _, talk in outcomes[name]]
        again = take_turn(learner, revised, known[name](revised))
        report[name]["right_after_two"] = share(talk.right for talk in again)
    return {name: {key: round(value, 4) for key, value in of.items()} for name, of in report.items()}


def effect(talks: list[Talk], remarks: tuple[str, ...], revised: tuple[Talk, ...]) -> dict[str, float]:
    """Return the figures of one partner: its remarks on every answer, and the revised answers."""
    right, wrong = [talk.right for talk in talks], [not talk.right for talk in talks]
    stated = [stated_answer(remark) for remark in remarks]
    return {
        "remark_well_formed": share(s is not None and "\n" not in r for s, r in zip(stated, remarks, strict=True)),
        "remark_right": share(s == t.problem.answer for s, t in zip(stated, talks, strict=True)),
        "remark_agrees": share(s == t.answer for s, t in zip(stated, talks, strict=True)),
        "right": share(r.right for r in revised),
        "abandoned": share((not r.right for r in revised), right),
        "kept": share((r.answer == t.answer for r, t in zip(revised, talks, strict=True)), wrong),
        "mended": share((r.right for r in revised), wrong),
    }


def share(of: Iterable[bool], among: list[bool] | None = None) -> float:
    """Return the fraction that holds, over all or over those marked in `among`."""
    values = [x for x, counted in zip(of, among, strict=True) if counted] if among else list(of)
    return sum(values) / len(values)


def main() -> None:
    quiet_output()
    args = parse_args()
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    start = time.monotonic()
    (make_learner if args.learner else make_peers)(args)
    print(f"{time.monotonic() - start:.0f} s")


def make_peers(args: argparse.Namespace) -> None:
    folders = {name: args.out / name for name in tiny.TINY_PEERS}
    with ProcessPoolExecutor(len(folders), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {
            name: pool.submit(make_peer, name, folder, args.steps, args.seed, not args.measure_only)
            for name, folder in folders.items()
        }
        done = {name: job.result() for name, job in running.items()}
    report = measure({name: answers for name, (answers, _) in done.items()})
    record = {
        "parameters": {name: parameters for name, (_, parameters) in done.items()},
        "measured_questions": MEASURED,
        "samples": SAMPLES,
        "accuracy": report,
    }
    record = keep(args.out, folders, record)
    for name, folder in folders.items():
        write_card(name, folder, record)
    print(json.dumps(report, indent=2))


def make_learner(args: argparse.Namespace) -> None:
    folder = args.out / tiny.TINY_LEARNER.name
    answers, parameters = make_peer("learner", folder, args.steps, args.seed, not args.measure_only)
    learner = {
        "parameters": parameters,
        "measured_questions": MEASURED,
        "samples": SAMPLES,
        "accuracy": measure_alone(answers),
        "discussed_questions": DISCUSSED,
        "discussion": measure_discussions({**tiny.TINY_PEERS, "learner": folder}),
    }
    record = keep(args.out, {"learner": folder}, {"learner": learner})
    write_learner_card(folder, record)
    print(json.dumps(learner, indent=2))


def keep(out: Path, folders: dict[str, Path], news: dict) -> dict:
    """Update `checksums.json` with what was made and measured, and return it."""
    file = out / "checksums.json"
    record = json.loads(file.read_text()) if file.exists() else {"sha256": {}}
    made = {f"{name}/{part}": file_digest(folders[name] / part) for name in folders for part in tiny.CHECKED}
    record = record | news | {"sha256": record["sha256"] | made}
    file.write_text(json.dumps(record, indent=2) + "\n")
    return record


if __name__ == "__main__":
    main()
