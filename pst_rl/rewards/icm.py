"""ICM as a reward: all candidate answers are labelled jointly, and an answer earns its probability of being true."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from accelerate.utils import broadcast_object_list

from pst_rl.aggregation.base import spellings
from pst_rl.answers import Answer
from pst_rl.coherence.constraints import AtMostOne
from pst_rl.coherence.ensemble import Ensemble
from pst_rl.coherence.label_words import LabelWords
from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search import SEARCHERS
from pst_rl.coherence.templates import Template, find_template
from pst_rl.options import check_choices
from pst_rl.peers.foreign_text import Guard, one_line
from pst_rl.peers.prompts import prompt_text
from pst_rl.peers.reader import load_tokenizer
from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank
from pst_rl.scoring.juror import Juror

if TYPE_CHECKING:
    from pst_rl.peers.spec import PeerSpec

SEARCH: dict[str, Any] = {"sweeps": 2, "anneal_to": 0.0, "start": "empty", "restarts": 24}
Candidates = Literal["claims", "labels"]
Reward = Literal["probability", "label"]
Judge = Literal["peers", "first_peer"]


@dataclass(frozen=True)
class Candidate:
    """What is labelled: an item and, of the item's labels, the one that a response stands for."""

    item: int
    label: int


class ICMReward:
    """P(true) of an answer, once the answers of all peers to all questions of the batch are labelled coherently.

        items:   candidates="claims":  (question, answer) for every distinct answer, in its most common spelling;
                                       labels False and True
                 candidates="labels":  the question itself; its label *is* the answer, one of a closed set
        labels:  a search for labels that predict each other in context (ICM, arXiv 2506.10139)
        reward:  p(label = true | item, the labels of all other items), from leave-one-out scores; or 1[label = true]

    The answers of one question are rivals: at most one of them is true (`AtMostOne`). An unparsed answer, or one
    outside the closed set, earns 0; a question for which no answer was parsed abstains. Nothing is remembered from
    one batch to the next. The first process searches, and sends the labels to the others.

    As a reward provider it is ours: the paper labels a fixed data set once. The judge reads labels of its own making,
    so a more salient wrong concept is rewarded as readily as the wanted one: see `docs/coherence.md`.

    Args:
        judge: Whose in-context predictions count: the mean log-probability of all "peers" as they are now, the
            "first_peer" alone, or a frozen model of its own (`Juror`, or its folder or Hub id). A frozen judge cannot
            drift with the peers it rewards.
        candidates: What is labelled, see above.
        template: Name in `TEMPLATES`, a format string with {question} and {claim}, or a `Template`. With "labels" its
            label names are the answers.
        label_names: Replace the template's.
        label_words: For each label the words that are read, the first of which is written.
        method: The search, by its name in `SEARCHERS`; not one that fine-tunes, as "folds" does.
        search: Its options. Unset, with `gibbs`: `SEARCH`, the best of several sampled labellings.
        reward: The probability, or the label.
        separator: Text between items in a context.
        batch_size: Rows per forward pass.

    Raises:
        ValueError: An unknown option, method or template; a method that fine-tunes the judge; words of labels that a
            judge's tokenizer cannot tell apart at one position (of peers: when the trainer is built).
    """

    reads_answers = True

    name = "icm"

    def __init__(
        self,
        judge: Judge | str | Juror = "peers",
        candidates: Candidates = "claims",
        template: str | Template = "correctness",
        label_names: Sequence[str] | None = None,
        label_words: Sequence[str | Sequence[str]] | None = None,
        method: str = "gibbs",
        search: Mapping[str, Any] | None = None,
        reward: Reward = "probability",
        separator: str = "\n\n",
        batch_size: int = 32,
    ):
        check_choices(candidates=(candidates, Candidates), reward=(reward, Reward))
        if method not in SEARCHERS:
            raise ValueError(f"Unknown method {method!r}; choose one of {', '.join(SEARCHERS)}.")
        if SEARCHERS[method].fine_tunes:
            possible = ", ".join(name for name, kind in SEARCHERS.items() if not kind.fine_tunes)
            raise ValueError(
                f"method={method!r} fine-tunes a copy of the judge by a trainer of its own, which cannot run inside a "
                f"training: choose one of {possible}, or label a fixed data set with `pst-rl label --method {method}`."
            )
        self.searcher = SEARCHERS[method](**(SEARCH if method == "gibbs" and search is None else search or {}))
        self.template = find_template(template, label_names, label_words)
        self.answers = None
        if candidates == "labels":
            self.answers = {Answer.of(name).key: label for label, name in enumerate(self.template.label_names)}
        self.judge = Juror(judge) if isinstance(judge, str) and judge not in ("peers", "first_peer") else judge
        if not isinstance(self.judge, str):
            self._check_words("the judge", self.judge.tokenizer)
        self.reward, self.separator, self.batch_size = reward, separator, batch_size

    def check_peers(self, specs: Mapping[str, PeerSpec]) -> None:
        """Whether the tokenizers of the peers that judge tell the labels' words apart; no weights are read.

        Raises:
            ValueError: One of them does not.
        """
        names = list(specs) if self.judge == "peers" else list(specs)[:1] if self.judge == "first_peer" else []
        for name in names:
            spec = specs[name]
            tokenizer = spec.processing_class
            named = isinstance(spec.model, (str, os.PathLike))  # else TRL has its tokenizer from where it was loaded
            place = str(spec.model) if named else getattr(spec.model, "name_or_path", "")
            if tokenizer is None and place:
                code = {"trust_remote_code": spec.trust_remote_code}
                tokenizer = load_tokenizer(place, revision=spec.revision, **code)
            if tokenizer is not None:
                self._check_words(f"the peer {name!r}", tokenizer)

    def _check_words(self, judge: str, tokenizer: Any) -> None:
        try:
            LabelWords(tokenizer, self.template.label_words, after=self.template.content_free)
        except ValueError as error:
            raise ValueError(f"The reward {self.name!r} with {judge} as a judge: {error}") from error

    def __call__(self, group: Group) -> Rewards:
        # The same prompts for all judges: none of them may find its control tokens in what a peer wrote.
        guard = Guard(tuple(token for judge in self._judges(group) for token in judge.format.guard.control))
        prompts, candidates, rivals = self._items(group, guard)
        values, abstain = blank(group)
        for q in range(len(group.prompts)):
            abstain[:, q] = not any(question == q for question, _ in candidates)
        if not prompts:
            return Rewards(values, abstain)
        problem = Problem(len(prompts), len(self.template.label_words), tuple(AtMostOne(items) for items in rivals))
        found = self._labelling(group, prompts, problem)
        for p, q, g, response in group.cells():
            candidate = None if response.key is None else candidates.get((q, response.key))
            if candidate is not None:
                probability = found.probabilities[candidate.item][candidate.label]
                true = found.labels[candidate.item] == candidate.label
                values[p, q, g] = probability if self.reward == "probability" else float(true)
        cost = {"items": float(len(prompts)), "tokens": float(found.tokens), "nats": found.coherence / len(prompts)}
        return Rewards(values, abstain, cost)

    def _items(
        self, group: Group, guard: Guard
    ) -> tuple[list[str], dict[tuple[int, str], Candidate], list[tuple[int, ...]]]:
        """Prompts of the items, the candidate of each (question, answer key), and items that exclude each other."""
        prompts: list[str] = []
        candidates: dict[tuple[int, str], Candidate] = {}
        rivals = []
        for q, prompt in enumerate(group.prompts):
            question = {**group.columns[q], "question": prompt_text(prompt)}
            # In order of the key, so that the order of peers and samples changes nothing.
            answers = spellings(r for _, _, r in group.pooled(q))
            known = sorted(key for key in answers if self.answers is None or key in self.answers)
            if not known:
                continue
            first = len(prompts)
            if self.answers is not None:
                prompts.append(self.template.render(question))
                candidates |= {(q, key): Candidate(first, self.answers[key]) for key in known}
                continue
            for key in known:
                candidates[q, key] = Candidate(len(prompts), 1)
                claim = self.template.guarded({**question, "claim": one_line(answers[key])}, ["claim"], guard)
                prompts.append(self.template.render(claim))
            if len(known) > 1:
                rivals.append(tuple(range(first, len(prompts))))
        return prompts, candidates, rivals

    def _labelling(self, group: Group, prompts: list[str], problem: Problem) -> Labelling:
        """Searches on the first process; the seed is the batch's, so that a resumed run finds the same."""
        seed = group.rng.randrange(2**31)
        found = [None]
        if group.the_scorer.engines[0].accelerator.is_main_process:
            predictor = Ensemble([self._predictor(judge, prompts) for judge in self._judges(group)])
            found = [self.searcher.search(predictor, problem, seed=seed)]
        return broadcast_object_list(found)[0]

    def _judges(self, group: Group) -> list[Any]:
        engines = list(group.the_scorer.engines)
        if self.judge == "peers":
            return engines
        return engines[:1] if self.judge == "first_peer" else [self.judge]

    def _predictor(self, judge: Any, prompts: list[str]) -> LanguageModelPredictor:
        return LanguageModelPredictor(
            judge.model,
            judge.tokenizer,
            prompts,
            self.template.label_words,
            separator=self.separator,
            batch_size=self.batch_size,
            autocast=judge.accelerator.autocast,  # as peers and jurors are read everywhere else
        )
