"""Three short rows of random tokens, and the ways in which a peer computes them (the self-test's measurements)."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property

import numpy as np
import torch
from transformers import GenerationConfig
from trl.models.utils import disable_gradient_checkpointing

from pst_rl.peers.generation import LiveCache, sample
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.scoring.cached_logprobs import CachedPair, sum_logprobs_from_cache
from pst_rl.scoring.logprobs import sum_logprobs

TARGET = 8  # tokens of the first row; each has one less than the row before
PROMPTS = (24, 11)  # tokens; the third row has the first row's prompt
SAMPLED = 3  # tokens


class ProbeRows:
    """The rows of one peer; as a context, the peer in eval mode, and as it was on leaving.

    Every measurement is in nats: the largest difference, over the rows, between log p(target | prompt) computed in one
    way and computed from the row alone, without padding, mask, position ids or cache.

    Attributes:
        exact: Whether the weights are float32; then autocast is off inside.
        base: The causal language model, without a LoRA around it.
        bases: It, and that of the reference model if there is one.
        rows: (prompt ids, target ids) of each row.
    """

    def __init__(self, engine: PeerTrainer):
        self.engine, self.model = engine, engine.model
        self.bases = [_base(model) for model in (engine.model, engine.ref_model) if model is not None]
        self.base = self.bases[0]
        self.device = engine.accelerator.device
        self.exact = all(p.dtype == torch.float32 for p in self.model.parameters())
        generator = torch.Generator().manual_seed(0)
        size = min(embedded_tokens(engine), len(engine._tokenizer))
        special = {*engine._tokenizer.all_special_ids, *engine.eos_token_ids}
        drawn = torch.randint(0, size, (1024,), generator=generator).tolist()
        ids = iter([token for token in drawn if token not in special])
        take = lambda count: [next(ids) for _ in range(count)]  # noqa: E731
        prompts = [take(length) for length in PROMPTS]
        rows = enumerate((*prompts, prompts[0]))
        self.rows = [(prompt, take(TARGET - row)) for row, prompt in rows]  # padded on both sides
        self._filler = take(len(self.rows) * (max(PROMPTS) + TARGET))
        self._live: LiveCache | None = None
        self._sampled: list[list[int]] = []
        self._stack = ExitStack()

    def __enter__(self) -> ProbeRows:
        self._stack.enter_context(_undisturbed(self.engine, self.exact))
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()
        self._live = None

    # ---- the truth ----

    @cached_property
    def alone(self) -> list[torch.Tensor]:
        """log p of every next token of each row, read alone at temperature 1; (W, V) each."""
        return [self._alone(prompt + target) for prompt, target in self.rows]

    @torch.no_grad()
    def _alone(self, ids: list[int]) -> torch.Tensor:
        with self.engine.accelerator.autocast():
            logits = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits
        return logits[0].float().log_softmax(-1)

    def _sums(self, tables: list[torch.Tensor], temperature: float = 1.0) -> list[float]:
        """log p(target | prompt) of each row, from log-probabilities of all next tokens."""
        sums = []
        for (prompt, target), table in zip(self.rows, tables, strict=True):
            own = (table[len(prompt) - 1 : -1] / temperature).log_softmax(-1)
            sums.append(own[range(len(target)), target].sum().item())
        return sums

    @cached_property
    def rounding(self) -> float:
        """What one more rounding of every layer's output does to a row, nats: each output x becomes x (1 + e u), u
        uniform in +-1/2 and e the spacing of its dtype; the largest of three draws of every row.
        """

        want, largest = self._sums(self.alone), 0.0
        with self._rounded_again():
            for _ in range(3):
                noisy = self._sums([self._alone(prompt + target) for prompt, target in self.rows])
                largest = max(largest, _worst(noisy, want))
        return largest

    @contextmanager
    def _rounded_again(self) -> Iterator[None]:
        """Every layer's output is rounded once more, as `rounding` says."""

        def round_again(module, args, output):
            if not isinstance(output, torch.Tensor) or not output.is_floating_point():
                return output
            spacing = torch.finfo(output.dtype).eps
            if output.is_cuda and output.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32:
                spacing = 2.0**-10
            noise = spacing * (torch.rand(output.shape, device=output.device) - 0.5)
            return (output.float() * (1 + noise)).to(output.dtype)

        leaves = [m for m in self.base.modules() if not [*m.children()] and [*m.parameters()]]
        hooks = [leaf.register_forward_hook(round_again) for leaf in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    # ---- the ways ----

    def causality(self) -> float:
        """The first row's prompt with and without what follows; the largest difference of a log-probability of
        the tokens that were there.
        """
        ids = [*self.rows[0][0], *self.rows[0][1]]
        kept = len(self.rows[0][0])
        full, part = self.alone[0][: kept - 1], self._alone(ids[:kept])[: kept - 1]
        at = range(kept - 1), ids[1:kept]
        return _finite((full[at] - part[at]).abs().max().item())

    def scorer(self) -> float:
        """By `sum_logprobs`, as PMI and rewards ask."""
        return _worst(sum_logprobs(self.engine, self.rows, len(self.rows)), self._sums(self.alone))

    @torch.no_grad()
    def loss(self, auxiliary: bool = False, shared: bool = False) -> float:
        """By the loss, at the sampling temperature; with each distinct prompt read once if `shared`."""
        return _worst(self._loss(auxiliary, shared).tolist(), self._sums(self.alone, self.engine.temperature))

    def _loss(self, auxiliary: bool, shared: bool) -> torch.Tensor:
        """log p(target | prompt) of each row by TRL's method, (B,).

        Ordinary tokens stand at masked places: a padding token may be embedded as 0, and what a layer makes of it be 0
        until its biases are trained.
        """
        engine, width = self.engine, max(PROMPTS)
        ids = torch.tensor(self._filler).view(len(self.rows), width + TARGET).clone()
        mask = torch.zeros_like(ids)
        for row, (prompt, target) in enumerate(self.rows):
            ids[row, width - len(prompt) : width + len(target)] = torch.tensor(prompt + target)
            mask[row, width - len(prompt) : width + len(target)] = 1
        saved, engine.args.shared_prompts = engine.args.shared_prompts, shared
        try:
            logps, _, _ = engine._get_per_token_logps_and_entropies(
                self.model,
                ids.to(self.device),
                mask.to(self.device),
                TARGET,
                compute_entropy=True,
                compute_aux_loss=auxiliary,
            )
        finally:
            engine.args.shared_prompts = saved
        return (logps.float() * mask[:, width:].to(logps.device)).sum(1)

    def sampling(self, shared: bool) -> float:
        """What greedily sampled tokens lack in log-probability, read alone, to the most likely ones; the largest."""
        prompts = [list(prompt) for prompt, _ in self.rows]
        with _greedy(self.engine, self.bases[:1]):
            if shared:
                self._sampled, self._live = sample(self.engine, prompts)
            else:
                self._sampled, _ = self.engine._generate_single_turn(prompts, None, {}, num_generations=1)
        worst = 0.0
        for prompt, tokens in zip(prompts, self._sampled, strict=True):
            table = self._alone(prompt + tokens)[len(prompt) - 1 : -1]
            worst = max(worst, (table.max(-1).values - table[range(len(tokens)), tokens]).max().item())
        return _finite(worst)

    def from_cache(self) -> float:
        """By `sum_logprobs_from_cache`, after `sampling(shared=True)`."""
        assert self._live is not None
        contexts = [prompt + tokens[:2] for (prompt, _), tokens in zip(self.rows, self._sampled, strict=True)]
        pairs = [CachedPair(self._live, row, context, self.rows[row][1]) for row, context in enumerate(contexts)]
        found = sum_logprobs_from_cache(self.engine, pairs, len(pairs))
        want = []
        for context, (_, target) in zip(contexts, self.rows, strict=True):
            table = self._alone(context + target)[len(context) - 1 : -1]
            want.append(table[range(len(target)), target].sum().item())
        return _worst(found, want)

    # ---- gradients ----

    def trains(self) -> None:
        """One backward pass of the loss in training mode.

        Raises:
            ArithmeticError: Its gradient is no number; besides what the pass itself raises.
        """
        self.model.train()
        try:
            gradient = self._gradient(shared=self.engine.args.shared_prompts)
        finally:
            self.model.eval()
        if not bool(gradient.isfinite().all()):
            raise ArithmeticError("its gradient is not finite")

    def compare_gradients(self, limit: float, roundings: float) -> None:
        """The gradient of the loss with shared prompts against that without.

        Raises:
            ArithmeticError: They differ by more than `limit` of the largest element and, where weights are not in
                float32, by more than `roundings` times what one more rounding of every layer's output does.
        """
        want = self._gradient(shared=False)
        size = want.abs().max().clamp(min=1e-12)
        off = lambda found: ((found - want).abs().max() / size).item()  # noqa: E731
        error = off(self._gradient(shared=True))
        if error <= limit:
            return
        if not self.exact:
            with self._rounded_again():
                if error <= roundings * off(self._gradient(shared=False)):
                    return
        raise ArithmeticError(f"its gradient is off by {error:.0%}")

    def _gradient(self, shared: bool) -> torch.Tensor:
        """Of the log-probabilities, by a shift of all token embeddings, (H,): no parameter's gradient is touched."""
        embeddings = self.model.get_input_embeddings()
        assert embeddings is not None
        shift: list[torch.Tensor] = []

        def move(module, args, output):
            if not shift:
                shift.append(torch.zeros(output.shape[-1:], device=output.device, requires_grad=True))
            return output + shift[0].to(output.dtype)

        hook = embeddings.register_forward_hook(move)
        try:
            with torch.enable_grad():
                total = self._loss(auxiliary=self.engine.aux_loss_enabled, shared=shared).sum()
            return torch.autograd.grad(total, shift)[0]
        finally:
            hook.remove()


def embedded_tokens(engine: PeerTrainer) -> int:
    """Tokens that a peer's model has an embedding for."""
    embeddings = engine.model.get_input_embeddings()
    assert isinstance(embeddings.weight, torch.Tensor)
    return embeddings.weight.size(0)


def _base(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _worst(found: list[float], want: list[float]) -> float:
    return max(_finite(abs(a - b)) for a, b in zip(found, want, strict=True))


def _finite(value: float) -> float:
    return value if value < float("inf") else float("inf")  # not a number is as far off as can be


@contextmanager
def _greedy(engine: PeerTrainer, bases: list) -> Iterator[None]:
    """A few greedy tokens and nothing of the run's or the model's own generation settings."""
    settings = {"max_new_tokens": SAMPLED, "do_sample": False, "pad_token_id": engine._tokenizer.pad_token_id}
    bare = GenerationConfig(**settings, eos_token_id=engine.eos_token_ids, disable_compile=True)
    holders = [*bases, *([engine.model] if "generation_config" in vars(engine.model) else [])]
    saved = [holder.generation_config for holder in holders]
    engine_saved = engine.generation_config, engine.generation_kwargs
    engine.generation_config, engine.generation_kwargs = bare, settings
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        engine.generation_config, engine.generation_kwargs = engine_saved
        for holder, config in zip(holders, saved, strict=True):
            holder.generation_config = config


@contextmanager
def _undisturbed(engine: PeerTrainer, exact: bool) -> Iterator[None]:
    """Eval mode; afterwards modes, token counts and every random state are what they were."""
    modes = {module: module.training for module in engine.model.modules()}
    tokens, amp = copy.copy(engine.tokens), engine.accelerator.native_amp
    states = random.getstate(), np.random.get_state()
    devices = [engine.accelerator.device] if engine.accelerator.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        disable_gradient_checkpointing(engine.model, engine.args.gradient_checkpointing_kwargs),
    ):
        engine.model.eval()
        engine.accelerator.native_amp = amp and not exact
        try:
            yield
        finally:
            engine.accelerator.native_amp = amp
            for module, training in modes.items():
                module.training = training
            engine.tokens.clear()
            engine.tokens.update(tokens)
            random.setstate(states[0])
            np.random.set_state(states[1])
