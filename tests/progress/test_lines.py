"""Lines for log files: at the beginning, every so often, at the end. The clock is a fake one."""

import pytest

from pst_rl.progress import lines
from pst_rl.progress.lines import Lines
from pst_rl.progress.phases import listening, phase


class Log(list):
    """The lines that were written, and the time, which a test moves on second by second as the thread would."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.shown = Lines(self.append, "pst-rl test", interval=30.0, clock=lambda: self.now)

    def wait(self, seconds):
        for _ in range(seconds):
            self.now += 1.0
            self.shown.beat()


@pytest.fixture
def log():
    made = Log()
    with listening(made.shown):
        yield made


def test_a_phase_has_a_line_at_its_beginning_every_thirty_seconds_and_at_its_end(log):
    with phase("measuring before training"):
        with phase("greedy", 900, "questions", parts=("gemma2", "llama")) as asked:
            asked.at("gemma2")
            log.wait(30)
            asked.advance(900)
            asked.at("llama")
            log.wait(29)
            asked.advance(120)
            log.wait(1)
        log.wait(2)
    assert log == [
        "measuring before training",
        "measuring before training, greedy: 900 questions for each of gemma2, llama",
        "measuring before training, greedy: gemma2 0/900 questions, 0:30 so far",
        "measuring before training, greedy: llama 120/900 questions, 17/s, ETA 0:46",
        "measuring before training, greedy: 1,020/1,800 questions in 1:00",
        "measuring before training: 1:02",
    ]


def test_what_was_found_in_a_cache_says_nothing_about_the_rate(log):
    with phase("llama, greedy", 100, "responses", found=90) as asking:
        asking.advance(5)
        log.wait(30)
    assert log[0] == "llama, greedy: 100 responses, 90 of them known already"
    assert log[1] == "llama, greedy: 95/100 responses, 6 s each, ETA 0:30"


def test_steps_and_what_they_consist_of_are_one_line_and_brief_phases_have_none_of_their_own(log):
    with phase("training", 24, "steps") as steps:
        steps.reach(5)
        with phase("generate", 64, "responses", parts=("llama",), brief=True) as rows:
            rows.at("llama")
            log.wait(30)
    assert log == [
        "training: 24 steps",
        "training: 5/24 steps, 6 s each, ETA 1:54; generate: llama 0/64 responses, 0:30 so far",
        "training: 5/24 steps in 0:30",
    ]


def test_where_no_phase_is_open_the_program_says_that_it_is_at_work(log):
    log.wait(75)
    assert log == ["pst-rl test: at work, 0:30 so far", "pst-rl test: at work, 1:00 so far"]


def test_whoever_speaks_puts_off_the_next_line(log):
    with phase("training", 2, "steps"):
        log.wait(29)
        log.shown.said()  # a log line of the trainer
        log.wait(29)
        assert len(log) == 1
        log.wait(1)
        assert len(log) == 2


def test_a_phase_that_is_cut_short_says_how_far_it_was(log):
    with pytest.raises(KeyboardInterrupt), phase("llama, greedy", 100, "responses") as asking:
        asking.advance(64)
        log.now = 61.0
        raise KeyboardInterrupt
    assert log[-1] == "llama, greedy: stopped after 64/100 responses in 1:01"


def test_a_note_is_asked_for_whenever_the_phase_is_shown(log):
    read = iter(["10 tokens read", "20 tokens read", "30 tokens read"])
    with phase("bootstrap", 4, "steps", note=lambda: next(read)):
        log.wait(60)
    assert [line.split(", ")[-1] for line in log[1:]] == ["10 tokens read", "20 tokens read", "30 tokens read"]


def test_no_command_is_silent_for_more_than_forty_seconds():
    assert lines.INTERVAL <= 40  # and that it speaks: test_show_commands
