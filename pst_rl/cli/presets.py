"""Named sets of options for `pst-rl train`. Each is what one would otherwise type as flags."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.methods import METHODS

if TYPE_CHECKING:
    from pst_rl.config import PSTConfig

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

# Any other peers: nothing that was chosen for particular models. LoRA, and a rate for it; all weights are
# trained by --no-use-peft with one of about 1e-6.
_REAL: dict[str, Any] = {
    "prompt_template": "{question}\n\nReason step by step, and put your final answer within \\boxed{}.",
    "use_peft": True,
    "lora_r": 16,
    "steps_per_generation": 8,
    "gradient_accumulation_steps": 8,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "num_generations": 8,
    "max_completion_length": 512,
    "learning_rate": 1e-5,
    "logging_steps": 1,
    "save_steps": 20,
    "save_total_limit": 2,
    "enable_jit_checkpoint": True,
}
OWN: dict[str, Any] = _REAL | {
    "output_dir": "runs/own",
    "max_steps": 100,
    "test_questions": 200,
    "pooled_questions": 50,
}

# How the study of published models on a CPU trains (docs/real-models.md): answers of a few tokens, LoRA on bfloat16.
SMALL_TRAINING: dict[str, Any] = {
    "max_steps": 16,
    "steps_per_generation": 2,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 128,
    "num_generations": 4,
    "max_completion_length": 12,
    "temperature": 0.7,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "linear",
    "loss_type": "grpo",
    "skip_zero_advantage": True,
    "shared_prefill": True,
    "shared_prompts": True,
    "sort_micro_batches": True,
    "gradient_checkpointing": False,
    "bf16": False,  # no autocast: the weights are in bfloat16, the LoRA in float32
    "logging_steps": 1,
}

# Three published models of 0.1 to 0.5 billion parameters on a CPU. The small one is trained, the others answer and
# vote: the strong one lost its answers at twice this rate, and a vocabulary of 262,144 makes updates slow.
SMALL: dict[str, Any] = SMALL_TRAINING | {
    "output_dir": "runs/small",
    "peers": {
        "smollm": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "qwen": {"model": "Qwen/Qwen2.5-Coder-0.5B-Instruct", "trainable": False},
        "gemma": {"model": "google/gemma-3-270m", "trainable": False},
    },
    "aggregator": "reliability",
    "dataset": "tiny",
    "prompt_template": "{question} Answer with the number only.",
    "dtype": "bfloat16",
    "use_peft": True,
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_target_modules": ["all-linear"],
    "test_questions": 80,
    "pooled_questions": 24,
    "save_steps": 2,
    "save_total_limit": 1,
    "enable_jit_checkpoint": True,
}

# Three published models with 4-bit weights and LoRA on one GPU, trained by our defaults.
QLORA: dict[str, Any] = _REAL | {
    "output_dir": "runs/qlora",
    "peers": PUBLISHED_MODELS,
    "dataset": "gsm8k",
    "load_in_4bit": True,
    "max_steps": 200,
    "quorum": 0.34,
}

# The published protocol (arXiv 2604.13356): sequential responses, the last peer is the aggregate, weighted
# cross-entropy on each peer's own response. What the paper does not state keeps our defaults.
PAPER: dict[str, Any] = QLORA | METHODS["pst"] | {"output_dir": "runs/paper", "dataset": "multiarith"}

PRESETS = {"demo": DEMO, "own": OWN, "small": SMALL, "qlora": QLORA, "paper": PAPER}

# Levers that change how fast a step is, not what it computes: in a preset they give way to what a user asks for.
SPEED = ("shared_prefill", "shared_prompts", "sort_micro_batches", "skip_zero_advantage")

# What a user says instead of what a preset says: both together would contradict each other, or one be overruled.
INSTEAD_OF = {
    "num_train_epochs": "max_steps",
    "generation_batch_size": "steps_per_generation",
}


def preset_for(
    peers: Sequence[str] | Mapping[str, Any],
    wanted: str = "auto",
    presets: Mapping[str, Mapping[str, Any]] = PRESETS,
) -> str:
    """The preset for these peers: the first one where all are tiny, else `own`; or the one that is asked for.

    Raises:
        ValueError: There is no such preset, or it was made for the tiny peers and these are others.
    """
    if wanted == "auto":
        return next(iter(presets)) if all_tiny(peers) or "own" not in presets else "own"
    if wanted not in presets:
        raise ValueError(f"Unknown preset {wanted!r}; choose one of auto, {', '.join(presets)}.")
    if presets[wanted].get("peers") == ["tiny"] and not all_tiny(peers):
        raise ValueError(
            f"The preset {wanted!r} was chosen for the tiny peers (answers of 48 tokens, a bare question, a learning "
            "rate of 4e-4). For other models leave --preset out, or say --preset own."
        )
    return wanted


def all_tiny(peers: Sequence[str] | Mapping[str, Any]) -> bool:
    """Whether every peer is one of the embedded tiny models, or was trained from one: by its tokenizer."""
    from pst_rl.files import file_digest
    from pst_rl.peers.words import read_peers
    from pst_rl.tiny import TINY_LEARNER, TINY_PEERS

    own = {file_digest(folder / "tokenizer.json") for folder in (*TINY_PEERS.values(), TINY_LEARNER)}
    files = [Path(peer.model, "tokenizer.json") for peer in read_peers(peers) if peer.model != "tiny"]
    return all(file.is_file() and file_digest(file) in own for file in files)


def switch_on(config: PSTConfig, wanted: Mapping[str, Any]) -> list[str]:
    """Switches on those speed levers of a preset that go together with what else is set; a note on each other one.

    Raises:
        ValueError: The rewards cannot be made, on which one of the levers depends.
    """
    from pst_rl.scheme import make_providers, mix_rewards
    from pst_rl.stages.compaction import check_compaction

    notes = []
    for name, value in wanted.items():
        trial = copy.copy(config)
        setattr(trial, name, value)
        mix_rewards(trial, make_providers(trial.rewards, trial))  # says how several rewards are combined
        try:
            trial.check_speed()
            if trial.skip_zero_advantage:
                check_compaction(trial)
        except ValueError as error:
            notes.append(f"{name} of the preset is left out: {error}")
        else:
            setattr(config, name, value)
    return notes


def not_contradicted(preset: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """A preset without what a user has said otherwise, by another name."""
    said = {other for name, other in INSTEAD_OF.items() if name in given}
    return {name: value for name, value in preset.items() if name not in said}
