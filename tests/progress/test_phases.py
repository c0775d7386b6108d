"""Phases: what is open, what is counted, and that nobody has to listen."""

import os

import pytest

from pst_rl.progress.phases import listened, listening, open_phases, part, phase, say


class Heard:
    """A listener that notes what it hears."""

    def __init__(self):
        self.notes, self.now = [], 0.0

    def clock(self):
        return self.now

    def began(self, phase):
        self.notes.append(("began", phase.title))

    def moved(self, phase):
        self.notes.append(("moved", phase.title, phase.current, phase.all_done))

    def ended(self, phase):
        self.notes.append(("broke" if phase.broken else "ended", phase.title))

    def said(self):
        self.notes.append(("said",))


@pytest.fixture
def heard():
    listener = Heard()
    with listening(listener):
        yield listener


def test_without_a_listener_phases_are_silent_and_count(capsys):
    with phase("loading", 2, "peers") as loading:
        loading.advance()
        assert (open_phases(), loading.all_done, listened()) == ((loading,), 1, False)
    assert open_phases() == () and capsys.readouterr() == ("", "")


def test_a_listener_hears_beginnings_counts_and_ends_in_order(heard):
    with phase("outer"), phase("inner", 4, "rows", parts=("a", "b")) as inner:
        inner.at("b")
        inner.advance(3)
    assert heard.notes == [
        ("began", "outer"),
        ("began", "inner"),
        ("moved", "inner", "b", 3),
        ("ended", "inner"),
        ("ended", "outer"),
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_phase_that_an_error_cuts_short_is_broken_and_closed(heard, error):
    with pytest.raises(error), phase("saving"):
        raise error
    assert heard.notes[-1] == ("broke", "saving") and open_phases() == ()


def test_work_on_a_part_is_counted_by_the_innermost_phase_that_has_it(heard):
    with phase("outer", 8, "rows", parts=("a",)) as outer:
        with part("a", 2):
            assert outer.current == "a" and outer.all_done == 0  # it is worked on, and not done
        with phase("inner"), part("a", 5):
            pass  # the inner phase counts nothing of it
        with part("stranger", 5):
            pass
    assert outer.done == {"a": 2}


def test_work_that_failed_is_not_done(heard):
    with phase("outer", 8, "rows", parts=("a",)) as outer, pytest.raises(OSError), part("a", 2):
        raise OSError
    assert outer.all_done == 0


def test_counts_of_one_of_several_equal_shares_stand_for_all_of_them():
    with phase("greedy", 5, "questions", parts=("a",), share=2) as asked:
        for count, known in ((2, 4), (1, 5)):  # the first process has one more than its half
            with part("a", count):
                pass
            assert asked.all_done == known


def test_what_was_there_before_is_done_already():
    with phase("asking", 6, "responses", found=4) as asking:
        assert asking.all_done == 4
        asking.advance(2)
    assert asking.all_done == 6


def test_a_line_is_printed_and_the_listener_knows(heard, capsys):
    say("step 1/2")
    assert capsys.readouterr().out == "step 1/2\n" and heard.notes == [("said",)]


def test_a_forked_child_is_silent(heard):
    with phase("outer"):
        if (child := os.fork()) == 0:
            os._exit(int(listened() or open_phases() != ()))
        assert os.waitpid(child, 0)[1] == 0 and listened()
