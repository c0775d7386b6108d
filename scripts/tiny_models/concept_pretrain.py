"""Pretraining of the tiny concept model: sequences of items that one hidden concept labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from pst_rl.tiny.concepts import CLAIM_STYLE, CONCEPT_STYLE, PRIOR, RELIABILITY, all_items, item_text
from tiny_models.pretrain import fit
from tiny_models.tokenizers import build_tokenizer

STEPS = 2000
MAX_LENGTH = 2048
"""Context of the concept model, in tokens. It was trained on up to 96 items, 1249 tokens."""


@dataclass(frozen=True)
class Stage:
    """A part of pretraining.

    Attributes:
        share: Of the steps.
        lengths: How many items a sequence has, and how often a step has sequences of that length.
        claims: The share of steps with claims.
        tokens: Of a batch.
        easy: Whether all concepts are equally frequent and labels have no noise.
        hint: Weight of the hint at the end of the stage; it falls linearly.
    """

    share: float
    lengths: dict[int, float]
    claims: float = 0.0
    tokens: int = 2048
    easy: bool = False
    hint: float = 0.0


STAGES = (
    Stage(0.20, {8: 1.0}, easy=True, hint=1.0),
    Stage(0.30, {8: 1.0}, claims=0.7, easy=True, hint=1.0),
    Stage(0.20, {2: 0.1, 16: 0.9}, claims=0.5),
    Stage(0.30, {2: 0.25, 16: 0.35, 64: 0.25, 96: 0.15}, claims=0.5, tokens=4096),
)
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + (message['content'] | trim) + eos_token + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ (message['content'] | trim) + ':' }}"
    "{% else %}{{ raise_exception('Only user and assistant messages are supported') }}{% endif %}"
    "{% endfor %}"
)


def build_concept_tokenizer() -> PreTrainedTokenizerBase:
    """Return the tokenizer: byte-level, every word of the world one token.

    The chat template renders a question as `CONCEPT_STYLE` shows an item, so that the answer is its label word.
    """
    words = {word for style in (CONCEPT_STYLE, CLAIM_STYLE) for word in style["label_words"]}
    texts = [CLAIM_STYLE["template"].format(question=item_text(item), claim="yes") for item in all_items()]
    tokenizer = build_tokenizer("llama", [text + word for text, word in product(texts, sorted(words))])
    tokenizer.chat_template, tokenizer.model_max_length = _TEMPLATE, MAX_LENGTH
    return tokenizer


def build_concept_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return the untrained model: a Llama of width 64 in fp32."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        attention_bias=True,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.125,  # 1 / sqrt(width): from smaller ones in-context learning starts late
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special, max_new_tokens=4)
    return model


def pretrain_concept_model(
    steps: int | None = None, seed: int = 0, log: Callable[[str], None] = print
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Pretrain the concept model; return it and its tokenizer.

    The loss is the cross-entropy of the labels, and of the end of the turn after each.
    """
    tokenizer, steps = build_concept_tokenizer(), steps or STEPS
    model = build_concept_model(tokenizer, seed)
    fit(Guided(model), concept_batches(tokenizer, steps, seed), steps, log=log)
    return model, tokenizer


class Guided(torch.nn.Module):
    """The model with a hint: a linear head names the hidden concept from what stands after two layers at every label.

    The loss is the model's, plus `hint` times the head's cross-entropy. Without it the model does not use its context
    for many hundred steps, because reading what a label says about a concept pays only once concepts are put to use.
    The head is thrown away, and in the last stage of pretraining it has no weight.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model, self.head = model, torch.nn.Linear(model.config.hidden_size, len(PRIOR))

    def forward(self, concepts: torch.Tensor, hint: float, **batch):
        out = self.model(**batch, output_hidden_states=True)
        at_labels = out.hidden_states[2][:, batch["logits_to_keep"][1::2]]  # (rows, n, width)
        named = self.head(at_labels).transpose(1, 2)
        out.loss = out.loss + hint * torch.nn.functional.cross_entropy(named, concepts.expand(-1, named.shape[2]))
        return out


@dataclass(frozen=True)
class Form:
    """The token ids of a style: `items` (items, claims, T), the `words` of the two labels, and the `separator`."""

    items: np.ndarray
    words: np.ndarray
    separator: int


def form_of(tokenizer: PreTrainedTokenizerBase, style: dict) -> Form:
    """Return the ids of a style, every piece encoded by itself. `CONCEPT_STYLE` has one claim: the answer is yes."""
    claims = CONCEPT_STYLE["label_names"] if "{claim}" in style["template"] else ("yes",)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    items = [
        [encode(style["template"].format(question=item_text(item), claim=claim)) for claim in claims]
        for item in all_items()
    ]
    words = [encode(word) for word in style["label_words"]]
    (separator,) = encode(style["separator"])
    return Form(np.array(items), np.array(words)[:, 0], separator)


def concept_batches(tokenizer: PreTrainedTokenizerBase, steps: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield `steps` batches by `STAGES`, each with one form and one number of items a sequence."""
    rng = np.random.default_rng(seed)
    forms = [form_of(tokenizer, style) for style in (CONCEPT_STYLE, CLAIM_STYLE)]
    ends = np.cumsum([stage.share for stage in STAGES]) * steps
    for step in range(steps):
        place = int(np.searchsorted(ends[:-1], step, side="right"))
        stage, before = STAGES[place], STAGES[max(place - 1, 0)]
        form = forms[int(rng.random() < stage.claims)]
        n = rng.choice(list(stage.lengths), p=list(stage.lengths.values()))
        rows = stage.tokens // (n * (form.items.shape[2] + 2))
        batch = sequences(rng, form, rows, n, tokenizer.bos_token_id, tokenizer.eos_token_id, stage.easy)
        left = (ends[place] - step) / (stage.share * steps)
        yield batch | {"hint": float(stage.hint + left * (before.hint - stage.hint))}


def sequences(
    rng: np.random.Generator, form: Form, rows: int, n: int, bos: int, eos: int, easy: bool = False
) -> dict[str, torch.Tensor]:
    """Draw sequences of `n` labelled items, each with its own concept and reliability, as a batch.

    After a label the separator is read, but the end of the turn is what the model learns to say: so it may be shown
    many labels, and gives one when asked. No item, or claim, is in a sequence twice; half of the sequences of claims
    have both claims about each item. See `Stage` for `easy`.
    """
    items, claims = _draw(rng, rows, n, form.items.shape[1])
    values = np.array(all_items())[items]  # (rows, n, features)
    drawn = rng.choice(len(PRIOR), size=(rows, 1, 1), p=None if easy else list(PRIOR.values()))
    truth = np.take_along_axis(values, drawn, 2)[..., 0] == claims  # (rows, n)
    right, wrong = np.array(list(RELIABILITY.values()))[drawn[:, 0, 0]].T
    reliability = 1.0 if easy else rng.beta(right, wrong)[:, None]
    reliable = rng.random((rows, n)) < reliability
    words = form.words[(truth == reliable).astype(int)][..., None]
    prompts = form.items[items, claims if form.items.shape[1] > 1 else 0]  # (rows, n, T)
    ids = np.concatenate([prompts, words, np.full_like(words, form.separator)], 2)
    before = np.arange(n)[:, None] * ids.shape[2] + prompts.shape[2] + [0, 1]  # positions before a label, and of it
    targets = torch.from_numpy(np.concatenate([words, np.full_like(words, eos)], 2).reshape(rows, -1))
    return {
        "input_ids": torch.from_numpy(np.concatenate([np.full((rows, 1), bos), ids.reshape(rows, -1)], 1)),
        "logits_to_keep": torch.from_numpy(before.reshape(-1)),
        "labels": targets,
        "shift_labels": targets,
        "concepts": torch.from_numpy(drawn[:, 0]),
    }


def _draw(rng: np.random.Generator, rows: int, n: int, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of each sequence, and for each item the claimed answer (1 where there are no claims)."""
    items = rng.random((rows, len(all_items()))).argsort(1)[:, :n]
    if kinds == 1:
        return items, np.ones_like(items)
    claims = rng.integers(0, 2, size=items.shape)
    paired, half = rows // 2, n // 2
    both = np.concatenate([items[:paired, :half] * 2, items[:paired, :half] * 2 + 1], 1)
    both = rng.permuted(both, axis=1)
    items[:paired, : 2 * half], claims[:paired, : 2 * half] = both // 2, both % 2
    return items, claims
