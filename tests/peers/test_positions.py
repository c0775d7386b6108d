"""Position ids of padded rows, and windows of models that state none."""

import sys

import pytest
import torch
from transformers import BertConfig, BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, MambaConfig, MptConfig

from pst_rl import PeerSpec
from pst_rl.peers.positions import pass_positions, positions_of, reading_window, takes_positions
from pst_rl.peers.reader import load_tokenizer

SMALL = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": 50}


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (GPT2Config(n_positions=77), 77),
        (BertConfig(max_position_embeddings=33), 33),
        (MptConfig(max_seq_len=99), 99),
        (MambaConfig(), sys.maxsize),
        (BloomConfig(), sys.maxsize),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_reading_window(config, window):
    assert reading_window(config) == window


def test_a_peer_without_a_window_takes_any_prompt_and_trains(trainer, tiny):
    model = BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=2, vocab_size=512, pad_token_id=2))
    peer = PeerSpec(model=model, processing_class=load_tokenizer(tiny["llama"]))
    run = trainer({"bloom": peer}, max_steps=1, max_completion_length=4)
    assert run.engines[0].prompt_room == sys.maxsize - 4 and run.engines[0].count_tokens("x" * 9999) < sys.maxsize
    run.train()


def test_positions_count_each_rows_own_tokens():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert positions_of(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]


def test_positions_are_passed_where_none_are_and_behind_a_cache():
    model = GPT2LMHeadModel(GPT2Config(**SMALL)).eval()
    seen = []
    model.transformer.wpe.register_forward_hook(lambda module, args, output: seen.append(args[0].tolist()))
    hook = pass_positions(model)
    ids, mask = torch.tensor([[3, 3, 5, 6], [7, 8, 9, 4]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        cache = model(input_ids=ids, attention_mask=mask).past_key_values
        model(input_ids=ids[:, :1], attention_mask=torch.cat([mask, mask[:, -1:]], 1), past_key_values=cache)
        given = torch.tensor([[4, 3, 2, 1]] * 2)
        model(input_ids=ids, attention_mask=mask, position_ids=given)
        hook.remove()
        model(input_ids=ids, attention_mask=mask)
    assert seen == [[[0, 0, 0, 1], [0, 1, 2, 3]], [[2], [4]], given.tolist(), [[0, 1, 2, 3]]]
    assert takes_positions(model)
