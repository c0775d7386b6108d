"""p(label | item, demonstrations) by a causal language model, in context."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from inspect import signature, unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from pst_rl.coherence.cached_context import CachedContext, ContextReader
from pst_rl.coherence.label_words import LabelWords, continuation
from pst_rl.coherence.predictor import Context, Demo
from pst_rl.files import json_digest
from pst_rl.peers.reader import plain_ids, start_ids

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModelPredictor(ContextReader):
    """What a causal language model expects after an item's prompt, having read labelled items before it.

        demonstration = prompt of the item + first word of its label + separator
        log p(l | x, demonstrations) = log_softmax over the L labels of  logsumexp over the words of l  of log p(word)

    all at the one position behind the target's prompt (`LabelWords`). With `calibrate`, the log of the mean
    probability of label l over the content-free prompts, read without demonstrations, is subtracted before the
    log_softmax (contextual calibration, arXiv 2102.09690); it is measured once, at first use. Summing over words,
    renormalising over the labels and calibrating are our choices.

    Every item is tokenised once and by itself, so that the tokens of a context are those of its parts, whatever was
    read from the cache. A beginning-of-sequence token is put in front if the tokenizer has one. The model scores in
    eval mode, without gradient, where it is and in its own dtype but for `autocast`; its mode is put back.

    Contexts that are too long drop demonstrations, never the target: read in order, one is left out if it would not
    leave room for the longest prompt of all items. That depends only on what was shown before it, so a context is
    the same for every target, and by whatever path it was reached.

    Args:
        model: Any causal language model with an attention cache: float, 4-bit, with a LoRA. Rows of a context are told
            apart by a mask, so its attention must be "sdpa" (the default) or "eager".
        tokenizer: The model's.
        prompts: For every item the text up to, and without, its label: "... I think this claim is". They are read as
            they are: what a model wrote is in them as `Template.guarded` has left it.
        label_words: For each of the L labels its words, the first of which is written in demonstrations:
            `((" False", " false"), (" True", " true"))`.
        separator: Text between demonstrations.
        batch_size: Targets per forward pass at most, where `Context.score` is asked for several items of a row; they
            share one mask of (their tokens) x (the context and their tokens).
        normalise: Unset, scores are log p(word) among all words, and their probabilities do not sum to 1.
        calibrate: Subtract the label prior.
        content_free: Prompts of no content, e.g. the template with "N/A"; needed to calibrate.
        max_tokens: Length of a context with its target, in tokens. Unset: the model's positions. Where every layer
            has a sliding window (Mistral), the window if that is smaller, so that every token is seen; where some
            have (Gemma), those see the last tokens of each row, as in a plain pass over the text, and the other
            layers see all of it.
        autocast: What a forward pass runs in: of a peer in training its own precision, as `accelerator.autocast`.

    Attributes:
        prompt_ids: For every item its tokens.
        words: The `LabelWords`.
        start_ids: What every context begins with: the beginning-of-sequence token, or nothing.
        dropped: Demonstrations left out so far, counted each time they were to be read.
        tokens: Tokens fed to the model so far; there is no padding.

    Raises:
        ValueError: No items, an empty prompt, a prompt longer than `max_tokens` (the item is named), `max_tokens`
            beyond the model's positions or window, or a model whose configuration states neither; a model whose state
            is no attention cache, that takes no positions, or with another attention implementation; label words that
            one position cannot tell apart (`LabelWords`); calibration without content-free prompts or without
            normalisation; a batch size below 1.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        label_words: Sequence[Sequence[str]],
        *,
        separator: str = "\n\n",
        batch_size: int = 16,
        normalise: bool = True,
        calibrate: bool = False,
        content_free: Sequence[str] = (),
        max_tokens: int | None = None,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ):
        if not prompts:
            raise ValueError("There are no items to label.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if calibrate and not content_free:
            raise ValueError("To calibrate, give `content_free` prompts: the template with 'N/A' as its content.")
        if calibrate and not normalise:
            raise ValueError("Calibrated scores are renormalised over the labels: leave `normalise` set.")
        self.tokenizer = tokenizer
        self.model, self.batch_size, self.normalise, self.calibrate = model, batch_size, normalise, calibrate
        self.autocast = autocast
        self.words = LabelWords(tokenizer, label_words, after=prompts[0])
        self.n_items, self.n_labels = len(prompts), len(self.words)
        self.start_ids = start_ids(tokenizer)
        self.prompt_ids = plain_ids(tokenizer, prompts)
        self.dropped = 0
        self._separator_ids = continuation(tokenizer, prompts[0] + self.words.words[0][0], separator)
        self._content_free = plain_ids(tokenizer, content_free) if calibrate else []
        self.max_tokens = _longest(model, max_tokens)
        self._window = _window_of_some(model)
        for name, texts in (("Item", self.prompt_ids), ("Content-free prompt", self._content_free)):
            for index, ids in enumerate(texts):
                if not ids or len(self.start_ids) + len(ids) > self.max_tokens:
                    raise ValueError(
                        f"{name} {index} has a prompt of {len(ids)} tokens; it must have at least one, and at most "
                        f"{self.max_tokens - len(self.start_ids)} fit the model. Shorten it or leave it out."
                    )
        self._room = self.max_tokens - max(map(len, self.prompt_ids))

    def identity(self) -> dict[str, Any]:
        """The model by name and a digest of the first numbers of each of its weights; items and words by content."""
        name = Path(self.model.config._name_or_path or type(self.model).__name__).name
        weights = [
            [key, list(weight.shape), weight.detach().flatten()[:16].float().tolist()]
            for key, weight in self.model.named_parameters()
            if weight.device.type != "meta"  # offloaded
        ]
        return super().identity() | {
            "model": f"{name} ({json_digest(weights, 8)})",
            "prompts": json_digest([self.start_ids, self.prompt_ids, self._content_free], 8),
            "label_words": self.words.words,
            "separator": self._separator_ids,
            "max_tokens": self.max_tokens,
            "normalise": self.normalise,
            "calibrate": self.calibrate,
        }

    def open(self) -> Context:
        return CachedContext(self, *self._nothing(), [0], [[]])

    def with_model(self, model: PreTrainedModel | PeftModel) -> LanguageModelPredictor:
        """The same items and words under another model of the same tokenizer; nothing is counted yet."""
        other = copy.copy(self)
        vars(other).pop("log_prior", None)
        other.model, other.units, other.tokens, other.dropped = model, 0, 0, 0
        return other

    def demo_ids(self, item: int, label: int) -> list[int]:
        """Tokens of a demonstration."""
        return self.prompt_ids[item] + self.words.ids[label] + self._separator_ids

    def fitting(self, demos: Sequence[Demo], length: int) -> list[bool]:
        """Which of these demonstrations are read after a context of `length` tokens; the others are counted."""
        length = length or len(self.start_ids)
        fits = []
        for demo in demos:
            longer = length + len(self.demo_ids(*demo))
            fits.append(longer <= self._room)
            length = longer if fits[-1] else length
        self.dropped += fits.count(False)
        return fits

    def label_log_probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores from next-token logits; (rows, V) to (rows, L), on the CPU."""
        scores = self.words.log_probs(logits).cpu()
        return (scores - self.log_prior).log_softmax(-1) if self.normalise else scores

    @cached_property
    def log_prior(self) -> torch.Tensor:
        """log of the mean label probabilities on the content-free prompts, (L,); 0 without calibration."""
        if not self.calibrate:
            return torch.zeros(self.n_labels)
        prior = torch.zeros(self.n_labels)
        for ids in self._content_free:
            logits, _ = self.read(*self._nothing(), [0], [(0, self.start_ids + ids)], torch.tensor([-1]))
            prior += self.words.log_probs(logits[0]).cpu().softmax(-1) / len(self._content_free)
        return prior.log()

    @torch.no_grad()
    def read(
        self,
        cache: DynamicCache,
        seen: torch.Tensor,
        starts: Sequence[int],
        segments: Sequence[tuple[int, list[int]]],
        keep: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feeds new tokens to the model in one forward pass, and the cache with them.

        Args:
            cache: Of batch size one; the new tokens' keys and values are appended to it.
            seen: (rows, columns) bool: which columns of the cache each row sees.
            starts: For each row the number of its tokens in the cache.
            segments: (row, its next token ids), in the order in which they enter the cache.
            keep: Which of the new tokens' logits are wanted, (K,).

        Returns:
            Logits (K, V), and `seen` with the new columns.
        """
        device, columns, counts = self.model.device, seen.shape[1], list(starts)
        ids: list[int] = []
        owners: list[int] = []
        positions: list[int] = []
        for row, tokens in segments:
            ids += tokens
            owners += [row] * len(tokens)
            positions += range(counts[row], counts[row] + len(tokens))
            counts[row] += len(tokens)
        self.tokens += len(ids)
        owner = torch.tensor(owners, device=device)
        seen = torch.cat([seen, owner == torch.arange(len(seen), device=device)[:, None]], 1)
        training = self.model.training
        self.model.eval()
        try:
            with self.autocast():
                logits = self.model(
                    input_ids=torch.tensor([ids], device=device),
                    attention_mask=self._attention(seen, owner, columns),
                    position_ids=torch.tensor([positions], device=device),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=(keep % len(ids)).to(device),
                ).logits
        finally:
            self.model.train(training)
        return logits[0], seen

    def _attention(
        self, seen: torch.Tensor, owner: torch.Tensor, columns: int
    ) -> torch.Tensor | dict[str, torch.Tensor] | None:
        """Which columns each new token attends to, (1, 1, new, columns + new); `None` for plain causal attention.

        By kind of layer where some layers have a window: there, of the columns that a token may see, the last ones.
        """
        if len(seen) == 1 and bool(seen.all()):
            return None
        allowed = seen[owner]
        allowed[:, columns:].tril_()
        if self._window is None:
            return self._added(allowed)
        near = allowed.sum(1, keepdim=True) - allowed.cumsum(1) < self._window  # a row's columns are in its order
        return {"full_attention": self._added(allowed), "sliding_attention": self._added(allowed & near)}

    def _added(self, allowed: torch.Tensor) -> torch.Tensor:
        """What is added to the attention scores, so that only these columns are seen."""
        dtype = self.model.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[None, None]

    def _nothing(self) -> tuple[DynamicCache, torch.Tensor]:
        """An empty cache, and what one row sees of it."""
        return DynamicCache(), torch.empty(1, 0, dtype=torch.bool, device=self.model.device)


def _longest(model: PreTrainedModel | PeftModel, asked: int | None) -> int:
    """Tokens of a context at most, for a model that can read contexts in this way."""
    from peft import PeftModel

    config = model.config.get_text_config()
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise ValueError(
            f"Attention {implementation!r} takes no mask: load the model with attn_implementation='sdpa'."
        )
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if "position_ids" not in signature(base.forward).parameters or getattr(config, "alibi", False):
        raise ValueError(f"{type(base).__name__} takes no positions: it cannot read several contexts side by side.")
    layers = DynamicCache(config=config).layers
    if other := {type(layer) for layer in layers} - {DynamicLayer, DynamicSlidingWindowLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in other))
        raise ValueError(
            f"This model keeps a state from which read tokens cannot be taken back ({names}). Use one that has "
            "attention layers only."
        )
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    windows = [] if _window_of_some(model) else windows
    positions = getattr(config, "max_position_embeddings", None)  # some state none
    most = min(windows if positions is None else [*windows, positions], default=asked)
    if most is None:
        raise ValueError("The model's configuration does not say how much it can read: give `max_tokens`.")
    if asked is not None and not 1 <= asked <= most:
        raise ValueError(f"max_tokens must lie in 1 .. {most}, the model's positions or window; got {asked}.")
    return most if asked is None else asked


def _window_of_some(model: PreTrainedModel | PeftModel) -> int | None:
    """The window of the layers that have one, where others have none and the model takes a mask for each kind."""
    config = model.config.get_text_config()
    if set(getattr(config, "layer_types", None) or ()) != {"full_attention", "sliding_attention"}:
        return None
    base: Any = model.base_model
    forward: Any = unwrap(type(base.get_decoder()).forward)
    return config.sliding_window if "causal_mask_mapping" in forward.__code__.co_varnames else None
