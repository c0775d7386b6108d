"""What a run says of itself before it begins: peers, processes, prompt, sizes, what it will need, what is set."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from pst_rl.config import PSTConfig
from pst_rl.peers.kinship import TOGETHER, Kin, alike
from pst_rl.progress.words import WIDTH, folded

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.report.run_facts import RunFacts

GIB = 2**30
PROMPT_LINES = 12  # of a prompt that is shown; the rest is cut
# What TRL and transformers fill in by themselves, or what another line of the header says.
_NOT_SHOWN = {
    "output_dir", "activation_checkpointing", "disable_tqdm", "accelerator_config", "dataloader_pin_memory", "debug",
    "num_generations_eval", "pad_to_multiple_of", "generation_batch_size", "resume_from_checkpoint", "hub_token",
    "push_to_hub_token", "multi_objective_aggregation", "ddp_find_unused_parameters",
}  # fmt: skip


def run_header(
    trainer: RunFacts,
    notes: Sequence[str] = (),
    more: Sequence[tuple[str, str]] = (),
    checkpoint: str | None = None,
) -> list[str]:
    """Lines about a run that is about to begin, of at most 80 columns.

    Args:
        notes: What was decided for the user, such as what of a preset was left out.
        more: Further (word, text) lines, such as the preset and an estimate of memory.
        checkpoint: The folder that the run goes on from.
    """
    rows = [] if checkpoint is None else [("resuming", f"from {checkpoint}")]
    rows += [*_peers(trainer), *_kinship(trainer), ("processes", processes(trainer)), *_scheme(trainer), *more]
    rows += [("disk", disk(trainer)), ("settings", "; ".join(changed_settings(trainer.args)) or "all TRL's defaults")]
    lines = [line for word, text in rows for line in _wrapped(word, text)]
    lines += [line for note in notes for line in _wrapped("note", note)]
    return [*lines, *_prompt(trainer)]


def _wrapped(word: str, text: str) -> list[str]:
    return folded(f"{word:12}{text}", WIDTH, " " * 12).splitlines()


# ---- peers and processes ----


def _peers(trainer: RunFacts) -> Iterator[tuple[str, str]]:
    for i, (name, engine) in enumerate(trainer.peers.items()):
        yield "" if i else "peers", f"{name}: {describe_peer(trainer, name, engine)}"


def _kinship(trainer: RunFacts) -> Iterator[tuple[str, str]]:
    """Where peers are less different than a vote of them needs."""
    peers = []
    for name, engine in trainer.peers.items():
        spec = trainer.specs[name]
        source = str(spec.model) if isinstance(spec.model, (str, os.PathLike)) else str(id(spec.model))
        peers.append(Kin(name, f"{source} {spec.revision}", engine.model.config.model_type))
    for text in alike(peers):
        yield "note", f"{text}: {TOGETHER}"


def describe_peer(trainer: RunFacts, name: str, engine: PeerTrainer) -> str:
    """Size, what of it is trained and how fast, dtype, and how it is asked."""
    parameters = list(engine.model.parameters())
    total = engine.model.num_parameters()  # 4-bit weights are packed: transformers and PEFT know how many there are
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    spec = trainer.specs[name]
    rate = trainer.args.learning_rate if spec.learning_rate is None else spec.learning_rate
    if not spec.trainable:
        what = "frozen"
    elif trained < total:
        what = f"{_short(trained)} of them trained (LoRA) at {rate:g}"
    else:
        what = f"all trained at {rate:g}"
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters if p.is_floating_point()})
    quantized = "4- or 8-bit weights, " if spec.quantization_config is not None else ""
    asked = "chat template" if engine.format.chat else "no chat template: asked as a base model"
    return f"{_short(total)} parameters, {what}, {quantized}{' and '.join(dtypes)}, {asked}"


def _short(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def processes(trainer: RunFacts) -> str:
    """How many processes really run, on what; and whether more were asked for."""
    there = trainer.accelerator.num_processes
    text = f"{there} on {trainer.accelerator.device.type}"
    asked = asked_processes()
    if asked is not None and asked != there:
        text += f", though `accelerate launch` was asked for {asked}: on CPUs it starts several only with --cpu"
    return text


def asked_processes() -> int | None:
    """What `accelerate launch --num_processes` asked for, by the command line of this process's parents."""
    import psutil

    try:
        command = next(p.cmdline() for p in psutil.Process().parents() if "launch" in p.cmdline())
    except (psutil.Error, StopIteration):
        return None
    found = re.search(r"--num[_-]processes[ =](\d+)", " ".join(command))
    return int(found[1]) if found and any("accelerate" in Path(word).name for word in command[:3]) else None


# ---- what is done, and what it needs ----


def _scheme(trainer: RunFacts) -> Iterator[tuple[str, str]]:
    args = trainer.args
    aggregator = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(trainer.aggregator).__name__).lower()
    rewards = " + ".join(f"{weight:g} {name}" if weight != 1 else name for name, weight in trainer.mix.weights.items())
    context = "independent answers" if args.context == "independent" else f"sequential answers, {args.order} order"
    labels = "SUPERVISED: reads gold answers" if args.supervised else "no label is read"
    yield (
        "scheme",
        f"{context}; target: {aggregator}; reward: {rewards}; weights: {args.weighting}; objective: "
        f"{args.objective}; {labels}",
    )
    together = args.generation_batch_size // args.num_generations
    steps = _many(args.max_steps, "step") if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
    yield (
        "questions",
        f"{len(trainer.train_dataset):,} to train on; {together} at a time, {args.num_generations} answers of at most "
        f"{args.max_completion_length} tokens by each peer; {steps}",
    )


def disk(trainer: RunFacts) -> str:
    """What checkpoints and models will take at most, and what is free."""
    args = trainer.args
    kept = 0
    if str(getattr(args.save_strategy, "value", args.save_strategy)) != "no":
        every = args.save_steps if args.save_steps >= 1 else max(1, ceil(args.save_steps * max(1, args.max_steps)))
        kept = ceil(args.max_steps / every) if args.max_steps > 0 else 2
        kept = min(kept, args.save_total_limit or kept)
    trained = [p for engine in trainer.peers.values() for p in engine.model.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in trained)
    states = 0 if args.save_only_model else 2 * weights  # AdamW's two moments
    need = weights + kept * (weights + states)
    folder = Path(args.output_dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"about {_gib(need)} for the models and {_many(kept, 'checkpoint')}; {_gib(free)} free"
    return text + (": NOT ENOUGH; lower save_total_limit, or use LoRA" if need > free else "")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:,.0f} GiB"


def changed_settings(args: PSTConfig) -> list[str]:
    """`name=value` of every setting that is not the default of TRL, or of `PSTConfig` for one of ours."""
    changed = []
    for field in fields(PSTConfig):
        default = field.default
        if default is MISSING:
            default = None if field.default_factory is MISSING else field.default_factory()
        value = getattr(args, field.name)
        value = getattr(value, "value", value)
        if value == getattr(default, "value", default) or field.name in _NOT_SHOWN or value in ([], {}, [1.0]):
            continue
        changed.append(f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value!r}")
    return changed


def _prompt(trainer: RunFacts) -> list[str]:
    """The first question as the peers read it, in each form once."""
    prompt = trainer.build_prompt(trainer.train_dataset[0]["prompt"], [])
    readers: dict[str, list[str]] = {}
    for name, engine in trainer.peers.items():
        readers.setdefault(engine.render(prompt), []).append(name)
    lines = []
    for i, (text, names) in enumerate(readers.items()):
        read = "reads" if len(names) == 1 else "read"
        lines += _wrapped("" if i else "prompt", f"as {' and '.join(names)} {read} the first question:")
        lines += _quoted(text)
    return lines


def _quoted(text: str) -> list[str]:
    """The beginning of a text behind bars; a line that is too long goes on behind two."""
    room, lines = WIDTH - 4, []
    for line in text.splitlines() or [""]:
        parts = [line[start : start + room] for start in range(0, len(line), room)] or [""]
        lines += [f"  {'||' if k else '| '}{part}" for k, part in enumerate(parts)]
    more = len(lines) - PROMPT_LINES
    return [*lines[:PROMPT_LINES], *([f"  ... ({more} lines more)"] if more > 0 else [])]
