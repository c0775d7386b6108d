#!/usr/bin/env bash
# TRL's GRPO loss reads left-padded rows of a GPT-2 at other positions than they were sampled at.
#
# Versions: trl 1.16.0, transformers 5.23.0, torch 2.13.0. Seen on 2026-11-30, on a CPU.
# Behaviour: generate() counts positions from the attention mask. The loss passes the mask but no position_ids, and a model with
#   absolute positions then counts padding too: in a batch of prompts of unequal length the log-probabilities of the shorter ones
#   are those of another context, by nats, silently. Rotary models (Llama, Qwen, Gemma) are not concerned: only differences of
#   positions count there.
# Output seen: GPT-2: 5.770 nats between the row alone and the row behind padding; Llama: 0.000000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 trl==1.16.0
cat > "$work/positions.py" <<'END'
import os, tempfile
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(97))]
inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")

def off_by(model):
    args = GRPOConfig(tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=2, num_generations=2)
    data = Dataset.from_list([{"prompt": "w1 w2"}] * 2)
    trainer = GRPOTrainer(model, lambda completions, **kwargs: [0.0] * len(completions), args, data, processing_class=tokenizer)
    model.eval()
    prompt, completion, padding = list(range(10, 16)), list(range(30, 36)), 8
    alone = torch.tensor([prompt + completion])
    padded = torch.tensor([[0] * padding + prompt + completion])
    mask = (padded != 0).long()
    with torch.no_grad():
        sums = [trainer._get_per_token_logps_and_entropies(model, ids, m, len(completion))[0].sum().item()
                for ids, m in ((alone, torch.ones_like(alone)), (padded, mask))]
    return abs(sums[0] - sums[1])

torch.manual_seed(0)
sizes = dict(vocab_size=len(words), bos_token_id=1, eos_token_id=1, pad_token_id=0)
gpt2 = off_by(GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3, **sizes)))
llama = off_by(LlamaForCausalLM(LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                                            max_position_embeddings=64, initializer_range=0.3, **sizes)))
print(f"GPT-2: {gpt2:.3f} nats between the row alone and the row behind padding; Llama: {llama:.6f}")
assert gpt2 > 0.5 and llama < 1e-3
END
"$work/venv/bin/python" -W ignore "$work/positions.py"
