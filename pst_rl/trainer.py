"""`PSTTrainer`: strings the stages together.

questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates
"""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import gather_object

from pst_rl import answers
from pst_rl.aggregation import Aggregator
from pst_rl.config import PSTConfig
from pst_rl.data import split_labels
from pst_rl.discussion import RolloutContext, checked
from pst_rl.loop.joint_trainer import JointTrainer
from pst_rl.monitors.collapse import collapse_monitor
from pst_rl.peers.prompts import Prompt, show_peers
from pst_rl.peers.spec import resolve_peers
from pst_rl.records import Group, Rewards, Rollout, Targets, Weights
from pst_rl.rewards import RewardProvider, Stateful, provider_name
from pst_rl.scheme import (
    check_rewards,
    check_scheme,
    check_targets,
    check_weights,
    find_discussion,
    leave_out_broken_peers,
    make_aggregator,
    make_providers,
    make_weighting,
    mix_rewards,
)
from pst_rl.scoring.scorer import Scorer
from pst_rl.stages import metrics
from pst_rl.stages.compaction import compact
from pst_rl.stages.completions_table import completions_table, report_completions, write_completions
from pst_rl.stages.evaluation import Evaluation, EvaluationRequest, evaluate_peers
from pst_rl.stages.gather import GatherRequest, gather_group, gather_responses, with_turns
from pst_rl.stages.pmi import WeightFunction
from pst_rl.stages.rollout import RolloutRequest, roll_out, speaking_orders
from pst_rl.stages.update import UpdateRequest, make_update
from pst_rl.stages.vitals import mixed_reward
from pst_rl.stages.weighting import Weighting, WeightRequest, active_samples


class PSTTrainer(JointTrainer):
    """
    Peer-Predictive Self-Training: several different language models improve each other without labels.

    Each generation batch, every peer answers every question, an aggregator turns the pooled answers into targets,
    reward providers score each response against its target, weights scale the advantages, and each peer is updated by
    its own [`~trl.GRPOTrainer`], whose loop never runs.

    Override one of five short hooks for a new scheme: [`build_prompt`], [`extract_answer`], [`aggregate`],
    [`compute_rewards`], [`compute_weights`].

    Args:
        peers (`list` or `dict`):
            Hub ids, folders, loaded models or [`PeerSpec`]s; dict keys are the peers' names.
        args ([`PSTConfig`]):
            Configuration for all peers.
        train_dataset (`Dataset`):
            TRL prompt-only data set. Label columns are split off here and serve metrics only.
        eval_dataset (`Dataset`, *optional*):
            Questions for [`evaluate`]; accuracies are logged if it has labels.
        reward_providers (`list`, *optional*):
            Callables `provider(group) -> Rewards`, or keys of `pst_rl.REWARDS`; defaults to `args.rewards`.
        aggregator (`Aggregator`, *optional*):
            An [`Aggregator`]; defaults to `args.aggregator`.
        peft_config, quantization_config:
            Defaults for all peers; a [`PeerSpec`] overrides them.
        processing_classes (`dict`, *optional*):
            Tokenizers by peer name.
        callbacks, optimizers:
            As in [`~transformers.Trainer`]; there is one optimizer for all peers.
        weight_function (`Callable`, *optional*):
            Takes the place of 2 sigmoid(-z) in the PMI weights, see [`PMIWeights`].
        weighting (`Weighting`, *optional*):
            A callable `weighting(request) -> Weights`; defaults to `args.weighting`.

    Raises:
        ValueError: Anything that cannot work, before any model is loaded where that is possible.
    """

    def __init__(
        self,
        peers: Sequence | Mapping[str, Any],
        args: PSTConfig,
        train_dataset,
        eval_dataset=None,
        reward_providers: Sequence[RewardProvider | str] | None = None,
        aggregator: Aggregator | None = None,
        peft_config=None,
        quantization_config=None,
        processing_classes: Mapping[str, Any] | None = None,
        callbacks=None,
        optimizers=(None, None),
        weight_function: WeightFunction | None = None,
        weighting: Weighting | None = None,
    ):
        args = copy.copy(args)  # what is filled in below is ours; another trainer may be built from the caller's
        specs = resolve_peers(
            peers,
            peft_config=peft_config,
            quantization_config=quantization_config,
            processing_classes=processing_classes,
        )
        self.aggregator = aggregator if aggregator is not None else make_aggregator(args)
        self.providers = make_providers(reward_providers if reward_providers is not None else args.rewards, args)
        self.mix = mix_rewards(args, self.providers)
        self.weighting = make_weighting(args, weighting, weight_function)
        check_scheme(args, specs, self.aggregator, self.providers, train_dataset, self.weighting)
        self.discussion = find_discussion(self.providers)
        args.reward_weights = list(self.mix.at(0.0).values())  # TRL never sees the monitors
        train_dataset, self._train_gold = split_labels(train_dataset, args.label_columns)
        if args.supervised and not self._train_gold:
            raise ValueError("supervised=True, but the training set has no label column; see `label_columns`.")
        self._eval_gold = None
        if eval_dataset is not None:
            eval_dataset, self._eval_gold = split_labels(eval_dataset, args.label_columns)
        super().__init__(
            specs,
            args,
            list(self.mix.trained),
            train_dataset,
            eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        for engine in self.engines:
            engine.keeps_caches = getattr(self.weighting, "needs_caches", False)
        self._joint_metrics: dict[str, list[float]] = defaultdict(list)
        self.last_group: Group | None = None
        self.last_reward: torch.Tensor | None = None  # (P, Q, G)
        self.collapse = collapse_monitor(self)
        if args.on_collapse != "off":
            self.add_callback(self.collapse)
        self._reward_faults: dict[str, str] = {}

    # ---- the five hooks ----

    def build_prompt(self, prompt: Prompt, previous: list[str]) -> Prompt:
        """The prompt of one row, given what earlier peers of its chain are shown to have said (oldest first)."""
        return show_peers(prompt, previous, self.args.peer_template) if previous else prompt

    def extract_answer(self, text: str) -> answers.Answer | None:
        """The final answer of one response, or `None` if it has none.

        `Answer.start` is where the statement of the answer begins: PMI cuts the response there. Use `len(text)` for an
        answer that nothing in the text gives away.
        """
        return answers.find_answer(text, style=self.args.answer_style)

    def aggregate(self, group: Group) -> Targets:
        """The targets of a complete group: `targets[p][q][g]`, `None` to abstain."""
        return self.aggregator(group)

    def compute_rewards(self, group: Group) -> dict[str, Rewards]:
        """Every provider's rewards, by name; runs on every process on the identical group."""
        return {name: self._ask(name, group) for name in self.providers}

    def _ask(self, name: str, group: Group) -> Rewards:
        """One provider's checked rewards."""
        group = replace(group, rng=random.Random(f"{name}/{self.args.seed}/{group.block}"))
        try:
            reward = self.providers[name](group)
        except Exception as error:
            raise RuntimeError(
                f"The reward provider {name!r} failed at step {group.step}: {type(error).__name__}: {error}"
            ) from error
        reward, broken = leave_out_broken_peers(name, reward, group)
        self._reward_faults |= broken
        check_rewards(name, reward, group)
        return reward

    def compute_weights(self, group: Group, rewards: dict[str, Rewards], rollouts: list[Rollout]) -> Weights:
        """The factor of each sample's advantage. `rollouts` are this process's own, one per peer."""
        request = WeightRequest(
            engines=self.engines,
            group=group,
            rewards=rewards,
            rollouts=rollouts,
            offset=self._row_offset(rollouts),
            active=self._active(rewards),
            build_prompt=self.build_prompt,
            answer_template=self.args.answer_template,
            batch_size=self.args.per_device_train_batch_size,
        )
        weights = self.weighting(request)
        check_weights(provider_name(self.weighting), weights, group)
        return weights

    # ---- one generation batch ----

    def joint_rollout(self, rows: list[dict[str, Any]]) -> None:
        """Runs all stages on one generation batch and leaves each peer its `PeerUpdate`."""
        chains = self.args.num_generations
        for engine in self.engines:
            engine.tokens.clear()
            engine.live.clear()
        questions = len(rows) * self.accelerator.num_processes // chains
        orders = speaking_orders(
            self.args.order,
            len(self.engines),
            questions,
            self.block,
            self.args.seed,
        )
        offset = self.accelerator.process_index * len(rows)
        request = replace(
            self.rollout_request([row["prompt"] for row in rows]),
            orders=[orders[(offset + i) // chains] for i in range(len(rows))],
        )
        with self.timed("generate"):
            joint = roll_out(self.engines, request)
        rollouts = joint.rollouts
        group = self._gather(rows, rollouts, orders)
        context = RolloutContext(self.engines, request, rows, rollouts, group, offset)
        with self.timed("views"):
            views = {view.name: checked(view, view.respond(context), context) for view in self.aggregator.views}
            group = replace(group, views={name: gather_responses(view, chains) for name, view in views.items()})
        with self.timed("aggregate and reward"):
            targets = self.aggregate(group)
            check_targets(type(self.aggregator).__name__, targets, group)
            group = replace(group, targets=targets)
        if self.discussion is not None:
            with self.timed("discussion"):
                context = replace(context, group=group)
                rollouts = checked(self.discussion, self.discussion.respond(context), context)
                group = with_turns(group, gather_responses(rollouts, chains))
        self._reward_faults = {}
        with self.timed("aggregate and reward"):
            rewards = self.compute_rewards(group)
        self.faults.new_batch(self._reward_faults)
        with self.timed("pmi"):
            weights = self.compute_weights(group, rewards, joint.rollouts)
        for engine in self.engines:
            engine.live.clear()  # the update changes the policy, and needs the memory
        active = self._active(rewards)
        mix = self._current_mix()
        for p, engine in enumerate(self.engines):
            engine.reward_weights = torch.tensor(list(mix.values()), dtype=torch.float32)
            scored = {name: rewards[name] for name in mix}
            update = make_update(UpdateRequest(engine, p, group, scored, weights, rollouts[p], offset), self.args)
            if self.args.skip_zero_advantage:
                rows = active[p].flatten()[offset : offset + len(update.inputs)]
                update = compact(update, rows, self.args, lambda value: gather_object([value]))
            engine.update = update
        self.last_group = group
        self.last_reward = mixed_reward(rewards, mix)
        if self.args.log_completions and self.is_world_process_zero():
            table = completions_table(group, rewards, weights)
            write_completions(table, self.args.output_dir)
            report_completions(table, self.args.report_to)
        self._record(metrics.joint_metrics(group, rewards, mix, weights, self._train_gold))
        self._record({"rollout/shortened": joint.shortened, "rollout/overlong": joint.overlong})
        self._record(self.aggregator.metrics() | metrics.token_metrics(self.peers))

    def _current_mix(self) -> dict[str, float]:
        """The weights of the rewards that reach the loss in this generation batch."""
        return self.mix.at(self.state.global_step / max(1, self.state.max_steps))

    def _active(self, rewards: dict[str, Rewards]) -> torch.Tensor:
        """Samples whose advantage can differ from zero, bool (P, Q, G)."""
        mix = self._current_mix()
        return active_samples([rewards[name] for name in mix], list(mix.values()), self.args)

    @property
    def block(self) -> int:
        """Index of the current generation batch."""
        return self._step // self.micro_steps_per_generation

    def rollout_request(self, prompts: list[Prompt], greedy: bool = False) -> RolloutRequest:
        """The rollout stage's input for these prompts, in the fixed speaking order."""
        return RolloutRequest(
            prompts=prompts,
            orders=[tuple(range(len(self.engines)))] * len(prompts),
            build_prompt=self.build_prompt,
            extract_answer=self.extract_answer,
            sequential=self.args.context == "sequential",
            peer_context=self.args.peer_context,
            answer_template=self.args.answer_template,
            parse_truncated=self.args.parse_truncated,
            greedy=greedy,
        )

    def _gather(self, rows, rollouts: list[Rollout], orders) -> Group:
        """The complete group of first answers, with labels only in a run that is declared supervised."""
        group = gather_group(
            GatherRequest(
                peers=tuple(self.peers),
                rows=rows,
                rollouts=rollouts,
                orders=orders,
                chains=self.args.num_generations,
                keep_token_ids=any(getattr(p, "needs_token_ids", False) for p in self.providers.values()),
                seed=self.args.seed,
                block=self.block,
                step=self.state.global_step,
            )
        )
        scorer = Scorer(
            self.engines,
            group.prompts,
            rollouts,
            self.args.num_generations,
            self.build_prompt,
            self.args.per_device_train_batch_size,
        )
        gold = tuple(self._train_gold[c["question_id"]] for c in group.columns) if self.args.supervised else None
        return replace(group, scorer=scorer, gold=gold)

    def _row_offset(self, rollouts: list[Rollout]) -> int:
        return self.accelerator.process_index * len(rollouts[0].texts)

    # ---- the loop's two entry points ----

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        model.train()
        self._sync_state()
        if self._step % self.micro_steps_per_generation == 0:
            self.joint_rollout(inputs)
        self._step += 1
        losses = []
        with self.timed("loss and backward"):
            for name, peer in self.updated().items():
                peer.current_gradient_accumulation_steps = self.current_gradient_accumulation_steps
                rows = inputs if peer.update is None else peer.update.inputs  # resumed within a generation batch
                loss = peer.training_step(model[name], rows, num_items_in_batch).to(self.args.device)
                if loss.isfinite():
                    losses.append(loss)
                else:
                    self.faults.note(name, f"its loss is {loss.item()}")
        return torch.stack(losses).mean() if losses else torch.zeros((), device=self.args.device)

    def updated(self):
        """The peers whose update step runs: not the frozen ones, nor a last peer that is never to be updated."""
        trained = self.trained
        if not self.args.update_last_peer and self.args.order == "fixed":
            trained.pop(list(self.peers)[-1], None)
        return trained

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

    # ---- logs and state ----

    def _record(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._joint_metrics[name].append(value)

    def joint_logs(self) -> dict[str, float]:
        """Means of the joint metrics since the last log."""
        means = {name: sum(values) / len(values) for name, values in self._joint_metrics.items()}
        self._joint_metrics.clear()
        return means

    def identity(self) -> dict[str, Any]:
        parts = {"aggregator": type(self.aggregator).__name__, "weighting": provider_name(self.weighting)}
        return super().identity() | {"rewards": list(self.providers)} | parts

    def stateful_parts(self) -> dict[str, Stateful]:
        parts = {f"provider/{name}": p for name, p in self.providers.items() if isinstance(p, Stateful)}
        if isinstance(self.aggregator, Stateful):
            parts["aggregator"] = self.aggregator
        if isinstance(self.weighting, Stateful):
            parts["weighting"] = self.weighting
        return parts | {"collapse": self.collapse}
