"""The tiny peers' models: the three families' own architectures, small enough to pretrain on a laptop's CPU."""

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tiny_models.tokenizers import MAX_LENGTH

_HIDDEN, _LAYERS, _HEADS, _KEY_VALUE_HEADS = 96, 3, 4, 2
_HEAD_DIM = _HIDDEN // _HEADS


def build_model(name: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return the untrained fp32 model of the peer `"gemma2"`, `"llama"` or `"qwen2"` (about 0.3 M parameters)."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": _HIDDEN,
        "intermediate_size": _HIDDEN * 5 // 2,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "max_position_embeddings": MAX_LENGTH,
        "tie_word_embeddings": True,
        "initializer_range": 0.05,
        **special,
    }
    torch.manual_seed(seed)
    if name == "gemma2":
        config = Gemma2Config(**common, head_dim=_HEAD_DIM, query_pre_attn_scalar=_HEAD_DIM, sliding_window=256)
        model = Gemma2ForCausalLM(config)
    elif name == "llama":
        model = LlamaForCausalLM(LlamaConfig(**common, head_dim=_HEAD_DIM))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**common))
    model.generation_config = GenerationConfig(**special, max_new_tokens=64)
    return model
