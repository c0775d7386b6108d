"""The sides of the speed benchmark: the same step, taken by TRL three times, by CoMLRL, and by ours.

Every side loads the same folders, reads the same questions, samples exactly `rows x length` tokens for each peer (an
end of sequence is not allowed before `length` tokens) and makes one update of each peer a step.
"""

import gc
import hashlib
import os
import resource
import sys
import tempfile
import types
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from bench_clock import UPDATE, StepClock, Stopwatch, watch_grpo, watch_models
from datasets import Dataset
from transformers import PrinterCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from pst_rl import PSTConfig, PSTTrainer, Rewards
from pst_rl.answers import Answer
from pst_rl.peer_trainer import PeerTrainer
from pst_rl.peers import PeerSpec
from pst_rl.rewards.base import blank
from pst_rl.tiny import tiny_questions

COMLRL_FOLDER = "/tmp/comlrl"
SIDES = ("trl", "comlrl", "plain", "pst", "pst_sequential")
OURS = {
    "plain": {"pmi": "off"},
    "pst": {"pmi": "on"},
    "pst_sequential": {"pmi": "on", "context": "sequential", "peer_context": "answers"},
}


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


def run_side(side: str, setting: Setting) -> dict[str, Any]:
    """Takes the steps of one side, in this process, and returns their seconds, tokens and memory.

    Raises:
        RuntimeError: The side sampled another number of tokens than the others do.
    """
    torch.set_num_threads(setting.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.disable_progress_bar()
    before = rss_mib()
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        watch_models(watch)
        run = {"trl": run_trl, "comlrl": run_comlrl}.get(side, run_ours)
        result = run(watch, side, setting, folder)
    if result["tokens"]["sampled"] != setting.sampled:
        raise RuntimeError(f"{side} sampled {result['tokens']['sampled']} tokens a step, not {setting.sampled}.")
    gpu = torch.cuda.is_initialized()
    peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else peak_rss_mib() - before
    return result | {"peak_memory_mib": peak}


def rss_mib() -> float:
    """Resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def peak_rss_mib() -> float:
    """Highest resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---- what all sides share ----


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


# ---- TRL: one GRPOTrainer a peer, one after the other ----


def run_trl(watch: Stopwatch, side: str, setting: Setting, folder: str) -> dict[str, Any]:
    """Sums the steps of one `GRPOTrainer` for each peer."""
    watch_grpo(watch)
    watch.wrap(GRPOTrainer, "_generate", "generate")
    watch.wrap(GRPOTrainer, "_generate_single_turn", "generate", lambda result, *_: count_sampled(watch, result[0]))
    watch.wrap(GRPOTrainer, "_calculate_rewards", "aggregate and reward")
    watch.wrap(GRPOTrainer, "_clip_grad_norm", "optimizer")
    results = []
    for model in setting.models:
        watch.marks.clear()
        train_alone(model, setting, folder, watch)
        results.append(watch.result(setting.warmup, setting.steps))
        gc.collect()
        torch.cuda.empty_cache()
    total = lambda name: {k: sum(r[name].get(k, 0) for r in results) for k in {k for r in results for k in r[name]}}  # noqa: E731
    steps = {name: sum(r[name] for r in results) for name in ("step", "cpu_step")}
    return steps | {"seconds": total("seconds"), "tokens": total("tokens")}


def train_alone(model: str, setting: Setting, folder: str, watch: Stopwatch) -> None:
    """One peer, trained by TRL alone."""
    args = GRPOConfig(**config_arguments(setting, folder), model_init_kwargs={"dtype": weights_dtype(setting)})
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=hashed_completions,
        args=args,
        train_dataset=questions(setting),
        callbacks=[StepClock(watch)],
        **adapters(setting),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def hashed_completions(completions, unanimous, **_) -> list[float]:
    """TRL's form of the reward."""
    return [reward(c[0]["content"], same) for c, same in zip(completions, unanimous, strict=True)]


def count_sampled(watch: Stopwatch, completion_ids: list[list[int]]) -> None:
    watch.tokens["sampled"] += sum(map(len, completion_ids))


# ---- ours ----


def run_ours(watch: Stopwatch, side: str, setting: Setting, folder: str) -> dict[str, Any]:
    """`PSTTrainer` with all peers."""
    watch_grpo(watch, PeerTrainer)
    args = PSTConfig(
        **config_arguments(setting, folder)
        | {"answer_template": "#### {answer}", "peer_template": "\nP: {text}", "parse_truncated": True}
        | OURS[side]
        | setting.ours
    )
    adapter = adapters(setting)
    trainer = TimedPST(
        {os.path.basename(m): PeerSpec(m, dtype=weights_dtype(setting)) for m in setting.models},
        args,
        train_dataset=questions(setting),
        reward_providers=[hashed_group],
        callbacks=[StepClock(watch)],
        **adapter,
    )
    trainer.watch = watch
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return watch.result(setting.warmup, setting.steps)


class TimedPST(PSTTrainer):
    """`PSTTrainer` whose phases are charged to the stopwatch, and which finds an answer in any text."""

    watch: Stopwatch

    def extract_answer(self, text: str) -> Answer:
        """One of three answers, stated in the last quarter of the response."""
        answer = hashlib.sha256(text.encode()).digest()[0] % 3
        return Answer(str(answer), str(answer), len(text) * 3 // 4)

    def timed(self, phase: str):
        # The update is more than loss and backward, which are charged where they happen.
        return self.watch.phase("overhead" if phase == UPDATE else phase)

    def joint_rollout(self, rows):
        super().joint_rollout(rows)
        self.watch.tokens["sampled"] += sum(response.length for *_, response in self.last_group.cells())

    def _clip_grad_norm(self, model):
        with self.watch.phase("optimizer"):
            return super()._clip_grad_norm(model)


def hashed_group(group) -> Rewards:
    """Our form of the reward."""
    values, abstain = blank(group)
    for p, q, g, response in group.cells():
        values[p, q, g] = reward(response.text, group.columns[q]["unanimous"])
    return Rewards(values, abstain)


# ---- CoMLRL ----


def comlrl_available() -> bool:
    """Whether CoMLRL is installed, or lies in the folder that the documentation names."""
    if os.path.isdir(COMLRL_FOLDER) and COMLRL_FOLDER not in sys.path:
        sys.path.append(COMLRL_FOLDER)
    return find_spec("comlrl") is not None


def run_comlrl(watch: Stopwatch, side: str, setting: Setting, folder: str) -> dict[str, Any]:
    """CoMLRL's MAGRPO with one turn.

    It expresses the same generation and the same number of policy-gradient rows, but one joint reward for the g-th
    answers of all agents instead of one for each, and neither PMI nor micro-batches of several rows.
    """
    comlrl_available()
    sys.modules.setdefault("wandb", types.SimpleNamespace(run=None))  # imported there, never used here
    from comlrl.trainers.reinforce.magrpo import MAGRPOConfig, MAGRPOTrainer
    from transformers import AutoTokenizer

    class Timed(MAGRPOTrainer):
        def get_train_dataloader(self):
            watch.mark()  # one epoch is one step
            return super().get_train_dataloader()

        def _generate_completions(self, *args, **kwargs):
            with watch.phase("generate"):
                result = super()._generate_completions(*args, min_new_tokens=setting.length, **kwargs)
            count_sampled(watch, result["completion_input_ids"][0])
            return result

        def _compute_rewards(self, *args, **kwargs):
            with watch.phase("aggregate and reward"):
                return super()._compute_rewards(*args, **kwargs)

        def _compute_loss_with_gradients(self, agent, data, returns):
            watch.tokens["trained"] += sum(map(len, data["completion_input_ids"][0]))
            with watch.phase(UPDATE):
                return super()._compute_loss_with_gradients(agent, data, returns)

    watch.wrap(torch.Tensor, "backward", UPDATE)
    tokenizers = [AutoTokenizer.from_pretrained(model) for model in setting.models]
    trainer = Timed(
        agents=list(setting.models),
        num_agents=len(setting.models),
        tokenizer=tokenizers,
        model_config={"attn_implementation": None, "dtype": weights_dtype(setting)},  # each architecture's own default
        train_dataset=questions(setting),
        reward_func=lambda *texts, batch_items: [reward("".join(t[0] for t in texts), batch_items[0]["unanimous"])],
        formatters=[formatter(tokenizer) for tokenizer in tokenizers],
        args=MAGRPOConfig(
            num_train_epochs=setting.warmup + setting.steps + 1,
            agent_learning_rate=1e-5,
            num_agents=len(setting.models),
            num_generations=setting.generations,
            max_new_tokens=setting.length,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            num_turns=1,
            eval_interval=0,
            rollout_buffer_size=setting.questions,
        ),
    )
    trainer.verbose = False
    for optimizer in trainer.optimizers:
        watch.wrap(optimizer, "step", "optimizer")
    trainer.train()
    return watch.result(setting.warmup, setting.steps)


def formatter(tokenizer):
    """The prompt that TRL would make, without the first token, which CoMLRL's tokenization adds again."""

    def render(item) -> str:
        text = tokenizer.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True)
        first = tokenizer.bos_token
        adds = first and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        return text.removeprefix(first) if adds else text

    return render
