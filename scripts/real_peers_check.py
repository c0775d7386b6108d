"""Three real models train together: one from a GGUF file, one from a plain folder, one from a LoRA folder made here.

    python scripts/real_peers_check.py --gguf smollm.gguf --plain models/qwen --adapted models/gemma

Two steps, saved, resumed (2 steps against 1 + 1), evaluated by `pst-rl eval`, and loaded as plain libraries load them.
All weights of the GGUF model are trained, adapters of the others. Needs the `gguf` extra; about 6 GiB for models of
0.1 to 0.5 B, on a CPU.
"""

import argparse
import copy
import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl import PeerSpec, PSTConfig, PSTTrainer, load_questions, per_sample
from pst_rl.quiet import quiet_output

LORA = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
GREEDY = {"max_new_tokens": 8, "do_sample": False}


@per_sample
def letters(response):
    """Differs between responses, so that a step moves every peer whatever it says."""
    return len(set(response.text)) / 10


def make_adapter(base: Path, folder: Path) -> Path:
    """A LoRA folder that differs from its base model."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), copy.deepcopy(LORA))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    model.save_pretrained(folder)
    return folder


def build(specs: dict[str, PeerSpec], folder: Path) -> PSTTrainer:
    """Two questions, two generations of 16 tokens."""
    args = PSTConfig(
        str(folder), max_steps=2, save_steps=1, save_strategy="steps", per_device_train_batch_size=4,
        num_generations=2, max_completion_length=16, learning_rate=1e-4, temperature=1.0, context="independent",
        gradient_checkpointing=False, report_to="none", bf16=False, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    data = load_questions("tiny", limit=8)
    return PSTTrainer(dict(specs), args, data, reward_providers=[letters])


def trained_weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def equal(one: Path, other: Path) -> bool:
    a, b = tensors(one), tensors(other)
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def load_plain(folder: Path, base: Path | None):
    """As a user of transformers and PEFT alone would."""
    if base is None:
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), folder)


def evaluate(run: Path, names: list[str], limit: int) -> dict:
    """`results.json` of `pst-rl eval` on the trained folders."""
    words = ["eval", "tiny", "--peers", *(str(run / name) for name in names), "--limit", str(limit)]
    words += ["--max-new-tokens", "16", "--no-collaborative", "--output-dir", str(run / "eval")]
    subprocess.run([sys.executable, "-m", "pst_rl.cli", *words], check=True, stdout=subprocess.DEVNULL)
    return json.loads((run / "eval" / "results.json").read_text())


def main() -> None:
    quiet_output()
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--gguf", required=True, help="a GGUF file, or repo:file.gguf")
    cli.add_argument("--plain", type=Path, required=True, help="a folder of a model")
    cli.add_argument("--adapted", type=Path, required=True, help="a folder of a model, for which an adapter is made")
    cli.add_argument("--output-dir", type=Path, default=Path("runs/real-peers"))
    cli.add_argument("--limit", type=int, default=4, help="questions to evaluate on")
    options = cli.parse_args()
    adapter = make_adapter(options.adapted.absolute(), options.output_dir / "adapter")
    specs = {
        "gguf": PeerSpec(options.gguf),
        "plain": PeerSpec(str(options.plain.absolute()), dtype="bfloat16", peft_config=LORA),
        "adapter": PeerSpec(str(adapter), dtype="bfloat16"),
    }
    bases = {"gguf": None, "plain": options.plain, "adapter": options.adapted}
    straight, resumed = options.output_dir / "straight", options.output_dir / "resumed"
    start = time.perf_counter()
    trainer = build(specs, straight)
    before = {name: trained_weights(peer.model) for name, peer in trainer.peers.items()}
    trainer.train()
    trainer.save_model()
    rows = {name: {"from": str(specs[name].model)} for name in specs}
    for name, peer in trainer.peers.items():
        now = dict(peer.model.named_parameters())
        moved = sum(not torch.equal(tensor, now[key]) for key, tensor in before[name].items())
        rows[name] |= {
            "parameters": f"{sum(p.numel() for p in now.values()):,}",
            "moved": f"{moved} of {len(before[name])} trained tensors",
        }
    del trainer, before, now, peer
    gc.collect()
    trainer = build(specs, resumed)
    trainer.train(resume_from_checkpoint=str(straight / "checkpoint-1"))
    trainer.save_model()
    del trainer
    gc.collect()
    found = evaluate(straight, list(specs), options.limit)
    for name, base in bases.items():
        folder = straight / name
        checkpoints = [run / "checkpoint-2" / name for run in (straight, resumed)]
        model, tokenizer = load_plain(folder, base), AutoTokenizer.from_pretrained(folder)
        said = model.generate(**tokenizer("2 + 2 =", return_tensors="pt"), **GREEDY)[0]
        stored = tensors(folder)
        rows[name] |= {
            "saved": " + ".join(sorted({str(t.dtype).removeprefix("torch.") for t in stored.values()})),
            "tensors": len(stored),
            "2 = 1 + 1": equal(*checkpoints) and equal(folder, resumed / name),
            "eval digest": found["peers"][name]["digest"][:8],
            "loads, says": repr(tokenizer.decode(said)[:40]),
        }
        del model
        gc.collect()
    for name, row in rows.items():
        print(f"---- {name}")
        print("\n".join(f"{key:12} {value}" for key, value in row.items()))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
