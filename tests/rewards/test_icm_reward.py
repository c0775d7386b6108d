"""ICM as a reward provider, judged by the tiny concept model."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import group, reader
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl.coherence.search import SEARCHERS
from pst_rl.peers.foreign_text import Guard
from pst_rl.rewards import ICMReward
from pst_rl.scoring.juror import Juror
from pst_rl.tiny import CLAIM_STYLE, CONCEPT_STYLE, TINY_CONCEPT_MODEL, concept_labels, concept_questions

QUESTIONS = [row["question"] for row in concept_questions("train", 16)]
WANTED = ["no yes".split()[label] for label in concept_labels(QUESTIONS, "size")]
OTHER = {"yes": "no", "no": "yes"}
STYLE = {key: CONCEPT_STYLE[key] for key in ("template", "label_names", "label_words", "separator")}
FEW = {"sweeps": 2, "anneal_to": 0.0, "start": "empty", "restarts": 3}


@pytest.fixture(scope="module")
def judge():
    model = AutoModelForCausalLM.from_pretrained(TINY_CONCEPT_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(TINY_CONCEPT_MODEL)
    return reader(model, tokenizer, accelerator=SimpleNamespace(is_main_process=True, autocast=nullcontext))


def asked(judge, answers, questions=QUESTIONS, **fields):
    """The group of `answers[peer][question][chain]`, whose peers all are the judge."""
    return group(answers, prompts=tuple(questions), scorer=SimpleNamespace(engines=[judge] * len(answers)), **fields)


def right_and_wrong():
    """One peer answers by size, the other the opposite; the third answer of each is unparsed."""
    return [[[a, None] for a in WANTED], [[OTHER[a], "maybe"] for a in WANTED]]


def test_answers_by_the_most_coherent_concept_earn_most(judge):
    rewards = ICMReward(candidates="labels", judge="first_peer", **STYLE)(asked(judge, right_and_wrong()))
    assert (rewards.values[0, :, 0] > 0.9).all()
    assert (rewards.values[1, :, 0] < 0.1).all()
    assert (rewards.values[:, :, 1] == 0).all() and not rewards.abstain.any()
    assert rewards.metrics["items"] == 16 and rewards.metrics["tokens"] > 0


def test_a_peer_is_read_in_the_precision_that_it_trains_in(judge, monkeypatch):
    read = []
    hook = judge.model.register_forward_hook(lambda *call: read.append(call[-1].logits.dtype))
    low = partial(torch.autocast, "cpu", torch.bfloat16)
    monkeypatch.setattr(judge, "accelerator", SimpleNamespace(is_main_process=True, autocast=low))
    rewards = ICMReward(candidates="labels", judge="first_peer", search=FEW, **STYLE)(asked(judge, right_and_wrong()))
    hook.remove()
    assert set(read) == {torch.bfloat16}
    assert (rewards.values[0, :, 0] > 0.9).all(), "a mask of rows side by side works in it too"


def test_both_answers_to_a_question_are_claims_of_which_one_is_true(judge):
    style = {key: CLAIM_STYLE[key] for key in ("template", "label_names", "label_words", "separator")}
    provider = ICMReward(search=FEW, reward="label", judge="first_peer", **style)
    rewards = provider(asked(judge, [[[a] for a in WANTED], [[OTHER[a]] for a in WANTED]]))
    assert rewards.metrics["items"] == 32
    assert (rewards.values.sum(0) <= 1).all(), "rivals are not both true"


def test_a_claim_is_an_answer_as_most_peers_write_it_and_no_key():
    written = ["2x+3", "3 + 2x", "3 + 2x", "2\\sqrt{5}", "\\$1,234.50", "1234.5", "50\\%", "y = 2x+1", "5\n km"]
    provider = ICMReward(template="{claim}|{question}")
    claims = lambda answers: provider._items(group([[[a] for a in row] for row in answers]), Guard())[0]  # noqa: E731
    found = [prompt.partition("|")[0] for prompt in claims([written[:1], *[[text] for text in written[1:]]])]
    shown = ["3 + 2x", "2\\sqrt{5}", "1234.5", "50\\%", "y = 2x+1", "5  km"]
    assert sorted(found) == sorted(shown) and not any("~" in claim or "2469/2" in claim for claim in found)
    assert claims([[text] for text in written]) == claims([[text] for text in reversed(written)])


def test_the_same_answers_in_another_order_earn_the_same(judge):
    provider = ICMReward(candidates="labels", search=FEW, judge="first_peer", **STYLE)
    answers = right_and_wrong()
    rewards = provider(asked(judge, answers)).values
    assert (provider(asked(judge, answers[::-1])).values == rewards.flip(0)).all()
    turned = [[chains[::-1] for chains in peer] for peer in answers]
    assert (provider(asked(judge, turned)).values == rewards.flip(2)).all()


def test_a_question_that_nobody_answered_abstains(judge):
    answers = [[["yes"], [None]], [["no"], ["dunno"]]]
    rewards = ICMReward(candidates="labels", search=FEW, judge="first_peer", **STYLE)(
        asked(judge, answers, QUESTIONS[:2])
    )
    assert rewards.abstain.tolist() == [[[False], [True]]] * 2


def test_no_answers_at_all_cost_nothing(judge):
    rewards = ICMReward(candidates="labels", **STYLE)(asked(judge, [[[None]], [[None]]], QUESTIONS[:1]))
    assert rewards.abstain.all() and not rewards.values.any()


def test_a_frozen_judge_and_equal_peers_agree(judge):
    answers, options = [[[a] for a in WANTED]] * 2, {"candidates": "labels", "search": FEW, **STYLE}
    outside = ICMReward(judge=Juror(judge.model, judge.tokenizer), **options)(asked(judge, answers))
    peers = ICMReward(judge="peers", **options)(asked(judge, answers))
    assert (outside.values - peers.values).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "anneal"}, "Unknown method 'anneal'"),
        ({"candidates": "texts"}, "candidates must be one of"),
        ({"template": "corectness"}, "did you mean 'correctness'"),
        ({"search": {"sweeps": 0}}, "sweeps"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ICMReward(**options)


@pytest.mark.parametrize("method", SEARCHERS)
def test_every_method_works_in_a_training_or_is_refused(method, trainer):
    if SEARCHERS[method].fine_tunes:
        with pytest.raises(ValueError, match=f"method='{method}' fine-tunes .* choose one of icm") as error:
            ICMReward(method=method)
        assert "\n" not in str(error.value)
        return
    short = {"steps": 4} if method == "icm" else {"restarts": 1}
    provider = ICMReward(judge="first_peer", method=method, search=short)
    run = trainer(
        reward_providers=[provider], max_steps=1, per_device_train_batch_size=4, num_generations=2, weighting="none"
    )
    run.train()
    assert 0.0 <= run.state.log_history[0]["llama/reward/icm"] <= 1.0


# words that one position cannot tell apart: "0" and "1" begin with the same token behind this prompt, a space


ALIKE = {"template": "Q: {question}\nC: {claim}\n=", "label_names": ["0", "1"], "label_words": [[" 0"], [" 1"]]}
SAID = "The reward 'icm' with the {} as a judge: ' 0' and ' 1' begin with the same token"


@pytest.mark.parametrize("judge", ["peers", "first_peer"])
def test_words_that_a_peer_cannot_tell_apart_are_refused_when_the_trainer_is_built(trainer, tiny, judge):
    with pytest.raises(ValueError, match=SAID.format("peer 'llama'")):
        trainer(reward_providers=[ICMReward(judge=judge, **ALIKE)], peers=[tiny["llama"]])


def test_words_that_a_loaded_peer_cannot_tell_apart_are_refused_too(trainer, tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    with pytest.raises(ValueError, match="begin with the same token"):
        trainer(reward_providers=[ICMReward(**ALIKE)], peers={"a": model})


def test_words_that_a_frozen_judge_cannot_tell_apart_are_refused_at_once(judge):
    with pytest.raises(ValueError, match=SAID.format("judge")):
        ICMReward(judge=Juror(judge.model, judge.tokenizer), **ALIKE)
