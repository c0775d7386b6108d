"""The table of options: what becomes of every field of TRL's `GRPOConfig` and `ModelConfig`, and what resumes compare.

A field is `passed` (it takes effect as TRL and transformers say), `ours` (it has a meaning of its own here) or
`refused` (any value but the default, since nothing here could act on it). `docs/options.md` is this table as a page; a
test holds it against the fields that TRL has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Fate = Literal["passed", "ours", "refused"]


@dataclass(frozen=True)
class Option:
    """What becomes of one field.

    Attributes:
        fate: Whether it takes effect as documented by its library, in a way of ours, or is refused.
        note: What it does here (`ours`), what to do instead (`refused`), or what goes beyond TRL (`passed`).
        may_change: Why a resumed run may differ in it; empty: it belongs to the identity of a run.
        also: Values that are no refusal, besides the default.
    """

    fate: Fate
    note: str = ""
    may_change: str = ""
    also: tuple[Any, ...] = ()


def passed(names: str, note: str = "", may_change: str = "") -> dict[str, Option]:
    """Fields that take effect as TRL and transformers say."""
    return {name: Option("passed", note, may_change) for name in names.split()}


def ours(name: str, note: str, may_change: str = "") -> dict[str, Option]:
    """A field with a meaning of its own here."""
    return {name: Option("ours", note, may_change)}


def refused(names: str, note: str, also: tuple[Any, ...] = ()) -> dict[str, Option]:
    """Fields of which any value but the default (or `also`) is refused with this remedy."""
    return {name: Option("refused", note, "", also) for name in names.split()}


_LOGS = "it changes what is shown, not what is trained"
_EVALUATION = "it changes what is measured"
_SAVES = "it changes what is kept, not what is trained"
_HUB = "it changes where copies go"
_MACHINE = "it belongs to the machine, not to the run"
_LONGER = "a run may be made longer; a learning rate that depends on the number of steps then takes another course"
_NO_LOOP = "evaluation here is ours (greedy answers and votes), without a loss or logits. Leave it out."
_WHOLE = (
    "it wraps or shards one model, and there are several peers, each whole on its device. Launch with plain data "
    "parallelism (`accelerate launch --multi_gpu`); if the peers do not fit, use 4-bit weights with LoRA."
)

TRAINER: Mapping[str, Option] = {
    # ---- the course of training ----
    **passed("max_steps num_train_epochs", may_change=_LONGER),
    **passed("learning_rate", "a `PeerSpec` may have its own"),
    **passed("lr_scheduler_type warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon optim_args"),
    **passed(
        "lr_scheduler_kwargs",
        "schedules that follow a metric get the `mode` that fits `greater_is_better`, where you give none",
    ),
    **passed("optim", "of the kinds that take groups of parameters; the others are refused by name"),
    **refused(
        "optim_target_modules",
        "it is for optimizers that look for modules in one model (GaLore, APOLLO), which are refused. Leave it out.",
    ),
    **passed("max_grad_norm", "each peer's gradient is clipped by itself"),
    **passed("per_device_train_batch_size gradient_accumulation_steps", "rows and micro-batches of each peer"),
    **passed("seed full_determinism shuffle_dataset data_seed"),
    **refused(
        "average_tokens_across_devices",
        "TRL's losses count the tokens of all processes anyway. Leave it at True.",
    ),
    **refused("label_smoothing_factor", "TRL's losses have no labels to smooth. Leave it at 0."),
    **passed("neftune_noise_alpha", "in the update of every trained peer"),
    **passed("disable_dropout cast_lm_head_to_fp32 router_aux_loss_coef"),
    **refused(
        "train_sampling_strategy length_column_name",
        "TRL's sampler decides the order, since groups must stay whole; see shuffle_dataset.",
    ),
    **refused("ignore_data_skip", "a resumed run goes on in the order of its data, at no cost. Leave it at False."),
    # ---- precision, memory, speed, the machine ----
    **passed("fp16 tf32 torch_compile torch_compile_backend torch_compile_mode"),
    **ours("bf16", "unset: on where a GPU knows it"),
    **refused("bf16_full_eval fp16_full_eval", "evaluation has the precision of training: see bf16 and fp16."),
    **passed(
        "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
        "gradient_checkpointing_kwargs torch_empty_cache_steps use_cache",
        may_change="it trades memory for time",
    ),
    **refused(
        "use_liger_kernel liger_kernel_config",
        "transformers would patch only a model that trains by itself. Use model_init_kwargs={'use_kernels': True}, as "
        "TRL advises.",
    ),
    **ours("use_cpu", "detected: on where there is no accelerator", may_change=_MACHINE),
    **passed("accelerator_config", "but for split_batches and dispatch_batches, which tear groups apart"),
    **refused("parallelism_config fsdp fsdp_config deepspeed", _WHOLE, also=(False, "", [], {})),
    **refused("ds3_gather_for_generation", "it is for DeepSpeed, which is refused. Leave it at True."),
    **passed("ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout", may_change=_MACHINE),
    **ours("ddp_find_unused_parameters", "unset: off, since every parameter takes part", may_change=_MACHINE),
    **refused("local_rank", "launch with `accelerate launch` or `torchrun`, which tell each process its rank."),
    **refused("auto_find_batch_size", "groups must stay whole. Lower per_device_train_batch_size instead."),
    **passed(
        "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order",
        may_change=_MACHINE,
    ),
    **refused(
        "dataloader_drop_last", "TRL's sampler leaves incomplete generation batches out anyway. Leave it at False."
    ),
    **passed("debug", "`underflow_overflow`", may_change=_LOGS),
    **passed("skip_memory_metrics", may_change=_LOGS),
    # ---- logs ----
    **passed("logging_strategy logging_steps logging_first_step log_on_each_node", may_change=_LOGS),
    **passed("log_level log_level_replica disable_tqdm report_to run_name", may_change=_LOGS),
    **passed("project trackio_space_id trackio_bucket_id trackio_static_space_id", may_change=_LOGS),
    **refused(
        "logging_nan_inf_filter",
        "a peer whose loss is not finite is left out of the update and of the mean; see fault_patience.",
    ),
    **refused("include_num_input_tokens_seen", "every log has `<peer>/num_tokens`. Leave it out.", also=(False,)),
    **ours("log_completions", "one parquet table for all peers, with a column that names them", may_change=_LOGS),
    **ours(
        "num_completions_to_print",
        "with log_completions, prints so many rows of each generation batch; unset: none",
        may_change=_LOGS,
    ),
    **ours(
        "log_unique_prompts",
        "with log_completions, trackers get one row for each peer and prompt",
        may_change=_LOGS,
    ),
    **refused(
        "log_completions_hub_repo",
        "upload the tables yourself: `hf upload REPO OUTPUT_DIR/completions --repo-type dataset`.",
    ),
    **refused("log_multimodal", "prompts are texts, without images. Leave it at True."),
    # ---- evaluation ----
    **passed("eval_strategy eval_steps eval_delay eval_on_start", may_change=_EVALUATION),
    **ours("per_device_eval_batch_size", "questions that are asked at a time", may_change=_EVALUATION),
    **refused(
        "num_generations_eval",
        "evaluation asks once, greedily; eval_samples adds samples for the pooled vote.",
        also=(1,),
    ),
    **refused(
        "prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
        "include_for_metrics batch_eval_metrics",
        _NO_LOOP,
    ),
    **refused("label_names", "columns with labels are named in label_columns."),
    **refused("do_train do_eval do_predict", "they are for scripts of transformers. Leave them out."),
    # ---- checkpoints ----
    **passed("output_dir", may_change="a run may move"),
    **passed("save_strategy save_steps save_total_limit save_on_each_node", may_change=_SAVES),
    **passed("save_only_model", "resuming from such a checkpoint is refused, unless resume_anyway", may_change=_SAVES),
    **passed("load_best_model_at_end", "the peers of the best checkpoint, all of them", may_change=_SAVES),
    **ours("metric_for_best_model", "unset: `vote/accuracy`, where it is needed", may_change=_EVALUATION),
    **passed("greater_is_better", may_change=_EVALUATION),
    **ours("resume_from_checkpoint", "read by `pst-rl train`: a folder, `last` or `auto`", may_change=_SAVES),
    **passed("restore_callback_states_from_checkpoint", may_change=_SAVES),
    **ours("enable_jit_checkpoint", "on SIGTERM the step is finished, then saved", may_change=_SAVES),
    # ---- the Hub ----
    **ours("push_to_hub", "one repository for each trained peer", may_change=_HUB),
    **ours("hub_model_id", "the beginning of their names: `<hub_model_id>-<peer>`", may_change=_HUB),
    **ours("hub_strategy", "`every_save` or `end`; the strategies that push checkpoints are refused", may_change=_HUB),
    **passed("hub_token hub_private_repo hub_always_push hub_revision", may_change=_HUB),
    # ---- models and data ----
    **ours("model_init_kwargs", "defaults for every peer that is loaded here; those of its `PeerSpec` win"),
    **refused(
        "trust_remote_code",
        "it would run code from every peer's repository. Ask for it where it is needed: "
        "peers=[PeerSpec('org/model', trust_remote_code=True), ...].",
    ),
    **ours("remove_unused_columns", "`prompt` and our `question_id` are kept"),
    **refused("max_tool_calling_iterations", "peers are given no tools. Leave it out."),
    # ---- rollouts ----
    **passed("num_generations", "of each peer for each question"),
    **passed("generation_batch_size steps_per_generation max_completion_length chat_template_kwargs"),
    **passed("temperature top_p top_k min_p repetition_penalty generation_kwargs cache_implementation"),
    **passed("pad_to_multiple_of", may_change="padding is masked"),
    **passed("use_transformers_continuous_batching transformers_continuous_batching_config use_transformers_paged"),
    **passed("use_vllm", "a `PeerSpec` may opt out"),
    **passed("vllm_mode", "`colocate` with one peer; several need `server`"),
    **passed("vllm_model_impl vllm_structured_outputs_regex vllm_max_model_length"),
    **passed("vllm_enable_sleep_mode", "with `colocate`", _MACHINE),
    **passed("vllm_server_base_url vllm_server_host vllm_server_port", "each peer has a server of its own", _MACHINE),
    **passed("vllm_group_port", "of the first peer; the next ones count on", _MACHINE),
    **passed("vllm_server_timeout vllm_gpu_memory_utilization vllm_tensor_parallel_size", "", _MACHINE),
    # ---- the loss ----
    **passed("loss_type beta num_iterations epsilon epsilon_high delta importance_sampling_level scale_rewards"),
    **passed("sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg"),
    **ours("reward_weights", "one for each of `rewards`, in their order; see reward_schedules"),
    **ours("multi_objective_aggregation", "unset: normalize_then_sum where several rewards have a weight"),
    **passed("mask_truncated_completions top_entropy_quantile entropy_coef use_adaptive_entropy"),
    **passed("entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target"),
    **passed("vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_cap"),
    **passed("vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min"),
    **passed("off_policy_mask_threshold use_bias_correction_kl"),
    **refused(
        "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps",
        "sync_ref_model is not supported: the peers' own training loops never run, so the reference would never be "
        "synchronised. Leave these out, and use beta for a fixed reference.",
    ),
}

# Fields of `PSTConfig` that TRL does not have: all of them are part of a run's identity, but for these.
OWN_MAY_CHANGE: Mapping[str, str] = {
    "eval_samples": _EVALUATION,
    "label_columns": "labels only measure",
    "answer_metric": "it measures; a supervised run, which trains by it, compares it",
    "resume_anyway": "it decides whether anything is compared",
    "fault_patience": "it changes when a run with faults stops",
    "on_collapse": "it changes when a run stops",
    "on_nothing_read": "it changes when a run stops",
    "collapse_probe": "it changes what is watched",
    "collapse_probe_steps": "it changes what is watched",
}

_LORA = "of the adapters of every peer, with use_peft"

MODEL: Mapping[str, Option] = {
    **refused("model_name_or_path", "name the models with --peers."),
    **ours("dtype", "weights of every peer; float32 means bfloat16 beside 4-bit weights, and so they compute"),
    **ours("attn_implementation", "of every peer"),
    **ours("model_revision", "of every peer, each of which must then be on the Hub"),
    **passed("use_peft load_in_8bit load_in_4bit", "every peer"),
    **passed("lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters lora_modules_to_save", _LORA),
    **passed("use_rslora use_dora", _LORA),
    **refused("lora_task_type", "peers are causal language models. Leave it out."),
    **passed("bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage", "of every peer, with load_in_4bit"),
}


def may_change(name: str) -> str:
    """Why a resumed run may differ in this field of `PSTConfig`; empty where it may not, or is always the default."""
    return TRAINER[name].may_change if name in TRAINER else OWN_MAY_CHANGE.get(name, "")
