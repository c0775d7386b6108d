"""One Hugging Face training loop around several peers: wrapping, optimizer, clipping, checkpoints, logs, Hub.

Nothing here knows about questions, answers or rewards; that is `pst_rl.trainer`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch import nn
from trl.trainer.base_trainer import _BaseTrainer
from trl.trainer.utils import identity

from pst_rl.cards import write_peer_card
from pst_rl.config import PSTConfig
from pst_rl.hub import PeerRepositories, check_hub_strategy, repository_arguments
from pst_rl.peer_trainer import PAPER, PeerTrainer
from pst_rl.peers import PeerSpec
from pst_rl.placement import check_launch
from pst_rl.rewards import Stateful

if TYPE_CHECKING:
    from pst_rl.report import RunResults


class Peers(nn.Module):
    """What the training loop sees as its model: a container of the raw, or the DDP-wrapped, peers, by name.

    Not a `ModuleDict`, which refuses names with a dot ("qwen2.5-1.5b") and those of its own methods.
    """

    accepts_loss_kwargs = False

    def __init__(self, models: dict[str, nn.Module]):
        super().__init__()
        self.names = list(models)
        self.models = nn.ModuleList(models.values())

    def __getitem__(self, name: str) -> nn.Module:
        return self.models[self.names.index(name)]

    def items(self) -> list[tuple[str, nn.Module]]:
        """(name, model) of every peer."""
        return list(zip(self.names, self.models, strict=True))

    @property
    def config(self):
        """The first peer's configuration; the loop only reads telemetry fields from it."""
        return self.models[0].config

    def activation_checkpointing_enable(self, **kwargs):
        for model in self.models:
            model.activation_checkpointing_enable(**kwargs)

    @contextlib.contextmanager
    def no_sync(self):
        """Gradient accumulation under DDP: no peer synchronises inside."""
        with contextlib.ExitStack() as stack:
            for model in self.models:
                if isinstance(model, nn.parallel.DistributedDataParallel):
                    stack.enter_context(model.no_sync())
            yield


class JointTrainer(PeerRepositories, _BaseTrainer):
    """Owns the loop, optimizer, schedule, callbacks, checkpoints and logs of several [`PeerTrainer`]s."""

    loss_is_scaled_for_ga = True
    _tag_names = ["trl", "pst-rl", "pst"]
    _name = "PST"
    _paper = PAPER

    def __init__(
        self,
        specs: dict[str, PeerSpec],
        args: PSTConfig,
        reward_names: list[str],
        train_dataset,
        eval_dataset,
        **kwargs,
    ):
        check_hub_strategy(args)
        check_launch(args)
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False  # transformers would search every peer's graph for them
        self.specs = specs
        self.results: RunResults | None = None  # set it once they are measured: the model cards show them
        self.dataset_name: str | None = None  # for the model cards; else the name in `results`
        peer_args = repository_arguments(args, specs)
        self.seconds: dict[str, float] = defaultdict(float)
        self.peers: dict[str, PeerTrainer] = {}
        for name, spec in specs.items():
            set_seed(args.seed)  # each peer's LoRA starts from the same seed, whoever its neighbours are
            self.peers[name] = PeerTrainer(spec, peer_args, reward_names, train_dataset)
        self.engines = list(self.peers.values())
        super().__init__(
            model=Peers({name: peer.model for name, peer in self.peers.items()}),
            args=args,
            data_collator=identity,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        for peer in self.engines:
            peer.accelerator = self.accelerator  # one gradient scaler for all
        self._step = 0  # micro-steps done, like GRPOTrainer's own
        set_seed(args.seed, device_specific=True)  # as GRPOTrainer does: processes must not sample alike

    @property
    def trained(self) -> dict[str, PeerTrainer]:
        """The peers that are updated and saved."""
        return {name: peer for name, peer in self.peers.items() if self.specs[name].trainable}

    @property
    def micro_steps_per_generation(self) -> int:
        """Micro-steps that share one generation batch."""
        return self.args.steps_per_generation * self.args.num_iterations

    # ---- stateful parts a subclass wants in its checkpoints ----

    def stateful_parts(self) -> dict[str, Stateful]:
        """Named objects whose `state_dict` is saved with each checkpoint."""
        return {}

    # ---- data ----

    def get_train_dataloader(self):
        return self.engines[0].get_train_dataloader()  # GRPO's repeated, group-aligned batches

    def num_examples(self, dataloader) -> int:
        return len(self.train_dataset)

    # ---- wrapping, optimizer, clipping ----

    def _move_model_to_device(self, model, device):
        pass  # each peer has placed its own model

    def _wrap_model(self, model, training=True, dataloader=None):
        if not training or model is not self.model:
            return model
        for name, peer in self.peers.items():
            # One DDP per peer: a single wrapper around all of them would leave gradients unsynchronised.
            peer.model_wrapped = self.accelerator.prepare_model(peer.model) if name in self.trained else peer.model
        return Peers({name: peer.model_wrapped for name, peer in self.peers.items()})

    def create_optimizer(self, model=None):
        """One optimizer; a group per peer and decay setting, so that a peer may have its own learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        groups = []
        for name, spec in self.specs.items():
            decays = set(self.get_decay_parameter_names(self.model[name]))
            parameters = [(n, p) for n, p in self.model[name].named_parameters() if p.requires_grad]
            for decay in (True, False):
                chosen = [p for n, p in parameters if (n in decays) is decay]
                group = {"params": chosen, "weight_decay": self.args.weight_decay if decay else 0.0}
                if spec.learning_rate is not None:
                    group["lr"] = spec.learning_rate
                if chosen:
                    groups.append(group)
        if self.optimizer_cls_and_kwargs is not None:
            factory, kwargs = self.optimizer_cls_and_kwargs
        else:
            factory, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = factory(groups, **kwargs)
        return self.optimizer

    def _clip_grad_norm(self, model):
        self.accelerator.unscale_gradients()  # once; clipping through accelerate would unscale fp16 once per peer
        norms = {n: nn.utils.clip_grad_norm_(m.parameters(), self.args.max_grad_norm) for n, m in model.items()}
        for name, norm in norms.items():
            if name in self.trained:
                self.peers[name]._metrics["train"]["grad_norm"].append(norm.item())
        return torch.stack([n.to(self.args.device) for n in norms.values()]).max()

    # ---- checkpoints ----

    def _sync_state(self):
        for peer in self.engines:
            peer.state.global_step, peer.state.epoch = self.state.global_step, self.state.epoch
            peer.state.max_steps = self.state.max_steps

    def _save(self, output_dir=None, state_dict=None):
        self._sync_state()
        for name, peer in self.trained.items():
            folder = os.path.join(output_dir or self.args.output_dir, name)
            peer._save(folder)
            self.write_card(name, folder)

    def write_card(self, name: str, folder: str | os.PathLike) -> None:
        """Writes one peer's model card, `README.md`, into a folder."""
        if self.is_world_process_zero():
            write_peer_card(self, name, Path(folder))

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        folder = os.path.join(self._get_output_dir(trial=trial), f"checkpoint-{self.state.global_step}")
        if not os.path.isdir(folder):  # rotated away at once
            return
        inside = self._step % self.micro_steps_per_generation != 0
        torch.save(
            {
                "processes": self.accelerator.num_processes,
                "parts": {name: part.state_dict() for name, part in self.stateful_parts().items()},
                "tokens_seen": {name: peer.state.num_input_tokens_seen for name, peer in self.peers.items()},
                "entropy": {n: (p.entropy_coef, p._last_world_entropy) for n, p in self.peers.items()},
                # Saved between two generations: the batch in use is kept, so that a resume needs no new rollout.
                "buffers": {n: p._buffered_inputs for n, p in self.peers.items()} if inside else {},
            },
            os.path.join(folder, self._joint_state_name()),
        )

    def _joint_state_name(self) -> str:
        return f"joint_state_{self.accelerator.process_index}.pt"

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        for name, peer in self.trained.items():
            peer._load_from_checkpoint(os.path.join(resume_from_checkpoint, name))

    def _load_best_model(self):
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = os.path.join(checkpoint, self._joint_state_name())
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{path} is missing: the checkpoint is incomplete, or was written by another number of processes. "
                "Resume from another checkpoint, or with the number of processes that wrote it."
            )
        with open(os.path.join(checkpoint, "trainer_state.json")) as file:
            self._step = json.load(file)["global_step"] * self.args.gradient_accumulation_steps
        state = torch.load(path, map_location=self.args.device, weights_only=True)
        running = self.accelerator.num_processes
        if (written := state.get("processes", running)) != running:  # older checkpoints do not say
            raise ValueError(
                f"{checkpoint} was written by {written} process(es), but this run has {running}: each process's data "
                f"and random state would not fit. Resume with --num_processes {written}, or start a new run from its "
                "models."
            )
        parts = self.stateful_parts()
        if missing := sorted(set(parts) - set(state["parts"])):
            raise ValueError(
                f"{path} has no state of {', '.join(missing)}: the checkpoint was written by a run with other reward "
                "providers or another aggregator. Resume with the same ones, or start a new run from its models."
            )
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        for name, peer in self.peers.items():
            peer._step = self._step
            peer.state.num_input_tokens_seen = state["tokens_seen"][name]
            peer.entropy_coef, peer._last_world_entropy = state["entropy"][name]
            peer._buffered_inputs = state["buffers"].get(name)

    # ---- logs ----

    def joint_logs(self) -> dict[str, float]:
        """What a subclass adds to each training log."""
        return {}

    @contextlib.contextmanager
    def timed(self, phase: str):
        """Adds the seconds spent inside to `self.seconds[phase]`."""
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        self._sync_state()
        if "loss" in logs:  # a training log: collect what the peers' own GRPO code measured
            for name, peer in self.trained.items():
                peer_logs: dict[str, Any] = {}
                peer.log(peer_logs)
                logs.update({f"{name}/{k}": v for k, v in peer_logs.items() if k not in ("epoch", "step")})
            logs.update(self.joint_logs())  # last: they cover all rows, where the peers may have been given fewer
        super().log(logs, start_time)
