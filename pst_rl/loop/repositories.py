"""Pushing to the Hub: one repository for each trained peer."""

from __future__ import annotations

import copy
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import upload_folder
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from pst_rl.config import PSTConfig
from pst_rl.loop.base import PeersTrainer
from pst_rl.loop.export import export_dtype, save_peer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from huggingface_hub import CommitInfo

logger = logging.getLogger(__name__)

# training_args.bin is a pickle that holds folders of this machine.
NOT_PUSHED = ("_*", "checkpoint-*", "training_args.bin")


class PeerRepositories(PeersTrainer):
    """The Hub methods of a trainer with several peers: each has a repository of its own, `<hub_model_id>-<peer>`."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Creates the repository of every trained peer, where it is missing.

        Raises:
            ValueError: If the token is missing, wrong, or may not write there.
        """
        for peer in self.trained.values():
            try:
                peer.init_hf_repo(token or self.args.hub_token, private)
            except HfHubHTTPError as error:
                if error.response.status_code not in (401, 403):
                    raise
                raise ValueError(
                    f"The Hub does not let you create {peer.args.hub_model_id!r}. Log in with `hf auth login`, or set "
                    "hub_token to a token that may write there."
                ) from error

    def push_to_hub(  # type: ignore[override]  # one commit for each peer, where a Trainer has one
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        dataset_name: str | None = None,
    ) -> dict[str, CommitInfo | Future]:
        """Saves every trained peer and pushes it to its own repository, `<hub_model_id>-<peer>`.

        Repositories that are missing are created. Without `hub_model_id` they are named after the output folder, in
        the name space of the token's owner.

        Args:
            commit_message: Of every commit.
            blocking: Return when all is uploaded; else at once, with futures.
            token, revision, private: Default to `hub_token`, `hub_revision` and `hub_private_repo`.
            dataset_name: What was trained on, for the cards; default the trainer's `dataset_name`, or that of its
                `results`.

        Returns:
            The commit, or its future, by peer; on the first process only.
        """
        self._sync_state()
        if any(peer.hub_model_id is None for peer in self.trained.values()):
            self.init_hf_repo(token, private)
        self.dataset_name = dataset_name or self.dataset_name
        self._save()  # all of them before the first upload: should that fail, nothing is lost
        if not self.is_world_process_zero():
            return {}
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self._finish_current_push()
        return {name: self._upload(name, commit_message, blocking, token, revision) for name in self.trained}

    def _upload(self, name, commit_message, blocking=False, token=None, revision=None) -> CommitInfo | Future:
        peer = self.peers[name]
        return upload_folder(  # type: ignore[call-overload]  # it knows True and False as run_as_future, but no bool
            repo_id=peer.hub_model_id,
            folder_path=peer.args.output_dir,
            commit_message=commit_message,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            ignore_patterns=list(NOT_PUSHED),
            run_as_future=not blocking,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes the peers of a checkpoint in the background; one whose last push still runs is left out."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        for name, peer in self.trained.items():
            pending = peer.push_in_progress
            if pending is not None and not pending.is_done() and not self.args.hub_always_push:
                continue
            self._finish_push(name)
            # A copy, since the checkpoint may be rotated away before it is uploaded.
            shutil.copytree(os.path.join(checkpoint_folder, name), peer.args.output_dir, dirs_exist_ok=True)
            if export_dtype(peer) is not None:  # the checkpoint is exact, in float32
                save_peer(peer, peer.args.output_dir, exact=False)
            job = self._upload(name, f"Training in progress, step {self.state.global_step}")
            peer.push_in_progress = PushInProgress([job])  # type: ignore[arg-type]  # it iterates over jobs

    def _finish_current_push(self) -> None:
        for name in self.trained:
            self._finish_push(name)

    def _finish_push(self, name: str) -> None:
        """Waits for a peer's push. One that failed is only warned of: what it lacked, the next one brings."""
        peer = self.peers[name]
        if peer.hub_model_id is None or peer.push_in_progress is None:
            return
        peer._finish_current_push()
        for error in [job.exception() for job in peer.push_in_progress.jobs]:
            if error is not None:
                logger.warning("Pushing %s during training failed: %s", peer.hub_model_id, error)
        peer.push_in_progress = None


def repository_arguments(args: PSTConfig, peers: Iterable[str]) -> PSTConfig:
    """A copy of the configuration for the peers' own trainers, each of which adds its name to `hub_model_id`.

    They are kept from opening repositories, which frozen peers must not have. The token stays with the joint trainer:
    each peer saves its arguments beside its weights.

    Raises:
        ValueError: If the run is to be pushed and a repository cannot be called so.
    """
    copied = copy.copy(args)
    copied.hub_model_id = args.hub_model_id or default_repository(args.output_dir)
    copied.push_to_hub = False
    copied.hub_token = None
    if args.push_to_hub:
        for peer in peers:
            validate_repo_id(f"{copied.hub_model_id}-{peer}")
    return copied


def default_repository(output_dir: str) -> str:
    """The name of the output folder, as far as a repository may have it."""
    name = re.sub(r"(?:[^A-Za-z0-9_.]|\.{2,})+", "-", Path(output_dir).absolute().name)
    return name.strip("-.") or "pst"


def check_hub_strategy(args: PSTConfig) -> None:
    """Refuses to push checkpoints: the optimizer is joint, so they do not fit into one peer's repository.

    Raises:
        ValueError: For `hub_strategy` "checkpoint" and "all_checkpoints".
    """
    strategy = HubStrategy(args.hub_strategy)
    if args.push_to_hub and strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"hub_strategy={strategy.value!r} is not supported: the peers share one optimizer, so no peer's "
            "repository can hold a checkpoint to resume from. Use hub_strategy='every_save' (pushes every peer's "
            "weights at each save) or 'end'; checkpoints stay in output_dir."
        )
