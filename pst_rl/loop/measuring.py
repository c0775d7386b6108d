"""Measuring the peers between, before and after training steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from pst_rl.data import Gold, split_labels
from pst_rl.loop.joint_trainer import JointTrainer
from pst_rl.peers.vllm import forget_weights
from pst_rl.stages.evaluation import Evaluation, EvaluationRequest, evaluate_peers, metric_names
from pst_rl.stages.rollout import RolloutRequest

if TYPE_CHECKING:
    from datasets import Dataset

    from pst_rl.report import RunResults


class PeerEvaluation(JointTrainer):
    """The evaluation methods of a trainer with several peers."""

    _eval_gold: Gold | dict[str, Gold] | None
    rollout_request: Callable[..., RolloutRequest]

    def measured(self, peers: Collection[str], samples: int) -> dict[str, list[str]]:
        """What [`evaluate`] logs for each evaluation set (`""`: the only one), without the prefix `eval_`.

        Nothing where there is no such set, or where a subclass measures in its own way.
        """
        own = (type(self).evaluate, type(self).measure) != (PeerEvaluation.evaluate, PeerEvaluation.measure)
        if self._eval_gold is None or own:
            return {}
        golds = self._eval_gold if isinstance(self._eval_gold, dict) else {"": self._eval_gold}
        return {name: metric_names(peers, labels=bool(gold), pooled=samples > 0) for name, gold in golds.items()}

    def measure(self, dataset=None, samples: int | None = None, pooled_questions: int | None = None) -> Evaluation:
        """Greedy answers of every peer, their vote, and the pooled vote of samples, without logging anything.

        Every peer answers alone, also where it is trained with `context="sequential"`.

        Args:
            dataset: Questions, or the name of one of several evaluation sets; default the trainer's evaluation set.
                Its labels are split off and only score.
            samples: Samples per peer and question for the pooled vote; default `args.eval_samples`.
            pooled_questions: How many questions, from the first, are sampled; default all.
        """
        dataset, gold = self._questions(dataset)
        for engine in self.engines:
            forget_weights(engine)
        request = EvaluationRequest(
            engines=self.engines,
            names=tuple(self.peers),
            prompts=list(dataset["prompt"]),
            gold=[gold[i] for i in dataset["question_id"]] if gold else None,
            rollout=replace(self.rollout_request([], greedy=True), sequential=False),
            samples=self.args.eval_samples if samples is None else samples,
            pooled_questions=len(dataset) if pooled_questions is None else min(pooled_questions, len(dataset)),
            batch_size=self.args.per_device_eval_batch_size,
            accelerator=self.accelerator,
            metric=self.args.answer_metric,
        )
        with self.timed("evaluate"):
            return evaluate_peers(request)

    def run(self, dataset: str = "the questions given", **options) -> RunResults | None:
        """A whole run, as `pst-rl train` makes it: header, [`measure`], [`train`], [`measure`], table, `results.json`,
        plot, and [`save_model`] (or `push_to_hub`).

        Args:
            dataset: What the questions are called in the results.
            options: `checkpoint`, `samples`, `pooled_questions`: see [`~pst_rl.loop.whole_run.whole_run`].

        Raises:
            ValueError: There are no questions to measure on.
            NothingRead: No answer of any peer could be read at the start.
        """
        from pst_rl.loop.whole_run import whole_run

        self._questions(None)  # refuses at once
        return whole_run(self, dataset, **options)

    def _questions(self, dataset: Dataset | str | None) -> tuple[Dataset, Gold | None]:
        """Questions to measure on and their golds, as [`measure`] takes them."""
        if dataset is not None and not isinstance(dataset, str):
            return split_labels(dataset, self.args.label_columns)
        own, gold = self.eval_dataset, self._eval_gold
        if isinstance(gold, dict):
            if dataset is None or dataset not in gold:
                raise ValueError(f"There are several evaluation sets: name one of {', '.join(gold)}, not {dataset!r}.")
            return own[dataset], gold[dataset]
        if own is None or dataset is not None:
            raise ValueError("There are no such questions to measure on: pass eval_dataset here or to the trainer.")
        return own, gold

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """[`measure`], logged as `<prefix>_<peer>/accuracy`, `<prefix>_vote/accuracy` and, with `args.eval_samples`,
        `<prefix>_pooled_vote/accuracy` if there are labels; parse rate and agreement always.

        Of several sets each is measured, as `<prefix>_<name>`.
        """
        several = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(several, dict):
            sets = {name: name if eval_dataset is None else rows for name, rows in several.items()}
            each = [self.evaluate(rows, ignore_keys, f"{metric_key_prefix}_{name}") for name, rows in sets.items()]
            return {name: value for results in each for name, value in results.items()}
        results = {f"{metric_key_prefix}_{k}": v for k, v in self.measure(eval_dataset).metrics().items()}
        self.log(dict(results))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, results)
        return results
