"""Control tokens of the families in use, as a hostile response may write them."""

TOKENS = [
    *"<bos> <eos> <pad> <unk> <mask> </s> <s> <start_of_turn> <end_of_turn> <think> </think> [INST] [/INST]".split(),
    *"<|im_start|> <|im_end|> <|endoftext|> <|eot_id|> <|start_header_id|> <|end_header_id|>".split(),
    *"<|begin_of_text|> <|end_of_text|> <|finetune_right_pad_id|> <|python_tag|> <｜User｜> <0x0A>".split(),
]
WIDE = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)})
