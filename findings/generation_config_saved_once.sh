#!/usr/bin/env bash
# A model whose generation_config.json has a temperature without do_sample loads and saves, until a trainer sets its pad token.
#
# Versions: transformers 5.23.0, torch 2.13.0. Seen on 2026-11-30, on a CPU.
# Behaviour: settings that contradict each other are loaded, and saved as long as nothing in them was changed. Trainers enter the
#   padding token into them (TRL does, at construction), and then save_pretrained raises: a run trains on and fails at its first
#   checkpoint. Fine-tunes on the Hub have such files.
# Output seen:
#   loaded and saved unchanged: yes
#   saved after pad_token_id was set: ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/saved.py" <<'END'
import json, pathlib, tempfile
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

folder = tempfile.mkdtemp()
LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).save_pretrained(folder)
file = pathlib.Path(folder, "generation_config.json")
file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": 0.6}))
model = AutoModelForCausalLM.from_pretrained(folder)
model.save_pretrained(tempfile.mkdtemp())
print("loaded and saved unchanged: yes")
model.generation_config.pad_token_id = 0
try:
    model.save_pretrained(tempfile.mkdtemp())
    outcome = "yes"
except ValueError:
    outcome = "ValueError"
print(f"saved after pad_token_id was set: {outcome}")
assert outcome == "ValueError"
END
"$work/venv/bin/python" -W ignore "$work/saved.py"
