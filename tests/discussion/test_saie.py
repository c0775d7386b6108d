from random import Random
from types import SimpleNamespace

import pytest
from helpers import group, response, targets

from pst_rl.answers import find_answer
from pst_rl.discussion import RolloutContext
from pst_rl.discussion.saie import SAIERollout
from pst_rl.discussion.stances import STANCES, make_stance
from pst_rl.peers.prompts import PromptFormat
from pst_rl.records import LocalRows, Rollout, Turn
from pst_rl.rewards.saie import SAIE
from pst_rl.stages.rollout import RolloutRequest

END = 0
TEXT = {
    "form": "text",
    "support_template": "|S {draft}",
    "attack_template": "|A {draft}",
    "neutral_template": "|N {draft}",
    "revise_template": "[{remark}]",
}


class Peer:
    """A peer whose tokens are characters, that says what it is told to and remembers what it was asked."""

    def __init__(self, remark="no", revision=" #### 7", trainable=True, room=1000, chat=False, end=(END,)):
        self.spec = SimpleNamespace(trainable=trainable)
        self.format = PromptFormat(chat=chat, system=False, base_template="{prompt}")
        self.prompt_room, self.max_completion_length = room, 10
        self.eos_token_ids, self.end_of_turn = [END], END
        self.remark, self.revision, self.end = remark, revision, list(end)
        self.asked, self.contexts = [], []

    def answer(self, prompts, greedy=False):
        self.asked.append(prompts)
        return said([self.remark(p) if callable(self.remark) else self.remark for p in prompts], prompts)

    def complete(self, prompts, contexts, greedy=False):
        self.contexts.append(["".join(map(chr, ids)) for ids in contexts])
        return said([self.revision] * len(prompts), prompts, self.end)

    def text_ids(self, text, trusted=False):
        return [ord(c) for c in text]

    def user_turn_ids(self, text):
        return self.text_ids(f"<{text}>")

    def count_tokens(self, prompt):
        return len(prompt)

    def keep_last_tokens(self, text, drop):
        return text[drop:]


def said(texts, prompts, end=(END,)):
    return Rollout(
        prompts=prompts,
        prompt_ids=[[ord(c) for c in prompt] for prompt in prompts],
        completion_ids=[[*map(ord, text), *end] for text in texts],
        logprobs=[[-1.0] * (len(text) + len(end)) for text in texts],
        texts=texts,
        answers=[find_answer(text, style="hash") for text in texts],
        finished=[bool(end)] * len(texts),
    )


def context(peers, texts, made, finished=True, offset=0, **fields):
    """Every peer answered `texts[question][chain]`; the target of all chains of a question is `made[question]`."""
    chains = len(texts[0])
    prompts = [f"{q}?" for q in range(len(texts)) for _ in range(chains)]
    rollout = said([text for row in texts for text in row], prompts, [END] if finished else [])
    request = RolloutRequest(
        prompts=prompts,
        orders=[],
        build_prompt=lambda prompt, previous: prompt,
        extract_answer=lambda text: find_answer(text, style="hash"),
        sequential=False,
        peer_context="answers",
        answer_template="#### {answer}",
        parse_truncated=False,
    )
    rows = [[response(None, text) for text in row] for row in texts]
    goals = targets([[[answer] * chains for answer in made]] * len(peers))
    batch = group([rows] * len(peers), targets=goals, **fields)
    return RolloutContext(
        peers, request, [{}] * len(prompts), [rollout] * len(peers), batch, LocalRows(offset, len(prompts), chains)
    )


def discussed(peers=None, texts=((" #### 5", " #### 6"),), made=("5",), options=None, **fields):
    peers = peers or [Peer(), Peer(trainable=False)]
    return SAIERollout(**TEXT | (options or {})).respond(context(peers, texts, made, **fields))


# Stances


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("by_agreement", "support", "attack"),
        ("inverse", "attack", "support"),
        ("support_only", "support", "support"),
        ("adversarial_only", "attack", "attack"),
        ("neutral", "", ""),
    ],
)
def test_a_stance_is_chosen_by_agreement_with_the_target(name, right, wrong):
    assert (STANCES[name](True, Random(0)), STANCES[name](False, Random(0))) == (right, wrong)


def test_a_random_stance_supports_with_its_probability():
    policy, rng = make_stance("random", 0.25), Random(0)
    drawn = [policy(None, rng) for _ in range(2000)]
    assert set(drawn) == {"support", "attack"}
    assert 0.21 < drawn.count("support") / 2000 < 0.29


def test_an_unknown_stance_is_refused():
    with pytest.raises(ValueError, match="choose one of by_agreement, .*random"):
        make_stance("kind", 0.5)


# The rows


def test_a_row_is_answer_remark_and_revision_with_the_spans_of_the_peers_own_tokens():
    rollout = discussed()[0]
    turn = rollout.turns[0][0]
    row = rollout.completion_ids[0]
    assert "".join(map(chr, row)) == " #### 5\0[no] #### 7\0"
    assert "".join(map(chr, row[turn.start : turn.stop])) == " #### 7\0"
    assert (turn.remark, turn.stance, turn.text, turn.key, turn.finished) == ("no", "support", " #### 7", "7", True)
    assert rollout.logprobs[0] == [-1.0] * 8 + [0.0] * 4 + [-1.0] * 8


def test_first_answers_stay_what_they_were():
    rollout = discussed()[0]
    assert rollout.texts == [" #### 5", " #### 6"] and [a.key for a in rollout.answers] == ["5", "6"]


def test_the_partner_reads_question_draft_and_instruction_of_the_stance():
    learner, partner = Peer(), Peer(trainable=False)
    discussed([learner, partner])
    assert partner.asked == [["0?|S #### 5", "0?|A #### 6"]]
    assert learner.asked == []


def test_the_learner_revises_in_its_own_context():
    learner = Peer()
    discussed([learner, Peer(trainable=False)])
    assert learner.contexts == [["0? #### 5\0[no]", "0? #### 6\0[no]"]]


def test_a_second_turn_is_about_the_revised_answer_and_follows_the_first():
    learner, partner = Peer(), Peer(trainable=False)
    rollout = discussed([learner, partner], options={"turns": 2})[0]
    assert partner.asked[1] == ["0?|A #### 7"] * 2
    assert learner.contexts[1][0] == "0? #### 5\0[no] #### 7\0[no]"
    first, second = rollout.turns[0]
    assert (first.start, first.stop, second.start, second.stop) == (12, 20, 24, 32)


def test_the_callers_rollout_is_not_changed():
    given = context([Peer(), Peer()], [[" #### 5"]], ["5"])
    SAIERollout(**TEXT).respond(given)
    assert len(given.rollouts[0].completion_ids[0]) == 8 and given.rollouts[0].turns is None


def test_every_trainable_peer_is_a_learner_and_a_frozen_one_is_not():
    rollouts = discussed([Peer(), Peer(), Peer(trainable=False)])
    assert [r.turns is None for r in rollouts] == [False, False, True]


def test_without_a_target_nothing_is_discussed():
    learner = Peer()
    rollout = discussed([learner, Peer()], texts=((" #### 5",), (" #### 5",)), made=(None, "5"))[0]
    assert [len(turns) for turns in rollout.turns] == [0, 1]
    assert rollout.completion_ids[0] == [*map(ord, " #### 5"), END]
    assert len(learner.contexts[0]) == 1


def test_an_unparsed_answer_is_attacked():
    assert discussed(texts=((" hm",),))[0].turns[0][0].stance == "attack"


def test_an_answer_that_was_cut_off_has_no_later_turn():
    assert discussed(finished=False)[0].turns == [(), ()]


def test_a_revision_that_was_cut_off_is_the_last_turn():
    rollout = discussed([Peer(end=()), Peer()], options={"turns": 3})[0]
    assert [len(turns) for turns in rollout.turns] == [1, 1]
    assert rollout.turns[0][0].answer is None


def test_a_silent_partner_ends_the_discussion():
    assert discussed([Peer(), Peer(remark=" ")])[0].turns == [(), ()]


def test_before_the_warmup_is_over_there_is_no_discussion():
    options = {"warmup_steps": 3}
    assert discussed(options=options, step=2)[0].turns is None
    assert discussed(options=options, step=3)[0].turns[0]


def test_a_process_takes_the_targets_of_its_own_rows():
    partner = Peer(trainable=False)
    given = context([Peer(), partner], [[" #### 5"], [" #### 5"]], ["4", "5"])
    cut = Rollout(**{k: v[1:] if isinstance(v, list) else v for k, v in given.rollouts[0].__dict__.items()})
    request = SimpleNamespace(**given.request.__dict__ | {"prompts": ["1?"]})
    request = RolloutRequest(**request.__dict__)
    SAIERollout(**TEXT).respond(
        RolloutContext(given.engines, request, [{}], [cut, cut], given.group, LocalRows(1, 1, 1))
    )
    assert partner.asked == [["1?|S #### 5"]]


# Length


def test_a_remark_loses_its_beginning_to_fit_the_learners_window():
    learner = Peer(room=2 + 8 + 5)
    rollout = discussed([learner, Peer(remark="12345")], texts=((" #### 5",),))[0]
    assert rollout.turns[0][0].remark == "345"
    assert learner.contexts == [["0? #### 5\0[345]"]]


@pytest.mark.parametrize(("room", "turns"), [(2 + 8 + 3, 1), (2 + 8 + 2, 0), (5, 0)])
def test_a_row_into_which_no_remark_fits_has_no_later_turn(room, turns):
    rollout = discussed([Peer(room=room), Peer(remark="12345")], texts=((" #### 5",),))[0]
    assert len(rollout.turns[0]) == turns


def test_a_row_may_be_bounded():
    bound = {"max_row_tokens": 8 + 4 + 10, "turns": 3}  # answer, "[no]", and ten tokens for the revision
    rollout = discussed(texts=((" #### 5",),), options=bound)[0]
    assert len(rollout.turns[0]) == 1
    assert not discussed(texts=((" #### 5",),), options=bound | {"max_row_tokens": 20})[0].turns[0]


def test_a_draft_too_long_for_the_partner_keeps_its_end():
    partner = Peer(trainable=False, room=10)
    discussed([Peer(), partner], texts=((" 1+1+1 #### 5",),))
    assert partner.asked == [["0?|S ### 5"]]


def test_a_question_too_long_for_the_partner_is_not_discussed():
    assert discussed([Peer(), Peer(room=4)], texts=((" #### 5",),))[0].turns == [()]


# Partners


@pytest.mark.parametrize(
    ("partner", "expected"),
    [("next", [1, 2, 0]), ("self", [0, 1, 2]), ("b", [1, 1, 1])],
)
def test_the_partner_is_the_next_the_same_or_a_named_peer(partner, expected):
    rollout = SAIERollout(partner=partner)
    assert [rollout.partner_of(p, ("a", "b", "c"), Random(0)) for p in range(3)] == expected


def test_a_random_partner_is_another_peer():
    rollout, rng = SAIERollout(partner="random"), Random(0)
    assert {rollout.partner_of(1, ("a", "b", "c"), rng) for _ in range(20)} == {0, 2}


@pytest.mark.parametrize("partner", ["next", "random"])
def test_a_single_peer_discusses_with_itself(partner):
    assert SAIERollout(partner=partner).partner_of(0, ("a",), Random(0)) == 0


def test_an_unknown_partner_is_refused():
    with pytest.raises(ValueError, match="'d' is not one of the peers a, b"):
        discussed(options={"partner": "d"})


# The control


def test_shuffled_remarks_were_made_on_other_questions():
    partner = Peer(remark=lambda prompt: prompt[0], trainable=False)
    rows = ((" #### 5", " #### 6"),) * 3
    turns = discussed([Peer(), partner], rows, ["5", "6", "7"], options={"shuffle_remarks": True})[0].turns
    heard = [turn.remark for (turn,) in turns]
    assert all(heard[2 * q] == heard[2 * q + 1] != str(q) for q in range(3))
    assert sorted(heard) == ["0", "0", "1", "1", "2", "2"]


def test_shuffled_remarks_keep_the_stance_they_were_made_with():
    rows = ((" #### 5",), (" #### 5",))
    turns = discussed(texts=rows, made=["5", "6"], options={"shuffle_remarks": True})[0].turns
    assert [turn.stance for (turn,) in turns] == ["attack", "support"]


def test_one_question_alone_hears_no_shuffled_remark():
    assert discussed(options={"shuffle_remarks": True})[0].turns == [(), ()]


# The chat form


def test_a_chat_learner_hears_a_users_turn():
    options = {"form": "auto", "revise_message": "{remark}!"}
    row = discussed([Peer(chat=True), Peer()], texts=((" #### 5",),), options=options)[0].completion_ids[0]
    assert "".join(map(chr, row)) == " #### 5\0<no!> #### 7\0"


def test_a_turn_that_a_stop_string_ended_is_closed_for_the_template_by_a_foreign_token():
    given = context([Peer(chat=True), Peer()], [[" #### 5"]], ["5"])
    given.rollouts[0].completion_ids[0].pop()
    given.rollouts[0].logprobs[0].pop()
    rollout = SAIERollout(**TEXT | {"form": "chat", "revise_message": "{remark}"}).respond(given)[0]
    assert "".join(map(chr, rollout.completion_ids[0])) == " #### 5\0<no> #### 7\0"
    assert rollout.logprobs[0][7] == 0.0


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns": 0}, "at least 1 later turn"),
        ({"form": "xml"}, "form must be"),
        ({"stance": "kind"}, "Unknown stance"),
        ({"support_share": 1.5}, r"must lie in \[0, 1\]"),
        ({"attack_template": "No!"}, "attack_template must contain {draft}"),
        ({"revise_template": "Again:"}, "revise_template must contain {remark}"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"max_row_tokens": 0}, "max_row_tokens"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SAIERollout(**options)


def test_the_tiny_learners_style_is_a_set_of_options():
    from pst_rl.tiny.discussion import LEARNER_STYLE, PEER_STYLE

    assert SAIERollout(**LEARNER_STYLE).form == SAIERollout(**PEER_STYLE).form == "text"


# The reward provider


def a_sample(first, *turns):
    """A response with later turns, each given as (stance, answer)."""
    later = [Turn("", stance, "", a and response(a).answer, True, 0, 0) for stance, a in turns]
    return response(first, turns=tuple(later))


def test_first_and_revised_answers_each_earn_the_target():
    samples = [a_sample("5", ("attack", "6"), ("attack", "5")), a_sample("6", ("attack", "5"))]
    rewards = SAIE()(group([[samples]], targets=targets([[["5", "5"]]])))
    assert rewards.values.tolist() == [[[1, 0]]]
    assert rewards.later[0, 0, 0].tolist() == [0, 1]
    assert rewards.later[0, 0, 1, 0] == 1 and rewards.later[0, 0, 1, 1].isnan()


@pytest.mark.parametrize(
    ("stance", "before", "after", "reward"),
    [
        ("attack", "5", "5", 1.5),  # kept a right answer
        ("attack", "5", "6", 0.0),
        ("attack", "6", "5", 1.0),  # repaired, but there was nothing to hold on to
        ("support", "6", "7", 0.5),  # left a wrong answer
        ("support", "6", "5", 1.5),  # for the right one
        ("support", "6", "6", 0.0),
        ("support", "6", None, 0.0),
        ("support", None, "7", 0.0),
        ("support", "5", "5", 1.0),
        ("", "5", "5", 1.0),
    ],
)
def test_steadfastness_pays_for_holding_on_and_for_letting_go(stance, before, after, reward):
    provider = SAIE(0.5, {"stance": "random"})
    rewards = provider(group([[[a_sample(before, (stance, after))]]], targets=targets([[["5"]]])))
    assert rewards.later.item() == reward


def test_steadfastness_compares_with_the_turn_before():
    sample = a_sample("6", ("attack", "5"), ("attack", "5"))
    rewards = SAIE(0.5, SAIERollout(stance="inverse"))(group([[[sample]]], targets=targets([[["5"]]])))
    assert rewards.later.flatten().tolist() == [1.0, 1.5]


def test_a_sample_without_a_target_abstains_in_all_its_turns():
    rewards = SAIE()(group([[[a_sample("5", ("support", "5"))]]], targets=targets([[[None]]])))
    assert rewards.abstain.item() and rewards.later.isnan().all()


def test_without_a_discussion_there_is_nothing_about_later_turns():
    assert SAIE()(group([[["5"]]], targets=targets([[["5"]]]))).later is None


def test_what_the_discussion_changed_is_counted():
    samples = [a_sample("5", ("", "6")), a_sample("5", ("", "5")), a_sample("6", ("", "5")), a_sample("6")]
    metrics = SAIE()(group([[samples]], targets=targets([[["5"] * 4]]))).metrics
    assert metrics == {"discussed": 0.75, "abandoned": 0.5, "repaired": 1.0}


def test_steadfastness_without_a_stance_that_needs_it_is_refused():
    with pytest.raises(ValueError, match="no effect with stance='by_agreement'"):
        SAIE(0.5)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="must be a number >= 0"):
        SAIE(-1.0, {"stance": "random"})


def test_permuting_peers_permutes_the_rewards():
    a, b = [a_sample("5", ("attack", "5"))], [a_sample("6", ("support", "5"))]
    goals = targets([[["5"]]] * 2)
    provider = SAIE(0.5, {"stance": "random"})
    straight, swapped = provider(group([[a], [b]], targets=goals)), provider(group([[b], [a]], targets=goals))
    assert straight.later.flip(0).equal(swapped.later) and straight.values.flip(0).equal(swapped.values)
