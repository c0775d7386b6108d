"""One Hugging Face training loop around several peers: wrapping, optimizer, clipping, logs.

Nothing here knows about questions, answers or rewards; that is `pst_rl.trainer`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch import nn
from trl.trainer.utils import identity

from pst_rl.config import PSTConfig
from pst_rl.loop.checkpoints import JointCheckpoints
from pst_rl.loop.export import save_peer
from pst_rl.loop.faults import FaultMonitor, StopOnFaults
from pst_rl.loop.lock import RunLock
from pst_rl.loop.preemption import Preemption
from pst_rl.loop.reporters import check_reporters
from pst_rl.loop.repositories import PeerRepositories, check_hub_strategy, repository_arguments
from pst_rl.peers.asked import asked_by, write_asked
from pst_rl.peers.peer_trainer import PAPER, PeerTrainer
from pst_rl.peers.self_test import self_test
from pst_rl.peers.spec import PeerSpec, check_launch
from pst_rl.peers.vllm import resolve_servers
from pst_rl.progress.phases import phase
from pst_rl.progress.training import readable_logs

if TYPE_CHECKING:
    from pst_rl.report import RunResults

logger = logging.getLogger(__name__)

# Of what a peer logs by itself: the loop's own, and TRL's mean of a reward, which the joint logs have, of all samples.
_SAID = re.compile("epoch|step|rewards/.+/mean")


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
            model.activation_checkpointing_enable(**kwargs)  # type: ignore[operator]  # transformers' models have it

    @contextlib.contextmanager
    def no_sync(self):
        """Gradient accumulation under DDP: no peer synchronises inside."""
        with contextlib.ExitStack() as stack:
            for model in self.models:
                if isinstance(model, nn.parallel.DistributedDataParallel):
                    stack.enter_context(model.no_sync())
            yield


def keep_embeddings_whole(model: nn.Module) -> None:
    """Leaves the state of embeddings in 32 bits, as transformers does beside bitsandbytes' 8-bit optimizers."""
    from bitsandbytes.optim import GlobalOptimManager

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


class JointTrainer(JointCheckpoints, PeerRepositories):
    """Owns the loop, optimizer, schedule, callbacks, checkpoints and logs of several [`PeerTrainer`]s."""

    loss_is_scaled_for_ga = True  # type: ignore[assignment]  # TRL's base has None, for its subclasses to set
    _tag_names = ["trl", "pst-rl", "pst"]
    _name = "PST"
    _paper = PAPER

    model: Peers

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
        check_reporters(args.report_to)
        check_launch(args)
        specs = resolve_servers(specs, args)
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False  # transformers would search every peer's graph for them
        with RunLock(args.output_dir, active=args.should_save):
            pass  # a folder that is taken, or cannot be written to, is refused before a model is loaded
        if args.save_only_model and args.save_strategy != "no":
            logger.warning(
                "save_only_model=True: checkpoints will hold weights only, without the optimizer, the learning-rate "
                "schedule and the random states, so this run cannot be resumed from them."
            )
        self.specs = specs
        self.results: RunResults | None = None  # set it once they are measured: the model cards show them
        self.dataset_name = None  # for the model cards; else the name in `results`
        self.prompt_template: str | None = None  # around each question, for the record of what was asked
        heed_sigterm, args.enable_jit_checkpoint = args.enable_jit_checkpoint, False  # transformers' own is not ours
        peer_args = repository_arguments(args, specs)
        self.seconds: dict[str, float] = defaultdict(float)
        self.peers = {}
        with phase("loading", len(specs), "peers") as loading:
            for name, spec in specs.items():
                loading.at(name)
                set_seed(args.seed)  # each peer's LoRA starts from the same seed, whoever its neighbours are
                self.peers[name] = PeerTrainer(spec, peer_args, reward_names, train_dataset)
                self_test(self.peers[name])
                loading.advance()
        self.engines = list(self.peers.values())
        super().__init__(
            model=Peers({name: peer.model for name, peer in self.peers.items()}),
            args=args,
            data_collator=identity,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        self.neftune_noise_alpha = None  # transformers would add it to one model: see `embedding_noise`
        readable_logs(self, list(self.peers))
        for peer in self.engines:
            peer.accelerator = self.accelerator  # one gradient scaler for all
        self._step = 0  # micro-steps done, like GRPOTrainer's own
        self.faults = FaultMonitor(self.trained, args.fault_patience)
        self.add_callback(StopOnFaults(self.faults))
        self.preemption = Preemption(self.accelerator)
        args.enable_jit_checkpoint = heed_sigterm
        self.add_callback(self.preemption)
        set_seed(args.seed, device_specific=True)  # as GRPOTrainer does: processes must not sample alike

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
            # The model need not be one of transformers': some optimizers look for modules in it by name, that is all.
            factory, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)  # type: ignore[arg-type]
        self.optimizer = factory(groups, **kwargs)
        if kwargs.get("optim_bits") == 8:
            keep_embeddings_whole(self.model)
        return self.optimizer

    def _clip_grad_norm(self, model):
        return self._finish_gradients(model, self.args.max_grad_norm)

    def _get_grad_norm(self, model, grad_norm=None):
        return self._finish_gradients(model, float("inf")) if grad_norm is None else grad_norm

    def _finish_gradients(self, model: Peers, max_norm: float) -> torch.Tensor:
        """Clips each peer's gradient by itself, and takes it away from peers with a numeric fault.

        Returns the largest of the norms; AdamW passes over parameters without a gradient.
        """
        self.accelerator.unscale_gradients()  # once; clipping through accelerate would unscale fp16 once per peer
        norms = {n: nn.utils.clip_grad_norm_(m.parameters(), max_norm) for n, m in model.items()}
        if self.accelerator.scaler is None:  # fp16 overflows now and then; its scaler then skips the step of all peers
            for name in self.trained:
                if not norms[name].isfinite():
                    self.faults.note(name, f"its gradient has norm {norms[name].item()}")
        self._agree_on_faults()
        kept = {name: norm for name, norm in norms.items() if name not in self.faults.left_out}
        for name in self.faults.left_out:
            for parameter in model[name].parameters():
                parameter.grad = None
        for name, norm in kept.items():
            if name in self.trained:
                self.peers[name]._metrics["train"]["grad_norm"].append(norm.item())
        norm = torch.stack(
            [torch.zeros((), device=self.args.device), *(n.to(self.args.device) for n in kept.values())]
        )
        self.faults.close_step(self.state.global_step + 1, gradients=bool(norm.max() > 0))
        return norm.max()

    def _agree_on_faults(self) -> None:
        """What one process saw, each of them must act on."""
        if self.accelerator.num_processes == 1:
            return
        flags = torch.tensor([float(name in self.faults.left_out) for name in self.trained], device=self.args.device)
        for name, count in zip(self.trained, self.accelerator.reduce(flags, reduction="sum"), strict=True):
            if count > 0:
                self.faults.note(name, "its loss is not finite on another process")

    # ---- saving ----

    def _save(self, output_dir=None, state_dict=None):
        self._sync_state()
        with phase("saving", len(self.trained), "peers", brief=True) as saving:
            for name, peer in self.trained.items():
                saving.at(name)
                folder = os.path.join(output_dir or self.args.output_dir, name)
                save_peer(peer, folder, exact=self._unfinished)
                if self.args.should_save:
                    write_asked(asked_by(peer, self.prompt_template), folder)
                self.write_card(name, folder)
                saving.advance()

    def write_card(self, name: str, folder: str | os.PathLike) -> None:
        """What a subclass writes beside the weights of a peer that is saved."""

    # ---- logs ----

    def joint_logs(self) -> dict[str, float]:
        """What a subclass adds to each training log."""
        return {}

    @contextlib.contextmanager
    def timed(self, name: str, responses: int | None = None):
        """Adds the seconds spent inside to `self.seconds[name]`, as a phase in which each peer may count responses."""
        start = time.perf_counter()
        with phase(name, responses, "responses", parts=tuple(self.peers), brief=True):
            yield
        self.seconds[name] += time.perf_counter() - start

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        self._sync_state()
        if "loss" in logs:  # a training log: collect what the peers' own GRPO code measured
            for name, peer in self.trained.items():
                peer_logs: dict[str, Any] = {}
                peer.log(peer_logs)
                known = {k: v for k, v in peer_logs.items() if v is not None and not _SAID.fullmatch(k)}
                logs.update({f"{name}/{k}": v for k, v in known.items()})  # reporters take no None: all abstained
            logs.update(self.faults.metrics())
            logs.update(self.joint_logs())  # last: they cover all rows, where the peers may have been given fewer
        super().log(logs, start_time)
