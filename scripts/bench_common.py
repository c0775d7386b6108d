"""What all sides of the speed benchmark share: the step, the questions, the reward, the settings."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from bench_clock import Stopwatch
from datasets import Dataset

from pst_rl.tiny import tiny_questions


@dataclass(frozen=True)
class Setting:
    """One step to be taken.

    Attributes:
        size: A key of `bench_models.SIZES`.
        models: The peers' folders.
        questions, generations, length: Questions a step, answers to each, tokens of each answer.
        micro_batch: Rows in one forward and backward pass; `None`: all at once.
        unanimous: Share of the questions whose answers all get the same reward.
        steps, warmup: Steps that are timed, and steps before them that are not.
        load_in_4bit: NF4 weights and LoRA.
        ours: More fields of `PSTConfig`, for our sides.
    """

    size: str
    models: tuple[str, ...]
    questions: int = 8
    generations: int = 4
    length: int = 32
    micro_batch: int | None = None
    unanimous: float = 0.0
    beta: float = 0.0
    steps: int = 5
    warmup: int = 2
    threads: int = 1
    seed: int = 0
    load_in_4bit: bool = False
    ours: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.questions * self.generations

    @property
    def sampled(self) -> int:
        """Tokens that one step samples, over all peers."""
        return len(self.models) * self.rows * self.length


def questions(setting: Setting) -> Dataset:
    """One step's questions: every step asks all of them, so all sides read the same prompts."""
    rows = tiny_questions("train", setting.questions)
    same = round(setting.unanimous * setting.questions)
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": r["question"]}], "unanimous": i < same} for i, r in enumerate(rows)]
    )


def reward(text: str, unanimous: bool) -> float:
    """A reward that costs nothing and differs between any two texts, unless the question is unanimous."""
    return 1.0 if unanimous else int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def config_arguments(setting: Setting, folder: str) -> dict[str, Any]:
    """What TRL's configuration and ours have in common."""
    gpu = torch.cuda.is_available()
    micro_batch = setting.micro_batch or setting.rows
    return {
        "output_dir": folder,
        "max_steps": setting.warmup + setting.steps + 1,  # the last one also ends the training: it is left out
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": setting.rows // micro_batch,
        "num_generations": setting.generations,
        "max_completion_length": setting.length,
        "generation_kwargs": {"min_new_tokens": setting.length},
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "beta": setting.beta,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": setting.size == "1b",
        "use_cpu": not gpu,
        "bf16": setting.size == "1b",
        "seed": setting.seed,
    }


def adapters(setting: Setting) -> dict[str, Any]:
    """LoRA and NF4, where they are asked for."""
    if not setting.load_in_4bit:
        return {}
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    return {
        "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
    }


def weights_dtype(setting: Setting) -> str:
    return "bfloat16" if setting.size == "1b" else "float32"


def count_sampled(watch: Stopwatch, completion_ids: list[list[int]]) -> None:
    watch.tokens["sampled"] += sum(map(len, completion_ids))
