"""The joint trainer's checkpoints: what is in them, when they are taken, and which one a run may go on from."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers.trainer_utils import rotate_checkpoints

from pst_rl.loop.base import PeersTrainer
from pst_rl.loop.checkpoint_files import UNFINISHED, CheckpointError, find_checkpoint, newest_complete, publish
from pst_rl.loop.embedding_noise import noisy_embeddings
from pst_rl.loop.faults import NumericFault
from pst_rl.loop.identity import IDENTITY, compared, renewed, run_identity
from pst_rl.loop.lock import RunLock
from pst_rl.loop.used_folder import warn_of_earlier_run
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.rewards import Stateful

logger = logging.getLogger(__name__)


class JointCheckpoints(PeersTrainer):
    """The checkpoint methods of a trainer with several peers; layout of `output_dir/checkpoint-N`:

    `<peer>/` (loadable by `from_pretrained`), the joint optimizer and schedule, random states, `trainer_state.json`,
    `joint_state_<process>.pt`, `run.json` (the run's identity) and `manifest.json` (checksums).
    """

    _unfinished = False
    _checked: str | None = None
    _identity: dict[str, Any] | None = None

    def stateful_parts(self) -> dict[str, Stateful]:
        """Named objects whose `state_dict` is saved with each checkpoint."""
        return {}

    def identity(self) -> dict[str, Any]:
        """What the run's checkpoints are compared by: peers, data, seeds, settings."""
        if self._identity is None:
            self._identity = run_identity(self.specs, self.peers, self.args, self.train_dataset)
        return self._identity

    # ---- training, guarded ----

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """Trains, or goes on with it; see [`~transformers.Trainer.train`].

        Args:
            resume_from_checkpoint: A checkpoint folder; `"last"` or `True` for the newest complete one of
                `output_dir`; `"auto"` for the same, or a new start where there is none.

        Raises:
            FileNotFoundError: There is no (complete) checkpoint to resume from.
            ValueError: The checkpoint is damaged or of another run (unless `args.resume_anyway`), or another process
                trains in `output_dir`.
            CheckpointError: A checkpoint could not be written.
            KeyboardInterrupt: Ctrl-C. Where checkpoints are saved, the step was finished and saved first.
            NumericFault: A peer could not be updated `args.fault_patience` times in a row.
        """
        with RunLock(self.args.output_dir, active=self.args.should_save):
            checkpoint = self.checkpoint_to_resume(resume_from_checkpoint) if resume_from_checkpoint else None
            if checkpoint is None and self.args.should_save and self.state.global_step == 0:
                warn_of_earlier_run(self.args.output_dir)
            saves = self.args.save_strategy != "no"
            if saves:
                self.identity()  # of the run as it begins
            heeded = self.preemption.heeded(self.args.enable_jit_checkpoint, sigint=saves)
            with heeded, noisy_embeddings(self.trained.values(), self.args.neftune_noise_alpha):
                output = super().train(checkpoint, trial, ignore_keys_for_eval)
        self._check_best()
        if self.preemption.interrupted:
            raise KeyboardInterrupt
        if exhausted := self.faults.exhausted:
            raise NumericFault(
                f"Training stopped at step {self.state.global_step}: "
                + "; ".join(f"{name} was not updated because {fault}" for name, fault in exhausted.items())
                + f", {self.args.fault_patience} steps in a row. Find the cause (a learning rate too high, float16, a "
                f"reward of your own), then resume. {self._kept()}"
            )
        return output

    def _run_epoch(self, *, resume_from_checkpoint, **kwargs):  # type: ignore[override]  # all is given by keyword
        if self.state.global_step < self.state.max_steps:
            return super()._run_epoch(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        # Resumed from the last step's checkpoint, within an epoch: transformers would train one step too many.
        self._load_rng_state(resume_from_checkpoint)
        self.control.should_training_stop = True

    def checkpoint_to_resume(self, wanted: str | os.PathLike | Literal[True]) -> str | None:
        """The folder [`train`] will go on from, checked: complete, and of a run like this one.

        Raises:
            FileNotFoundError, ValueError: As [`train`].
        """
        if wanted == self._checked:
            return self._checked
        found: list[Any] = [None, None]
        if self.is_world_process_zero():  # one process reads the files; all of them fail, or none
            try:
                found[0] = find_checkpoint(self.args.output_dir, wanted, self.args.resume_anyway)
                if found[0] is not None:
                    self._check_identity(Path(found[0]))
            except (FileNotFoundError, ValueError) as error:
                found[1] = error
        found = broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        self._checked = found[0]
        return found[0]

    def _check_identity(self, folder: Path) -> None:
        if self.args.resume_anyway:
            return
        if not (folder / "optimizer.pt").is_file():
            raise ValueError(
                f"{folder} holds weights only:\n  it was saved with save_only_model=True, without the optimizer, the "
                "learning-rate schedule and the random states\nTraining would begin anew from them. Resume from "
                "another checkpoint, or set resume_anyway=True (on the command line: --resume-anyway) to do that."
            )
        if not (folder / IDENTITY).is_file():
            return
        lines, unknown = compared(renewed(json.loads((folder / IDENTITY).read_text())), self.identity())
        if unknown:
            logger.warning("%s does not say, so it was not compared: %s.", folder, ", ".join(unknown))
        if lines:
            raise ValueError(
                f"{folder} was written by another run:\n  " + "\n  ".join(lines) + "\nResume with what it was written "
                "with, choose another output_dir, or set resume_anyway=True (on the command line: --resume-anyway) to "
                "go on with what there is now."
            )

    # ---- writing ----

    def _get_output_dir(self, trial):
        run = super()._get_output_dir(trial)
        return os.path.join(run, UNFINISHED) if self._unfinished else run

    def _save_checkpoint(self, model, trial):
        with phase(f"saving checkpoint-{self.state.global_step}"):
            self._write_checkpoint(model, trial)

    def _write_checkpoint(self, model, trial) -> None:
        run = Path(self._get_output_dir(trial))
        final = run / f"checkpoint-{self.state.global_step}"
        unfinished = run / UNFINISHED / final.name
        joint = self._joint_state()  # may run code of a scheme, whose errors are not the disk's
        try:
            if self.args.should_save:
                shutil.rmtree(run / UNFINISHED, ignore_errors=True)  # of a run that was killed
            self.accelerator.wait_for_everyone()
            self._unfinished = True
            super()._save_checkpoint(model, trial)
            self._save_joint(unfinished, joint, final)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish(unfinished, final)
        except (OSError, RuntimeError, SafetensorError) as error:
            free = shutil.disk_usage(run).free // 2**20  # torch does not say that a disk is full
            shutil.rmtree(run / UNFINISHED, ignore_errors=True)
            raise CheckpointError(
                f"The checkpoint of step {self.state.global_step} could not be written to {str(run)!r}, where {free} "
                f"MiB were free: {str(error).strip()}\nMake room or repair the disk. {self._kept()}"
            ) from error
        finally:
            self._unfinished = False
        if self.args.should_save:
            rotate_checkpoints(str(run), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()

    def _joint_state(self) -> dict[str, Any]:
        """This process's state that transformers does not know of."""
        inside = self._step % self.micro_steps_per_generation != 0
        return {
            "processes": self.accelerator.num_processes,
            "micro_steps": self._step,
            "parts": {name: part.state_dict() for name, part in self.stateful_parts().items()},
            "tokens_seen": {name: peer.state.num_input_tokens_seen for name, peer in self.peers.items()},
            "entropy": {n: (p.entropy_coef, p._last_world_entropy) for n, p in self.peers.items()},
            "faults": self.faults.state_dict(),
            # Saved between two generations: the batch in use is kept, so that a resume needs no new rollout.
            "buffers": {n: p._buffered_inputs for n, p in self.peers.items()} if inside else {},
        }

    def _save_joint(self, folder: Path, state: dict[str, Any], final: Path) -> None:
        """Adds our files to transformers', and gives the checkpoint its final name in them."""
        torch.save(state, folder / self._joint_state_name())
        best = self.state.best_model_checkpoint
        if best is not None and Path(best) == folder:
            self.state.best_model_checkpoint = str(final)
        if self.args.should_save:
            self.state.save_to_json(str(folder / "trainer_state.json"))
            (folder / IDENTITY).write_text(json.dumps(self.identity(), indent=1))

    def _joint_state_name(self) -> str:
        return f"joint_state_{self.accelerator.process_index}.pt"

    def _kept(self) -> str:
        folder, _ = newest_complete(self.args.output_dir, checksums=False)
        return "There is no checkpoint yet." if folder is None else f"The last checkpoint is {folder}."

    # ---- reading ----

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        for name, peer in self.trained.items():
            peer._load_from_checkpoint(os.path.join(resume_from_checkpoint, name))

    def _finalize_training(self, trial, num_train_samples, start_time):
        best = self.state.best_model_checkpoint
        if not self.args.load_best_model_at_end:
            # It is what the collapse monitor spares. With save_total_limit=1 transformers would delete the newest
            # checkpoint for it, and a longer run could not go on from there.
            self.state.best_model_checkpoint = None
        try:
            return super()._finalize_training(trial, num_train_samples, start_time)
        finally:
            self.state.best_model_checkpoint = best

    def _load_best_model(self):
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _check_best(self) -> None:
        """Warns where the best evaluation was at a step that was not saved, so that its weights are gone."""
        best, saved = self.state.best_global_step, self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best and (saved is None or Path(saved).name != f"checkpoint-{best}"):
            logger.warning(
                "The best %s was at step %d, where nothing was saved; %s. Set save_steps to eval_steps.",
                self.args.metric_for_best_model,
                best,
                "the weights of the last step stay" if saved is None else f"{saved} was loaded instead",
            )

    # ---- what an evaluation has to measure ----

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler=False):
        with self._needed_metric():
            return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def _determine_best_metric(self, metrics, trial):
        with self._needed_metric():
            return super()._determine_best_metric(metrics, trial)

    @contextlib.contextmanager
    def _needed_metric(self):
        """Saves before the run ends because an `evaluate` of the user's did not measure `metric_for_best_model`.

        Raises:
            ValueError: In place of transformers' `KeyError`, which would lose the steps since the last checkpoint.
        """
        try:
            yield
        except KeyError as error:
            if "metric_for_best_model" not in str(error):
                raise
            if self.state.global_step:
                self._save_checkpoint(self.model, None)
            raise ValueError(f"{error.args[0]} {self._kept()}") from error

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
        for _ in range(int(self.state.epoch)):
            # TRL's sampler draws the order of each epoch from one generator, which a resume would begin anew.
            next(iter(self.engines[0].train_sampler))
        state = torch.load(path, map_location=self.args.device, weights_only=True)
        running = self.accelerator.num_processes
        if (written := state.get("processes", running)) != running:  # older checkpoints do not say
            raise ValueError(
                f"{checkpoint} was written by {written} process(es), but this run has {running}: each process's data "
                f"and random state would not fit. Resume with --num_processes {written}, or start a new run from its "
                "models."
            )
        # Not always a multiple of the optimizer steps: the last one of an epoch may have fewer micro-steps.
        self._step = state.get("micro_steps", self.state.global_step * self.args.gradient_accumulation_steps)
        parts = self.stateful_parts()
        if "pmi_scale" in state["parts"]:  # its name before the weights had a registry
            state["parts"].setdefault("weighting", state["parts"].pop("pmi_scale"))
        if missing := sorted(set(parts) - set(state["parts"])):
            raise ValueError(
                f"{path} has no state of {', '.join(missing)}: the checkpoint was written by a run with other reward "
                "providers or another aggregator. Resume with the same ones, or start a new run from its models."
            )
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        if "faults" in state:  # checkpoints of older versions have none
            self.faults.load_state_dict(state["faults"])
        for name, peer in self.peers.items():
            peer._step = self._step
            peer.state.num_input_tokens_seen = state["tokens_seen"][name]
            peer.entropy_coef, peer._last_world_entropy = state["entropy"][name]
            peer._buffered_inputs = state["buffers"].get(name)
