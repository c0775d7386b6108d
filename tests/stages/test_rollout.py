import pytest
from helpers import chat
from speakers import Speaker, a_rollout, request, speakers

from pst_rl.stages.rollout import UNPARSED, fit_prompt, parse, roll_out, speaking_orders

# Orders


def test_a_fixed_order_is_the_peers_own():
    assert speaking_orders("fixed", 3, 2, block=5, seed=0) == [(0, 1, 2)] * 2


def test_a_rotating_order_starts_one_peer_later_in_each_batch():
    starts = [speaking_orders("rotating", 3, 2, block, seed=0) for block in range(4)]
    assert starts == [[order] * 2 for order in [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]]


def test_a_random_order_differs_by_question_and_batch_but_not_by_process():
    orders = speaking_orders("random", 3, 40, block=1, seed=0)
    assert len(set(orders)) == 6 and all(sorted(order) == [0, 1, 2] for order in orders)
    assert orders == speaking_orders("random", 3, 40, block=1, seed=0)
    assert orders != speaking_orders("random", 3, 40, block=2, seed=0)
    assert orders != speaking_orders("random", 3, 40, block=1, seed=1)


def test_a_random_order_leaves_the_global_generator_alone():
    import random

    state = random.getstate()
    speaking_orders("random", 3, 4, block=0, seed=0)
    assert random.getstate() == state


# Who reads whom


def test_independent_peers_see_only_the_question():
    peers = speakers()
    roll_out(peers, request(sequential=False))
    assert [p.seen for p in peers] == [["2+2?"]] * 3


def test_later_peers_read_earlier_answers_oldest_first():
    peers = speakers()
    roll_out(peers, request())
    assert [p.seen for p in peers] == [["2+2?"], ["2+2?|= 0"], ["2+2?|= 0|= 1"]]


def test_later_peers_may_read_whole_responses():
    peers = speakers("ab")
    roll_out(peers, request(orders=[(0, 1)], peer_context="responses"))
    assert peers[1].seen == ["2+2?|a says #### 0"]


@pytest.mark.parametrize(("peer_context", "shown"), [("answers", UNPARSED), ("responses", "a says #### 0")])
def test_a_response_without_an_answer_is_shown_as_such(peer_context, shown):
    peers = speakers("ab", finished=False)
    roll_out(peers, request(orders=[(0, 1)], peer_context=peer_context))
    assert peers[1].seen == [f"2+2?|{shown}"]


def test_rows_follow_their_own_order_and_come_back_in_row_order():
    peers = speakers()
    joint = roll_out(peers, request(["p?", "q?"], orders=[(0, 1, 2), (2, 0, 1)]))
    assert [p.seen for p in peers] == [["p?", "q?|= 0"], ["p?|= 0", "q?|= 0|= 1"], ["q?", "p?|= 0|= 1"]]
    c = joint.rollouts[2]
    assert c.prompts == [chat("p?|= 0|= 1"), chat("q?")]
    assert [a.text for a in c.answers] == ["2", "0"]
    assert "".join(map(chr, c.completion_ids[0])) == c.texts[0] == " c says #### 2"
    assert c.logprobs == [[-1.0]] * 2


def test_each_row_is_answered_once_by_each_peer_in_few_calls():
    peers = speakers()
    roll_out(peers, request(["p?", "q?", "r?"], greedy=True))
    assert [p.calls for p in peers] == [[(3, True)]] * 3


# Answers


@pytest.mark.parametrize(("parse_truncated", "answer"), [(False, None), (True, "4")])
def test_a_response_that_was_cut_off_counts_only_on_request(parse_truncated, answer):
    parsed = parse(a_rollout(["?"], ["#### 4"], finished=False), request(parse_truncated=parse_truncated))
    assert (parsed.answers[0] and parsed.answers[0].text) == answer


# Prompts that would be too long


def test_a_prompt_that_fits_is_left_alone():
    fitted = fit_prompt(Speaker("a", room=14), request(), chat("2+2?"), ["1234", "5678"])
    assert (fitted.prompt, fitted.shortened, fitted.overlong) == (chat("2+2?|1234|5678"), 0, 0)


def test_the_oldest_peer_is_shortened_first_and_keeps_its_end():
    fitted = fit_prompt(Speaker("a", room=12), request(), chat("2+2?"), ["1234", "5678"])
    assert (fitted.prompt, fitted.shortened, fitted.overlong) == (chat("2+2?|34|5678"), 1, 0)


def test_the_next_peer_is_shortened_once_the_oldest_is_used_up():
    fitted = fit_prompt(Speaker("a", room=9), request(), chat("2+2?"), ["1234", "5678"])
    assert fitted.prompt == chat("2+2?||678")


def test_the_question_is_never_shortened():
    fitted = fit_prompt(Speaker("a", room=3), request(), chat("2+2?"), ["1234"])
    assert (fitted.prompt, fitted.shortened, fitted.overlong) == (chat("2+2?|"), 1, 1)


def test_a_long_question_alone_is_counted_but_not_as_shortened():
    fitted = fit_prompt(Speaker("a", room=3), request(), chat("2+2?"), [])
    assert (fitted.prompt, fitted.shortened, fitted.overlong) == (chat("2+2?"), 0, 1)


def test_shortened_prompts_are_counted_over_peers_and_rows():
    joint = roll_out(speakers(room=6), request(["2+2?", "3+3?"]))
    assert (joint.shortened, joint.overlong) == (4, 0)


# Real peers


@pytest.fixture
def engine(trainer, tiny):
    """`engine(peer)`: one tiny peer ready to answer."""
    return lambda peer, **config: trainer({"one": tiny[peer]}, **config).engines[0]


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_a_real_peer_answers_in_its_own_tokens(engine, peer):
    peer = engine(peer)
    rollout = peer.answer([chat("What is 2+3?")] * 2, greedy=True)
    assert rollout.texts[0] == rollout.texts[1]
    assert "####" in rollout.texts[0] and rollout.finished == [True, True]
    assert rollout.completion_ids[0][-1] == peer.end_of_turn
    assert rollout.prompt_ids[0] == peer.prompt_ids(chat("What is 2+3?"))


def test_greedy_answers_repeat_and_sampled_ones_do_not(engine):
    peer = engine("llama", temperature=1.5)
    asked = [chat("What is 28+47?")] * 16
    assert len(set(peer.answer(asked, greedy=True).texts)) == 1
    assert len(set(peer.answer(asked).texts)) > 1


def test_greedy_answering_leaves_the_sampling_settings_as_they_were(engine):
    peer = engine("llama")
    before = peer.generation_config, dict(peer.generation_kwargs)
    peer.answer([chat("What is 2+3?")], greedy=True)
    assert (peer.generation_config, peer.generation_kwargs) == before


def test_a_response_that_fills_the_completion_length_is_not_finished(engine):
    rollout = engine("llama", max_completion_length=3).answer([chat("What is 28+47?")], greedy=True)
    assert rollout.finished == [False]
    assert len(rollout.completion_ids[0]) == 3


def test_an_empty_response_becomes_one_end_of_turn_token(engine, monkeypatch):
    peer = engine("llama")
    monkeypatch.setattr(peer, "_generate_single_turn", lambda *_, **__: ([[]], [[]]))
    rollout = peer.answer([chat("?")])
    assert (rollout.completion_ids, rollout.logprobs) == ([[peer._tokenizer.eos_token_id]], [[0.0]])
    assert (rollout.texts, rollout.finished) == ([""], [True])


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_a_long_text_loses_its_beginning(engine, peer):
    peer = engine(peer)
    text = "6+5=11. 11+4=15. #### 15"
    kept = peer.keep_last_tokens(text, 5)
    assert text.endswith(kept) and "#### 15" in kept
    assert len(peer.text_ids(kept)) <= len(peer.text_ids(text)) - 5
    assert peer.keep_last_tokens(text, 1000) == ""


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_a_sequential_prompt_is_shortened_to_leave_room_for_the_answer(engine, peer):
    peer = engine(peer)
    fitted = fit_prompt(peer, request(), chat("What is 2+3?"), ["9" * 3000, "#### 5"])
    content = fitted.prompt[0]["content"]
    assert content.startswith("What is 2+3?|9") and content.endswith("9|#### 5")
    assert 900 < len(peer.prompt_ids(fitted.prompt)) <= 1024 - 40
    assert (fitted.shortened, fitted.overlong) == (1, 0)


@pytest.mark.parametrize("drop", range(5))
def test_a_cut_inside_a_character_leaves_whole_characters_only(engine, drop):
    kept = engine("qwen2").keep_last_tokens("\N{GRINNING FACE}" * 9, drop)  # four tokens each
    assert set(kept) == {"\N{GRINNING FACE}"} and len(kept) in (7, 8)


def test_short_prompts_are_not_tokenised_to_be_counted(engine, monkeypatch):
    peer = engine("llama")
    monkeypatch.setattr(peer, "prompt_ids", lambda prompt: pytest.fail("tokenised"))
    assert peer.count_tokens(chat("What is 2+3?")) <= peer.prompt_room
