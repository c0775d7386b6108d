"""`PSTTrainer`: strings the stages together.

questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from pst_rl import answers
from pst_rl.aggregation import Aggregator
from pst_rl.config import PSTConfig
from pst_rl.data import split_evaluation, split_labels
from pst_rl.discussion import RolloutContext, with_discussion, with_views
from pst_rl.hub.cards import CardRun, write_peer_card
from pst_rl.loop.measuring import PeerEvaluation
from pst_rl.monitors.collapse import CollapseMonitor
from pst_rl.monitors.probe import AgreementProbe, draw_questions
from pst_rl.monitors.reading import ReadingMonitor
from pst_rl.monitors.start import StartMonitor
from pst_rl.options.best_metric import check_metric
from pst_rl.peers.prompts import Prompt, show_peers
from pst_rl.peers.spec import resolve_peers
from pst_rl.records import Group, LocalRows, Rewards, Rollout, Targets, Weights
from pst_rl.rewards import RewardProvider, Stateful, provider_name
from pst_rl.scheme import (
    ask_provider,
    check_scheme,
    check_targets,
    check_weights,
    find_discussion,
    make_aggregator,
    make_providers,
    make_weighting,
    mix_rewards,
)
from pst_rl.scoring.scorer import Scorer
from pst_rl.stages import metrics
from pst_rl.stages.compaction import compact
from pst_rl.stages.completions_table import (
    completions_table,
    print_completions,
    report_completions,
    write_completions,
)
from pst_rl.stages.gather import GatherRequest, gather_group
from pst_rl.stages.pmi import WeightFunction
from pst_rl.stages.rollout import JointRollout, RolloutRequest, roll_out, speaking_orders
from pst_rl.stages.update import UpdateRequest, make_update
from pst_rl.stages.vitals import mixed_reward
from pst_rl.stages.weighting import Weighting, WeightRequest, active_samples, kept_caches


class PSTTrainer(PeerEvaluation):
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
        eval_dataset (`Dataset` or `dict`, *optional*):
            Questions for [`evaluate`], or several sets of them by name; accuracies are logged if it has labels.
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
            model_init_kwargs=args.model_init_kwargs,
        )
        self.aggregator = aggregator if aggregator is not None else make_aggregator(args)
        self.providers = make_providers(reward_providers if reward_providers is not None else args.rewards, args)
        self.mix = mix_rewards(args, self.providers)
        self.weighting = make_weighting(args, weighting, weight_function)
        check_scheme(args, specs, self.aggregator, self.providers, train_dataset, self.weighting)
        self.discussion = find_discussion(self.providers)
        args.reward_weights = list(self.mix.at(0.0).values())  # TRL never sees the monitors
        train_dataset, self._train_gold = split_labels(train_dataset, args.label_columns, "The training data set")
        if args.remove_unused_columns:  # TRL's loader would remove `question_id` too
            train_dataset = train_dataset.select_columns(["prompt", "question_id"])
            args.remove_unused_columns = False
        if args.supervised and not self._train_gold:
            raise ValueError("supervised=True, but the training set has no label column; see `label_columns`.")
        self._eval_gold = None
        if eval_dataset is not None:
            eval_dataset, self._eval_gold = split_evaluation(eval_dataset, args.label_columns)
        check_metric(args, self.measured(specs, args.eval_samples))
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
            engine.note_caches(getattr(self.weighting, "needs_caches", False))
        self._joint_metrics: dict[str, list[float]] = defaultdict(list)
        self.last_group: Group | None = None
        self.collapse = self._collapse_monitor()
        if args.on_collapse != "off":
            self.add_callback(self.collapse)
        self._reward_faults: dict[str, str] = {}
        self.reading = ReadingMonitor(args.answer_style)
        self.start = StartMonitor(args.max_completion_length, args.on_nothing_read, self.is_world_process_zero())

    def _collapse_monitor(self) -> CollapseMonitor:
        """The monitor that the arguments ask for."""
        args, probe = self.args, None
        if args.collapse_probe:
            asked = draw_questions(self.train_dataset, args.collapse_probe, args.seed)
            probe = AgreementProbe(asked, self.measure, self.record, self.updated(), self.accelerator.device)
        steps, restore = args.collapse_probe_steps or self.micro_steps_per_generation, self._load_from_checkpoint
        return CollapseMonitor(self.peers, self.record, restore, args.on_collapse, probe, steps, args.supervised)

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
        rewards: dict[str, Rewards] = {}
        for name, provider in self.providers.items():
            rewards[name], broken = ask_provider(name, provider, group, self.args.seed)
            self._reward_faults |= broken
        return rewards

    def compute_weights(self, group: Group, rewards: dict[str, Rewards], rollouts: list[Rollout]) -> Weights:
        """The factor of each sample's advantage. `rollouts` are this process's own, one per peer."""
        request = WeightRequest(
            engines=self.engines,
            group=group,
            rewards=rewards,
            rollouts=rollouts,
            local=self._local_rows(len(rollouts[0].texts)),
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
        for engine in self.engines:
            engine.begin_batch()
        local = self._local_rows(len(rows))
        questions = len(rows) * self.accelerator.num_processes // local.chains
        orders = speaking_orders(self.args.order, len(self.engines), questions, self.block, self.args.seed)
        request = self.rollout_request([row["prompt"] for row in rows])
        request = replace(request, orders=[orders[q] for q, _ in local.cells])
        keeps = getattr(self.weighting, "needs_caches", False)
        with self.timed("generate", responses=len(rows)), kept_caches(self.engines, keeps):
            joint = roll_out(self.engines, request)
        group, rollouts = self._gather(rows, joint.rollouts, orders), joint.rollouts
        context = RolloutContext(self.engines, request, rows, rollouts, group, local)
        with self.timed("views"):
            group = with_views(self.aggregator.views, context)
        with self.timed("aggregate and reward"):
            targets = self.aggregate(group)
            check_targets(type(self.aggregator).__name__, targets, group)
            group = replace(group, targets=targets)
        if self.discussion is not None:
            with self.timed("discussion"):
                group, rollouts = with_discussion(self.discussion, replace(context, group=group))
        self._reward_faults = {}
        with self.timed("aggregate and reward"):
            rewards = self.compute_rewards(group)
        self.faults.new_batch(self._reward_faults)
        with self.timed("pmi"):
            weights = self.compute_weights(group, rewards, joint.rollouts)
        for engine in self.engines:
            engine.live.clear()  # the policy changes next, and needs the memory
        self._hand_out(group, rewards, weights, rollouts, local)
        self._report(group, rewards, weights, joint)

    def _hand_out(
        self, group: Group, rewards: dict[str, Rewards], weights: Weights, rollouts: list[Rollout], local: LocalRows
    ) -> None:
        """Leaves each peer its update."""
        active, mix = self._active(rewards), self._current_mix()
        scored = {name: rewards[name] for name in mix}
        for p, engine in enumerate(self.engines):
            engine.reward_weights = torch.tensor(list(mix.values()), dtype=torch.float32)  # TRL mixes by these
            update = make_update(UpdateRequest(engine, p, group, scored, mix, weights, rollouts[p], local), self.args)
            if self.args.skip_zero_advantage:
                update = compact(update, local.pick(active[p]), self.args, lambda value: gather_object([value]))
            engine.update = update

    def _report(self, group: Group, rewards: dict[str, Rewards], weights: Weights, joint: JointRollout) -> None:
        """Metrics, the completions table, and the batch for the monitor of collapse."""
        mix = self._current_mix()
        self.last_group = group
        reward = mixed_reward(rewards, mix)
        self.collapse.show(group, reward)
        self.start.see(group, reward)
        if self.is_world_process_zero():
            self.reading.see(group)
        if self.args.log_completions and self.is_world_process_zero():
            table = completions_table(group, rewards, weights)
            write_completions(table, self.args.output_dir)
            report_completions(table, self.args.report_to, unique=self.args.log_unique_prompts)
            if self.args.num_completions_to_print:
                print_completions(table, self.args.num_completions_to_print)
        self.record(metrics.joint_metrics(group, rewards, mix, weights, self._train_gold))
        self.record({"rollout/shortened": joint.shortened, "rollout/overlong": joint.overlong})
        self.record(self.aggregator.metrics() | metrics.token_metrics(self.peers))

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
        args = self.args
        request = GatherRequest(
            peers=tuple(self.peers),
            rows=rows,
            rollouts=rollouts,
            orders=orders,
            chains=args.num_generations,
            keep_token_ids=any(getattr(p, "needs_token_ids", False) for p in self.providers.values()),
            seed=args.seed,
            block=self.block,
            step=self.state.global_step,
        )
        group, size = gather_group(request), args.per_device_train_batch_size
        scorer = Scorer(self.engines, group.prompts, rollouts, args.num_generations, self.build_prompt, size)
        gold = tuple(self._train_gold[c["question_id"]] for c in group.columns) if args.supervised else None
        return replace(group, scorer=scorer, gold=gold, answer_metric=args.answer_metric)

    def _local_rows(self, count: int) -> LocalRows:
        return LocalRows(self.accelerator.process_index * count, count, self.args.num_generations)

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

    # ---- logs and state ----

    def record(self, values: dict[str, float]) -> None:
        """Adds values to the means of the next training log."""
        for name, value in values.items():
            self._joint_metrics[name].append(value)

    def joint_logs(self) -> dict[str, float]:
        """Means of the joint metrics since the last log."""
        means = {name: sum(values) / len(values) for name, values in self._joint_metrics.items()}
        self._joint_metrics.clear()
        return means

    def write_card(self, name: str, folder: str | os.PathLike) -> None:
        """Writes one peer's model card, `README.md`, into a folder."""
        if not self.is_world_process_zero():
            return
        measured = None if self.results is None else self.results.dataset
        run = CardRun(
            peers=self.peers,
            specs=self.specs,
            args=self.args,
            aggregator=self.aggregator,
            mix=self.mix,
            weighting=self.weighting,
            updated=tuple(self.updated()),
            questions=len(self.train_dataset),
            step=self.state.global_step,
            results=self.results,
            dataset=measured if self.dataset_name is None else self.dataset_name,
        )
        write_peer_card(run, name, Path(folder))

    def identity(self) -> dict[str, Any]:
        parts = {"aggregator": type(self.aggregator).__name__, "weighting": provider_name(self.weighting)}
        return super().identity() | {"rewards": list(self.providers)} | parts

    def stateful_parts(self) -> dict[str, Stateful]:
        parts: dict[str, Any] = {f"provider/{name}": provider for name, provider in self.providers.items()}
        parts |= {"aggregator": self.aggregator, "weighting": self.weighting, "collapse": self.collapse}
        return {name: part for name, part in parts.items() if isinstance(part, Stateful)}
