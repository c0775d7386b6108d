"""`PSTConfig`: TRL's `GRPOConfig` plus the fields that are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from trl import GRPOConfig

from pst_rl.answers.reading import Style
from pst_rl.answers.score import Metric
from pst_rl.options import OLD_FIELDS, check_choices, new_spelling
from pst_rl.options.best_metric import choose_metric, follow_upwards
from pst_rl.options.refusals import check_options, check_values
from pst_rl.options.table import TRAINER
from pst_rl.peers.prompts import BASE_TEMPLATE
from pst_rl.peers.template_date import TEMPLATE_DATE, check_date

C = TypeVar("C", bound=type)
OnNothingRead = Literal["stop", "warn"]


def answers_old_names(config: C) -> C:
    """A configuration that answers a field of an earlier version with what it is now."""
    init = config.__init__  # type: ignore[misc]  # of the very class that is decorated

    @wraps(init)
    def __init__(self, *args, **kwargs):
        if old := {name: value for name, value in kwargs.items() if name in OLD_FIELDS}:
            said, now = (", ".join(f"{k}={v!r}" for k, v in fields.items()) for fields in (old, new_spelling(old)))
            raise TypeError(f"PSTConfig({said}) is now PSTConfig({now}).")
        init(self, *args, **kwargs)

    config.__init__ = __init__  # type: ignore[misc]  # likewise
    return config


@answers_old_names
@dataclass
class PSTConfig(GRPOConfig):
    r"""
    Configuration of [`PSTTrainer`]. Adds only the fields below to [`~trl.GRPOConfig`]; all others keep their meaning
    and hold for every peer (per-peer settings live in [`PeerSpec`]).

    Parameters:
        > Parameters that control the rollout

        context (`str`, *optional*, defaults to `"independent"`):
            `"independent"`: every peer sees only the question. `"sequential"`: peer k also reads the peers before it;
            generation i forms one chain across the peers.
        order (`str`, *optional*, defaults to `"fixed"`):
            Speaking order in a sequential rollout: `"fixed"`, `"rotating"` (by one peer each generation batch) or
            `"random"` (per question). The last peer of the order is the aggregate of `aggregator="last_peer"`.
        peer_context (`str`, *optional*, defaults to `"answers"`):
            What later peers read of earlier ones: extracted `"answers"` or whole `"responses"`.
        peer_template (`str`, *optional*):
            How one earlier peer is shown at the end of the last user message; `{text}` is its answer or response.
        base_template (`str`, *optional*):
            Prompt for models without a chat template; `{prompt}` is the text of the messages.
        template_date (`str`, *optional*):
            The day, as YYYY-MM-DD, that chat templates write which write today's (Llama 3, SmolLM3, Granite): unset,
            one fixed day, so that a run, its resume and its evaluation ask the same whenever they are started.
        stop_strings (`list[str]`, *optional*):
            Responses end before the first of these. Defaults, for models without a chat template, to strings
            that begin a next question and to the cues of `base_template` ("\nAnswer:"), which base models repeat until
            the limit; to none for models with a chat template.
        rows_per_generate (`int`, *optional*):
            Generate this many rows at a time, sorted by prompt length, so that less is spent on padding and waiting.
            Unset: all rows of a generation batch at once, in order, as TRL does.

        > Parameters that control answers and the aggregate

        answer_style (`str`, *optional*, defaults to `"auto"`):
            Which statement counts as the final answer, see [`~pst_rl.answers.find_answer`].
        answer_metric (`str`, *optional*, defaults to `"whole"`):
            How an answer is compared with gold, in metrics and by what reads gold: the `"whole"` answer, the `"first"`
            quantity stated (SimulEq), the `"set"` of all solutions, or a choice's `"letter"`; see
            [`~pst_rl.answers.is_correct`]. `pst-rl train` takes it from the benchmark of the data set.
        answer_template (`str`, *optional*):
            How an answer is stated when we have to write one (PMI, peers' answers in prompts); `{answer}` is filled.
        parse_truncated (`bool`, *optional*, defaults to `False`):
            Whether an answer found in a response that was cut off at `max_completion_length` counts.
        aggregator (`str`, *optional*, defaults to `"majority"`):
            A key of `pst_rl.AGGREGATORS`; ignored if an aggregator object is passed to the trainer.
        quorum (`float`, *optional*, defaults to `0.0`):
            Share of all samples the winning answer of a vote needs; below it the question is left out.
        rewards (`list[str]`, *optional*, defaults to `["matches_aggregate"]`):
            Keys of `pst_rl.REWARDS`; ignored if reward providers are passed to the trainer.
        aggregator_options (`dict`, *optional*):
            Keyword arguments of the aggregator named in `aggregator`.
        reward_options (`dict`, *optional*):
            For each name in `rewards`, keyword arguments of that provider.
        reward_schedules (`dict`, *optional*):
            For each provider whose weight changes, factors of its `reward_weights` entry at equally spaced points of
            training, linear in between: `{"self_certainty": [1, 0]}` fades it out.
        multi_objective_aggregation (`str`, *optional*):
            TRL's; unset: `"normalize_then_sum"` where several providers have a weight, else `"sum_then_normalize"`.

        > Parameters that control the weights

        weighting (`str`, *optional*, defaults to `"none"`):
            A key of `pst_rl.WEIGHTINGS`; ignored if a weighting is passed to the trainer. `"none"` gives every sample
            weight 1; `"pmi"` scales advantages by PMI, as PST does. Off by default because on the tiny peers it gained
            nothing in any form tried (docs/findings.md).
        weighting_options (`dict`, *optional*):
            Keyword arguments of the weighting named in `weighting`; those of `"pmi"` are the arguments of
            [`~pst_rl.stages.pmi.PMIWeights`].
        recentre_weighted (`bool`, *optional*):
            Whether the mean of a group's weighted advantages is taken off them, so that no weighting pushes a peer
            away from its own samples, or towards them ([`~pst_rl.peers.recentring.group_means`]). Unset: yes, where
            weights scale advantages, which is `objective="grpo"`; in the cross-entropy objectives the weight is the
            whole factor, there is nothing to re-centre, and `True` is refused.

        > Parameters that control the update

        objective (`str`, *optional*, defaults to `"grpo"`):
            `"grpo"`, `"weighted_sft"` (weighted cross-entropy on the peer's own responses; the paper's form),
            `"aggregate_sft"` (weighted cross-entropy on the aggregate's response, re-tokenised for each peer) or
            `"discussion_sft"` (the same, given the question and the peer's own discussion; SAIE's form).
        skip_zero_advantage (`bool`, *optional*, defaults to `False`):
            Leave rows out of the update whose advantage is zero, and merge equal ones (the loss keeps its
            normaliser). Cheaper, but micro-batches are composed differently.
        update_last_peer (`bool`, *optional*, defaults to `True`):
            Whether the peer that speaks last is updated too (the paper leaves this open).

        > Parameters that control speed (docs/performance.md has the on/off figures)

        shared_prefill (`bool`, *optional*, defaults to `False`):
            When sampling, read each distinct prompt once and expand its keys and values over the generations. Off for
            a peer whose cache cannot be expanded, with a note (`pst_rl.peers.self_test`); so is `shared_prompts`.
        shared_prompts (`bool`, *optional*, defaults to `False`):
            In the loss, read each distinct prompt of a micro-batch once. Needs `gradient_checkpointing=False`.
        sort_micro_batches (`bool`, *optional*, defaults to `False`):
            Put rows of like length into one micro-batch and leave padding out; with `shared_prompts`, rows of one
            prompt. Rows stay within what one optimizer step accumulates.

        > Parameters that control what happens in a collapse

        on_collapse (`str`, *optional*, defaults to `"warn"`):
            What [`~pst_rl.monitors.collapse.CollapseMonitor`] does when a peer collapses: `"warn"`; `"stop"` training;
            `"restore"` the best checkpoint by a label-free criterion and stop; `"off"`.
        collapse_probe (`int`, *optional*, defaults to `0`):
            Training questions that all peers answer greedily again and again, to notice early that they move away from
            what they voted for at the start ([`~pst_rl.monitors.probe.AgreementProbe`]). The more, the earlier.
            Costs their generation, which can be more than that of training itself (docs/trust.md).
        collapse_probe_steps (`int`, *optional*):
            Every how many steps. Unset: after each generation batch.

        on_nothing_read (`str`, *optional*, defaults to `"stop"`):
            What to do where no response of any peer ends, or none has an answer that is read, in the first measurement
            of `pst-rl train` and in the first generation batches: `"stop"`, or `"warn"` and go on. Of a single such
            peer beside others the run says so, at its start and end, and goes on.

        > Parameters that control checkpoints and faults

        resume_anyway (`bool`, *optional*, defaults to `False`):
            Go on from a checkpoint of a run with other peers, data, seeds or settings, or from a damaged one.
        fault_patience (`int`, *optional*, defaults to `5`):
            A peer whose loss, gradient or reward is not finite is left out of that update; after this many in a row
            training stops. As many steps in a row that update nothing are warned of. Our choice.

        > Parameters that control labels

        label_columns (`list[str]`, *optional*):
            Columns taken off the data sets at construction. They serve metrics only. Defaults to
            `pst_rl.data.DEFAULT_LABEL_COLUMNS`.
        supervised (`bool`, *optional*, defaults to `False`):
            Allow providers and aggregators that read gold answers. The run says "supervised" in its logs and card.
        eval_samples (`int`, *optional*, defaults to `0`):
            Samples per peer and question at evaluation for `eval_pooled_vote/accuracy`, besides the greedy answer.
    """

    context: Literal["independent", "sequential"] = field(
        default="independent", metadata={"help": "Whether peers answer independently or read the peers before them."}
    )
    order: Literal["fixed", "rotating", "random"] = field(
        default="fixed", metadata={"help": "Speaking order of the peers in a sequential rollout."}
    )
    peer_context: Literal["answers", "responses"] = field(
        default="answers", metadata={"help": "What later peers read of earlier ones."}
    )
    peer_template: str = field(
        default="\n\nAnother model answered: {text}",
        metadata={"help": "How an earlier peer is shown; {text} is its answer or response."},
    )
    base_template: str = field(
        default=BASE_TEMPLATE,
        metadata={"help": "Prompt of models without a chat template; {prompt} is the text of the messages."},
    )
    template_date: str | None = field(
        default=None, metadata={"help": f"Day that chat templates write as today's; unset: {TEMPLATE_DATE}."}
    )
    stop_strings: list[str] | None = field(
        default=None, metadata={"help": "A response ends before the first of these strings."}
    )
    rows_per_generate: int | None = field(
        default=None, metadata={"help": "Rows generated at a time, sorted by prompt length; unset: all at once."}
    )
    answer_style: Style = field(default="auto", metadata={"help": "Which statement counts as the final answer."})
    answer_metric: Literal["whole", "first", "set", "letter"] = field(
        default="whole", metadata={"help": "How an answer is compared with gold; unset: as the benchmark of the data."}
    )
    answer_template: str = field(
        default="The answer is \\boxed{{answer}}.",
        metadata={"help": "How an answer is stated when we write one; {answer} is filled."},
    )
    parse_truncated: bool = field(
        default=False, metadata={"help": "Whether answers in responses that were cut off count."}
    )
    aggregator: str = field(default="majority", metadata={"help": "Name of the aggregator that makes the targets."})
    quorum: float = field(default=0.0, metadata={"help": "Share of all samples a winning answer needs."})
    rewards: list[str] = field(
        default_factory=lambda: ["matches_aggregate"], metadata={"help": "Names of the reward providers."}
    )
    aggregator_options: dict[str, Any] | None = field(
        default=None, metadata={"help": "Keyword arguments of the named aggregator (JSON)."}
    )
    reward_options: dict[str, Any] | None = field(
        default=None, metadata={"help": "Keyword arguments of the named reward providers, by name (JSON)."}
    )
    reward_schedules: dict[str, Any] | None = field(
        default=None, metadata={"help": "Factors of a reward's weight over training, by provider name (JSON)."}
    )
    # TRL has no unset value for it; here it is unset until the rewards are known.
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "TRL's; unset: normalize_then_sum where several rewards have a weight."}
    )
    weighting: str = field(
        default="none", metadata={"help": "Name of what scales the advantages: none, or pmi, as PST does."}
    )
    weighting_options: dict[str, Any] | None = field(
        default=None, metadata={"help": "Keyword arguments of the named weighting (JSON)."}
    )
    recentre_weighted: bool | None = field(
        default=None, metadata={"help": "Take the mean off a group's weighted advantages; unset: with objective=grpo."}
    )
    objective: Literal["grpo", "weighted_sft", "aggregate_sft", "discussion_sft"] = field(
        default="grpo", metadata={"help": "Which completions and advantages reach the loss."}
    )
    skip_zero_advantage: bool = field(
        default=False, metadata={"help": "Leave rows with zero advantage out of the update."}
    )
    shared_prefill: bool = field(default=False, metadata={"help": "Read each distinct prompt once when sampling."})
    shared_prompts: bool = field(
        default=False, metadata={"help": "Read each distinct prompt of a micro-batch once in the loss."}
    )
    sort_micro_batches: bool = field(
        default=False, metadata={"help": "Rows of like length share a micro-batch, without padding."}
    )
    update_last_peer: bool = field(default=True, metadata={"help": "Whether the peer that speaks last is updated."})
    on_collapse: Literal["off", "warn", "stop", "restore"] = field(
        default="warn", metadata={"help": "What to do when a peer collapses."}
    )
    collapse_probe: int = field(
        default=0, metadata={"help": "Training questions that are asked again and again to notice a collapse."}
    )
    collapse_probe_steps: int | None = field(
        default=None, metadata={"help": "Steps from one such probe to the next; unset: each generation batch."}
    )
    on_nothing_read: OnNothingRead = field(
        default="stop", metadata={"help": "What to do when no answer of any peer can be read at the start."}
    )
    resume_anyway: bool = field(
        default=False, metadata={"help": "Resume from a damaged checkpoint, or one of a run with other settings."}
    )
    fault_patience: int = field(
        default=5, metadata={"help": "Stop after so many updates in a row that a peer missed for a numeric fault."}
    )
    label_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns taken off the data at construction; they serve metrics only."}
    )
    supervised: bool = field(
        default=False, metadata={"help": "Allow providers that read gold answers. Not label-free."}
    )
    eval_samples: int = field(
        default=0, metadata={"help": "Samples per peer and question for the pooled vote at evaluation; 0: none."}
    )

    if TYPE_CHECKING:  # what TRL declares as possibly unset is set once a configuration is made
        output_dir: str = ""
        num_generations: int = 8
        generation_batch_size: int = 0
        steps_per_generation: int = 0
        max_completion_length: int = 512
        chat_template_kwargs: dict[str, Any] | None = None
        model_init_kwargs: dict[str, Any] | None = None
        gradient_checkpointing_kwargs: dict[str, Any] | None = None
        report_to: list[str] = field(default_factory=list)

    __repr__ = GRPOConfig.__str__  # a dataclass's own would spell out the tokens

    def __post_init__(self):
        check_options(self, TRAINER)
        choose_metric(self)
        # What the machine has is detected, not demanded: TRL would refuse to start without a GPU.
        if not (torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()):
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = (
                not self.fp16 and not self.use_cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
            )
        # Evaluation is one greedy answer per question, so no group has to fit an evaluation batch.
        self.num_generations_eval = self.num_generations_eval or 1
        super().__post_init__()
        check_values(self)
        follow_upwards(self)
        self._check_ours()

    def _check_ours(self):
        check_choices(
            answer_metric=(self.answer_metric, Metric), on_nothing_read=(self.on_nothing_read, OnNothingRead)
        )
        if "{answer}" not in self.answer_template:
            raise ValueError(f"answer_template must contain {{answer}}, got {self.answer_template!r}.")
        if "{text}" not in self.peer_template:
            raise ValueError(f"peer_template must contain {{text}}, got {self.peer_template!r}.")
        if "{prompt}" not in self.base_template:
            raise ValueError(f"base_template must contain {{prompt}}, got {self.base_template!r}.")
        if self.template_date is not None:
            check_date(self.template_date)
        if self.rows_per_generate is not None and self.rows_per_generate < 1:
            raise ValueError(f"rows_per_generate must be at least 1, got {self.rows_per_generate}.")
        if self.collapse_probe < 0 or (self.collapse_probe_steps is not None and self.collapse_probe_steps < 1):
            raise ValueError(
                "collapse_probe must be a number of questions and collapse_probe_steps one of steps, got "
                f"{self.collapse_probe} and {self.collapse_probe_steps}."
            )
        if self.collapse_probe and self.on_collapse == "off":
            raise ValueError("collapse_probe asks questions that on_collapse='off' would do nothing with.")
        if self.fault_patience < 1:
            raise ValueError(f"fault_patience must be at least 1, got {self.fault_patience}.")
        if self.order != "fixed" and self.context == "independent" and self.aggregator != "last_peer":
            raise ValueError(
                f"order={self.order!r} has no effect with context='independent'. Set context='sequential' or leave "
                "order='fixed'."
            )
        if self.objective != "grpo":
            self._check_sft()
        self.check_speed()

    def _check_sft(self):
        """The cross-entropy objectives are TRL's loss at ratio 1, which these settings would break."""
        faults = {
            "temperature must be 1 (the loss would use tempered probabilities)": self.temperature != 1.0,
            "recentre_weighted=True has no advantages to re-centre (the weight itself is the factor)": bool(
                self.recentre_weighted
            ),
            "beta must be 0": self.beta != 0.0,
            "top_entropy_quantile must be 1": self.top_entropy_quantile < 1.0,
            "entropy_coef must be 0": self.entropy_coef != 0.0 or self.use_adaptive_entropy,
            f"loss_type={self.loss_type!r} is not a plain sum of log-probabilities": self.loss_type
            in ("luspo", "vespo"),
            "vllm_importance_sampling_correction must be False": self.use_vllm
            and self.vllm_importance_sampling_correction,
        }
        if wrong := [fault for fault, present in faults.items() if present]:
            raise ValueError(f"objective={self.objective!r}: {'; '.join(wrong)}.")

    def check_speed(self):
        """Refuses levers for speed that what else is set forbids."""
        if self.shared_prefill and (self.use_vllm or self.use_transformers_continuous_batching):
            raise ValueError(
                "shared_prefill=True is for plain `generate`; vLLM and continuous batching share prompts."
            )
        if self.shared_prompts and self.gradient_checkpointing:
            raise ValueError(
                "shared_prompts=True needs the prompts' keys and values, which gradient checkpointing throws away. "
                "Set gradient_checkpointing=False, or shared_prompts=False where memory is short."
            )
        if self.sort_micro_batches and self.loss_type == "bnpo":
            raise ValueError(
                "sort_micro_batches=True would change loss_type='bnpo', which divides by a micro-batch's own tokens."
            )
