"""Levers of speed: every one leaves what is computed the same, up to rounding."""

import pytest
import torch
from conftest import weights
from helpers import chat
from peft import LoraConfig

from pst_rl.aggregation import CrossView
from pst_rl.peers.micro_batches import filled_columns, sort_by_length
from pst_rl.peers.shared_prompts import distinct_rows
from pst_rl.records import PeerUpdate
from pst_rl.scoring.cached_logprobs import CachedPair, fits, sum_logprobs_from_cache
from pst_rl.scoring.logprobs import sum_logprobs
from pst_rl.stages.compaction import compact
from pst_rl.stages.pmi import PMIWeights


def parameters_after(trainer, **settings):
    """Every peer's weights after a step of plain gradient descent, with rewards that vary inside most groups."""
    run = trainer(
        max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=1e9, reward_providers=["random"], **settings
    )
    run.train()
    return {f"{name}/{key}": value for name, peer in run.peers.items() for key, value in weights(peer.model).items()}


def close(a, b):
    return all(torch.allclose(a[name], b[name], rtol=1e-3, atol=2e-5) for name in a)


LEVERS = [
    {"shared_prompts": True},
    {"sort_micro_batches": True},
    {"shared_prompts": True, "sort_micro_batches": True},
    {"skip_zero_advantage": True},
    {"shared_prompts": True, "sort_micro_batches": True, "skip_zero_advantage": True},
]


@pytest.fixture(scope="module")
def reference():
    return {}


@pytest.mark.parametrize("lever", LEVERS, ids="+".join)
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_loss_lever_leaves_the_update_the_same(trainer, reference, lever, loss_type):
    settings = {"loss_type": loss_type, "per_device_train_batch_size": 4, "steps_per_generation": 4}
    settings |= {"gradient_accumulation_steps": 4, "max_completion_length": 24, "weighting": "none"}
    if loss_type not in reference:
        reference[loss_type] = parameters_after(trainer, **settings)
    assert close(reference[loss_type], parameters_after(trainer, **settings, **lever))


def test_reference_model_and_lora_go_through_shared_prompts(trainer):

    settings = {
        "beta": 0.1,
        "weighting": "none",
        "peft": LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    }
    plain = parameters_after(trainer, **settings)
    assert close(plain, parameters_after(trainer, **settings, shared_prompts=True))


@pytest.mark.parametrize("name", ["gemma2", "llama", "qwen2"])
def test_shared_prefill_decodes_what_trl_decodes(trainer, tiny, name):
    prompts = [chat(text) for text in ("12 + 7 = ?", "3 * 4 = ?", "12 + 7 = ?", "12 + 7 = ?")]
    peers = {name: tiny[name]}
    plain = trainer(peers).engines[0].answer(prompts, greedy=True)
    shared = trainer(peers, shared_prefill=True).engines[0].answer(prompts, greedy=True)
    assert shared.completion_ids == plain.completion_ids
    assert shared.finished == plain.finished


def test_shared_prefill_samples_different_rows_for_one_prompt(trainer, tiny):
    engine = trainer({"llama": tiny["llama"]}, shared_prefill=True, temperature=2.0).engines[0]
    answered = engine.answer([chat("12 + 7 = ?")] * 8)
    assert len(set(map(tuple, answered.completion_ids))) > 1


@pytest.mark.parametrize("rows_per_generate", [None, 2])
@pytest.mark.parametrize("name", ["gemma2", "llama", "qwen2"])
def test_scores_from_the_cache_are_those_from_token_ids(trainer, tiny, name, rows_per_generate):
    settings = {
        "shared_prefill": True,
        "weighting_options": {"from_cache": True},
        "rows_per_generate": rows_per_generate,
    }
    engine = trainer({name: tiny[name]}, **settings).engines[0]
    engine.keeps_caches = True
    rollout = engine.answer([chat(text) for text in ("12 + 7 = ?", "3 * 4 = ?", "12 + 7 = ?", "128 - 7 = ?")])
    targets = [engine.text_ids(text) for text in ("#### 19", "#### 7", " The answer is 12.")]
    pairs = []
    for prompt, completion in zip(rollout.prompt_ids, rollout.completion_ids, strict=True):
        cell = engine.live[tuple(prompt), tuple(completion)]
        for kept in (0, 1, len(completion) // 2, len(completion)):
            pairs += [CachedPair(*cell, [*prompt, *completion[:kept]], target) for target in targets]
    plain = sum_logprobs(engine, [(pair.context, pair.target) for pair in pairs], 4)
    assert sum_logprobs_from_cache(engine, pairs, 4) == pytest.approx(plain, abs=1e-3)


def test_cache_beyond_a_sliding_window_is_not_used(trainer, tiny):
    settings = {"shared_prefill": True, "weighting_options": {"from_cache": True}, "max_completion_length": 24}
    engine = trainer({"gemma2": tiny["gemma2"]}, **settings).engines[0]
    engine.keeps_caches = True
    engine.answer([chat("12 + 7 = ?")])
    live, _ = next(iter(engine.live.values()))
    window = engine.model.config.sliding_window
    assert fits(live, 10) and not fits(live, window)


def test_pmi_from_the_cache_is_pmi(trainer):
    settings = {"max_steps": 1, "reward_providers": ["random"], "shared_prefill": True, "seed": 3}
    seen = []
    for cached in (False, True):
        function = lambda z: seen[-1].append(z) or torch.ones_like(z)  # noqa: E731
        run = trainer(**settings, weigh=PMIWeights(from_cache=cached, function=function))
        seen.append([])
        run.train()
        assert not run.engines[0].live  # the caches do not outlive the update
    assert [len(z) for z in seen[0]] == [len(z) for z in seen[1]] and sum(map(len, seen[0])) > 8
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(*seen, strict=True))


def caches_and_pmi(trainer, **settings):
    """Of each batch, when it is weighed: how many calls of `generate` left their keys and values with a peer, and PMI
    as it is from them and from token ids."""
    weighing = PMIWeights(from_cache=True, tau=1.0)
    found = []

    def weigh(request):
        calls = [len({id(cache) for cache, _ in engine.live.values()}) for engine in request.engines]
        from_cache = weighing(request)
        kept = [dict(engine.live) for engine in request.engines]
        for engine in request.engines:
            engine.live.clear()
        found.append((calls, from_cache.pmi, weighing(request).pmi))
        for engine, live in zip(request.engines, kept, strict=True):
            engine.live.update(live)
        return from_cache

    weigh.needs_caches = True
    run = trainer(weigh=weigh, shared_prefill=True, learning_rate=1e-3, seed=3, **settings)
    return run, found


def test_only_the_policys_own_first_answers_leave_their_keys(trainer):
    # A slow copy of each peer answers the same prompts, often with the same texts: its keys are not the peer's.
    run, found = caches_and_pmi(trainer, max_steps=4, aggregator=CrossView(view="ema", decay=1.0))
    run.train()
    assert [calls for calls, _, _ in found] == [[1, 1]] * 4
    for _, from_cache, from_ids in found:
        assert torch.allclose(from_cache, from_ids, atol=1e-3, equal_nan=True)
    assert sum(pmi.isfinite().sum() for _, pmi, _ in found) > 20


def test_keys_go_as_soon_as_the_weights_are_known(trainer, monkeypatch):
    run, found = caches_and_pmi(trainer, max_steps=1)
    hand_out, left = run._hand_out, []
    monkeypatch.setattr(
        run, "_hand_out", lambda *stages: left.extend(len(e.live) for e in run.engines) or hand_out(*stages)
    )
    run.train()
    assert found and left == [0, 0]


def test_measuring_and_probes_leave_no_keys(trainer, questions):
    run, _ = caches_and_pmi(trainer, max_steps=1, collapse_probe=4, eval_data=questions(4))
    run.measure(samples=2)
    assert [len(engine.live) for engine in run.engines] == [0, 0]
    run.train()
    run.measure(samples=2)
    assert [len(engine.live) for engine in run.engines] == [0, 0]


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_prefill", [False, True])
@pytest.mark.parametrize("greedy", [False, True])
def test_dropout_is_off_when_a_peer_answers(trainer, tiny, shared_prefill, greedy):
    lora = LoraConfig(
        r=4, target_modules="all-linear", lora_dropout=0.5, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    engine = trainer({"llama": tiny["llama"]}, peft=lora, shared_prefill=shared_prefill).engines[0]
    prompts = [chat(text) for text in ("12 + 7 = ?", "3 * 4 = ?", "12 + 7 = ?", "128 - 7 = ?")]
    dropout = [module for module in engine.model.modules() if isinstance(module, torch.nn.Dropout) and module.p > 0]
    engine.model.train()
    engine.model.base_model.model.model.embed_tokens.eval()  # a module with a mode of its own keeps it
    modes = [module.training for module in engine.model.modules()]
    torch.manual_seed(0)
    sampled = engine.answer(prompts, greedy)
    turns = engine.complete(prompts, [engine.prompt_ids(prompt) for prompt in prompts], greedy)
    assert dropout and [module.training for module in engine.model.modules()] == modes
    for module in dropout:
        module.p = 0.0
    torch.manual_seed(0)
    assert engine.answer(prompts, greedy).completion_ids == sampled.completion_ids
    again = engine.complete(prompts, [engine.prompt_ids(prompt) for prompt in prompts], greedy)
    assert again.completion_ids == turns.completion_ids


def test_modes_come_back_after_an_error(trainer, tiny, monkeypatch):
    engine = trainer({"llama": tiny["llama"]}).engines[0]
    engine.model.train()
    monkeypatch.setattr(engine, "_sample", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.answer([chat("12 + 7 = ?")])
    assert all(module.training for module in engine.model.modules())


# ---- micro-batches -------------------------------------------------------------------------------------------------


def batch(lengths, prompts):
    width = max(lengths)
    return {
        "prompt_ids": torch.tensor([[p, p] for p in prompts]),
        "prompt_mask": torch.ones(len(prompts), 2, dtype=torch.long),
        "completion_mask": torch.tensor([[1] * n + [0] * (width - n) for n in lengths]),
        "advantages": torch.tensor(lengths, dtype=torch.float),
        "num_items_in_batch": torch.tensor(sum(lengths)),
        "tool_mask": None,
    }


def advantages(batches):
    return [b["advantages"].tolist() for b in batches]


def test_rows_are_sorted_by_length_within_one_optimizer_step():
    whole = batch([9, 1, 8, 2, 7, 3, 6, 4], range(8))
    batches = [{k: v[i : i + 2] if v is not None and v.dim() else v for k, v in whole.items()} for i in (0, 2, 4, 6)]
    assert advantages(sort_by_length(batches, 4, by_prompt=False)) == [[1, 2], [3, 4], [6, 7], [8, 9]]
    assert advantages(sort_by_length(batches, 2, by_prompt=False)) == [[1, 2], [8, 9], [3, 4], [6, 7]]
    assert sort_by_length(batches, 4, by_prompt=False)[0]["num_items_in_batch"] == whole["num_items_in_batch"]


def test_rows_of_one_prompt_stay_together():
    whole = batch([9, 1, 8, 2, 7, 3, 6, 4], [0, 1, 0, 1, 2, 3, 2, 3])
    assert advantages(sort_by_length([whole], 1, by_prompt=True))[0] == [1, 2, 3, 4, 7, 6, 9, 8]


def test_only_columns_that_a_row_fills_are_kept():
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]])
    assert filled_columns(mask, keep=3) == (1, 2)
    assert filled_columns(torch.tensor([[0, 1, 1, 0, 0, 0]]), keep=3) == (1, 1)  # a row masked as truncated
    assert filled_columns(torch.zeros(1, 6, dtype=torch.long), keep=3) == (2, 1)


def test_equal_ids_with_another_padding_are_other_rows():
    ids = torch.tensor([[0, 5], [0, 5], [0, 5]])
    rows, inverse = distinct_rows(ids, torch.tensor([[1, 1], [0, 1], [1, 1]]))
    assert rows.tolist() == [0, 1] and inverse.tolist() == [0, 1, 0]


# ---- rows with zero advantage --------------------------------------------------------------------------------------


def plain_update(rows, tokens):
    return PeerUpdate(
        inputs=[{"prompt": str(i)} for i in range(rows)],
        prompt_ids=[[i] for i in range(rows)],
        completion_ids=[[7] * tokens] * rows,
        logprobs=None,
        rewards={"r": [0.0] * rows},
        weights=torch.ones(rows),
    )


def test_every_process_keeps_as_many_rows_as_the_one_that_needs_most(config):
    settings = config(loss_type="dapo", num_generations=2, per_device_train_batch_size=8)
    few = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    many = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1], dtype=torch.bool)
    shares = []
    compact(plain_update(8, 3), many, settings, lambda share: [shares.append(share)] and [share])
    kept = compact(plain_update(8, 5), few, settings, lambda share: [share, *shares])
    assert [row["prompt"] for row in kept.inputs] == ["0", "1", "2", "3", "4", "5"]  # its one group, and two to fill
    assert kept.token_count == 8 * 3 + 8 * 5  # the normaliser counts all rows of both


# ---- refused at construction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shared_prompts": True, "gradient_checkpointing": True}, "gradient_checkpointing=False"),
        ({"sort_micro_batches": True, "loss_type": "bnpo"}, "bnpo"),
        ({"shared_prefill": True, "use_transformers_continuous_batching": True}, "continuous batching"),
    ],
)
def test_levers_that_cannot_work_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_pmi_from_a_cache_that_is_not_kept_is_refused(trainer):
    with pytest.raises(ValueError, match="'pmi'.* needs shared_prefill=True"):
        trainer(weighting_options={"from_cache": True})
