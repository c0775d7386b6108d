"""Measuring the peers between, before and after training steps."""

from __future__ import annotations

from dataclasses import replace

from pst_rl.data import split_labels
from pst_rl.stages.evaluation import Evaluation, EvaluationRequest, evaluate_peers


class PeerEvaluation:
    """The evaluation methods of a trainer with several peers."""

    def measure(self, dataset=None, samples: int | None = None, pooled_questions: int | None = None) -> Evaluation:
        """Greedy answers of every peer, their vote, and the pooled vote of samples, without logging anything.

        Every peer answers alone, also where it is trained with `context="sequential"`.

        Args:
            dataset: Questions; default the trainer's evaluation set. Its labels are split off and only score.
            samples: Samples per peer and question for the pooled vote; default `args.eval_samples`.
            pooled_questions: How many questions, from the first, are sampled; default all.
        """
        gold = self._eval_gold
        if dataset is None:
            dataset = self.eval_dataset
        else:
            dataset, gold = split_labels(dataset, self.args.label_columns)
        if dataset is None:
            raise ValueError("There are no questions to measure on: pass eval_dataset here or to the trainer.")
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
        )
        with self.timed("evaluate"):
            return evaluate_peers(request)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """[`measure`], logged as `<prefix>_<peer>/accuracy`, `<prefix>_vote/accuracy` and, with `args.eval_samples`,
        `<prefix>_pooled_vote/accuracy` if there are labels; parse rate and agreement always.
        """
        results = {f"{metric_key_prefix}_{k}": v for k, v in self.measure(eval_dataset).metrics().items()}
        self.log(dict(results))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, results)
        return results
