"""GGUF files for tests, written from the tiny Qwen2 peer as llama.cpp would write it."""

import re
from pathlib import Path

import numpy as np

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    model, tokenizer, path: Path, kind: str = "Q8_0", head: str | None = None, drop: str = "", other_head=None
) -> Path:
    """Writes a Qwen2 model as a GGUF file.

    Args:
        kind: Type of the matrices' blocks; those whose rows do not fit stay in float32, as norms and biases do.
        head: Type of a second copy of the embedding, as the output head.
        drop: A tensor to leave out.
        other_head: Values of that head, where they are others.
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    config = model.config
    writer = GGUFWriter(path, "qwen2")
    writer.add_name("tiny qwen")
    writer.add_license("apache-2.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([3 if token in tokenizer.all_special_tokens else 1 for token in tokens])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(tokenizer.bos_token is not None)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)

    def add(name, values, wanted):
        blocks = values.ndim == 2 and values.shape[1] % 32 == 0
        number = GGMLQuantizationType[wanted if blocks else "F32"]
        writer.add_tensor(name, quantize(values, number), raw_dtype=number)

    state = {name: value.float().numpy() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    for name, values in state.items():
        short = re.sub(r"^model\.layers\.", "blk.", name)
        for long, other in NAMES.items():
            short = short.replace(long, other)
        if short != drop:
            add(short, np.ascontiguousarray(values), kind)
    if head is not None:
        add("output.weight", state["model.embed_tokens.weight"] if other_head is None else other_head, head)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
