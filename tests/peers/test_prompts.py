import pytest
from helpers import chat
from transformers import AutoTokenizer

from pst_rl.peers.prompts import PromptFormat, cut_at_stop, prompt_text, show_peers

BASE = "Question: {prompt}\nAnswer:"
CHAT = PromptFormat(chat=True, system=True, base_template=BASE)
GEMMA = PromptFormat(chat=True, system=False, base_template=BASE)
SYSTEM = {"role": "system", "content": "Be brief."}


def turns(*contents):
    return [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]


@pytest.fixture(scope="module")
def tokenizer(tiny):
    """`tokenizer(template)`: a tokenizer with this chat template."""

    def build(template):
        tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
        tokenizer.chat_template = template
        return tokenizer

    return build


# Showing earlier peers


def test_earlier_peers_stand_in_the_last_user_message_oldest_first():
    shown = show_peers(turns("1+1?", "2", "2+2?"), ["4", "5"], "\nP: {text}")
    assert shown == turns("1+1?", "2", "2+2?\nP: 4\nP: 5")


def test_earlier_peers_follow_a_plain_text_prompt():
    assert show_peers("2+2?", ["4"], " [{text}]") == "2+2? [4]"


def test_braces_in_a_peers_text_are_left_alone():
    assert show_peers("?", ["\\boxed{4} {text}"], " {text}") == "? \\boxed{4} {text}"


def test_the_prompt_itself_is_not_changed():
    prompt = chat("2+2?")
    show_peers(prompt, ["4"], "{text}")
    assert prompt == chat("2+2?")


def test_prompt_text_drops_the_roles():
    assert prompt_text([SYSTEM, *chat("2+2?")]) == "Be brief.\n\n2+2?"


# What a template accepts


@pytest.mark.parametrize(("peer", "system"), [("gemma2", False), ("llama", True), ("qwen2", True)])
def test_the_template_is_asked_whether_it_takes_a_system_role(tiny, peer, system):
    found = PromptFormat.of(AutoTokenizer.from_pretrained(tiny[peer]), BASE)
    assert (found.chat, found.system) == (True, system)


def test_a_template_that_drops_the_system_text_does_not_take_it(tokenizer):
    loop = (
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    )
    assert not PromptFormat.of(tokenizer(loop), BASE).system


def test_a_tokenizer_without_template_is_a_base_models(tokenizer):
    assert not PromptFormat.of(tokenizer(None), BASE).chat


# Adapting


def test_system_text_opens_the_next_user_message_where_there_is_no_such_role():
    assert GEMMA.adapt([SYSTEM, *turns("a", "b", "c")]) == turns("Be brief.\n\na", "b", "c")


def test_a_system_message_stays_where_the_template_takes_it():
    prompt = [SYSTEM, *chat("a")]
    assert CHAT.adapt(prompt) == prompt


def test_neighbours_of_one_role_are_merged():
    assert CHAT.adapt([*chat("a"), *chat("b")]) == chat("a\n\nb")


def test_system_text_between_two_user_messages_is_merged_in_order():
    assert GEMMA.adapt([*chat("a"), SYSTEM, *chat("b")]) == chat("a\n\nBe brief.\n\nb")


def test_system_text_at_the_end_is_not_lost():
    assert "Be brief." in prompt_text(GEMMA.adapt([*chat("a"), SYSTEM]))


def test_messages_become_the_base_template_without_a_chat_template():
    base = PromptFormat(chat=False, system=False, base_template=BASE)
    assert base.adapt([SYSTEM, *chat("2+2?")]) == "Question: Be brief.\n\n2+2?\nAnswer:"


@pytest.mark.parametrize("format", [CHAT, GEMMA, PromptFormat(chat=False, system=False, base_template=BASE)])
def test_plain_text_is_left_as_it_is(format):
    assert format.adapt("2+2=") == "2+2="


# Stop strings


@pytest.mark.parametrize(
    ("text", "stops", "at"),
    [("4\nQ: 3", ["\nQ:"], 1), ("4 B A", ["A", "B"], 2), ("4", ["\nQ:"], None), ("4", [], None), ("Q", ["Q"], 0)],
)
def test_a_text_is_cut_where_the_first_stop_string_begins(text, stops, at):
    assert cut_at_stop(text, stops) == at
