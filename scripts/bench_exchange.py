"""Counts the bytes that one process sends in a step, by what they are for.

    python -m torch.distributed.run --standalone --nproc_per_node 2 scripts/bench_exchange.py --json runs/exchange.json
    python -m torch.distributed.run --standalone --nproc_per_node 4 scripts/bench_exchange.py --lora --peers llama

Counted where they are handed to `torch.distributed`: pickled objects, tensors, and the gradient buckets of
`DistributedDataParallel`. How often a back end passes them on (a ring, a tree, padding to the longest) is not counted.
A gradient is as large as the trained parameters, whatever the batch; the rest grows with the answers.
"""

import argparse
import json
import pickle
import sys
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import Dataset
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.quiet import quiet_output
from pst_rl.tiny import TINY_PEERS, tiny_questions

OURS = {"gather.py": "questions and answers", "weights.py": "PMI", "scorer.py": "scores"}
KINDS = [*OURS.values(), "TRL's logs and metrics", "the rest", "buffers", "gradients"]


class SentBytes:
    """Bytes that this process hands to collectives, by kind; counts while `torch.distributed` is patched."""

    def __init__(self):
        self.bytes: Counter[str] = Counter()

    def patch(self) -> None:
        """Counts from here on, in this process."""
        self._wrap("all_gather_object", lambda outputs, value, *_, **__: len(pickle.dumps(value)))
        self._wrap("all_gather_into_tensor", lambda output, value, *_, **__: value.nbytes)
        self._wrap("all_reduce", lambda value, *_, **__: value.nbytes)
        self._wrap(
            "_broadcast_coalesced", lambda group, tensors, *_, **__: sum(t.nbytes for t in tensors), kind="buffers"
        )

    def _wrap(self, name: str, size, kind: str | None = None) -> None:
        collective = getattr(dist, name)

        def counted(*args, **kwargs):
            self.bytes[kind or purpose()] += size(*args, **kwargs)
            return collective(*args, **kwargs)

        setattr(dist, name, counted)


def purpose() -> str:
    """What a collective is for, from the innermost file that says so."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent.name == "ddp_comm_hooks":
            return "gradients"
        if path.parent.name == "pst_rl" and path.name in OURS:
            return OURS[path.name]
        if "trl" in path.parts:
            return "TRL's logs and metrics"
        frame = frame.f_back
    return "the rest"


class CountingTrainer(PSTTrainer):
    """Counts a run's bytes, and remembers how much of them was text."""

    sent = SentBytes()
    text = 0  # UTF-8 bytes of this process's answers

    def _wrap_model(self, model, training=True, dataloader=None):
        wrapped = super()._wrap_model(model, training, dataloader)
        for _, peer in wrapped.items():
            if isinstance(peer, DistributedDataParallel):
                peer.register_comm_hook(None, allreduce_hook)  # DDP's own reduction, where it can be seen
        self.sent.bytes.clear()  # what building and wrapping the models exchanged is paid once
        return wrapped

    def aggregate(self, group):
        texts = sum(len(response.text.encode()) for *_, response in group.cells())
        self.text += texts // self.accelerator.num_processes
        return super().aggregate(group)


def main() -> int:
    """Entry point; see the module's docstring."""
    quiet_output()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--peers", nargs="+", choices=list(TINY_PEERS), default=list(TINY_PEERS))
    parser.add_argument("--lora", action="store_true", help="LoRA of rank 16 instead of all parameters")
    parser.add_argument("--weighting", choices=["none", "pmi"], default="pmi")
    parser.add_argument("--questions", type=int, default=8, help="questions a step, over all processes")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    dist.init_process_group("gloo")
    world, rows = dist.get_world_size(), args.questions * args.generations
    if rows % world:
        parser.error(f"{rows} rows cannot be shared out evenly over {world} processes.")
    config = PSTConfig(
        "runs/bench_exchange",
        max_steps=args.steps,
        per_device_train_batch_size=rows // world,
        num_generations=args.generations,
        max_completion_length=args.tokens,
        learning_rate=1e-4,
        weighting=args.weighting,
        answer_template="#### {answer}",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    data = [
        {"prompt": [{"role": "user", "content": r["question"]}]} for r in tiny_questions("train", 4 * args.questions)
    ]
    trainer = CountingTrainer(
        {name: str(TINY_PEERS[name]) for name in args.peers},
        config,
        Dataset.from_list(data),
        peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM") if args.lora else None,
    )
    trainer.sent.patch()
    trainer.train()
    if trainer.is_world_process_zero():
        report(args, trainer, world, rows)
    dist.destroy_process_group()
    return 0


def report(args, trainer: CountingTrainer, world: int, rows: int) -> None:
    """Prints and keeps the first process's bytes."""
    per_step = {kind: trainer.sent.bytes[kind] / args.steps for kind in KINDS}
    answers = rows * len(args.peers) / world
    trained = [p for peer in trainer.engines for p in peer.model.parameters() if p.requires_grad]
    figures = {
        "processes": world,
        "answers": answers,  # of this process, a step
        "text": trainer.text / args.steps,
        "bytes": per_step,
        "trained_bytes": sum(p.nbytes for p in trained),
        "torch": torch.__version__,
        "arguments": {key: str(value) for key, value in vars(args).items()},
    }
    table = Table("sent by one of the processes", "bytes a step", "bytes an answer")
    table.add_row("(text of its answers)", f"{figures['text']:,.0f}", f"{figures['text'] / answers:,.0f}")
    for kind, count in per_step.items():
        table.add_row(kind, f"{count:,.0f}", f"{count / answers:,.0f}" if kind not in ("gradients", "buffers") else "")
    Console().print(f"{world} processes, {answers:g} answers each a step")
    Console().print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
