"""The head of a 16-bit model reads one block, whatever view of the hidden states it is given."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from pst_rl import PeerSpec
from pst_rl.peers.loading import load_model


class Heads(TorchDispatchMode):
    """Notes the shapes that batched products multiply with, which for an expanded weight are copied on a CPU."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary, self.expanded = vocabulary, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.bmm.default and args[1].shape[-1] == self.vocabulary:
            self.expanded += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_prompts_of_several_rows_do_not_copy_the_weight_for_each(tiny, dtype):
    ids = torch.randint(5, 50, (3, 6), generator=torch.Generator().manual_seed(0))
    plain = AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=dtype)
    loaded = load_model(tiny["llama"], dtype=dtype)
    found = {}
    for name, model in {"plain": plain, "loaded": loaded}.items():
        model.requires_grad_(False)  # as beside a LoRA: torch folds rows where the weight needs a gradient
        with torch.no_grad(), Heads(model.config.vocab_size) as heads:
            logits = model(input_ids=ids, logits_to_keep=1).logits
        found[name] = logits, heads.expanded
    assert torch.equal(found["plain"][0], found["loaded"][0])
    assert found["plain"][1] == 1  # what torch does of itself
    assert found["loaded"][1] == (0 if dtype == "bfloat16" else 1)


def test_every_peer_of_a_run_has_it_once(trainer, tiny):
    peers = {"named": tiny["llama"], "given": PeerSpec(load_model(tiny["qwen2"], dtype="bfloat16"))}
    for engine in trainer(peers).engines:
        assert len(engine.model.get_output_embeddings()._forward_pre_hooks) == 1
