"""The side of the speed benchmark that CoMLRL takes, where it is installed."""

import os
import sys
import types
from importlib.util import find_spec
from typing import Any

import torch
from bench_clock import UPDATE, Stopwatch
from bench_common import Setting, count_sampled, questions, reward, weights_dtype

COMLRL_FOLDER = "/tmp/comlrl"


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
