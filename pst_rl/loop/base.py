"""What the parts of the joint trainer share: its peers, and what is known of them."""

from __future__ import annotations

from typing import Any

from trl.trainer.base_trainer import _BaseTrainer

from pst_rl.config import PSTConfig
from pst_rl.loop.faults import FaultMonitor
from pst_rl.loop.preemption import Preemption
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.peers.spec import PeerSpec


class PeersTrainer(_BaseTrainer):
    """A trainer of several peers, without a loop: `pst_rl.loop.joint_trainer` makes the peers and runs it.

    Attributes:
        specs, peers: By name.
        engines: The peers in order.
        faults: Who may be updated.
        preemption: What SIGTERM and Ctrl-C do.
        dataset_name: For the model cards.
    """

    args: PSTConfig
    train_dataset: Any  # a data set of `datasets`, which has no types
    eval_dataset: Any
    specs: dict[str, PeerSpec]
    peers: dict[str, PeerTrainer]
    engines: list[PeerTrainer]
    faults: FaultMonitor
    preemption: Preemption
    dataset_name: str | None
    _step: int

    @property
    def trained(self) -> dict[str, PeerTrainer]:
        """The peers that are updated and saved."""
        return {name: peer for name, peer in self.peers.items() if self.specs[name].trainable}

    @property
    def micro_steps_per_generation(self) -> int:
        """Micro-steps that share one generation batch."""
        return self.args.steps_per_generation * self.args.num_iterations

    def _sync_state(self) -> None:
        for peer in self.engines:
            peer.state.global_step, peer.state.epoch = self.state.global_step, self.state.epoch
            peer.state.max_steps = self.state.max_steps
