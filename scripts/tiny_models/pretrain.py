"""Pretraining of a tiny model on its corpus, with a small batched Muon."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pst_rl.tiny.corpus import Example, pretraining_example, vocabulary_corpus
from pst_rl.tiny.discussion import learner_example, learner_vocabulary
from tiny_models.models import build_model
from tiny_models.tokenizers import build_tokenizer


@dataclass(frozen=True)
class Recipe:
    """How a tiny model is made: architecture and kind of tokenizer, corpus, and what its tokenizer learns from."""

    architecture: str
    example: Callable[[Random], Example]
    steps: int
    vocabulary: Callable[[], list[str]] = vocabulary_corpus


def _peer(name: str, misconceived: str, steps: int) -> Recipe:
    return Recipe(name, lambda rng: pretraining_example(rng, (misconceived,)), steps)


RECIPES = {
    "gemma2": _peer("gemma2", "linear", 2400),
    "llama": _peer("llama", "arithmetic", 3000),
    "qwen2": _peer("qwen2", "word", 3600),
    "learner": Recipe("llama", learner_example, 1800, learner_vocabulary),
}

_BATCH, _BATCHES_SORTED = 24, 16
_IGNORED = -100  # label that the loss leaves out
_LEARNING_RATE, _WARMUP, _FINAL = 1e-2, 0.03, 0.05


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
    """Pretrain the peer `"gemma2"`, `"llama"` or `"qwen2"`, or the `"learner"`; return its model and tokenizer.

    The loss is the cross-entropy of the learned responses. The result depends on `steps`, `seed` and the arithmetic of
    one CPU thread only (the caller sets the number of threads).
    """
    recipe = RECIPES[name]
    steps = steps or recipe.steps
    tokenizer = build_tokenizer(recipe.architecture, recipe.vocabulary())
    model = build_model(recipe.architecture, tokenizer, seed)
    train(model, tokenizer, recipe.example, steps, Random(f"{name}-{seed}"), log=lambda line: log(f"{name}: {line}"))
    return model, tokenizer


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    example: Callable[[Random], Example],
    steps: int,
    rng: Random,
    learning_rate: float = _LEARNING_RATE,
    log: Callable[[str], None] = print,
) -> None:
    """Train a tiny model on a corpus, from wherever it stands, and leave it in evaluation mode."""
    fit(model, _batches(tokenizer, rng, example), steps, learning_rate, log)


def fit(
    model: torch.nn.Module,
    batches: Iterator[dict[str, torch.Tensor]],
    steps: int,
    learning_rate: float = _LEARNING_RATE,
    log: Callable[[str], None] = print,
) -> None:
    """Train a module on batches, one a step, from wherever it stands, and leave it in evaluation mode."""
    model.train()
    optimizers = _optimizers(model)
    start, recent = time.monotonic(), 0.0
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule(step / steps)
        loss = model(**next(batches), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 200 == 0:
            log(f"step {step + 1}/{steps}, loss {recent / 200:.4f}, {time.monotonic() - start:.0f} s")
            recent = 0.0
    model.eval()


def _schedule(progress: float) -> float:
    """Linear warmup, then linear decay: the fraction of the learning rate at a fraction of the run."""
    if progress < _WARMUP:
        return progress / _WARMUP
    return max(_FINAL, 1 - (progress - _WARMUP) / (1 - _WARMUP))


def _optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(matrices, lr=_LEARNING_RATE), adamw]


def _batches(
    tokenizer: PreTrainedTokenizerBase, rng: Random, example: Callable[[Random], Example]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of examples of similar length, padded on the right."""
    while True:
        rows = []
        for _ in range(_BATCH * _BATCHES_SORTED):
            rows.append(encode(tokenizer, example(rng)))
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            yield _collate(batch, tokenizer.pad_token_id)


def encode(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[list[int], list[int]]:
    """Return an example's token ids, and its labels: -100 where nothing is learned.

    Every piece is encoded by itself, as a rollout appends remarks to the tokens of an answer.
    """
    ids, labels = [tokenizer.bos_token_id], [_IGNORED]
    for said in example:
        piece = tokenizer.encode(said.text, add_special_tokens=False) + [tokenizer.eos_token_id] * said.own
        ids += piece
        labels += piece if said.learned else [_IGNORED] * len(piece)
    return ids, labels


def _collate(batch: list[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in batch)
    padded = torch.full((len(batch), width), pad)  # (B, T)
    mask = torch.zeros_like(padded)
    labels = torch.full_like(padded, _IGNORED)
    for row, (ids, targets) in enumerate(batch):
        padded[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        labels[row, : len(ids)] = torch.tensor(targets)
    return {"input_ids": padded, "attention_mask": mask, "labels": labels}
