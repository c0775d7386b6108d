"""Bars on a terminal: one for every phase or part, and a line that stays for each that ended."""

import io

import pytest

from pst_rl.progress.bars import Bars
from pst_rl.progress.phases import listening, phase, say


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with Bars(Terminal()) as made, listening(made):
        yield made


def shown(bars):
    return [(task.description, task.completed, task.total) for task in bars._shown.tasks] if bars._shown else None


def test_every_part_of_every_phase_has_a_bar_while_it_is_open(bars):
    with phase("measuring"), phase("greedy", 9, "questions", parts=("a", "b")) as asked:
        asked.at("b")
        asked.advance(4)
        assert shown(bars) == [("measuring", 0, None), ("  greedy: a", 0, 9), ("  greedy: b", 4, 9)]
    assert shown(bars) is None
    said = bars.console.file.getvalue()
    assert "measuring, greedy: 4/18 questions in 0:00" in said and "measuring: 0:00" in said


def test_the_bars_of_brief_phases_stay_and_begin_anew_until_the_phase_around_them_ends(bars):
    with phase("training", 2, "steps") as steps:
        for step in (1, 2):
            with phase("generate", 8, "responses", parts=("a",), brief=True) as rows:
                assert shown(bars) == [("training", step - 1, 2), ("  generate: a", 0, 8)]
                rows.at("a")
                rows.advance(8)
            steps.reach(step)
            assert shown(bars) == [("training", step, 2), ("  generate: a", 8, 8)]
    assert shown(bars) is None


def test_brief_phases_that_count_nothing_have_no_bar(bars):
    with phase("training", 2, "steps"), phase("pmi", brief=True, parts=("a",)):
        assert len(shown(bars)) == 1


def test_brackets_in_names_are_no_markup(bars):
    with phase("loading [/bold] org/[model]"):
        pass
    assert "loading [/bold] org/[model]: 0:00" in bars.console.file.getvalue()


def test_what_goes_to_a_file_is_not_drawn_on_the_terminal(bars, capsys):
    with phase("training", 2, "steps"):
        say("step 1/2  loss 0.1")
    assert capsys.readouterr().out == "step 1/2  loss 0.1\n"
    assert "loss" not in bars.console.file.getvalue()
