"""Self-test of a peer at its construction: every way of computing it, on padded rows, against each row read alone.

Architectures differ in what they make of padding, of position ids, of their head and of their caches, and most of what
goes wrong there raises nothing: the loss then optimises another model than the one that is sampled. Three short rows
of random tokens tell, in a second. What is off is mended where it can be, a lever of speed whose result is off steps
aside, and a peer that cannot be mended is refused with the size of the error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from pst_rl.peers.findings import SelfTest
from pst_rl.peers.peer_trainer import PeerTrainer
from pst_rl.peers.plain_head import use_plain_head
from pst_rl.peers.positions import pass_positions, takes_positions
from pst_rl.peers.probe_rows import ProbeRows, embedded_tokens

logger = logging.getLogger(__name__)

FLOOR = 1e-4  # nats per row of 6 to 8 tokens; less is never called an error
ROUNDINGS = 3.0  # times what rounding does to a row
GRADIENT = (0.01, 0.3)  # relative error of a gradient that may be called wrong: in float32, in lower precision


def self_test(engine: PeerTrainer) -> None:
    """Measures a peer, mends it, and notes in `engine.self_test` what it found and which levers step aside.

    Nothing else of it changes: no weight, no gradient, no random state, no mode.

    A difference is an error where it is above `FLOOR` and above `ROUNDINGS` times what one more rounding of every
    layer's output does. A model in float32 is measured without autocast.

    Raises:
        ValueError: What cannot be mended, in one line with its size in nats.
    """
    check_vocabulary(engine)
    found = engine.self_test = SelfTest()
    with ProbeRows(engine) as rows:
        _Examination(engine, rows, found).run()
    if engine.accelerator.is_main_process:
        _note(engine, found)


def check_vocabulary(engine: PeerTrainer) -> None:
    """Refuses a tokenizer with tokens that the model has no embedding for.

    Raises:
        ValueError: The first text with such a token would fail, or a padded row.
    """
    rows = embedded_tokens(engine)
    last = max(engine._tokenizer.get_vocab().values())
    if last >= rows:
        raise ValueError(
            f"Peer {engine.spec.name!r}: its tokenizer has tokens up to number {last}, but the model embeds only "
            f"{rows}. Take the tokenizer that belongs to the model, or enlarge it first: "
            f"model.resize_token_embeddings({last + 1}), and save it."
        )


class _Examination:
    """One self-test in the making."""

    def __init__(self, engine: PeerTrainer, rows: ProbeRows, found: SelfTest):
        self.engine, self.rows, self.found = engine, rows, found

    def run(self) -> None:
        """All of it, in the order in which one thing rests on another."""
        rows = self.rows
        self._demand("causality", rows.causality, "logits of a beginning change with the tokens behind it")
        self._demand("scorer", rows.scorer, "transformers itself computes a padded row otherwise than the row alone")
        if self.engine.spec.trainable:
            self._mend_loss()
        self._sampling()
        if self.engine.spec.trainable:
            self._shared_prompts()
            if why := self._failure(rows.trains):
                raise self._refusal(f"a training step fails ({why})")

    def _off(self, name: str, way: Callable[[], float]) -> str:
        """Empty where a way of computing is right; else its error in nats, or what it raised."""
        try:
            nats = way()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # an architecture that a lever was not made for raises anything
            return _first_line(error)
        self.found.nats[name] = nats
        right = nats <= FLOOR or nats <= ROUNDINGS * self.rows.rounding
        return "" if right else f"off by {nats:.2g} nats"

    def _failure(self, way: Callable[[], object]) -> str:
        """Empty where a way of computing runs; else what it raised."""
        try:
            way()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return _first_line(error)
        return ""

    def _demand(self, name: str, way: Callable[[], float], meaning: str) -> None:
        if why := self._off(name, way):
            raise self._refusal(f"{meaning} ({why})")

    def _refusal(self, why: str) -> ValueError:
        model = self.rows.base
        return ValueError(
            f"Peer {self.engine.spec.name!r} is refused by the self-test: {type(model).__name__} in transformers, or "
            f"in TRL, does not train as it samples: {why}."
        )

    def _mend_loss(self) -> None:
        """The first way in which the loss is right: as TRL has it, with position ids, with the model's own head."""
        engine, found = self.engine, self.found
        whys: list[str] = []
        positions = [False, True] if takes_positions(engine.model) else [False]
        for auxiliary in [True, False] if engine.aux_loss_enabled else [False]:
            for plain in (False, True):
                for passed in positions:
                    with ExitStack() as undo:
                        if plain:
                            undo.callback(self._plain_head())
                        if passed:
                            undo.callback(self._positions())
                        if not (why := self._off("loss", partial(self.rows.loss, auxiliary=auxiliary))):
                            undo.pop_all()  # it stays
                            found.plain_head, found.positions = plain, passed
                            if engine.aux_loss_enabled and not auxiliary:
                                engine.aux_loss_enabled = False
                                found.aside["router_aux_loss"] = whys[0]
                            return
                        whys.append(why)
        raise self._refusal(f"the loss's log-probabilities of padded rows are {_worst_named(whys)}")

    def _plain_head(self) -> Callable[[], None]:
        """Puts the model's own head in the place of TRL's, also in the reference model; returns what takes it back."""
        cast = self.engine.args.cast_lm_head_to_fp32
        undo = ExitStack()
        for model in self.rows.bases:
            undo.callback(use_plain_head(model, self.engine.temperature, cast))
        return undo.close

    def _positions(self) -> Callable[[], None]:
        """Passes position ids, also to the reference model; returns what takes it back."""
        undo = ExitStack()
        for model in filter(None, (self.engine.model, self.engine.ref_model)):
            undo.callback(pass_positions(model).remove)
        return undo.close

    def _sampling(self) -> None:
        """Sampling, with each distinct prompt read once if that is set, and scoring from the keys that it leaves."""
        engine, aside = self.engine, self.found.aside
        if engine.use_vllm or engine.use_transformers_continuous_batching:
            return
        if engine.args.shared_prefill:
            if why := self._off("shared_prefill", partial(self.rows.sampling, shared=True)):
                aside["shared_prefill"], engine.args.shared_prefill = why, False
            elif why := self._off("from_cache", self.rows.from_cache):
                aside["from_cache"] = why
        if not engine.args.shared_prefill:
            self._demand("sampling", partial(self.rows.sampling, shared=False), "`generate` takes other tokens")

    def _shared_prompts(self) -> None:
        """The loss with each distinct prompt read once, and its gradient."""
        engine = self.engine
        if not engine.args.shared_prompts:
            return
        why = self._off("shared_prompts", partial(self.rows.loss, shared=True))
        if not why:
            limit = GRADIENT[0] if self.rows.exact else GRADIENT[1]
            why = self._failure(partial(self.rows.compare_gradients, limit, ROUNDINGS))
        if why:
            self.found.aside["shared_prompts"], engine.args.shared_prompts = why, False


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}{'...' if len(text) > 120 else ''}"


def _worst_named(whys: list[str]) -> str:
    """The smallest error among the ways that were tried, or what the first of them raised."""
    numbers = sorted((float(why.split()[2]), why) for why in whys if why.startswith("off by"))
    return numbers[0][1] if numbers else f"not to be had ({whys[0]})"


def _note(engine: PeerTrainer, found: SelfTest) -> None:
    name = engine.spec.name
    if found.positions:
        logger.warning("Peer %r: the loss passes position ids, without which padded rows are wrong.", name)
    if found.plain_head:
        logger.warning(
            "Peer %r: TRL's fused head is wrong for this architecture; the loss keeps the logits of all completion "
            "tokens instead, which takes memory.",
            name,
        )
    for lever, why in found.aside.items():
        if lever != "from_cache":  # said where it is asked for
            logger.warning("Peer %r: %s steps aside (%s).", name, lever, why)
