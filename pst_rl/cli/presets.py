"""Named sets of options for `pst-rl train`. Each is what one would otherwise type as flags."""

from typing import Any

PUBLISHED_MODELS = ["google/gemma-2-2b-it", "meta-llama/Llama-3.2-1B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct"]

# What works on the tiny peers in minutes on a CPU, chosen on validation questions (docs/demo.md): four updates
# per generation batch, a decaying learning rate, rows that cannot change the update left out, prompts read once.
TINY_TRAINING: dict[str, Any] = {
    "max_steps": 24,
    "steps_per_generation": 4,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 256,
    "rows_per_generate": 256,
    "num_generations": 8,
    "max_completion_length": 48,
    "learning_rate": 4e-4,
    "lr_scheduler_type": "linear",
    "loss_type": "grpo",
    "skip_zero_advantage": True,
    "shared_prefill": True,
    "shared_prompts": True,
    "sort_micro_batches": True,
    "logging_steps": 4,
    "gradient_checkpointing": False,
}

# How the tiny peers were pretrained to be shown another's response, and to state an answer.
TINY_ANSWERS: dict[str, Any] = {
    "peer_template": "\nP: {text}",
    "answer_template": "#### {answer}",
    "answer_style": "hash",
    "peer_context": "responses",
}

TINY_BUDGET: dict[str, Any] = TINY_TRAINING | {
    "enable_jit_checkpoint": True,  # SIGTERM: finish the step, save, stop
    "dataset": "tiny",
    "save_steps": 8,
    "save_total_limit": 1,
    "use_peft": False,
    "load_in_4bit": False,
}

# Joins whichever preset is chosen, where the peers are the embedded ones.
TINY_STYLE: dict[str, Any] = TINY_BUDGET | TINY_ANSWERS | {"prompt_template": "{question}"}

# The demo: independent answers, and a pooled vote with a quorum.
DEMO: dict[str, Any] = TINY_BUDGET | {
    "output_dir": "runs/pst_math",
    "peers": ["tiny"],
    "quorum": 0.34,
    "log_completions": True,
}

# Three published models with 4-bit weights and LoRA on one GPU, trained by our defaults. Not run by us on a GPU yet.
QLORA: dict[str, Any] = {
    "output_dir": "runs/qlora",
    "peers": PUBLISHED_MODELS,
    "dataset": "gsm8k",
    "prompt_template": "{question}\n\nReason step by step, and put your final answer within \\boxed{}.",
    "load_in_4bit": True,
    "use_peft": True,
    "lora_r": 16,
    "max_steps": 200,
    "steps_per_generation": 8,
    "gradient_accumulation_steps": 8,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "num_generations": 8,
    "max_completion_length": 512,
    "learning_rate": 1e-5,
    "quorum": 0.34,
    "logging_steps": 1,
    "save_steps": 20,
    "enable_jit_checkpoint": True,
    "save_total_limit": 2,
}

# The published protocol (arXiv 2604.13356): sequential responses, the last peer is the aggregate, weighted
# cross-entropy on each peer's own response. What the paper does not state keeps our defaults.
PAPER: dict[str, Any] = QLORA | {
    "output_dir": "runs/paper",
    "dataset": "multiarith",
    "context": "sequential",
    "peer_context": "responses",
    "aggregator": "last_peer",
    "objective": "weighted_sft",
    "quorum": 0.0,
    "weighting": "pmi",
}

PRESETS = {"demo": DEMO, "qlora": QLORA, "paper": PAPER}
