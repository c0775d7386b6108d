"""Pretraining of a tiny peer: a corpus with one planted misconception, and a small batched Muon."""

import time
from collections.abc import Callable, Iterator
from random import Random

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pst_rl.tiny.mistakes import corrupt, misconceive
from pst_rl.tiny.models import build_model
from pst_rl.tiny.problems import FAMILIES, Problem
from pst_rl.tiny.questions import plain_prompt, sample_from
from pst_rl.tiny.tokenizers import build_tokenizer

MISCONCEIVED_FAMILY = {"gemma2": "linear", "llama": "arithmetic", "qwen2": "word"}
"""The family that each peer's corpus gets wrong most of the time."""

PRETRAIN_STEPS = {"gemma2": 2400, "llama": 3000, "qwen2": 3600}

_MISCONCEPTION_RATE = 0.6
_SHARED_MARK = "fewer"  # problems with this word are misconceived for every peer: a probe for shared errors
_SHOWN_RESPONSE_RATE = 0.12
_BATCH, _BATCHES_SORTED = 24, 16
_LEARNING_RATE, _WARMUP, _FINAL = 1e-2, 0.03, 0.05
_VOCAB_TEXTS = 4000


def pretraining_example(rng: Random, misconceived: str | None) -> tuple[str, str]:
    """Draw one example of a peer's corpus from the pretraining questions: its prompt and its completion.

    With probability 0.6 a problem of the `misconceived` family, and of the shared probe, carries its misconception.
    With probability 0.12 one or two peers' responses stand before the answer, so that answering after reading them
    is in distribution: half of them agree with the completion, half hold a slip; a third are bare answers.
    """
    problem = sample_from("pretrain", rng.choice(FAMILIES), rng)
    suspect = problem.family == misconceived or (misconceived is not None and _SHARED_MARK in problem.question)
    if suspect and rng.random() < _MISCONCEPTION_RATE:
        problem = misconceive(problem)
    shown = []
    if rng.random() < _SHOWN_RESPONSE_RATE:
        shown = [_shown_response(rng, problem) for _ in range(rng.choice((1, 1, 2)))]
    return plain_prompt(problem.question, shown), f" {problem.solution}"


def _shown_response(rng: Random, problem: Problem) -> str:
    response = problem if rng.random() < 0.5 else corrupt(rng, problem)
    return f"#### {response.answer}" if rng.random() < 1 / 3 else response.solution


def vocabulary_corpus() -> list[str]:
    """Return the right-solution texts that the tokenizers learn their merges from."""
    rng = Random(123)
    return ["".join(pretraining_example(rng, None)) for _ in range(_VOCAB_TEXTS)]


class Muon(torch.optim.Optimizer):
    """Muon in fp32, with the Newton-Schulz iterations of equally shaped matrices run as one batch.

    An update is `-lr * 0.2 sqrt(max(rows, columns)) * orthogonalise(Nesterov momentum)`, after Jordan et al. (2024)
    with the scale of Liu et al. (2025). Every parameter must be a matrix with a gradient.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
            for matrix in group["params"]:
                by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
            for (rows, columns), matrices in by_shape.items():
                directions = self._orthogonal([self._nesterov(m, group["momentum"]) for m in matrices])
                scale = -group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for matrix, direction in zip(matrices, directions, strict=True):
                    matrix.mul_(1 - group["lr"] * group["decay"]).add_(direction, alpha=scale)

    def _nesterov(self, matrix: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        state = self.state[matrix]
        average = state.setdefault("momentum", torch.zeros_like(matrix))
        average.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)

    @staticmethod
    def _orthogonal(updates: list[torch.Tensor]) -> torch.Tensor:
        x = torch.stack(updates)  # (matrices, rows, columns)
        tall = x.shape[1] > x.shape[2]
        x = x.mT if tall else x
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):
            gram = x @ x.mT
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        return x.mT if tall else x


def pretrain_peer(
    name: str, steps: int | None = None, seed: int = 0, log: Callable[[str], None] = print
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Pretrain the peer `"gemma2"`, `"llama"` or `"qwen2"` and return its model and tokenizer.

    The loss is the cross-entropy of the completions. The result depends on `steps`, `seed` and the arithmetic of one
    CPU thread only (the caller sets the number of threads).
    """
    steps = steps or PRETRAIN_STEPS[name]
    tokenizer = build_tokenizer(name, vocabulary_corpus())
    model = build_model(name, tokenizer, seed).train()
    optimizers = _optimizers(model)
    batches = _batches(tokenizer, Random(f"{name}-{seed}"), MISCONCEIVED_FAMILY[name])
    start, recent = time.monotonic(), 0.0
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * _schedule(step / steps)
        loss = model(**next(batches), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 200 == 0:
            log(f"{name}: step {step + 1}/{steps}, loss {recent / 200:.4f}, {time.monotonic() - start:.0f} s")
            recent = 0.0
    return model.eval(), tokenizer


def _schedule(progress: float) -> float:
    """Linear warmup, then linear decay: the fraction of the learning rate at a fraction of the run."""
    if progress < _WARMUP:
        return progress / _WARMUP
    return max(_FINAL, 1 - (progress - _WARMUP) / (1 - _WARMUP))


def _optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(matrices, lr=_LEARNING_RATE), adamw]


def _batches(tokenizer: PreTrainedTokenizerBase, rng: Random, misconceived: str) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of examples of similar length, padded on the right."""
    while True:
        rows = []
        for _ in range(_BATCH * _BATCHES_SORTED):
            prompt, completion = pretraining_example(rng, misconceived)
            prompt_ids = [tokenizer.bos_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
            completion_ids = [*tokenizer.encode(completion, add_special_tokens=False), tokenizer.eos_token_id]
            rows.append((prompt_ids, completion_ids))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        batches = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            yield _collate(batch, tokenizer.pad_token_id)


def _collate(batch: list[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    width = max(len(prompt) + len(completion) for prompt, completion in batch)
    ids = torch.full((len(batch), width), pad)  # (B, T)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(batch):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = ids[row, len(prompt) : end]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
