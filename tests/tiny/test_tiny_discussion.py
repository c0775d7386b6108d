import json
from collections import Counter
from random import Random

import pytest

from pst_rl.discussion.saie import SAIERollout
from pst_rl.peers.prompts import show_peers
from pst_rl.tiny import LEARNER_STYLE, PEER_STYLE, TINY_LEARNER, TINY_PEERS, tiny_questions, verify_checksums
from pst_rl.tiny.corpus import Said
from pst_rl.tiny.discussion import discussion, learner_example, remark
from pst_rl.tiny.mistakes import contradict
from pst_rl.tiny.problems import FAMILIES, sample_problem
from pst_rl.tiny.questions import split_of, stated_answer, tiny_problems

QUESTION = "What is 28+47?"
WRONG = "8+7=15. 2+4=6. #### 65"


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_LEARNER)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY_LEARNER)


@pytest.fixture(scope="module")
def record():
    return json.loads((TINY_LEARNER.parent / "checksums.json").read_text())["learner"]


def drawn(make, n=600):
    rng = Random(0)
    for _ in range(n):
        problem = sample_problem(rng, rng.choice(FAMILIES))
        yield problem, make(rng, problem)


def states(said):
    return stated_answer(said.text.removesuffix("\nA:"))


# Corpus


def test_the_learner_is_asked_only_pretraining_questions():
    rng = Random(0)
    questions = [learner_example(rng)[0].text.splitlines()[0].removeprefix("Q: ") for _ in range(500)]
    assert {split_of(question) for question in questions} == {"pretrain"}


def test_the_corpus_has_its_three_kinds_in_the_documented_shares():
    rng = Random(0)
    examples = [learner_example(rng) for _ in range(2000)]
    remarks = [e for e in examples if e[0].text.endswith(("Support:\nA:", "Attack:\nA:"))]
    assert len(remarks) / 2000 == pytest.approx(0.25, abs=0.03)
    assert sum(len(e) > 2 for e in examples) / 2000 == pytest.approx(0.5, abs=0.03)


def test_seven_remarks_in_ten_are_right():
    heard = [states(said) == problem.answer for problem, example in drawn(discussion) for said in example[2::2]]
    assert sum(heard) / len(heard) == pytest.approx(0.7, abs=0.05)


def test_a_discussion_ends_rightly_or_gives_in_to_a_misleading_remark():
    gave_in = []
    for problem, example in drawn(discussion):
        draft, heard, last = map(states, example[-3:])
        misled = (heard == draft) != (draft == problem.answer)
        assert last in ((problem.answer, heard) if misled else (problem.answer,))
        gave_in += [last != problem.answer] * misled
    assert sum(gave_in) / len(gave_in) == pytest.approx(0.5, abs=0.12)


def test_a_discussion_has_right_and_wrong_drafts():
    right = [states(example[1]) == problem.answer for problem, example in drawn(discussion)]
    assert 0.4 < sum(right) / len(right) < 0.6


def test_only_plain_answers_and_right_revisions_are_learned():
    for problem, example in drawn(discussion):
        assert not any(said.own or said.learned for said in example[::2])
        assert all(said.own for said in example[1::2])
        assert all(said.learned == (states(said) == problem.answer) for said in example[3:-1:2])
        complete = example[1].text.count("=") == len(problem.steps)  # a misconception stops early
        assert example[1].learned == (states(example[1]) == problem.answer or not complete)


def test_some_discussions_have_a_second_turn():
    lengths = Counter(len(example) for _, example in drawn(discussion))
    assert set(lengths) == {4, 6}
    assert lengths[6] / 600 == pytest.approx(0.3, abs=0.05)


def test_support_restates_the_draft_and_an_attack_states_another_answer():
    for problem, (prompt, said) in drawn(remark):
        draft = prompt.text.splitlines()[1].removeprefix("P: ")
        if prompt.text.endswith("Support:\nA:"):
            assert said.text == f" {draft}"
        elif stated_answer(draft) == problem.answer:
            assert said.text == f" {contradict(problem).solution}"
        else:
            assert said.text == f" {problem.solution}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_contradiction_states_another_answer(family):
    rng = Random(0)
    for problem in [sample_problem(rng, family) for _ in range(300)]:
        assert contradict(problem).answer != problem.answer
        assert contradict(problem) == contradict(problem)


def test_worked_problems_belong_to_the_questions():
    rows = [{"question": p.question, "answer": p.answer, "family": p.family} for p in tiny_problems("test", 30)]
    assert rows == tiny_questions("test", 30)


# Form


@pytest.mark.parametrize("style", [LEARNER_STYLE, PEER_STYLE])
def test_the_styles_are_options_of_the_rollout(style):
    assert SAIERollout(**style).revise_template == "\nR: {remark}\nA:"


@pytest.mark.parametrize("side", ["support", "attack", "neutral"])
def test_a_remark_is_asked_for_as_in_pretraining(tokenizer, side):
    from tiny_models.pretrain import encode

    template = LEARNER_STYLE[f"{side}_template"].replace("{draft}", "{text}")
    chat = show_peers([{"role": "user", "content": QUESTION}], [WRONG], template)
    asked = "" if side == "neutral" else f"{side.capitalize()}:\n"
    ids, _ = encode(tokenizer, [Said(f"Q: {QUESTION}\nP: {WRONG}\n{asked}A:")])
    assert tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) == ids


def test_an_answer_of_its_own_keeps_its_end_token(tokenizer):
    from tiny_models.pretrain import encode

    ids, labels = encode(tokenizer, [Said("Q"), Said(" a", own=True, learned=True), Said("\nR: b\nA:")])
    assert tokenizer.decode(ids) == f"{tokenizer.bos_token}Q a{tokenizer.eos_token}\nR: b\nA:"
    learned = [*tokenizer.encode(" a", add_special_tokens=False), tokenizer.eos_token_id]
    assert [label for label in labels if label != -100] == learned


# The shipped learner


def test_the_learner_is_checked_like_the_peers():
    verify_checksums()
    files = json.loads((TINY_LEARNER.parent / "checksums.json").read_text())["sha256"]
    assert {name.split("/")[0] for name in files} == {*TINY_PEERS, "learner", "concept"}


def test_config_tokenizer_and_generation_config_agree(model, tokenizer):
    assert model.num_parameters() < 0.4e6
    assert model.config.vocab_size == len(tokenizer)
    for config in (model.config, model.generation_config):
        ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
        assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_it_is_wrong_more_often_than_not_but_holds_the_right_skill(record):
    accuracy = record["accuracy"]
    assert 0.3 < accuracy["test"]["all"] < 0.55
    assert all(accuracy["test_sampled"][family] > 0.1 for family in FAMILIES)


def test_a_remark_matters(record):
    right = {partner: of["right"] for partner, of in record["discussion"].items()}
    assert right["the right solution"] > right["first"] + 0.2
    assert right["a solution with a slip"] < right["the right solution"] - 0.2


def test_a_right_answer_that_is_supported_stays(model, tokenizer):
    from tiny_models.pretrain import encode

    from pst_rl.tiny.corpus import response

    problems = tiny_problems("validation", 60)
    rows = [(Said(f"Q: {p.question}\nA:"), response(p), Said(f"\nR: {p.solution}\nA:")) for p in problems]
    contexts = tokenizer.pad({"input_ids": [encode(tokenizer, row)[0] for row in rows]}, return_tensors="pt")
    said = model.generate(**contexts)[:, contexts["input_ids"].shape[1] :]
    answers = [stated_answer(text) for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
    assert sum(a == p.answer for a, p in zip(answers, problems, strict=True)) > 0.85 * len(problems)
