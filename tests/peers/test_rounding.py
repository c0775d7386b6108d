"""Which weights in half precision a step of AdamW can move."""

import re

import pytest
import torch
from peft import LoraConfig

from pst_rl import PeerSpec
from pst_rl.peers.rounding import warning_of_lost_steps


def parameter(values, dtype=torch.bfloat16, trained=True):
    return torch.nn.Parameter(torch.tensor(values).to(dtype), requires_grad=trained)


def share(parameters, rate):
    """The percentage that the warning names; 0 without one."""
    text = warning_of_lost_steps("a", parameters, rate)
    return float(re.search(r"([\d.]+) % of them", text)[1]) if text else 0.0


# bfloat16 numbers in [1, 2) are 2^-7 apart, those in [1/4, 1/2) 2^-9: a step is lost below 2^-8 and 2^-10.
@pytest.mark.parametrize(("rate", "lost"), [(2**-8, 0.0), (0.9 * 2**-8, 50.0), (2**-10, 50.0), (0.9 * 2**-10, 100.0)])
def test_a_weight_is_lost_if_half_the_distance_to_the_next_number_is_more_than_a_step(rate, lost):
    assert share([parameter([1.0, 1.75, 0.25, 0.375])], rate) == lost


def test_float16_is_finer():
    assert share([parameter([1.0], torch.float16)], 2**-11) == 0.0
    assert share([parameter([1.0], torch.float16)], 0.9 * 2**-11) == 100.0


def test_signs_do_not_matter_and_zeros_can_always_move():
    assert share([parameter([-1.0, 0.0])], 1e-3) == 50.0


def test_float32_and_frozen_weights_are_no_matter():
    assert warning_of_lost_steps("a", [parameter([1.0], torch.float32)], 1e-9) is None
    assert warning_of_lost_steps("a", [parameter([1.0], trained=False)], 1e-9) is None


def test_the_rate_that_is_named_moves_nine_tenths():
    weights = [parameter([1.0] * 9 + [2.0**-6] * 91)]
    named = float(re.search(r"rate of about (\S+) or more", warning_of_lost_steps("a", weights, 1e-6))[1])
    assert named == pytest.approx(2**-14, rel=0.05)
    assert share(weights, 1.1 * named) == 0.0  # less than a tenth


@pytest.mark.parametrize("rate", [1e-5, 1e-4])
def test_what_is_said_is_what_adamw_leaves_as_it_was(rate):
    torch.manual_seed(0)
    weights = torch.nn.Parameter((0.02 * torch.randn(20_000)).bfloat16())
    before, optimizer = weights.detach().clone(), torch.optim.AdamW([weights], lr=rate, weight_decay=0.0)
    said = share([weights], rate)
    weights.grad = torch.randn(20_000).bfloat16()
    optimizer.step()
    stayed = 100 * (weights == before).float().mean().item()
    assert 10 < said < 100 and said == pytest.approx(stayed, abs=2.0)


def test_large_tensors_are_sampled(monkeypatch):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(20_000).bfloat16())]
    exact = share(weights, 1e-3)
    monkeypatch.setattr("pst_rl.peers.rounding.SAMPLE", 5_000)
    assert 10 < exact < 100 and share(weights, 1e-3) == pytest.approx(exact, abs=2.0)
    assert share(weights, 1e-3) != exact


def test_a_peer_is_warned_of_once_by_its_own_rate(trainer, tiny, caplog):
    peers = {
        "low": PeerSpec(tiny["llama"], dtype="bfloat16"),
        "high": PeerSpec(tiny["llama"], dtype="bfloat16", learning_rate=0.1),
        "fine": PeerSpec(tiny["llama"], dtype="float32"),
        "still": PeerSpec(tiny["llama"], dtype="bfloat16", trainable=False),
    }
    trainer(peers, learning_rate=1e-6)
    [record] = [r for r in caplog.records if "rounds to nothing" in r.getMessage()]
    assert "Peer 'low'" in record.getMessage() and "float32" in record.getMessage()


def test_adapters_are_in_float32(trainer, tiny, caplog):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer({"low": PeerSpec(tiny["llama"], dtype="bfloat16", peft_config=lora)}, learning_rate=1e-6)
    assert "rounds to nothing" not in caplog.text
