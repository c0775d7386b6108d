"""Steps that round to nothing: weights in half precision cannot take small ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch

LOST = 0.1  # the share of weights from which on a peer is warned of: our choice
SAMPLE = 2**20  # weights that are looked at in one tensor, evenly spaced
OFFSET, EXPONENTS = 160, 320  # of all numbers in half precision


def warning_of_lost_steps(name: str, parameters: Iterable[torch.nn.Parameter], rate: float) -> str | None:
    """What to tell the user of a peer whose weights are in half precision and too large for its learning rate.

    A step of AdamW moves each weight by about the learning rate at most. Weights in bfloat16 have 8 significant bits:
    one in [2^e, 2^(e+1)) moves only if the step is more than half of the distance to the next number,

        lost        if  rate < 2^(e-8)              in bfloat16 (float16: 2^(e-11))

    and otherwise stays where it is, however many such steps follow, since each is rounded alone.

    Args:
        name: The peer.
        parameters: Its weights; those that are not trained or are in float32 are no matter.
        rate: Its highest learning rate.

    Returns:
        `None` where less than a tenth of the trained weights in half precision are lost.
    """
    trained = [p for p in parameters if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)]
    if not trained:
        return None
    dtype = max((p.dtype for p in trained), key=lambda dtype: torch.finfo(dtype).eps)
    counts = sum((_exponents(p) for p in trained), torch.zeros(EXPONENTS, dtype=torch.float64))
    half_steps = torch.finfo(dtype).eps * torch.pow(2.0, torch.arange(EXPONENTS, dtype=torch.float64) - OFFSET - 1)
    total = sum(p.numel() for p in trained)  # with zeros, which any step moves
    lost = counts[half_steps > rate].sum().item() / total
    if lost < LOST:
        return None
    above = counts.flip(0).cumsum(0).flip(0) / total  # the share of weights with this exponent or a larger one
    enough = half_steps[above >= LOST].max().item()
    kind = str(dtype).removeprefix("torch.")
    return (
        f"Peer {name!r} trains weights in {kind} at a learning rate of {rate:g}: {100 * lost:.1f} % of them are so "
        f"large that a step of AdamW, about the rate, is less than half of the distance to the next {kind} number and "
        "rounds to nothing. Load it in float32 (PeerSpec(dtype='float32')) and train with bf16=True, which only "
        "computes in bfloat16; or train LoRA adapters, which are kept in float32; or use a learning rate of about "
        f"{enough:.2g} or more."
    )


def _exponents(parameter: torch.nn.Parameter) -> torch.Tensor:
    """How many of a tensor's weights lie in [2^e, 2^(e+1)), by e + OFFSET; of a large one estimated."""
    flat = parameter.detach().flatten()
    every = max(1, flat.numel() // SAMPLE)
    seen = flat[::every].float().cpu()
    exponents = torch.frexp(seen[seen != 0.0]).exponent.long() - 1  # a mantissa in [1/2, 1) belongs to it
    counts = torch.bincount(exponents + OFFSET, minlength=EXPONENTS)
    return counts.double() * (flat.numel() / max(1, seen.numel()))
