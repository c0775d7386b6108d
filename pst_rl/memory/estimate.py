"""How much memory a run needs, before it is started: of each peer, and of one process.

All peers are resident on every device, so weights, adapters, optimizer states and reference models add up. The
phases of a step follow each other, and in each the peers take turns, so only the largest of them counts:

    total = resident + max(generation, scoring, update)

Exact: weights, NF4 with its constants, LoRA adapters, gradients, AdamW states, keys and values. Approximate: what
autograd keeps of a forward pass, and work space. Not counted: the CUDA context (about half a GiB), fragmentation,
DDP's buckets. docs/memory.md derives the formulas and compares them with measurements. All figures are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pst_rl.memory import formulas as parts
from pst_rl.memory.model_shape import Linear, ModelShape
from pst_rl.memory.run_shape import RunShape

__all__ = ["Linear", "MemoryEstimate", "ModelShape", "PeerMemory", "RunShape", "as_json", "estimate"]


@dataclass(frozen=True)
class PeerMemory:
    """Bytes of one peer. The first four stay for the whole run, gradients from its backward pass to the optimizer's
    step, the others while it is this peer's turn: keys and values, the rest of sampling, PMI scoring, activations that
    wait for the backward pass, what that needs inside a block, and the loss.
    """

    name: str
    weights: int
    adapters: int
    optimizer: int
    reference: int
    gradients: int
    kv_cache: int
    sampling: int
    scoring: int
    activations: int
    backward: int
    loss: int

    @property
    def resident(self) -> int:
        return self.weights + self.adapters + self.optimizer + self.reference

    def turn(self, accumulates: bool) -> int:
        """The peak of a forward and backward pass, with this peer's own gradients.

        Its gradients appear while its activations go, so that only the larger of them counts, unless gradients of an
        earlier micro-batch are there already.
        """
        work = self.activations + max(self.backward, self.loss)
        return self.gradients + work if accumulates else max(self.gradients + self.backward, work)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process, with those of its peers."""

    peers: tuple[PeerMemory, ...]
    resident: int
    generation: int
    scoring: int
    update: int

    @property
    def total(self) -> int:
        """The peak: what is resident and the largest phase."""
        return self.resident + max(self.phases.values())

    @property
    def phases(self) -> dict[str, int]:
        """What each phase of a step needs beyond what is resident."""
        return {"generation": self.generation, "scoring": self.scoring, "update": self.update}

    @property
    def peak(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=self.phases.__getitem__)


def estimate(shapes: Sequence[ModelShape], settings: RunShape) -> MemoryEstimate:
    """The memory of one process that trains these peers with these settings; module docstring for what is counted.

    Raises:
        ValueError: No peers, or LoRA targets that a peer does not have.
    """
    if not shapes:
        raise ValueError("Name at least one peer.")
    peers = tuple(_peer(shape, settings) for shape in shapes)
    caches = [peer.kv_cache for peer in peers]
    kept = sum(caches) if settings.keep_caches else 0
    generation = max(peer.sampling + (0 if kept else peer.kv_cache) for peer in peers) + kept
    return MemoryEstimate(
        peers=peers,
        resident=sum(peer.resident for peer in peers),
        generation=generation,
        scoring=max(peer.scoring for peer in peers) + kept,
        update=max(
            peer.turn(settings.accumulates) + sum(other.gradients for other in peers if other is not peer)
            for peer in peers
        ),
    )


def _peer(shape: ModelShape, settings: RunShape) -> PeerMemory:
    run = settings.with_adapter(shape.adapter)
    trained, width = parts.trained_tensors(shape, run)
    adapters = 4 * sum(trained) if run.lora_rank is not None else 0
    return PeerMemory(
        name=shape.name,
        weights=parts.weight_bytes(shape, run),
        adapters=adapters,
        optimizer=parts.optimizer_bytes(trained, width, run.optimizer),
        reference=parts.weight_bytes(shape, run) if run.reference and run.lora_rank is None else 0,
        gradients=width * sum(trained),
        kv_cache=parts.cache_bytes(shape, run),
        sampling=parts.sampling_bytes(shape, run),
        scoring=parts.scoring_bytes(shape, run) if run.pmi else 0,
        activations=parts.activation_bytes(shape, run),
        backward=parts.backward_bytes(shape, run),
        loss=parts.loss_bytes(shape, run),
    )


def as_json(estimated: MemoryEstimate) -> dict[str, Any]:
    """All parts in bytes, as JSON values."""
    return {
        "total": estimated.total,
        "peak": estimated.peak,
        "resident": estimated.resident,
        "phases": estimated.phases,
        "peers": [dict(vars(peer)) for peer in estimated.peers],
    }
