"""vLLM, emulated below TRL's own code: a server for each peer, weights that are never old, rows that stay in place.

Nothing here has run a real vLLM; `vllm_server` says what stands in its place.
"""

from types import SimpleNamespace

import pytest
import torch
from conftest import same, weights
from peft import LoraConfig
from two_processes_scheme import seen_by_two
from vllm_server import Server, serve

from pst_rl import PeerSpec, Rewards
from pst_rl.peers import vllm
from pst_rl.peers.vllm import resolve_servers
from pst_rl.rewards.base import blank

NAMES = ("llama", "qwen2")
URLS = {name: f"http://{name}:8000" for name in NAMES}
SMALL = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 16}
SERVED = {"use_vllm": True, "vllm_mode": "server", "weighting": "none"}


class Alternating:
    """r = 1 in every second chain, so that every step moves the weights."""

    name = "alternating"

    def __call__(self, group):
        values, abstain = blank(group)
        values[..., ::2] = 1.0
        return Rewards(values, abstain)


@pytest.fixture
def servers(tiny, monkeypatch):
    made = {URLS[name]: Server(tiny[name]) for name in NAMES}
    serve(made, monkeypatch.setattr)
    return made


@pytest.fixture
def served(trainer, servers, tiny, questions):
    """`served(**config)`: a trainer of two peers, each with a server that counts answers of old weights."""

    def build(**overrides):
        settings = SMALL | SERVED | overrides
        own = {name: {"vllm_server_base_url": URLS[name]} if settings["use_vllm"] else {} for name in NAMES}
        peers = {name: PeerSpec(tiny[name], **own[name]) for name in NAMES}
        run = trainer(peers, eval_data=questions(3, "test"), reward_providers=[Alternating()], **settings)
        if run.args.use_vllm and "peft" not in overrides:
            for name, engine in run.peers.items():
                servers[URLS[name]].watch(engine.model)
        return run

    return build


def stale(servers):
    return [server.stale for server in servers.values()]


# ---- one server a peer ----


def test_two_peers_train_each_with_its_own_server_and_weights(served, servers):
    run = served()
    before = [weights(server.model) for server in servers.values()]
    run.train()
    assert [server.group_port for server in servers.values()] == [51216, 51217]
    assert all(server.received >= 2 for server in servers.values())  # before each of the two generation batches
    assert stale(servers) == [0, 0]
    for engine, server, start in zip(run.engines, servers.values(), before, strict=True):
        moved = not same(weights(server.model), start)
        assert moved and {len(request["prompt"]) for request in server.asked} == {4}
        assert engine.vllm_generation.vllm_client.server is server


def test_sampling_log_probabilities_reach_the_update_of_answers_cut_at_a_stop_string(served, servers):
    """The ratio of the loss to what vLLM sampled with is 1 for the same weights, if each token has its own."""
    run = served(stop_strings=["="], max_steps=1, vllm_importance_sampling_mode="token_truncate")
    run.train()
    texts = [response.text for peer in run.last_group.responses for chains in peer for response in chains]
    assert not any("=" in text for text in texts) and all(server.asked for server in servers.values())
    log = next(entry for entry in run.state.log_history if "loss" in entry)
    for name in NAMES:
        assert log[f"{name}/sampling/sampling_logp_difference/max"] < 1e-3
        assert log[f"{name}/sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-3)


def test_a_peer_may_answer_without_vllm(trainer, servers, tiny):
    peers = {
        "llama": PeerSpec(tiny["llama"], vllm_server_base_url=URLS["llama"]),
        "qwen2": PeerSpec(tiny["qwen2"], use_vllm=False),
    }
    run = trainer(peers, max_steps=1, **SMALL | SERVED)
    run.train()
    assert [engine.use_vllm for engine in run.engines] == [True, False]
    assert servers[URLS["llama"]].asked and not servers[URLS["qwen2"]].asked


@pytest.mark.parametrize(
    ("specs", "settings", "message"),
    [
        ({}, {}, "both have the vLLM server http://0.0.0.0:8000"),
        ({"a": {"vllm_server_base_url": "http://localhost:8000/"}}, {}, "'a' and 'b' both have the vLLM server"),
        (
            {"a": {"vllm_server_port": 1, "vllm_group_port": 9}, "b": {"vllm_server_port": 2, "vllm_group_port": 9}},
            {},
            "both have vllm_group_port=9",
        ),
        ({}, {"vllm_mode": "colocate"}, "'colocate' .* engines of a, b in one process"),
        ({}, {"vllm_enable_sleep_mode": True}, "a server does not go to sleep"),
        ({"a": {"use_vllm": False}, "b": {"use_vllm": False}}, {}, "every peer has PeerSpec.use_vllm=False"),
        ({"a": {"use_vllm": True}}, {"use_vllm": False}, "the run has not"),
        ({"a": {"vllm_server_port": 1}}, {"use_vllm": False}, "'a' has vllm_server_port, which only"),
        ({"a": {"vllm_server_port": 1, "use_vllm": False}}, {}, "'a' has vllm_server_port, which only"),
        ({"a": {"vllm_group_port": 1}}, {"vllm_mode": "colocate"}, "'a' has vllm_group_port, which only"),
        ({"a": {"vllm_server_port": 1}}, {"generation_kwargs": {"n": 2}}, "generation_kwargs has 'n'"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(specs, settings, message):
    peers = {name: PeerSpec("model", name, **specs.get(name, {})) for name in ("a", "b")}
    with pytest.raises(ValueError, match=message) as error:
        resolve_servers(peers, arguments(**settings))
    assert "\n" not in str(error.value)


def arguments(**settings):
    defaults = {
        "use_vllm": True,
        "vllm_mode": "server",
        "vllm_enable_sleep_mode": False,
        "vllm_server_base_url": None,
        "vllm_server_host": "0.0.0.0",
        "vllm_server_port": 8000,
        "vllm_group_port": 51216,
        "generation_kwargs": None,
    }
    return SimpleNamespace(**defaults | settings)


def test_a_peers_own_host_or_port_goes_before_the_common_address():
    peers = {"a": PeerSpec("model"), "b": PeerSpec("model", vllm_server_port=8001)}
    found = resolve_servers(peers, arguments(vllm_server_base_url="http://far:1"))
    assert [spec.vllm_server_base_url for spec in found.values()] == ["http://far:1", None]
    assert [spec.vllm_server_port for spec in found.values()] == [8000, 8001]


def test_one_peer_alone_may_be_colocated_and_sleep():
    peers = {"a": PeerSpec("model"), "b": PeerSpec("model", use_vllm=False)}
    found = resolve_servers(peers, arguments(vllm_mode="colocate", vllm_enable_sleep_mode=True))
    assert [spec.use_vllm for spec in found.values()] == [True, False]


def test_the_trainer_refuses_before_a_model_is_loaded(trainer, monkeypatch):
    monkeypatch.setattr("pst_rl.loop.joint_trainer.PeerTrainer", lambda *_: pytest.fail("a peer was loaded"))
    with pytest.raises(ValueError, match="in one process"):
        trainer(use_vllm=True)


# ---- weights that are never old ----


def test_evaluations_between_logs_and_probes_use_the_weights_of_now(served, servers):
    run = served(eval_strategy="steps", eval_steps=1, logging_steps=2, collapse_probe=3, collapse_probe_steps=1)
    run.train()
    assert stale(servers) == [0, 0] and all(len(server.asked) > 6 for server in servers.values())


def test_restored_peers_are_sent_again(served, servers, tmp_path):
    run = served(max_steps=1, save_strategy="steps", save_steps=1)
    run.train()
    for engine in run.engines:
        for parameter in engine.model.parameters():
            parameter.data.mul_(1.1)
    run.measure(samples=0)  # with the weights that are then thrown away, at the same step
    run._load_from_checkpoint(str(tmp_path / "run" / "checkpoint-1"))
    for engine in run.engines:
        engine.answer([run.train_dataset[0]["prompt"]])
    assert stale(servers) == [0, 0]


def test_a_second_training_sends_the_weights_of_the_first(served, servers):
    """Its first step has the number of the first one's, by which TRL tells whether weights are new."""
    run = served(max_steps=1)
    run.train()
    run.train()
    assert stale(servers) == [0, 0]


def test_synchronising_leaves_the_base_weights_of_a_lora_peer_as_they_are(served, servers):
    run = served(peft=LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False), max_steps=1)
    before = [
        {name: p.detach().clone() for name, p in engine.model.named_parameters() if "base_layer" in name}
        for engine in run.engines
    ]
    start = [weights(server.model) for server in servers.values()]
    run.train()
    for engine, base, server, old in zip(run.engines, before, servers.values(), start, strict=True):
        now = dict(engine.model.named_parameters())
        kept = all(torch.equal(now[name], value) for name, value in base.items())
        merged = not same(weights(server.model), old)  # what it got has the adapter in it
        assert base and kept and merged


# ---- the answers ----


def test_greedy_decoding_leaves_out_all_sampling_settings(served, servers):
    run = served(top_p=0.9, top_k=5, min_p=0.1, generation_kwargs={"temperature": 0.7, "top_k": 3, "seed": 1})
    run.measure(samples=0)
    for server in servers.values():
        for request in server.asked:
            assert [request[name] for name in ("temperature", "top_p", "top_k", "min_p")] == [0.0, 1.0, 0, 0.0]
            assert request["seed"] == 1 and request["n"] == 1
    generation = run.engines[0].vllm_generation
    assert (generation.temperature, generation.top_p, generation.generation_kwargs["top_k"]) == (1.0, 0.9, 3)


def test_greedy_answers_are_those_of_the_peers_without_vllm(served, tiny):
    said = [
        [r.text for rows in run.measure(samples=0).greedy for r in rows] for run in (served(), served(use_vllm=False))
    ]
    assert said[0] == said[1]


def test_an_answer_ends_at_the_first_end_that_the_peer_knows():
    ids, logprobs = vllm.cut_at_end([[5, 2, 7, 3], [5, 6], [3]], [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6], [0.7]], [2, 3])
    assert ids == [[5, 2], [5, 6], [3]] and logprobs == [[0.1, 0.2], [0.5, 0.6], [0.7]]


def test_each_process_fills_up_its_rows(monkeypatch):
    engine = SimpleNamespace(
        use_vllm=True,
        accelerator=SimpleNamespace(num_processes=2),
        vllm_generation=SimpleNamespace(mode="server"),
        _tokenizer=SimpleNamespace(eos_token_id=9),
    )
    monkeypatch.setattr(vllm, "gather_object", lambda mine: [*mine, 3])
    assert vllm.level(engine, [[1, 2]]) == [[1, 2], [9], [9]]
    assert vllm.level(engine, []) == [[9]] * 3
    engine.vllm_generation.mode, engine.vllm_generation.tensor_parallel_size = "colocate", 1
    assert vllm.level(engine, [[1, 2]]) == [[1, 2]]  # each process has an engine of its own


def test_answers_of_two_processes_go_back_to_their_own_prompts():
    """Three rows a process with speakers in random order, and seven questions evaluated by two processes."""
    for seen in seen_by_two():
        assert seen["vllm"]["wrong"] == [] and seen["vllm"]["measured"] == 7
    assert seen_by_two()[0]["vllm"]["rows"] != seen_by_two()[1]["vllm"]["rows"]  # else nothing was tried
