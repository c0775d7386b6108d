"""Tiny random models of the causal architectures of transformers: their configurations, shrunk."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 512
LAYERS = 4

_SIZES: dict[int, str] = {
    4: "num_hidden_layers n_layer n_layers num_layers num_attention_heads n_head n_heads decoder_attention_heads "
    "encoder_attention_heads num_heads num_decoder_attention_heads num_encoder_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts mamba_n_heads mamba_num_heads mamba_dt_rank time_step_rank "
    "linear_num_value_heads linear_num_heads",
    2: "decoder_layers encoder_layers num_decoder_layers num_encoder_layers num_key_value_heads num_experts_per_tok "
    "num_experts_per_token moe_k index_n_heads linear_num_key_heads mamba_expand num_global_key_value_heads",
    1: "n_group topk_group n_shared_experts num_shared_experts first_k_dense_replace n_groups mamba_n_groups "
    "num_expert_group",
    16: "head_dim dim_head kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim sliding_window window_size "
    "attention_window_size index_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_state "
    "ssm_state_size state_size mamba_chunk_size chunk_size hidden_size_per_layer_input attention_head_size "
    "rotary_dim hc_lowrank",
    32: "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size q_lora_rank "
    "qk_head_dim mamba_d_head mamba_head_dim global_head_dim router_hidden_size",
    64: "hidden_size n_embd d_model dim_model emb_dim embedding_size intermediate_size ffn_dim decoder_ffn_dim "
    "encoder_ffn_dim dim_ff d_ff dff d_inner expert_ffn_hidden_size ffn_hidden_size lru_width feed_forward_size "
    "shared_intermediate_size moe_shared_expert_intermediate_size",
    128: "n_inner mamba_d_ssm",
    512: "max_position_embeddings n_positions index_topk vocab_size_per_layer_input max_seq_len",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
_PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
_HYBRID = ["linear_attention", "full_attention"] * 2

OVERRIDES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2, "layer_types": _HYBRID},
    "bamba": {"attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _PLAIN, "sliding_attention": _PLAIN}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "n_shared_experts": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0] * LAYERS},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": _HYBRID},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": _HYBRID},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": {
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 512},
        **{"indexer_compress_ratio": 4, "ngram_vocab_size_base": 97, "split_ngram_parts": 2, "ple_embed_dim": 64},
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
    },
    "reformer": {"axial_pos_shape": [16, 32], "axial_pos_embds_dim": [16, 48]},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}

VARIANTS: dict[str, dict[str, Any]] = {
    "falcon@alibi": {"alibi": True},
    "falcon@mq": {"multi_query": True, "new_decoder_architecture": False},
    "falcon_h1@scaled": {"lm_head_multiplier": 0.5, "embedding_multiplier": 2.0, "key_multiplier": 0.5},
    "gemma2@cap": {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 2.0},
    "inkling2_text@cap": {"final_logit_softcapping": 2.0},
    "gemma3_text@pattern": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma3n_text@kvshared": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_text@cap": {"final_logit_softcapping": 2.0},
    "gemma4_text@kvshared": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_text@moe": {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "gpt2@scaled": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "granite@scaled": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "granitemoe@scaled": {"logits_scaling": 4.0, "embedding_multiplier": 3.0},
    "hyperclovax@scaled": {"logits_scaling": 0.25},
    "llama4_text@tune": {"attn_temperature_tuning": True, "floor_scale": 8, "attn_scale": 0.5},
    "llama@dynamic": {"rope_parameters": _PLAIN | {"rope_type": "dynamic", "factor": 2.0}},
    "llama@yarn": {
        "rope_parameters": _PLAIN | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    },
    "ministral3@scaled": {
        "rope_parameters": _PLAIN
        | {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "llama_4_scaling_beta": 0.5,
        }
    },
    "nanochat@cap": {"final_logit_softcapping": 2.0},
    "phi3@longrope": {
        "original_max_position_embeddings": 20,
        "rope_parameters": _PLAIN
        | {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "factor": 4.0}
        | {"original_max_position_embeddings": 20},
    },
    "qwen2@swa": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3@swa": {"use_sliding_window": True, "max_window_layers": 2},
    "recurrent_gemma@cap": {"logits_soft_cap": 2.0},
}


OTHER_INPUTS = set(
    """blt dots3_note emu3 fuyu gemma3n gemma4_assistant gemma4_unified gemma4_unified_assistant git got_ocr2 gpt-sw3
    internlm3 iquestcoder llama4 mllama moshi moss_transcribe_diarize musicgen musicgen_melody phi4_multimodal
    qwen3_5_moe qwen4_exp trocr whisper""".split()
)  # what reads images, sound or bytes, drafts for another model, or has the classes of one that is listed


def architectures() -> list[str]:
    """The keys of transformers' map of causal language models that read text, and the variants."""
    return sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - OTHER_INPUTS | {*VARIANTS})


def tiny_config(name: str, token_ids: dict[str, int | None]) -> PretrainedConfig:
    """The configuration of the language model of an architecture (or `architecture@variant`), shrunk.

    Args:
        token_ids: `bos_token_id` and so on.
    """
    kind = name.split("@")[0]
    default = CONFIG_MAPPING[kind]().get_text_config()
    stated = default.to_dict()
    chosen: dict[str, Any] = {"vocab_size": VOCABULARY}
    for key, value in stated.items():
        if key in _SMALL and isinstance(value, int) and not isinstance(value, bool):
            chosen[key] = min(_SMALL[key], value) if key.startswith("sliding") else _SMALL[key]
        elif key.endswith("_token_id"):
            chosen[key] = token_ids.get(key, None if value is None else 0)
        elif key == "is_decoder":
            chosen[key] = True
    if "kv_lora_rank" in chosen and "num_key_value_heads" in chosen:
        chosen["num_key_value_heads"] = chosen["num_attention_heads"]  # latent attention expands to every head
    if stated.get("head_dim", 0) is None:
        chosen["head_dim"] = 16
    return type(default)(**chosen | OVERRIDES.get(kind, {}) | VARIANTS.get(name, {}))


def tiny_model(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A model with random weights that are large enough for its next tokens to differ in probability."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx].normal_(0.0, 0.08)  # as in a trained model, not zeros
    return model.eval()
