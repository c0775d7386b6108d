"""`pst-rl train --dry-run`: what a run would do, from tokenizers and configurations alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

import torch
from trl import get_peft_config, get_quantization_config

from pst_rl.cli.options import load_splits, named_peers, scoring_note
from pst_rl.cli.parse import Arguments, check_resume
from pst_rl.cli.prompt_preview import Prompts, read_prompts
from pst_rl.config import PSTConfig
from pst_rl.loop.reporters import check_reporters
from pst_rl.loop.used_folder import check_start
from pst_rl.memory.estimate import ModelShape, RunShape, estimate
from pst_rl.peers.prompts import Prompt, PromptFormat, foreign_prompt, show_peers
from pst_rl.peers.reader import load_tokenizer
from pst_rl.peers.spec import PeerSpec, resolve_peers
from pst_rl.scheme import check_scheme, make_aggregator, make_providers, make_weighting, mix_rewards
from pst_rl.stages.pmi import PMIWeights

if TYPE_CHECKING:
    from trl import ModelConfig

GIB = 2**30
SHOWN_ANSWER = 32  # tokens that an earlier peer's answer is taken to add to a prompt; our choice


@dataclass(frozen=True)
class Steps:
    """How much a training run does.

    Attributes:
        questions: In a generation batch, of all processes.
        generations: Of each question by each peer.
        batches: Generation batches in all.
        steps: Optimizer steps in all.
        peers: How many.
    """

    questions: int
    generations: int
    batches: int
    steps: int
    peers: int

    @classmethod
    def of(cls, args: PSTConfig, questions: int, peers: int) -> Steps:
        """Of a run on so many training questions; those that do not fill a generation batch are left out."""
        together = args.generation_batch_size // args.num_generations
        micro_steps = args.steps_per_generation * args.num_iterations
        steps = args.max_steps
        if steps <= 0:
            in_epoch = ceil((questions // together) * micro_steps / args.gradient_accumulation_steps)
            steps = ceil(args.num_train_epochs * in_epoch)
        batches = ceil(steps * args.gradient_accumulation_steps / micro_steps)
        return cls(together, args.num_generations, batches, steps, peers)

    @property
    def rows(self) -> int:
        """Responses of one peer in a generation batch."""
        return self.questions * self.generations

    @property
    def samples(self) -> int:
        """Responses of all peers in all generation batches."""
        return self.rows * self.batches * self.peers


def plan_training(arguments: Arguments) -> list[str]:
    """What `pst-rl train --dry-run` prints. Refuses what the trainer would refuse before it loads weights.

    Raises:
        FileNotFoundError, ValueError: As the run itself.
    """
    script, args, model = arguments.script, arguments.config, arguments.model
    check_resume(args)
    check_reporters(args.report_to)
    check_start(args.output_dir, args.resume_from_checkpoint, script.peers, script.overwrite)
    train, test = load_splits(script)
    specs = resolve_peers(
        named_peers(script.peers, model),
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
        model_init_kwargs=args.model_init_kwargs,
    )
    providers = make_providers(args.rewards, args)
    mix_rewards(args, providers)
    check_scheme(args, specs, make_aggregator(args), providers, train, make_weighting(args))

    prompts = list(train["prompt"])
    options = args.chat_template_kwargs or {}
    asked = (args.base_template, args.template_date)
    seen = [read_prompts(str(spec.model), prompts, *asked, **options) for spec in specs.values()]
    lines = []
    for p, (name, spec) in enumerate(specs.items()):
        first = (
            _after(list(specs)[:p], spec, prompts[0], args) if args.context == "sequential" and p else seen[p].first
        )
        lines += [f"---- {name}: {spec.model}", str(Prompts(first, seen[p].lengths)), ""]
    if args.context == "sequential":
        lines += [f"The lengths are without what earlier peers say; the order is {args.order}.", ""]

    steps = Steps.of(args, len(train), len(specs))
    shapes = [ModelShape.of(str(spec.model)) for spec in specs.values()]
    read = steps.rows * steps.batches * sum(median(prompts.lengths) for prompts in seen)
    written = steps.samples * args.max_completion_length
    pooled = min(script.pooled_questions, len(test)) * script.pooled_samples
    measured = 2 * steps.peers * (len(test) + pooled)
    lines += [
        f"questions   {len(train):,} to train on, {len(test):,} to measure on",
        f"steps       {steps.steps:,}; {steps.batches:,} generation batches of {steps.questions} questions x "
        f"{steps.generations} generations x {steps.peers} peers",
        f"samples     {steps.samples:,} responses of at most {args.max_completion_length} tokens",
        f"tokens      {read:,.0f} read and at most {written:,} written; a step: {read / steps.steps:,.0f} and "
        f"{written / steps.steps:,.0f}",
        f"measuring   {measured:,} responses more, before and after training",
        f"memory      {_memory(arguments, shapes, _longest(args, seen))}",
        f"preset      {script.preset}",
        *(f"note        {note}" for note in arguments.notes),
        *scoring_note(script, args.answer_metric),
        *_overlong(args, specs, shapes, seen),
        *_time(args, model, script.tokens_per_second, steps, shapes, seen),
    ]
    return lines


def _after(earlier: Sequence[str], spec: PeerSpec, prompt: Prompt, args: PSTConfig) -> str:
    """A prompt of a peer that reads earlier ones, with a mark for what each of them will say."""
    options = args.chat_template_kwargs or {}
    form = PromptFormat.of(load_tokenizer(str(spec.model)), args.base_template, **options)
    marks = [f"[what {name} says]" for name in earlier]
    shown = foreign_prompt(form, lambda asked, texts: show_peers(asked, texts, args.peer_template), prompt, marks)
    return read_prompts(str(spec.model), [shown], args.base_template, args.template_date, **options).first


def _overlong(
    args: PSTConfig, names: Iterable[str], shapes: Sequence[ModelShape], seen: Sequence[Prompts]
) -> list[str]:
    """A line for each peer with prompts that leave no room for a completion of full length."""
    lines = []
    for name, shape, prompts in zip(names, shapes, seen, strict=True):
        room = shape.context - args.max_completion_length
        if over := sum(length > room for length in prompts.lengths):
            lines.append(
                f"note        {name}: {over:,} prompts are longer than the {room} tokens that its window leaves"
            )
    return lines


def _longest(args: PSTConfig, seen: Sequence[Prompts]) -> int:
    """Tokens of the longest prompt, with what earlier peers say in it."""
    longest = max(max(prompts.lengths) for prompts in seen)
    if args.context == "independent":
        return longest
    each = args.max_completion_length if args.peer_context == "responses" else SHOWN_ANSWER
    return longest + (len(seen) - 1) * each


def memory_of(arguments: Arguments, specs: Iterable[PeerSpec], prompt_length: int) -> str:
    """How much memory these peers need, in one line; what cannot be estimated says why."""
    try:
        shapes = [ModelShape.of(str(spec.model)) for spec in specs]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"not estimated: {str(error).strip().splitlines()[0]}"
    return _memory(arguments, shapes, prompt_length)


def _memory(arguments: Arguments, shapes: Sequence[ModelShape], prompt_length: int) -> str:
    try:
        run = RunShape.of(arguments.config, arguments.model, prompt_length)
    except ValueError as error:  # a setting that the estimate does not know; the run itself may be fine
        return f"not estimated: {error}"
    found = estimate(shapes, run)
    return (
        f"{found.total / GIB:.2f} GiB a process: {found.resident / GIB:.2f} resident, the rest in the phase "
        f"{found.peak!r} (docs/memory.md; prompts of {prompt_length} tokens)"
    )


# ---- time ----


def flops(args: PSTConfig, model: ModelConfig, steps: Steps, parameters: int, prompt: float) -> float:
    """Multiplications and additions of one peer's matrix products in training, completions at full length.

    2 for each parameter and token in a forward pass, 4 in a backward pass, 2 of them only for weights that are trained
    (arXiv 2001.08361); 2 more with gradient checkpointing, for a reference model, and for PMI. Attention scores are
    left out.
    """
    update = 4 if model.use_peft else 6
    update += 2 * args.gradient_checkpointing + 2 * (args.beta != 0.0)
    pmi = PMIWeights.of(args)
    generate = 2 + 2 * (pmi is not None and not pmi.from_cache)
    tokens = steps.rows * steps.batches * (prompt + args.max_completion_length)
    return parameters * tokens * (generate + update * args.num_iterations)


def measured_flops(device: torch.device, seconds: float = 2.0) -> float:
    """Operations a second of a square matrix product on this device (1024 on a CPU, 8192 on a GPU), the median run."""
    size, dtype = (1024, torch.float32) if device.type == "cpu" else (8192, torch.bfloat16)
    a = torch.randn(size, size, device=device, dtype=dtype)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / median(taken)


def _time(
    args: PSTConfig,
    model: ModelConfig,
    tokens_per_second: float | None,
    steps: Steps,
    shapes: Sequence[ModelShape],
    seen: Sequence[Prompts],
) -> list[str]:
    if tokens_per_second is not None:
        seconds = steps.samples * args.max_completion_length / tokens_per_second
        return [
            f"time        at most {_duration(seconds)} of training at {tokens_per_second:g} completion tokens a "
            "second, every completion at full length"
        ]
    needed = sum(
        flops(args, model, steps, shape.parameters, median(prompts.lengths))
        for shape, prompts in zip(shapes, seen, strict=True)
    )
    speed = measured_flops(args.device) * args.world_size
    return [
        f"time        {_duration(needed / speed)} of training for its {needed / 1e12:.3g} TFLOP at {speed / 1e9:,.0f} "
        f"GFLOP/s, the speed of a matrix product measured here ({args.world_size} x {args.device.type}).",
        "            No prediction: completions that end early take less; sampling token by token, attention, and all",
        "            that is no matrix product take more. --tokens-per-second from a short run of yours is better.",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
