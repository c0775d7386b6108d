from hashlib import sha256
from itertools import permutations
from math import inf, nan
from types import SimpleNamespace

import pytest
import torch
from helpers import chat, group, logprobs_by_hand

from pst_rl.peers.prompts import show_peers
from pst_rl.records import Query, Score
from pst_rl.rewards.mutual_prediction import ANSWER_TEMPLATE, MutualPrediction
from pst_rl.scoring.juror import Juror
from pst_rl.scoring.scorer import Scorer

TEMPLATE = "#### {answer}"


class Answers:
    """log p of a statement under a juror, with what it has read: `belief(juror, read, target)`; remembers calls."""

    def __init__(self, belief):
        self.belief, self.calls = belief, []

    def logprobs(self, juror, queries):
        self.calls.append((juror, list(queries)))
        bare = lambda text: text.replace("####", "").strip()  # noqa: E731
        return [Score(self.belief(juror, bare("".join(q.shown) + q.given), bare(q.target)), 1) for q in queries]


def rewarded(answers, belief, **options):
    """The rewards of the only question, whose samples are `answers[peer]`, and the scorer."""
    scorer = Answers(belief)
    provider = MutualPrediction(**{"answer_template": TEMPLATE} | options)
    return provider(group([[chains] for chains in answers], scorer=scorer)), scorer


def lookup(**table):
    """Beliefs of the jurors: `j0_5_7=-1` is log p_0(7 | 5), and `j0__7=-3` is log p_0(7)."""
    return lambda juror, read, target: table[f"j{juror}_{read}_{target}"]


def hashed(juror, read, target):
    """Some belief that depends on all three."""
    return -int.from_bytes(sha256(f"{juror}/{read}/{target}".encode()).digest()[:2]) / 8192


# The score


def test_an_answer_earns_what_it_tells_the_other_peer_about_its_own_answer():
    belief = lookup(j1__7=-3.0, j1_5_7=-2.5, j0__5=-1.0, j0_7_5=-4.0)
    rewards, _ = rewarded([["5"], ["7"]], belief)
    assert rewards.values.tolist() == [[[0.5]], [[-3.0]]]
    assert not rewards.abstain.any()


@pytest.mark.parametrize(("reduction", "value"), [("sum", 1.0 + 2.0 + 0.25 + 0.75), ("mean", 1.0)])
def test_scores_are_summed_over_other_samples_and_jurors(reduction, value):
    told = {(1, "7"): 1.0, (2, "7"): 2.0, (1, "9"): 0.25, (2, "9"): 0.75}  # what "5" tells jurors b and c
    belief = lambda juror, read, target: told.get((juror, target), 0.0) if read == "5" else 0.0  # noqa: E731
    rewards, _ = rewarded([["5"], ["7"], ["9"]], belief, reduction=reduction)
    assert rewards.values[0].item() == value


@pytest.mark.parametrize(
    ("jurors", "value"), [("others", 10.0 + 100.0), ("responder", 1.0), ("all", 1.0 + 10.0 + 100.0)]
)
def test_who_judges(jurors, value):
    belief = lambda juror, read, target: 10.0**juror if read else 0.0  # noqa: E731
    rewards, _ = rewarded([["5"], ["7"], [None]], belief, jurors=jurors)
    assert rewards.values[0].item() == value


@pytest.mark.parametrize(("samples", "value"), [("chain", 1.0), ("others", 1.0 + 2.0), ("all", 1.0 + 2.0 + 4.0)])
def test_whose_answers_are_predicted(samples, value):
    told = {"7": 1.0, "8": 2.0, "6": 4.0}
    belief = lambda _, read, target: told.get(target, 0.0) if read == "5" else 0.0  # noqa: E731
    rewards, _ = rewarded([["5", "6"], ["7", "8"]], belief, samples=samples)
    assert rewards.values[0, 0, 0].item() == value


def test_an_answer_that_tells_nothing_earns_nothing():
    rewards, _ = rewarded([["5", "6"], ["7", "8"]], lambda juror, read, target: -float(target))
    assert rewards.values.abs().sum() == 0


def test_one_peer_alone_may_predict_its_own_further_samples():
    belief = lookup(j0__5=-1.0, j0__6=-2.0, j0_5_6=-1.5, j0_6_5=-1.25)
    rewards, _ = rewarded([["5", "6"]], belief, samples="all", jurors="responder")
    assert rewards.values.tolist() == [[[0.5, -0.25]]]


# What is asked


def test_an_answer_is_read_in_the_prompt_as_another_peers_would_be():
    _, scorer = rewarded([["5"], ["7"]], hashed)
    assert scorer.calls[0] == (1, [Query(0, "#### 7", shown=("#### 5",)), Query(0, "#### 7")])


def test_an_answer_may_open_the_jurors_own_turn_instead():
    _, scorer = rewarded([["5"], ["7"]], hashed, conditioning="own_turn")
    assert scorer.calls[0] == (1, [Query(0, " #### 7", given="#### 5"), Query(0, " #### 7")])


def test_each_juror_is_asked_once_and_each_pair_of_answers_once():
    answers = [[["5", "5", "6"], ["1", "1", "1"]], [["5", "6", "6"], ["1", "1", "1"]]]
    scorer = Answers(hashed)
    MutualPrediction(samples="others", jurors="all", answer_template=TEMPLATE)(group(answers, scorer=scorer))
    assert [juror for juror, _ in scorer.calls] == [0, 1]
    for _, queries in scorer.calls:
        assert len(queries) == len(set(queries)) == (4 + 2) + (1 + 1)


def test_equivalent_answers_are_stated_alike():
    rewards, scorer = rewarded([["0.5", "1/2"], ["1/2", "0.50"]], hashed)
    assert {q.target for _, queries in scorer.calls for q in queries} == {"#### 1/2"}
    assert rewards.values[0, 0, 0] == rewards.values[0, 0, 1]


# Unparsed answers and broken scores


@pytest.mark.parametrize(("gains", "lowest"), [((2.0, 1.0), 0.0), ((2.0, -1.0), -1.0)])
def test_an_unparsed_answer_earns_the_smaller_of_zero_and_the_groups_lowest_score(gains, lowest):
    told = dict(zip(("5", "6"), gains, strict=True))
    belief = lambda _, read, __: told.get(read, 0.0)  # noqa: E731
    rewards, _ = rewarded([["5", "6", None], ["7", "7", None]], belief, samples="chain")
    assert rewards.values[0].tolist() == [[*gains, lowest]]
    assert not rewards.abstain[0].any()


def test_unparsed_answers_are_never_predicted():
    belief = lambda _, read, target: 3.0 if read else 0.0  # noqa: E731
    rewards, _ = rewarded([["5"], [None], ["7"]], belief, jurors="responder")
    assert rewards.values[0].item() == 3.0


def test_a_sample_with_nothing_to_predict_abstains():
    rewards, scorer = rewarded([["5", None], [None, None]], hashed)
    assert rewards.abstain.all()
    assert scorer.calls == []


@pytest.mark.parametrize("broken", [nan, inf, -inf])
def test_what_is_not_a_number_abstains_and_is_counted(broken):
    belief = lambda _, read, target: broken if read == "5" else 0.0  # noqa: E731
    rewards, _ = rewarded([["5", "6"], ["7", "7"]], belief)
    assert rewards.abstain.tolist() == [[[True, False]], [[False, False]]]
    assert rewards.values.isfinite().all()
    assert rewards.metrics == {"nonfinite": 1.0}


# Order


@pytest.mark.parametrize(
    "options", [{}, {"jurors": "all", "samples": "all"}, {"samples": "chain", "reduction": "mean"}]
)
def test_permuting_peers_and_samples_permutes_the_rewards(options):
    answers = [["5", "6", None], ["5", "7", "7"], ["8", "6", "5"]]
    plain, _ = rewarded(answers, hashed, **options)
    for peers in permutations(range(3)):
        for chains in ((0, 1, 2), (2, 0, 1)):
            shuffled = [[answers[p][g] for g in chains] for p in peers]
            made, _ = rewarded(shuffled, lambda j, *rest, by=peers: hashed(by[j], *rest), **options)
            assert torch.equal(made.values[:, 0], plain.values[list(peers), 0][:, list(chains)])


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jurors": "gemma"}, "jurors must be one of others, responder, all, or a Juror"),
        ({"samples": "own"}, "samples must be one of others, chain, all"),
        ({"reduction": "max"}, "reduction must be one of sum, mean"),
        ({"conditioning": "none"}, "conditioning must be one of in_prompt, own_turn"),
        ({"answer_template": "The answer."}, "must contain {answer}"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MutualPrediction(**options)


@pytest.mark.parametrize("options", [{}, {"samples": "all"}, {"jurors": "responder"}])
def test_one_peer_alone_has_no_others(options):
    with pytest.raises(ValueError, match="needs at least 2 peers, got 1"):
        rewarded([["5", "6"]], hashed, **options)


def test_answers_are_stated_as_the_run_states_them_by_default():
    from pst_rl.config import PSTConfig

    assert ANSWER_TEMPLATE == PSTConfig.__dataclass_fields__["answer_template"].default


# An outside juror


@pytest.fixture(scope="module")
def juror(tiny):
    return Juror(tiny["llama"])


def scorer_for(prompts):
    """A scorer in a run of one process; the jurors it is asked about are not its peers."""
    alone = SimpleNamespace(accelerator=SimpleNamespace(process_index=0, num_processes=1))
    return Scorer([alone], prompts, [], 1, lambda prompt, shown: show_peers(prompt, shown, "\nP: {text}"), 8)


def test_a_juror_says_what_its_model_says(juror):
    [marginal, read] = scorer_for([chat("What is 2+3?")]).logprobs(
        juror, [Query(0, " #### 5"), Query(0, " #### 5", shown=("#### 5",), whole=True)]
    )
    said = [*juror.text_ids(" #### 5"), juror.end_of_turn]
    plain, shown = juror.prompt_ids(chat("What is 2+3?")), juror.prompt_ids(chat("What is 2+3?\nP: #### 5"))
    assert marginal.logprob == pytest.approx(sum(logprobs_by_hand(juror.model, plain, said[:-1])), rel=1e-5, abs=1e-5)
    assert read.logprob == pytest.approx(sum(logprobs_by_hand(juror.model, shown, said)), rel=1e-5, abs=1e-5)
    assert read.tokens == marginal.tokens + 1


def test_a_juror_judges_for_everybody(juror):
    provider = MutualPrediction(jurors=juror, answer_template=TEMPLATE)
    scorer = scorer_for([chat("What is 2+3?")])
    rewards = provider(group([[["5"]], [["5"]]], prompts=(chat("What is 2+3?"),), scorer=scorer))
    asked = [Query(0, "#### 5", shown=("#### 5",)), Query(0, "#### 5")]
    conditional, marginal = (s.logprob for s in scorer_for([chat("What is 2+3?")]).logprobs(juror, asked))
    assert rewards.values.flatten().tolist() == [pytest.approx(conditional - marginal)] * 2


@pytest.mark.parametrize("peer", ["gemma2", "llama", "qwen2"])
def test_a_juror_never_learns_and_ends_turns_as_its_template_does(tiny, peer):
    judge = Juror(tiny[peer])
    assert not judge.model.training
    assert not any(p.requires_grad for p in judge.model.parameters())
    assert judge.end_of_turn == judge._tokenizer.eos_token_id
    assert judge._tokenizer.decode(judge.prompt_ids(chat("2+3?"))).endswith("Q: 2+3?\nA:")


def test_a_loaded_model_is_frozen_where_it_is(juror):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(juror.model.config._name_or_path).train()
    judge = Juror(model, juror._tokenizer)
    assert judge.model is model
    assert not model.training
    assert judge.accelerator.device == model.device


def test_a_juror_without_a_chat_template_gets_the_base_prompt(juror, tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    tokenizer.chat_template = None
    judge = Juror(juror.model, tokenizer, base_template="Ask: {prompt}")
    assert judge.format.adapt(chat("2+3?")) == "Ask: 2+3?"
    assert judge.end_of_turn == tokenizer.eos_token_id


def test_a_loaded_juror_needs_its_tokenizer(juror):
    with pytest.raises(ValueError, match="needs its tokenizer"):
        Juror(juror.model)


def test_a_base_template_without_a_place_for_the_prompt_is_refused(tiny):
    with pytest.raises(ValueError, match="must contain {prompt}"):
        Juror(tiny["llama"], base_template="Question:")


def test_pickled_weights_are_never_read(juror, tmp_path):
    juror.model.config.save_pretrained(tmp_path)
    juror._tokenizer.save_pretrained(tmp_path)
    torch.save(juror.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        Juror(tmp_path)
