"""What the self-test of a peer has found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class SelfTest:
    """What the self-test of a peer (`pst_rl.peers.self_test`) found and did.

    Attributes:
        nats: For each way of computing it, the largest difference from rows read alone: of the log-probability of a
            row's 6 to 8 tokens, or, for sampling, of the tokens it takes greedily from the most likely ones.
        positions: Whether the loss passes position ids; TRL passes none.
        plain_head: Whether the loss goes through the model's own head instead of TRL's fused one.
        aside: Levers of speed (`"shared_prefill"`, `"shared_prompts"`, `"from_cache"`) and the `"router_aux_loss"`
            that are off for this peer, and why.
    """

    nats: dict[str, float] = field(default_factory=dict)
    positions: bool = False
    plain_head: bool = False
    aside: dict[str, str] = field(default_factory=dict)
