"""The canary: one peer, the same reward and weight 1 is TRL's GRPOTrainer, bit for bit."""

import copy

import pytest
from accelerate.utils import set_seed
from conftest import same, weights
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from pst_rl import PSTTrainer
from pst_rl.rewards import TRLReward


def digits(completions, **_):
    """A reward that varies inside every group: the number of digits, modulo 5."""
    return [float(sum(c.isdigit() for c in completion[0]["content"]) % 5) for completion in completions]


def shared_settings(tmp_path, beta, loss_type):
    return {
        "output_dir": str(tmp_path),
        "max_steps": 10,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 24,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "beta": beta,
        "loss_type": loss_type,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
    }


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
@pytest.mark.parametrize(("beta", "peer"), [(0.0, "llama"), (0.05, "qwen2")])
def test_canary_one_peer_equals_grpo_trainer(tmp_path, config, questions, tiny, beta, peer, loss_type, lora):
    settings = shared_settings(tmp_path, beta, loss_type)
    peft_config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None

    ours = PSTTrainer(
        {"one": tiny[peer]},
        config(**settings, weighting="none"),
        train_dataset=questions(),
        reward_providers=[TRLReward(digits)],
        peft_config=copy.deepcopy(peft_config),
    )
    start = weights(ours.peers["one"].model)
    ours.train()
    ours_after, ours_log = weights(ours.peers["one"].model), [h["loss"] for h in ours.state.log_history if "loss" in h]

    args = GRPOConfig(**settings, bf16=False, use_cpu=True, model_init_kwargs={"dtype": "float32"})
    set_seed(args.seed)
    plain = GRPOTrainer(tiny[peer], digits, args, questions().remove_columns("answer"), peft_config=peft_config)
    plain.train()

    assert [h["loss"] for h in plain.state.log_history if "loss" in h] == ours_log
    assert same(weights(plain.model), ours_after)
    assert not same(start, ours_after)
