#!/usr/bin/env bash
# Merging a LoRA adapter and taking it out again changes the base weights for good, if they are bfloat16.
#
# Versions: peft 0.21.2, torch 2.13.0, transformers 5.23.0. Seen on 2026-11-30, on a CPU.
# Behaviour: merge_adapter() adds B A to the weights in their own dtype, unmerge_adapter() subtracts it again. In bfloat16
#   (a + b) - b is not a. Libraries that send merged weights to an inference engine at each step (GRPO with vLLM) do this
#   some hundred times, while only the adapter is saved: the model that was trained is not base + adapter.
# Output seen (what the base moved, of the norm of B A):
#   bfloat16,   1 rounds: the base moved by 1.1254 % of the adapter's norm
#   bfloat16,  10 rounds: the base moved by 3.0409 % of the adapter's norm
#   bfloat16, 100 rounds: the base moved by 6.8779 % of the adapter's norm
#   float32,    1 rounds: the base moved by 0.0000 % of the adapter's norm
#   float32,   10 rounds: the base moved by 0.0000 % of the adapter's norm
#   float32,  100 rounds: the base moved by 0.0001 % of the adapter's norm
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat > "$work/drift.py" <<'END'
import torch
from peft import LoraConfig, get_peft_model

def moved(dtype, rounds):
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(256, 256, bias=False)).to(dtype)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["0"]))
    layer = model.base_model.model[0]
    before = layer.base_layer.weight.detach().float().clone()
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.02)
    for _ in range(rounds):
        model.merge_adapter()
        model.unmerge_adapter()
        layer.lora_B["default"].weight.data += 1e-3 * torch.randn_like(layer.lora_B["default"].weight)  # a small step
    adapter = layer.get_delta_weight("default").float()
    return ((layer.base_layer.weight.detach().float() - before).norm() / adapter.norm()).item()

shares = {(name, n): moved(getattr(torch, name), n) for name in ("bfloat16", "float32") for n in (1, 10, 100)}
for (name, n), share in shares.items():
    print(f"{name}, {n:3} rounds: the base moved by {100 * share:.4f} % of the adapter's norm")
assert all(shares["bfloat16", n] > 0.01 for n in (1, 10, 100)) and shares["bfloat16", 100] > shares["bfloat16", 1]
assert all(shares["float32", n] < 1e-4 for n in (1, 10, 100))
END
"$work/venv/bin/python" "$work/drift.py"
