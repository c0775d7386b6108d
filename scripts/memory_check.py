"""Compares the memory estimate with what a training step really takes, phase by phase.

    OMP_NUM_THREADS=1 python scripts/memory_check.py                  # CPU, torch's memory profiler
    python scripts/memory_check.py --device cuda                      # GPU, torch.cuda.max_memory_allocated

Each case trains one peer for one optimizer step with `PSTTrainer`. Measured is the most that is allocated in a phase
above what there was at its beginning: sampling (`PeerTrainer.complete`) and forward and backward pass
(`PeerTrainer.training_step`). Printed is estimate / measured: above 1 the estimate is too high.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PrinterCallback
from trl import ModelConfig

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.cli.parse import quiet_libraries
from pst_rl.memory.estimate import ModelShape, RunShape, estimate
from pst_rl.tiny import TINY_PEERS

QUESTION = "Tom has 3 apples and buys 4 more. How many apples has he now? Think first, and then state the number."


@dataclass
class Case:
    """One model with settings; `layout` says which weights are trained."""

    model: str
    layout: Literal["full", "lora", "nf4"]
    options: dict[str, Any] = field(default_factory=dict)
    rows: int = 8
    completion: int = 48


def cases(large: str) -> list[Case]:
    plain, stored = {"gradient_checkpointing": False}, {"gradient_checkpointing": True}
    tiny = [str(TINY_PEERS["llama"]), str(TINY_PEERS["gemma2"])]
    found = [Case(m, layout, how) for m in tiny for layout in ("full", "lora") for how in (plain, stored)]
    qwen = str(TINY_PEERS["qwen2"])
    found += [
        Case(qwen, layout, how, rows=12, completion=30) for layout in ("full", "lora") for how in (plain, stored)
    ]
    half = {"bf16": True}
    ways = [("full", plain), ("full", stored), ("full", stored | half), ("lora", plain), ("lora", stored)]
    ways += [("nf4", stored), ("nf4", stored | half)]
    return found + [Case(large, layout, how, rows=4, completion=32) for layout, how in ways]


@contextlib.contextmanager
def peak_bytes(device: str, into: list[int]) -> Iterator[None]:
    """Appends the most that was allocated inside, above what there was at the beginning."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        torch.cuda.synchronize()
        into.append(torch.cuda.max_memory_allocated() - before)
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        yield
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    into.append(most)


def large_model(folder: Path) -> str:
    """A Llama of 0.1 billion random parameters with a small model's tokenizer."""
    shape = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2048, "vocab_size": 32000}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 2048}
    config = LlamaConfig(**shape, **heads, pad_token_id=2, eos_token_id=1, bos_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY_PEERS["llama"]).save_pretrained(folder)
    return str(folder)


def check(case: Case, device: str, folder: str) -> dict[str, tuple[int, int]]:
    """(estimate, measured) in bytes of both phases."""
    config = PSTConfig(
        output_dir=folder,
        max_steps=1,
        per_device_train_batch_size=case.rows,
        num_generations=case.rows,
        max_completion_length=case.completion,
        generation_kwargs={"min_new_tokens": case.completion},
        rewards=["random"],
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        on_collapse="off",
        stop_strings=[],
        **{"bf16": False} | case.options,
    )
    lora = LoraConfig(r=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16" if config.bf16 else "float32"
    )
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": QUESTION}]}] * case.rows)
    trainer = PSTTrainer(
        {"peer": case.model},
        config,
        train_dataset=data,
        peft_config=lora if case.layout != "full" else None,
        quantization_config=four_bit if case.layout == "nf4" else None,
    )
    trainer.remove_callback(PrinterCallback)
    peer = trainer.engines[0]
    found: dict[str, list[int]] = {"generation": [], "update": []}

    def watched(phase, function):
        def call(*args, **kwargs):
            with peak_bytes(device, found[phase]):
                return function(*args, **kwargs)

        return call

    peer.complete = watched("generation", peer.complete)
    peer.training_step = watched("update", peer.training_step)
    trainer.train()
    options = ModelConfig(
        use_peft=case.layout != "full",
        load_in_4bit=case.layout == "nf4",
        lora_r=16,
        lora_target_modules=["all-linear"],
    )
    run = RunShape.of(config, options, prompt_length=len(peer.prompt_ids(data[0]["prompt"])))
    expected = estimate([ModelShape.of(case.model)], run)
    return {phase: (getattr(expected, phase), found[phase][0]) for phase in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to measure")
    parser.add_argument("--only", default="", help="run the cases whose printed line holds this text")
    args = parser.parse_args()
    quiet_libraries()
    print("| model | trained | checkpointing | precision | phase | estimate MiB | measured MiB | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        large = large_model(Path(folder, "llama-0.1B"))
        for case in cases(large):
            how = "yes" if case.options["gradient_checkpointing"] else "no"
            precision = "bfloat16" if case.options.get("bf16") else "float32"
            line = f"| {Path(case.model).name} | {case.layout} | {how} | {precision} |"
            if args.only not in line:
                continue
            for phase, (expected, measured) in check(case, args.device, f"{folder}/run").items():
                ratio = expected / measured
                ratios.append(ratio)
                print(f"{line} {phase} | {expected / 2**20:.1f} | {measured / 2**20:.1f} | {ratio:.2f} |", flush=True)
    print(f"\nestimate / measured: from {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} cases")


if __name__ == "__main__":
    main()
