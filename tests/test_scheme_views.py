"""Further rollouts that a scheme declares: what the aggregator and the provider get to see, and what is trained."""

from dataclasses import FrozenInstanceError, replace
from random import Random

import pytest
from helpers import group
from two_processes_scheme import Discusses, LooksAtRows

from pst_rl import Rewards
from pst_rl.records import Turn
from pst_rl.rewards.base import blank
from pst_rl.stages.gather import with_turns

SMALL = {"max_steps": 1, "per_device_train_batch_size": 8, "max_completion_length": 16, "weighting": "none"}


def rows_of(batch, peer):
    """What the view answers for one peer: 100 p + the row's index."""
    _, questions, chains = batch.shape
    return [[str(100 * peer + q * chains + g) for g in range(chains)] for q in range(questions)]


def test_an_aggregator_sees_the_views_it_declares(trainer):
    run = trainer(aggregator=LooksAtRows(), **SMALL)
    run.train()
    assert run.aggregator.seen == [rows_of(run.last_group, p) for p in range(2)]
    assert set(run.last_group.views) == {"rows"}


def test_a_view_changes_neither_the_first_answers_nor_the_trained_rows(trainer):
    updates = []
    for aggregator in (LooksAtRows(), None):
        run = trainer(aggregator=aggregator, **SMALL)
        run.train()
        updates.append([peer.update.completion_ids for peer in run.engines])
    assert updates[0] == updates[1]
    assert run.last_group.views == {}  # none was declared


def test_a_provider_sees_the_turns_of_its_discussion(trainer):
    run = trainer(reward_providers=[Discusses()], **SMALL)
    run.train()
    batch = run.providers["discusses"].group
    for _, q, g, response in batch.cells():
        (turn,) = response.turns
        assert turn.key == turn.remark == str(q * batch.shape[2] + g)
    assert "#### 0" not in batch.responses[0][0][0].text  # the first answer stays what it was


def test_the_rows_of_the_discussion_are_trained_on(trainer):
    run = trainer(reward_providers=[Discusses()], **SMALL)
    run.train()
    for p, engine in enumerate(run.engines):
        responses = [r for chains in run.last_group.responses[p] for r in chains]
        for row, (ids, response) in enumerate(zip(engine.update.completion_ids, responses, strict=True)):
            (turn,) = response.turns
            assert ids[turn.start : turn.stop] == [*engine.text_ids(f" #### {row}"), engine.end_of_turn]
            assert len(ids) == turn.stop > response.length


def test_the_discussion_comes_after_the_targets_and_the_views_before(trainer):
    run = trainer(reward_providers=[Discusses()], aggregator=LooksAtRows(), **SMALL)
    run.train()  # both fakes assert what they were given
    assert run.last_group.views and run.last_group.targets
    assert {"views", "discussion"} <= set(run.seconds)


def test_later_turns_join_the_first_answers():
    first = group([[["1", "2"]]])
    turn = Turn("why?", "attack", "#### 3", None, True, 4, 8)
    other = tuple(tuple(tuple(replace(r, text="all turns", length=9, turns=(turn,)) for r in c) for c in q)
                  for q in first.responses)  # fmt: skip
    merged = with_turns(first, other).responses[0][0][0]
    assert (merged.text, merged.length, merged.turns) == (first.responses[0][0][0].text, 3, (turn,))


def test_a_group_stays_as_it_was():
    batch = group([[["1"]]])
    for field in ("targets", "views", "responses", "scorer"):
        with pytest.raises(FrozenInstanceError):
            setattr(batch, field, None)


def test_providers_draw_from_a_generator_of_their_own(trainer):
    drawn = []

    def draws(name):
        def provider(batch):
            assert isinstance(batch.rng, Random)
            drawn.append([batch.rng.random() for _ in range(2)])
            values, abstain = blank(batch)
            return Rewards(values, abstain)

        provider.name = name
        return provider

    for order in (["one", "two"], ["two", "one"]):
        trainer(reward_providers=[draws(name) for name in order], **SMALL).train()
    assert drawn[:2] == drawn[:1:-1]
    assert drawn[0] != drawn[1]
