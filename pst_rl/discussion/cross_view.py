"""The two views of Co-rewarding (arXiv 2508.00410): another wording of the question, and a slow copy of the peer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pst_rl.discussion.base import RolloutContext
from pst_rl.peers.prompts import Prompt
from pst_rl.peers.vllm import forget_weights
from pst_rl.records import Rollout
from pst_rl.stages.rollout import roll_out

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from pst_rl.peers.peer_trainer import PeerTrainer

COLUMN = "paraphrase"


class ParaphraseView:
    """Every peer answers the paraphrased questions (Co-rewarding-I), once for each of its first answers.

    The data set's column `paraphrase` holds either a whole prompt (messages), or text that takes the place of the last
    user message (of the whole prompt, where that is text) and so must contain any instructions that stand there.
    """

    name = "paraphrase"

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """The answers to the paraphrases, one rollout per peer.

        Raises:
            ValueError: A row has no paraphrase.
        """
        pairs = zip(context.rows, context.request.prompts, strict=True)
        prompts = [_reworded(prompt, row.get(COLUMN)) for row, prompt in pairs]
        return roll_out(context.engines, replace(context.request, prompts=prompts)).rollouts


def _reworded(prompt: Prompt, paraphrase: Prompt | None) -> Prompt:
    if not paraphrase:
        raise ValueError(
            f"The question {prompt!r} has nothing in the column {COLUMN!r}. Add the column to the training set (text "
            "or messages, for every question), or use view='ema', which needs none."
        )
    if isinstance(paraphrase, str) and not isinstance(prompt, str):
        return [*prompt[:-1], {**prompt[-1], "content": paraphrase}]
    return paraphrase


class EMAView:
    """Slow copies of the peers answer the same prompts, by sampling (Co-rewarding-II).

        theta_ema <- d theta_ema + (1 - d) theta        once per generation batch, before the copies answer

    The first batch's copy is the peer itself. Only trainable parameters are copied (LoRA: the adapter's), in float32
    on the parameters' device; a frozen peer answers once more as it is.

    Stated: a teacher updated by EMA whose vote is the pseudo label. The paper's released script moves the teacher at
    every step with 1 - d running from 0.01 to 0.00001: `EMAView(0.99, final_decay=0.99999, anneal=<batches>)`. Our
    choice: a constant 0.99 unless told otherwise, and the cosine between the two values:

        d_k = d_final + (d - d_final) (1 + cos(pi min(k / anneal, 1))) / 2

    Args:
        decay: d, in [0, 1]. 0 makes the copy the peer itself, 1 the peer as it was at the start.
        final_decay: The value `decay` moves to; `None` keeps it constant.
        anneal: Updates until `final_decay` is reached; needed with it, and only then.
    """

    name = "ema"

    def __init__(self, decay: float = 0.99, final_decay: float | None = None, anneal: int | None = None):
        for value in (decay, decay if final_decay is None else final_decay):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"The decay of the EMA must be between 0 and 1, got {value}.")
        if (final_decay is None) != (anneal is None) or (anneal is not None and anneal < 1):
            raise ValueError(
                f"final_decay={final_decay} and anneal={anneal}: give both, with anneal >= 1 generation batches, or "
                "neither."
            )
        self.decay = decay
        self.final_decay = final_decay
        self.anneal = anneal
        self.updates = 0
        self.averages: dict[str, dict[str, Tensor]] = {}  # by peer, then by parameter

    @property
    def current_decay(self) -> float:
        """The decay of the next update."""
        if self.final_decay is None or self.anneal is None:
            return self.decay
        done = min(self.updates / self.anneal, 1.0)
        return self.final_decay + (self.decay - self.final_decay) * (1.0 + math.cos(math.pi * done)) / 2.0

    def respond(self, context: RolloutContext) -> list[Rollout]:
        """Moves the copies by one update and lets them answer, one rollout per peer. The peers stay as they are."""
        engines = dict(zip(context.group.peers, context.engines, strict=True))
        self.update(engines)
        with ExitStack() as stack:
            for name, engine in engines.items():
                stack.enter_context(loaded(engine, self.averages[name]))
            return roll_out(context.engines, context.request).rollouts

    def update(self, engines: Mapping[str, PeerTrainer]) -> None:
        """One step of the average of every peer; the first call copies the weights.

        Raises:
            ValueError: The average that was loaded belongs to other peers or other trainable parameters.
        """
        if not self.averages:
            self.averages = {
                name: {key: p.detach().float().clone() for key, p in _trainable(engine).items()}
                for name, engine in engines.items()
            }
            return
        for name, engine in engines.items():
            average, live = self.averages.get(name, {}), _trainable(engine)
            if average.keys() != live.keys():
                raise ValueError(
                    f"The loaded EMA does not fit the peer {name!r}: it holds other trainable parameters. Resume with "
                    "the peers and the LoRA settings the checkpoint was written with."
                )
            for key, parameter in live.items():
                average[key] = average[key].to(parameter.device)  # a checkpoint may have been loaded elsewhere
                average[key].lerp_(parameter.detach().float(), 1.0 - self.current_decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self.averages = {
            name: {key: tensor.clone() for key, tensor in average.items()}
            for name, average in state["averages"].items()
        }


@contextmanager
def loaded(engine: PeerTrainer, values: Mapping[str, Tensor]) -> Iterator[None]:
    """A peer with other values in its trainable parameters; its own come back bit for bit, also after an error."""
    parameters = _trainable(engine)
    own = {key: p.data for key, p in parameters.items()}
    try:
        for key, parameter in parameters.items():
            parameter.data = values[key].to(parameter)  # another tensor, so that the peer's own is never written to
        forget_weights(engine)
        yield
    finally:
        for key, parameter in parameters.items():
            parameter.data = own[key]
        forget_weights(engine)


def _trainable(engine: PeerTrainer) -> dict[str, Parameter]:
    return {name: p for name, p in engine.model.named_parameters() if p.requires_grad}
