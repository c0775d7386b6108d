"""One reader: whoever holds the tokenizer, a prompt becomes the same tokens and a turn ends with the same one."""

import ast
import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from families import FAMILIES, build_tokenizer, random_model
from helpers import chat, reader
from jinja2.exceptions import TemplateError

import pst_rl
from pst_rl.answers import find_answer
from pst_rl.benchmarks.model import LanguageModel
from pst_rl.cli.prompt_preview import read_prompts
from pst_rl.peers.prompts import foreign_prompt, show_peers
from pst_rl.peers.reader import PromptReader, end_ids, load_tokenizer, plain_ids, start_ids
from pst_rl.peers.spec import PeerSpec, adapter_base
from pst_rl.scoring.juror import Juror

PROMPTS = [
    chat("What is 3+4?"),
    [{"role": "system", "content": "Be brief."}, *chat("What is 3+4?")],
    [*chat("3+4?"), {"role": "assistant", "content": "7"}, *chat("Sure?")],
    "Q: What is 3+4?\nA:",
]


@pytest.fixture(params=["chat", "base"])
def tokenizers(request, tiny):
    """Tokenizers with the families' own chat templates, and without any."""
    found = {peer: build_tokenizer(peer, folder) for peer, folder in tiny.items()}
    for tokenizer in found.values():
        tokenizer.chat_template = tokenizer.chat_template if request.param == "chat" else None
    return found


@pytest.fixture
def peers(config, questions, tokenizers):
    from pst_rl import PSTTrainer

    models = {peer: random_model(peer, tokenizer) for peer, tokenizer in tokenizers.items()}
    return PSTTrainer(models, config(), train_dataset=questions(), processing_classes=tokenizers).peers


def test_a_peer_reads_what_trl_would_give_it(peers):
    for engine in peers.values():
        adapted = [engine.format.adapt(prompt) for prompt in PROMPTS]
        by_trl = [list(engine._tokenize_prompts([prompt])[0][0]) for prompt in adapted]
        assert [engine.prompt_ids(prompt) for prompt in PROMPTS] == by_trl
        assert [engine.prompt_ids(prompt) for prompt in adapted] == by_trl


def test_peers_jurors_measured_models_and_the_preview_read_alike(peers, tmp_path):
    for name, engine in peers.items():
        held = engine.model, engine.tokenizer
        engine.tokenizer.save_pretrained(tmp_path / name)
        ids = [engine.prompt_ids(prompt) for prompt in PROMPTS]
        for other in (Juror(*held), LanguageModel(*held, "m", "d")):
            assert [other.prompt_ids(prompt) for prompt in PROMPTS] == ids
            assert other.text_ids("So 1 < 2.<|im_end|>") == engine.text_ids("So 1 < 2.<|im_end|>")
            assert other.end_of_turn == engine.end_of_turn
            assert other.keep_last_tokens("1 + 2 + 3 = 6", 2) == engine.keep_last_tokens("1 + 2 + 3 = 6", 2)
        preview = read_prompts(str(tmp_path / name), PROMPTS, engine.args.base_template)
        assert preview.lengths == tuple(map(len, ids)) and preview.first == engine.render(PROMPTS[0])


def test_the_text_of_a_prompt_is_what_its_tokens_say(tokenizers):
    for tokenizer in tokenizers.values():
        made = PromptReader(tokenizer)
        for prompt in PROMPTS[:3]:
            text, base = made.render(prompt), not made.format.chat
            assert made.prompt_ids(prompt) == tokenizer(text, add_special_tokens=base)["input_ids"]


def test_chat_template_arguments_reach_every_use_of_the_template(tiny):
    tokenizer = build_tokenizer("qwen2", tiny["qwen2"])
    tokenizer.chat_template = tokenizer.chat_template.replace("You are Qwen", "You are ' + author + '")
    with pytest.raises(TemplateError, match="author"):
        PromptReader(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    named = PromptReader(tokenizer, ends=[end], chat_template_kwargs={"author": "Nobody"})
    assert "You are Nobody" in named.render(chat("?")) and named.format.system and named.end_of_turn == end
    assert tokenizer.decode(named.prompt_ids(chat("?"))) == named.render(chat("?"))
    own = "{% for m in messages %}U: {{ m.content }}{% endfor %}"
    assert PromptReader(tokenizer, chat_template=own).render(chat("?")) == "U: ?"


@pytest.mark.parametrize("peer", FAMILIES)
def test_text_continues_a_prompt_without_control_tokens_unless_it_is_trusted(tiny, peer):
    tokenizer = build_tokenizer(peer, tiny[peer])
    made, end = PromptReader(tokenizer), FAMILIES[peer][2]
    assert tokenizer.convert_tokens_to_ids(end) in made.text_ids(f"7{end}", trusted=True)
    assert not set(made.text_ids(f"7{end}")) & set(tokenizer.all_special_ids)
    assert made.text_ids("7") == plain_ids(tokenizer, ["7"])[0]
    assert start_ids(tokenizer) == [tokenizer.bos_token_id]


def test_the_ends_of_a_response_are_the_models_and_the_tokenizers(tiny):
    tokenizer = build_tokenizer("qwen2", tiny["qwen2"])
    model = random_model("qwen2", tokenizer)
    declared = sorted({tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")})
    assert end_ids(model, tokenizer) == declared and reader(model, tokenizer).end_of_turn == declared[-1]
    model.generation_config.eos_token_id = None
    assert end_ids(model, tokenizer) == [tokenizer.eos_token_id] == [reader(model, tokenizer).end_of_turn]


# What a response says


TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
REASONED = "37+5=42</think><answer>42</answer>"


def tagged(tiny, peer):
    """A tokenizer to which the tags of a recipe were added as special tokens, as most recipes do."""
    tokenizer = build_tokenizer(peer, tiny[peer])
    tokenizer.add_special_tokens({"additional_special_tokens": TAGS}, replace_extra_special_tokens=False)
    return tokenizer


@pytest.mark.parametrize("peer", FAMILIES)
def test_special_tokens_in_a_response_stay_and_its_ends_go(tiny, peer):
    tokenizer = tagged(tiny, peer)
    model = random_model(peer, tokenizer)
    made, said = reader(model, tokenizer), plain_ids(tokenizer, [REASONED])[0]
    assert set(tokenizer.convert_tokens_to_ids(TAGS[1:])) < set(said)
    framed = [tokenizer.bos_token_id, *said, made.end_of_turn, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert made.response_text(framed) == made.response_text(said) == REASONED
    assert "4242" in tokenizer.decode(framed, skip_special_tokens=True)
    read = find_answer(made.response_text(framed))
    assert (read.text, read.reason) == ("42", "tag")
    measured = LanguageModel(model, tokenizer, "m", "d")._completion([*said, made.end_of_turn])
    assert measured.text == REASONED and measured.finished


@pytest.mark.parametrize("peer", FAMILIES)
def test_ordinary_responses_are_decoded_as_ever(tiny, peer):
    tokenizer, draw = load_tokenizer(tiny[peer]), Random(0)
    made = PromptReader(tokenizer)
    rows = [draw.choices(range(len(tokenizer)), k=12) for _ in range(300)] + plain_ids(
        tokenizer, ["1 + 2 , 3 . It 's 4 !", "é 🙂"]
    )
    for ids in rows:
        assert made.response_text(ids) == tokenizer.decode(ids, skip_special_tokens=True)
        assert made.response_text(ids) == tokenizer.batch_decode([ids], skip_special_tokens=True)[0]


def test_a_stop_string_cuts_behind_special_tokens_where_it_stands(trainer, tiny, monkeypatch):
    tokenizer = tagged(tiny, "llama")
    model = random_model("llama", tokenizer)
    (engine,) = trainer(peers={"llama": PeerSpec(model, processing_class=tokenizer)}, stop_strings=["\nQ:"]).engines
    kept, ids = plain_ids(tokenizer, [REASONED, REASONED + "\nQ: 3+3?"])
    monkeypatch.setattr(engine, "_complete", lambda prompt_ids: ([list(ids)], [[0.5] * len(ids)], [None]))
    said = engine.complete(["?"], [[1, 2]])
    assert (said.texts, said.completion_ids, said.finished) == ([REASONED], [kept], [True])
    assert len(said.logprobs[0]) == len(kept)
    at = REASONED.index("<answer>")
    assert engine.response_text(kept[: engine.prefix_tokens(kept, at)]) == REASONED[:at]


@pytest.mark.parametrize("peer", FAMILIES)
def test_a_special_token_in_a_response_is_broken_before_another_peer_reads_it(tiny, peer):
    tokenizer, tool = tagged(tiny, peer), "<|tool|>"
    tokenizer.add_special_tokens({"additional_special_tokens": [tool]}, replace_extra_special_tokens=False)
    made = PromptReader(tokenizer)
    said = made.response_text(plain_ids(tokenizer, [f"{REASONED}{tool}7"])[0])
    assert tool in said and TAGS[1] in said
    show = lambda prompt, texts: show_peers(prompt, texts, "\nP: {text}")  # noqa: E731
    shown, harmless = (
        Counter(made.prompt_ids(foreign_prompt(made.format, show, chat("3+4?"), [text]))) for text in (said, "42")
    )
    for token in tokenizer.convert_tokens_to_ids([tool, *TAGS]):
        assert shown[token] == harmless[token]


# Adapters


@pytest.fixture
def adapter(tmp_path, tiny):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": tiny["llama"]}))
    return tmp_path


def test_an_adapter_without_a_tokenizer_reads_by_its_bases(adapter, tiny):
    assert adapter_base(adapter) == adapter_base(str(adapter)) == tiny["llama"]
    assert load_tokenizer(adapter).name_or_path == tiny["llama"]
    build_tokenizer("qwen2", tiny["qwen2"]).save_pretrained(adapter)
    assert "<|im_end|>" in load_tokenizer(adapter).all_special_tokens


def test_a_model_with_an_adapter_beside_its_weights_is_a_model(adapter, tiny):
    (adapter / "config.json").write_text("{}")
    assert adapter_base(adapter) is None is adapter_base(tiny["llama"])


# One place


def spelled(tree):
    """The calls in a module that turn words into tokens, or messages into words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("apply_chat_template", "tokenizer", "_tokenizer", "processing_class", "_tokenize_prompts"):
                yield name
            if name == "encode" and any(keyword.arg == "add_special_tokens" for keyword in node.keywords):
                yield name


def test_words_become_tokens_in_one_place():
    root = Path(pst_rl.__file__).parent
    found = {str(path.relative_to(root)): set(spelled(ast.parse(path.read_text()))) for path in root.rglob("*.py")}
    assert {path: calls for path, calls in found.items() if calls} == {
        "peers/reader.py": {"apply_chat_template", "tokenizer", "_tokenizer"},
        "peers/prompts.py": {"apply_chat_template"},  # asks the template what it accepts
        "benchmarks/verifiers.py": {"tokenizer"},  # pads conversations that are already text
    }


# What is put around a prompt


def test_nothing_but_what_begins_is_put_around_a_plain_prompt(tiny):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny["llama"])
    tokenizer.chat_template = None
    names = (tokenizer.bos_token, tokenizer.eos_token)
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    plain = plain_ids(tokenizer, ["Question: 2+2?\nAnswer:"])[0]
    begin, end = names
    for around, front in (("$A", 0), (f"{begin} $A", 1), (f"$A {end}", 0), (f"{begin} $A {end}", 1)):
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=around, special_tokens=ids)
        assert PromptReader(tokenizer).prompt_ids(chat("2+2?")) == [token for _, token in ids[:front]] + plain


@pytest.mark.parametrize("words", [{"tokenize": False}, {"messages": []}, {"add_generation_prompt": False}])
def test_words_that_are_not_the_templates_are_refused(tiny, words):
    with pytest.raises(ValueError, match="is not for the template"):
        PromptReader(load_tokenizer(tiny["llama"]), chat_template_kwargs=words)


def test_a_chat_template_is_told_names_with_values(tiny):
    with pytest.raises(ValueError, match="must be names with values"):
        PromptReader(load_tokenizer(tiny["llama"]), chat_template_kwargs="thinking")
