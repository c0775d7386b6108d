"""The tiny peers' tokenizers: three vocabularies, each in its family's own tokenizer class.

`AutoTokenizer` rebuilds a Gemma or Qwen2 tokenizer from the vocabulary and merges alone, with that family's own
normalizer and splitting rules; rules of another kind in `tokenizer.json` would be dropped without a word. So each
vocabulary here is one that its family's rules serve.
"""

import json
from collections.abc import Callable, Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GemmaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

MAX_LENGTH = 1024
"""Context of the tiny peers, in tokens."""

_GEMMA_VOCAB, _LLAMA_VOCAB = 256, 512
_TURNS = (
    "{{ 'Q: ' + message['content'] + '\\n' if message['role'] == 'user' "
    "else 'A: ' + (message['content'] | trim) + eos_token + '\\n' }}"
)
_GENERATION_PROMPT = "{{ 'A:' if add_generation_prompt }}"
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n' }}{% else %}" + _TURNS + "{% endif %}"
    "{% endfor %}" + _GENERATION_PROMPT
)
# As in Gemma's own template: no system role, and turns alternate.
_GEMMA_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    + _TURNS
    + "{% endfor %}"
    + _GENERATION_PROMPT
)


def build_tokenizer(name: str, corpus: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the peer `"gemma2"`, `"llama"` or `"qwen2"`, its merges learned from `corpus`.

    Gemma2: 256 tokens, word pieces with their leading space, single digits, `<unk>` for anything but printable ASCII
    and newline. Llama: 512 byte-level tokens, numbers in groups of up to two digits from the right. Qwen2: single
    bytes (characters, for ASCII).
    """
    return _BUILDERS[name](corpus)


def _gemma2(corpus: Iterable[str]) -> PreTrainedTokenizerBase:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    # Merges hold letters only, so they act the same without this split, which Gemma's class does not have.
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[A-Za-z]+|[^A-Za-z]"), "isolated")
    alphabet = ["▁", "\n", *map(chr, range(ord("!"), ord("~") + 1))]
    trainer = trainers.BpeTrainer(
        vocab_size=_GEMMA_VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator((text.replace(" ", "▁") for text in corpus), trainer)
    vocab, merges = _vocab_and_merges(trained)
    return GemmaTokenizer(
        vocab=vocab, merges=merges, add_bos_token=True, chat_template=_GEMMA_CHAT_TEMPLATE, **_common()
    )


def _llama(corpus: Iterable[str]) -> PreTrainedTokenizerBase:
    bos, eos, pad = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"
    tokenizer = Tokenizer(models.BPE())
    number = r"\d{1,2}(?=(?:\d{2})*(?!\d))"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{number}| ?[A-Za-z]+|[^A-Za-z\d]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_LLAMA_VOCAB,
        special_tokens=[bos, eos, pad],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        chat_template=_CHAT_TEMPLATE,
        **_common(),
    )


def _qwen2(corpus: Iterable[str]) -> PreTrainedTokenizerBase:
    pad, bos, eos = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
    vocab = {token: i for i, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), pad, bos, eos])}
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=[],
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        add_bos_token=True,
        chat_template=_CHAT_TEMPLATE,
        **_common(),
    )


def _vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _common() -> dict[str, object]:
    return {"padding_side": "left", "model_max_length": MAX_LENGTH, "clean_up_tokenization_spaces": False}


_BUILDERS: dict[str, Callable[[Iterable[str]], PreTrainedTokenizerBase]] = {
    "gemma2": _gemma2,
    "llama": _llama,
    "qwen2": _qwen2,
}
