"""The sides of the speed benchmark: the same step, taken by TRL three times, by CoMLRL, and by ours.

Every side loads the same folders, reads the same questions, samples exactly `rows x length` tokens for each peer (an
end of sequence is not allowed before `length` tokens) and makes one update of each peer a step.
"""

import gc
import hashlib
import os
import resource
import tempfile
import warnings
from typing import Any

import torch
from bench_clock import UPDATE, StepClock, Stopwatch, watch_grpo, watch_models
from bench_comlrl import run_comlrl
from bench_common import Setting, adapters, config_arguments, count_sampled, questions, reward, weights_dtype
from transformers import PrinterCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from pst_rl import PSTConfig, PSTTrainer, Rewards
from pst_rl.answers import Answer
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.peers.spec import PeerSpec
from pst_rl.rewards.base import blank

SIDES = ("trl", "comlrl", "plain", "pst", "pst_sequential")
FAST = {"shared_prefill": True, "shared_prompts": True, "sort_micro_batches": True}
PMI = {"weighting": "pmi", "weighting_options": {"from_cache": True}}
OURS = {
    "plain": {"weighting": "none"} | FAST,
    "pst": PMI | FAST,
    "pst_sequential": PMI | FAST | {"context": "sequential", "peer_context": "answers"},
    "plain_levers_off": {"weighting": "none"},
    "pst_levers_off": {"weighting": "pmi"},
}


def ours(side: str, setting: Setting) -> dict[str, Any]:
    """The fields of `PSTConfig` that make a side of ours what it is."""
    chosen = OURS[side] | setting.ours
    # The prompts' keys and values that are shared in the loss are what gradient checkpointing throws away.
    return chosen | {"shared_prompts": False} if setting.size == "1b" else chosen


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


# ---- ours ----


def run_ours(watch: Stopwatch, side: str, setting: Setting, folder: str) -> dict[str, Any]:
    """`PSTTrainer` with all peers."""
    watch_grpo(watch, PeerTrainer)
    args = PSTConfig(
        **config_arguments(setting, folder)
        | {"answer_template": "#### {answer}", "peer_template": "\nP: {text}", "parse_truncated": True}
        | ours(side, setting)
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

    def timed(self, phase: str, responses: int | None = None):
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
