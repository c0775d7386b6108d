#!/usr/bin/env bash
# A frozen language model in bfloat16 on a CPU copies its whole output head once for every prompt when it begins to generate.
#
# Versions: torch 2.13.0, transformers 5.23.0. Seen on 2026-11-30, on a CPU.
# Behaviour: transformers gives the head a view of the last positions, (B, 1, H) out of (B, W, H). torch folds such a view into one
#   product (mm) where the weight requires a gradient, and multiplies in a batch (bmm) where it does not; for bfloat16 that batched
#   product copies the expanded weight, B x V x H numbers. requires_grad_(False), as LoRA does with its base model, so costs memory
#   and time where it is meant to save them. The logits are the same bit for bit; in float32 nothing is copied.
# Output seen (the figures vary by a few per cent; the words do not):
#   requires a gradient: the head is an mm, memory grows by 0 MiB
#   frozen: the head is a bmm, memory grows by 429 MiB
#   the copies would be 500 MiB; logits equal: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/head.py" <<'END'
import resource
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY, HIDDEN, ROWS = 128_000, 128, 16
torch.manual_seed(0)
config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
model = LlamaForCausalLM(config).to(torch.bfloat16)
ids = torch.randint(5, 1000, (ROWS, 6))


class Products(TorchDispatchMode):
    """The products that make the logits."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.shape[-1:] == (VOCABULARY,) and function._schema.name in ("aten::mm", "aten::bmm"):
            self.name = function._schema.name.removeprefix("aten::")
        return out


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run():
    with torch.no_grad():
        return model(input_ids=ids, logits_to_keep=1).logits


run()  # what is allocated once
before, whole = peak(), run()
grown = {"mm": peak() - before}
with torch.no_grad(), Products() as products:
    run()
print(f"requires a gradient: the head is an {products.name}, memory grows by {grown['mm']:.0f} MiB")
assert products.name == "mm" and grown["mm"] < 50
model.requires_grad_(False)
before, frozen = peak(), run()
grown["bmm"] = peak() - before
with torch.no_grad(), Products() as products:
    run()
print(f"frozen: the head is a {products.name}, memory grows by {grown['bmm']:.0f} MiB")
copies = ROWS * VOCABULARY * HIDDEN * 2 / 2**20
print(f"the copies would be {copies:.0f} MiB; logits equal: {torch.equal(whole, frozen)}")
assert products.name == "bmm" and grown["bmm"] > 0.6 * copies and torch.equal(whole, frozen)
END
"$work/venv/bin/python" -W ignore "$work/head.py"
