"""The scorer's answers against computation by hand, and what it does not compute twice."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import chat, logprobs_by_hand
from two_processes_scheme import QUERIES, QUESTIONS, TEXTS, scorer

from pst_rl.records import Query, Score


@pytest.fixture
def engines(trainer, tiny):
    """Two tiny peers."""
    return trainer({name: tiny[name] for name in ("llama", "qwen2")}).engines


@pytest.fixture
def rows(monkeypatch):
    """`rows(engine)`: a list that grows by the number of rows of each forward pass."""

    def count(engine):
        seen, forward = [], engine.model.forward
        spy = lambda *a, **kw: seen.append(len(kw["input_ids"])) or forward(*a, **kw)  # noqa: E731
        monkeypatch.setattr(engine.model, "forward", spy)
        return seen

    return count


def by_hand(engine, query):
    """Log-probabilities of the query's target tokens, from its definition."""
    prompt = QUESTIONS[query.question] + "".join(f"\nP: {text}" for text in query.shown)
    context = engine.prompt_ids(chat(prompt)) + engine.text_ids(query.given)
    return logprobs_by_hand(
        engine.model, context, engine.text_ids(query.target) + [engine.end_of_turn] * int(query.whole)
    )


# Log-probabilities


@pytest.mark.parametrize("judge", [0, 1])
@pytest.mark.parametrize("query", QUERIES, ids=["plain", "given", "shown", "whole", "all"])
def test_a_score_is_the_log_probability_of_the_target_in_its_context(engines, judge, query):
    tokens = by_hand(engines[judge], query)
    (score,) = scorer(engines).logprobs(judge, [query])
    assert score.tokens == len(tokens)
    assert score.logprob == pytest.approx(sum(tokens), abs=1e-4)
    assert score.mean == pytest.approx(sum(tokens) / len(tokens), abs=1e-4)


def test_scores_come_in_the_order_of_the_queries(engines):
    forward = scorer(engines).logprobs(0, QUERIES)
    assert scorer(engines).logprobs(0, QUERIES[::-1]) == forward[::-1]


@pytest.mark.parametrize("field", [{"question": 1}, {"shown": ("75",)}, {"given": " 8+7=15."}, {"whole": True}])
def test_every_part_of_a_query_matters(engines, field):
    plain, other = scorer(engines).logprobs(0, [QUERIES[0], replace(QUERIES[0], **field)])
    assert plain.logprob != pytest.approx(other.logprob, abs=1e-3)


def test_the_hook_of_the_trainer_builds_the_prompt_also_where_nothing_is_shown(engines):
    asked = []
    hook = lambda prompt, previous: asked.append(previous) or chat("5+5?")  # noqa: E731
    (score,) = scorer(engines, build_prompt=hook).logprobs(0, [QUERIES[0]])
    expected = logprobs_by_hand(engines[0].model, engines[0].prompt_ids(chat("5+5?")), engines[0].text_ids(" #### 75"))
    assert asked == [[]]
    assert score.logprob == pytest.approx(sum(expected), abs=1e-4)


def test_equal_queries_are_scored_once_and_remembered(engines, rows):
    made, seen = scorer(engines, batch_size=16), rows(engines[0])
    first = made.logprobs(0, QUERIES * 3)
    assert seen == [len(QUERIES)]
    assert made.logprobs(0, QUERIES[::-1]) == first[: len(QUERIES)][::-1]
    made.logprobs(0, [QUERIES[0], Query(0, " #### 76")])
    assert seen == [len(QUERIES), 1]


def test_peers_do_not_share_what_is_remembered(engines, rows):
    made, seen = scorer(engines), rows(engines[1])
    scores = [made.logprobs(judge, QUERIES[:1])[0].logprob for judge in (0, 1)]
    assert seen == [1]
    assert scores[0] != scores[1]


def test_no_query_costs_nothing(engines, rows):
    seen = rows(engines[0])
    assert scorer(engines).logprobs(0, []) == []
    assert seen == []


def test_a_target_without_a_token_is_refused(engines):
    with pytest.raises(ValueError, match="'' has no token to score"):
        scorer(engines).logprobs(0, [Query(0, "")])


def test_an_empty_answer_is_its_end_of_turn_alone(engines):
    (score,) = scorer(engines).logprobs(0, [Query(0, "", whole=True)])
    assert score.tokens == 1


def test_a_judge_from_outside_is_asked_as_it_is(engines, trainer, tiny):
    judge = trainer({"outside": tiny["gemma2"]}).engines[0]
    scores = scorer(engines).logprobs(judge, QUERIES)
    assert [s.logprob for s in scores] == pytest.approx([sum(by_hand(judge, q)) for q in QUERIES], abs=1e-4)


def test_a_later_judge_is_not_taken_for_an_earlier_one(engines, trainer, tiny):
    # An id is given again once its object is gone; the scorer keeps its judges.
    made = scorer(engines)
    scores = [made.logprobs(trainer({"o": tiny[n]}).engines[0], QUERIES[:1])[0].logprob for n in ("gemma2", "qwen2")]
    assert scores[1] == made.logprobs(1, QUERIES[:1])[0].logprob != scores[0]
    assert len(made._judges) == 3


def test_a_new_batch_is_scored_under_the_policy_of_its_time(engines):
    old = scorer(engines)
    before = old.logprobs(0, QUERIES[:1])
    with torch.no_grad():
        engines[0].model.lm_head.weight.mul_(2.0)
    assert old.logprobs(0, QUERIES[:1]) == before
    assert scorer(engines).logprobs(0, QUERIES[:1]) != before


def test_the_mean_is_per_token():
    assert Score(-6.0, 4).mean == -1.5


# Statistics


def statistics_by_hand(engine, question, text):
    """Means of (log p, entropy, self-certainty) over the response's own tokens."""
    context = engine.prompt_ids(chat(question))
    target = [*engine.text_ids(text), engine.end_of_turn]
    with torch.no_grad():
        logits = engine.model(torch.tensor([[*context, *target]])).logits[0].double()
    means = [0.0, 0.0, 0.0]
    for place, token in enumerate(target, start=len(context)):
        z = logits[place - 1]
        p = [math.exp(v) for v in (z - z.logsumexp(0)).tolist()]
        certainty = z.logsumexp(0).item() - z.mean().item() - math.log(len(p))
        for k, value in enumerate((math.log(p[token]), -sum(v * math.log(v) for v in p if v > 0), certainty)):
            means[k] += value / len(target)
    return means


def test_statistics_are_what_direct_computation_gives(engines):
    made = scorer(engines).statistics()
    for p, engine in enumerate(engines):
        for row, text in enumerate(TEXTS[p]):
            q, g = divmod(row, 2)
            values = [getattr(made, name)[p, q, g].item() for name in ("logprob", "entropy", "self_certainty")]
            assert values == pytest.approx(statistics_by_hand(engine, QUESTIONS[q], text), abs=1e-4)


def test_statistics_have_an_entry_for_every_sample(engines):
    made = scorer(engines).statistics()
    assert {t.shape for t in (made.logprob, made.entropy, made.self_certainty)} == {(2, 3, 2)}
    assert made.logprob.dtype == torch.float32 and (made.entropy > 0).all() and (made.self_certainty > 0).all()


def test_statistics_are_computed_once_a_batch(engines, rows):
    made, seen = scorer(engines, batch_size=16), rows(engines[0])
    assert made.statistics() is made.statistics()
    assert seen == [6]


def test_scored_tokens_are_counted_with_their_contexts(engines):
    engines[0].tokens.clear()
    scorer(engines).logprobs(0, QUERIES[:1] * 5)
    context = engines[0].prompt_ids(chat(QUESTIONS[0]))
    assert engines[0].tokens["scored"] == len(context) + len(engines[0].text_ids(" #### 75"))
