"""The joint loop: labels kept out, abstention, faults, resume, several processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import same, weights
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from pst_rl import PeerSpec, PSTConfig, PSTTrainer, Rewards
from pst_rl.loop.checkpoint_files import fault_of
from pst_rl.rewards import SupervisedGold
from pst_rl.rewards.base import blank

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


def all_weights(trainer):
    return {f"{n}.{k}": v for n, peer in trainer.peers.items() for k, v in weights(peer.model).items()}


def trained(trainer, **settings):
    """A trainer built and trained at once: building another in between would reset the seed."""
    run = trainer(**settings)
    run.train()
    return run


# ---- what trains, and what must not --------------------------------------------------------------------------------


def test_every_tensor_of_every_peer_moves(trainer, tiny):
    run = trainer(peers=tiny, max_steps=3, steps_per_generation=1)
    before = all_weights(run)
    run.train()
    assert [name for name, tensor in all_weights(run).items() if torch.equal(tensor, before[name])] == []


@pytest.mark.parametrize("objective", ["grpo", "weighted_sft", "aggregate_sft"])
def test_permuted_gold_changes_nothing_trained(trainer, questions, objective):
    data = questions()
    shuffled = data.remove_columns("answer").add_column("answer", data["answer"][::-1])
    runs = [trained(trainer, data=d, objective=objective) for d in (data, shuffled)]
    assert same(all_weights(runs[0]), all_weights(runs[1]))
    accuracies = [
        [h["aggregate/accuracy"] for h in run.state.log_history if "aggregate/accuracy" in h] for run in runs
    ]
    assert accuracies[0] != accuracies[1]  # the labels did differ, and were only measured


def test_labels_do_not_travel_with_the_batch(trainer):
    run = trainer()
    rows = next(iter(run.get_train_dataloader()))
    assert set(rows[0]) == {"prompt", "question_id"}


def test_group_holds_gold_only_when_supervised(trainer):
    plain = trained(trainer, max_steps=1)
    supervised = trained(trainer, max_steps=1, supervised=True, reward_providers=[SupervisedGold()])
    assert plain.last_group.gold is None
    assert len(supervised.last_group.gold) == supervised.last_group.shape[1]


def test_reward_that_reads_labels_is_refused_without_supervised(trainer):
    with pytest.raises(ValueError, match="supervised_gold reads gold answers"):
        trainer(reward_providers=[SupervisedGold()])


def test_frozen_peer_answers_but_is_neither_updated_nor_saved(trainer, tiny, tmp_path):
    peers = {"learner": tiny["llama"], "juror": PeerSpec(tiny["qwen2"], trainable=False)}
    run = trainer(peers=peers)
    before = {k: v.clone() for k, v in run.peers["juror"].model.state_dict().items()}
    run.train()
    run.save_model(str(tmp_path / "saved"))
    assert same(before, run.peers["juror"].model.state_dict())
    assert run.last_group.peers == ("learner", "juror")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir() if p.is_dir()) == ["learner"]


def test_last_peer_is_left_alone_if_asked(trainer):
    run = trainer(context="sequential", update_last_peer=False)
    before = {name: weights(peer.model) for name, peer in run.peers.items()}
    run.train()
    moved = {name: not same(before[name], weights(peer.model)) for name, peer in run.peers.items()}
    assert moved == {"gemma2": True, "llama": False}


def test_own_learning_rate_reaches_only_its_peer(trainer, tiny):
    run = trainer(peers={"a": tiny["llama"], "b": PeerSpec(tiny["llama"], learning_rate=0.0)})
    run.train()
    first, second = (weights(run.peers[name].model) for name in "ab")
    assert not same(first, second)
    assert same(second, weights(untouched(tiny["llama"])))


def untouched(folder):
    """The untouched model of a folder."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


# ---- abstention and faults -----------------------------------------------------------------------------------------


class NeverParsed(PSTTrainer):
    def extract_answer(self, text):
        return None


def test_batch_without_any_parsed_answer_updates_nothing(config, questions, tiny):
    run = NeverParsed({"a": tiny["llama"], "b": tiny["qwen2"]}, config(), questions())
    before = all_weights(run)
    run.train()
    assert same(before, all_weights(run))
    assert run.state.log_history[0]["peers/abstained"] == 1.0


@pytest.mark.parametrize("objective", ["weighted_sft", "aggregate_sft"])
def test_unparsed_batch_updates_nothing_with_cross_entropy_either(config, questions, tiny, objective):
    run = NeverParsed({"a": tiny["llama"]}, config(objective=objective), questions())
    before = all_weights(run)
    run.train()
    assert same(before, all_weights(run))


def test_one_unparsed_group_abstains_and_the_others_learn(config, questions, tiny):
    class Dropped(PSTTrainer):
        def aggregate(self, group):
            targets = super().aggregate(group)
            return tuple(((None,) * group.shape[2], *peer[1:]) for peer in targets)

    run = Dropped({"a": tiny["llama"], "b": tiny["qwen2"]}, config(max_steps=1), questions())
    before = all_weights(run)
    run.train()
    first_rows = run.peers["a"].update.rewards["matches_aggregate"][: run.args.num_generations]
    assert all(reward != reward for reward in first_rows)  # NaN: TRL leaves the row out
    assert run.state.log_history[0]["peers/abstained"] == 0.25
    assert not same(before, all_weights(run))


def test_empty_completion_becomes_an_unparsed_answer(trainer, monkeypatch):
    run = trainer(max_steps=1)
    engine = run.peers["llama"]
    original = engine._generate_single_turn

    def some_empty(*args, **kwargs):
        completion_ids, logprobs = original(*args, **kwargs)
        return [[], *completion_ids[1:]], logprobs

    monkeypatch.setattr(engine, "_generate_single_turn", some_empty)
    run.train()
    first = run.last_group.responses[1][0][0]
    assert (first.text, first.answer) == ("", None)
    assert engine.update.rewards["matches_aggregate"][0] == 0.0


def test_nan_log_probability_takes_the_sample_out_and_is_counted(trainer, monkeypatch):
    import pst_rl.stages.pmi as module

    monkeypatch.setattr(module, "sum_logprobs", lambda engine, pairs, size: [float("nan")] * len(pairs))
    run = trainer(max_steps=1)
    before = all_weights(run)
    run.train()
    counts = [run.state.log_history[0][f"{name}/pmi/nonfinite"] for name in run.peers]
    assert sum(counts) > 0
    assert same(before, all_weights(run))


# ---- skipping rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["grpo", "weighted_sft", "aggregate_sft"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_skipping_zero_advantages_leaves_the_gradient_unchanged(trainer, objective, loss_type):
    """With one micro-batch per generation the update is the same up to rounding."""
    settings = {"max_steps": 1, "objective": objective, "loss_type": loss_type, "max_grad_norm": 1e9}
    runs = [trained(trainer, skip_zero_advantage=skip, **settings) for skip in (False, True)]
    kept = [len(run.peers["llama"].update.inputs) for run in runs]
    assert kept[1] < kept[0]
    norms = [run.state.log_history[0]["llama/grad_norm"] for run in runs]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


# ---- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "lora", "nf4"])
def test_resumed_run_equals_uninterrupted_run(tiny, config, questions, tmp_path, kind):
    def build(folder):
        return PSTTrainer(
            {"a": tiny["llama"], "b": tiny["qwen2"]},
            config(
                output_dir=str(tmp_path / folder), max_steps=4, save_strategy="steps", save_steps=1,
                steps_per_generation=2, context="sequential", order="rotating", lr_scheduler_type="linear",
            ),
            questions(),
            peft_config=None if kind == "full" else LORA,
            quantization_config=NF4 if kind == "nf4" else None,
        )  # fmt: skip

    straight = build("straight")
    straight.train()
    for checkpoint in (1, 2):  # inside a generation block, and between two
        resumed = build("resumed")
        resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{checkpoint}"))
        assert same(all_weights(straight), all_weights(resumed))
        assert resumed.weighting.scale.variance == straight.weighting.scale.variance


def test_checkpoint_folders_load_with_from_pretrained(trainer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = trainer(max_steps=1, save_strategy="steps", save_steps=1)
    run.train()
    folder = Path(run.args.output_dir) / "checkpoint-1" / "llama"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert same(weights(model), weights(run.peers["llama"].model))
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_resume_without_joint_state_says_what_is_missing(trainer):
    run = trainer(max_steps=1, save_strategy="steps", save_steps=1)
    run.train()
    checkpoint = Path(run.args.output_dir) / "checkpoint-1"
    (checkpoint / "joint_state_0.pt").unlink()
    with pytest.raises(ValueError, match=r"incomplete: joint_state_0.pt is missing"):
        trainer(max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(FileNotFoundError, match="another number of processes"):
        trainer(max_steps=2, resume_anyway=True).train(resume_from_checkpoint=str(checkpoint))


class Counting:
    """A provider with a memory."""

    name = "counting"

    def __init__(self):
        self.calls = 0

    def __call__(self, group):
        self.calls += 1
        return Rewards(*blank(group))

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_provider_state_is_checkpointed(trainer):
    run = trainer(max_steps=2, save_strategy="steps", save_steps=2, reward_providers=[Counting()])
    run.train()
    again = trainer(max_steps=3, save_strategy="no", reward_providers=[Counting()])
    again.train(resume_from_checkpoint=str(Path(run.args.output_dir) / "checkpoint-2"))
    assert again.providers["counting"].calls == 3


# ---- 4-bit traps ---------------------------------------------------------------------------------------------------


def test_evaluation_does_not_change_later_nf4_gradients(nf4_trainer):
    """bitsandbytes repacks weights in an eval-mode forward on some CPUs and then returns wrong gradients."""
    losses = []
    for evaluate_first in (False, True):
        run = nf4_trainer()
        if evaluate_first:
            run.measure()
        run.train()
        losses.append([h["llama/grad_norm"] for h in run.state.log_history if "llama/grad_norm" in h])
    assert losses[0] == losses[1]


@pytest.fixture
def nf4_trainer(trainer, questions, tiny):
    def build():
        spec = PeerSpec(tiny["llama"], quantization_config=NF4, peft_config=LORA)
        return trainer(peers={"llama": spec}, eval_data=questions(8, "test"))

    return build


def test_adapters_of_quantized_peers_are_float32(nf4_trainer):
    run = nf4_trainer()
    assert {p.dtype for p in weights(run.peers["llama"].model).values()} == {torch.float32}


# ---- evaluation ----------------------------------------------------------------------------------------------------


def test_evaluate_logs_accuracies_of_peers_and_votes(trainer, questions):
    run = trainer(eval_data=questions(40, "test"), eval_samples=2)
    results = run.evaluate()
    assert {"eval_gemma2/accuracy", "eval_llama/accuracy", "eval_vote/accuracy", "eval_pooled_vote/accuracy"} <= set(
        results
    )
    assert 0.3 < results["eval_gemma2/accuracy"] < 1.0


def test_evaluate_without_labels_still_reports_agreement(trainer, questions):
    results = trainer(eval_data=questions(8, "test").remove_columns("answer")).evaluate()
    assert "eval_peers/pairwise_agreement" in results and "eval_peers/agreement" not in results
    assert not any("accuracy" in name for name in results)


def test_greedy_evaluation_is_repeatable_and_leaves_sampling_as_it_was(trainer, questions):
    run = trainer(eval_data=questions(20, "test"))
    before = run.peers["llama"].generation_config
    assert run.evaluate() == run.evaluate()
    assert run.peers["llama"].generation_config is before


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "settings", "message"),
    [
        ({}, {}, "No peers were given"),
        (["no/such/folder"], {}, "does not exist"),
        (["{llama}", "{llama}"], {}, "write to one folder"),
        (["{llama}"], {"aggregator": "leave_one_out"}, "needs at least 2 peers"),
        (["{llama}"], {"weighting_options": {"scorer": "other_peers"}}, "'pmi'.* needs at least 2 peers"),
        (["{llama}"], {"aggregator": "oracle"}, "Unknown aggregator"),
        (["{llama}"], {"rewards": ["oracle"]}, "Unknown reward"),
        (["{llama}"], {"weighting": "oracle"}, "Unknown weighting"),
        (["{llama}"], {"weighting_options": {"tau": 0.0}}, "tau must be positive"),
        (["{llama}"], {"reward_weights": [0.0]}, "Every reward weight is 0"),
        (["{llama}"], {"skip_zero_advantage": True, "beta": 0.1}, "beta must be 0"),
        (["{llama}"], {"per_device_train_batch_size": 256}, "A generation batch takes"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(config, questions, tiny, monkeypatch, peers, settings, message):
    import pst_rl.loop.joint_trainer as module

    monkeypatch.setattr(module, "PeerTrainer", None)  # loading would fail in another way
    named = [p.format(**tiny) for p in peers] if isinstance(peers, list) else peers
    with pytest.raises(ValueError, match=message):
        PSTTrainer(named, config(**settings), questions())


def test_empty_data_set_is_refused(config, questions, tiny):
    with pytest.raises(ValueError, match="empty"):
        PSTTrainer([tiny["llama"]], config(), questions().select([]))


def test_missing_prompt_column_is_refused(config, questions, tiny):
    with pytest.raises(ValueError, match="no `prompt` column"):
        PSTTrainer([tiny["llama"]], config(), questions().rename_column("prompt", "text"))


def test_quantized_peer_without_lora_is_refused(config, questions, tiny):
    with pytest.raises(ValueError, match="--use-peft"):
        PSTTrainer([PeerSpec(tiny["llama"], quantization_config=NF4)], config(), questions())


def test_batch_that_generations_do_not_divide_is_refused(config):
    with pytest.raises(ValueError, match="divisible by num_generations"):
        config(per_device_train_batch_size=10, num_generations=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sync_ref_model": True, "beta": 0.1}, "sync_ref_model"),
        ({"objective": "weighted_sft", "temperature": 0.7}, "temperature must be 1"),
        ({"objective": "aggregate_sft", "beta": 0.1}, "beta must be 0"),
        ({"answer_template": "none"}, "answer_template"),
        ({"order": "random"}, "has no effect"),
    ],
)
def test_contradictory_settings_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"])
def test_sharding_is_refused_with_the_remedy(config, questions, tiny, monkeypatch, variable):
    settings = config()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match="plain data parallelism"):
        PSTTrainer([tiny["llama"]], settings, questions())


# ---- several processes ---------------------------------------------------------------------------------------------


def test_two_processes_vote_on_complete_groups_and_stay_identical(tmp_path):
    """Six rows a process and groups of four: the second group is split between the two."""
    # `accelerate launch` starts several processes on GPUs only; on CPUs it is torchrun's job.
    options = "--standalone --nproc_per_node 2"
    script = str(Path(__file__).with_name("two_processes.py"))
    command = [sys.executable, "-m", "torch.distributed.run", *options.split(), script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first["world"] == 2
    assert first["group"] == second["group"]  # the same complete group on both
    assert first["sizes"] == [3, 4]  # three questions of four chains
    assert first["sums"] == second["sums"] != first["start"]
    assert first["resumed"] == second["resumed"] == first["sums"]
    assert fault_of(tmp_path / "run" / "checkpoint-2") is None
    for rank in (first, second):  # what one process met, both acted on
        assert rank["stopped"] == [True, 1] and rank["skipped"] == {"llama": 1, "qwen2": 0}
        assert rank["first peer after a fault"] == first["start"][0]
    saved = json.loads((tmp_path / "run" / "checkpoint-2" / "manifest.json").read_text())["files"]
    assert {"joint_state_0.pt", "joint_state_1.pt", "rng_state_0.pth", "rng_state_1.pth"} <= set(saved)


def test_config_detects_the_machine():
    args = PSTConfig("unused", report_to="none")
    assert args.use_cpu is not torch.cuda.is_available()


def test_update_that_reaches_nobody_is_refused(config, questions, tiny):
    with pytest.raises(ValueError, match="no peer to update"):
        PSTTrainer([tiny["llama"]], config(update_last_peer=False), questions())


def test_one_model_object_as_two_peers_is_refused(config, questions, tiny):
    model = untouched(tiny["llama"])
    with pytest.raises(ValueError, match="One model object"):
        PSTTrainer({"a": model, "b": model}, config(), questions())


def test_provider_with_the_wrong_shape_is_named(trainer):
    def flat(group):
        return Rewards(torch.zeros(3), torch.zeros(3, dtype=torch.bool))

    with pytest.raises(ValueError, match="'flat' returned values of"):
        trainer(reward_providers=[flat]).train()


def test_randomness_differs_between_generation_batches_of_one_optimizer_step(trainer):
    seen = []

    class Recorder(Counting):
        def __call__(self, group):
            seen.append((group.step, group.rng.random()))
            return super().__call__(group)

    trainer(max_steps=1, steps_per_generation=1, gradient_accumulation_steps=2, reward_providers=[Recorder()]).train()
    assert [step for step, _ in seen] == [0, 0]
    assert seen[0] != seen[1]


def test_config_can_serve_two_trainers(config, questions, tiny):
    args = config(reward_weights=[1.0, 0.0], rewards=["matches_aggregate", "random"])
    for _ in range(2):
        run = PSTTrainer([tiny["llama"]], args, questions())
    assert set(run.providers) - set(run.mix.trained) == {"random"}
