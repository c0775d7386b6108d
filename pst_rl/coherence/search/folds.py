"""FoldICM: labels predict each other by training instead of in context."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar, Literal

import torch

from pst_rl.coherence.finetune import fine_tuned
from pst_rl.coherence.labelling import Labelling
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search.base import Searcher, check
from pst_rl.coherence.search.choose import project
from pst_rl.coherence.search.run import Run


@dataclass(frozen=True, kw_only=True)
class FoldICM(Searcher):
    """Trains on the labels of all other folds, relabels the held-out fold, and goes round.

        model_f = base model fine-tuned on {(x_j, label_j): j not in fold f}
        labels of block B in f = argmax over its consistent labels of  sum_{i in B} log p_model_f(l_i | x_i)

    The F-fold form of ICM (arXiv 2506.10139, v2), block Gibbs at temperature 0 whose conditioning is training: it is
    not bound by the length of a context, and no model labels an item whose block it has seen. In each group the most
    confident label wins and its siblings are made to agree; here exactly, by projection. Folds of whole blocks, the
    start, and that every fine-tuning begins with the base model are our choices.

    It needs a `LanguageModelPredictor`. The probabilities of the result are those of the model that labelled the item
    last; coherence is measured in context, like everywhere. `keep` is "last": coherence in context is not what is
    searched.

    Attributes:
        folds: F, at least 2.
        rounds: How often every fold is relabelled.
        training: Fields of TRL's `SFTConfig`, on top of `pst_rl.coherence.finetune.TRAINING`.
        adapter: Fields of a `LoraConfig`, to train an adapter instead of all weights.
    """

    name: ClassVar[str] = "folds"
    fine_tunes: ClassVar[bool] = True

    keep: Literal["best", "last"] = "last"
    folds: int = 4
    rounds: int = 2
    training: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] | None = None

    def __post_init__(self):
        super().__post_init__()
        check(self.folds >= 2, "folds", "at least 2", self.folds)
        check(self.rounds >= 1, "rounds", "at least 1", self.rounds)
        check(self.keep == "last", "keep", '"last" in this search', self.keep)
        check(self.restarts == 1, "restarts", "1 in this search", self.restarts)

    def _steps(self, problem: Problem) -> int:
        return self.rounds * self.folds

    def _begin(self, run: Run) -> None:
        uniform = [1 / run.problem.n_labels] * run.problem.n_labels
        run.state.extra = {"probabilities": [uniform] * run.problem.n_items}

    def _step(self, run: Run, step: int) -> None:
        labels, problem = list(run.state.labels), run.problem
        held_out = self._fold(run, (step - 1) % self.folds)
        if not held_out:
            return
        inside = {item for block in held_out for item in block}
        shown = [(i, label) for i, label in enumerate(labels) if label is not None and i not in inside]
        trained = fine_tuned(run.predictor, shown, self.training, self._peft_config(), seed=step)
        scores = torch.zeros(problem.n_items, problem.n_labels)
        with trained.open().extended([[]]) as context:
            scores[sorted(inside)] = context.score([sorted(inside)])
        run.predictor.tokens += trained.tokens
        run.predictor.units += len(shown) + trained.units
        probabilities = run.state.extra["probabilities"]
        for block in held_out:
            for item, label in zip(block, project(scores[list(block)], problem, block), strict=True):
                labels[item] = label
                probabilities[item] = scores[item].exp().tolist()
        run.take(labels, step)

    def _labelling(self, run: Run, seed: int) -> Labelling:
        probabilities = tuple(map(tuple, run.state.extra["probabilities"]))
        return replace(super()._labelling(run, seed), probabilities=probabilities)

    def _fold(self, run: Run, index: int) -> list[tuple[int, ...]]:
        """The blocks of a fold, divided by the search's seed alone."""
        blocks = list(run.problem.blocks)
        Random(run.state.settings["seed"]).shuffle(blocks)
        size = math.ceil(len(blocks) / self.folds)
        return blocks[index * size : (index + 1) * size]

    def _peft_config(self):
        if self.adapter is None:
            return None
        from peft import LoraConfig

        return LoraConfig(**self.adapter)
