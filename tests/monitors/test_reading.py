"""The warning where the last quantity decides too many votes."""

import pytest
from helpers import group

from pst_rl.answers import Answer, find_answer
from pst_rl.monitors.reading import ReadingMonitor
from pst_rl.records import Response


def said(text):
    return Response(text, find_answer(text), True, 3)


BOX, NUMBER, NOTHING = said(r"\boxed{7}"), said("So she has 7 left, as 3+4=7."), said("Hm.")


def batch(box, number, nothing=0, box_of_second=0):
    """Two peers, one question; the first says these, the second as many boxes as asked for."""
    first = [BOX] * box + [NUMBER] * number + [NOTHING] * nothing
    return group([[first], [([BOX] * box_of_second + [NOTHING] * len(first))[: len(first)]]])


@pytest.fixture
def warnings(caplog):
    """`warnings(*batches, style=...)`: what is warned of."""

    def see(*batches, style="auto"):
        caplog.clear()
        monitor = ReadingMonitor(style)
        for shown in batches:
            monitor.see(shown)
        return caplog.messages

    return see


def test_more_than_a_fifth_is_warned_of_once_with_the_numbers_and_the_flags(warnings):
    (message,) = warnings(*[batch(40, 20, box_of_second=20)] * 3)
    assert message.startswith("20 of 80 votes (25 %) are only the last quantity")
    assert "a 33%, b 0%" in message and "--answer-style boxed" in message and "--prompt-template" in message


@pytest.mark.parametrize(
    "shown",
    [batch(64, 16), batch(80, 0), batch(0, 0, 80), batch(10, 20, 100)],
    ids=["a fifth", "none", "unread", "few"],
)
def test_a_fifth_or_fewer_votes_or_too_few_to_judge_raise_no_warning(warnings, shown):
    assert warnings(shown) == []


def test_small_batches_are_judged_together_and_each_judgement_is_a_new_one(warnings):
    assert warnings(*[batch(5, 10)] * 4) == [] and len(warnings(*[batch(5, 10)] * 5)) == 1
    assert len(warnings(*[batch(64, 0)] * 9, batch(32, 32))) == 1


def test_only_where_the_fallback_was_not_asked_for(warnings):
    assert warnings(batch(0, 80), style="number") == [] and len(warnings(batch(0, 80))) == 1


def test_answers_of_a_reader_of_ones_own_are_not_judged(warnings):
    own = Response("7", Answer.of("7"), True, 1)
    assert warnings(group([[[own] * 80]])) == []


def test_a_run_shows_it_every_batch(trainer, monkeypatch, caplog):
    run = trainer(max_steps=2, answer_style="auto", parse_truncated=True, max_completion_length=8, weighting="none")
    monkeypatch.setattr(run, "extract_answer", lambda text: NUMBER.answer)
    run.train()
    assert [m for m in caplog.messages if m.startswith("64 of 64 votes (100 %)")]  # 2 batches of 2 peers' 16
    logs = {name: value for entry in run.state.log_history for name, value in entry.items()}
    assert logs["llama/answers/last_number"] == 1.0 and logs["llama/answers/box"] == 0.0
