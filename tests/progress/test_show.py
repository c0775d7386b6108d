"""Who shows the phases: lines or bars, and in one process only."""

import io
import sys

import pytest

from pst_rl.progress.phases import listened, phase
from pst_rl.progress.show import showing


def test_lines_go_to_the_standard_error(capsys):
    with showing("test"), phase("loading", 2, "models") as loading:
        loading.advance(2)
    assert capsys.readouterr() == ("", "loading: 2 models\nloading: 2/2 models in 0:00\n")


def test_a_terminal_has_bars(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with showing("test", terminal), phase("loading", 2, "models"):
        pass
    assert "\x1b[" in terminal.getvalue()


def test_a_terminal_that_cannot_draw_has_lines(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with showing("test", terminal), phase("loading"):
        pass
    assert terminal.getvalue() == "loading\nloading: 0:00\n"


def test_the_first_process_speaks_and_the_others_are_silent(monkeypatch, capsys):
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        with showing("test"), phase(f"loading {rank}"):
            assert listened() is (rank == "0")
    assert capsys.readouterr().err == "loading 0\nloading 0: 0:00\n"


def test_who_shows_already_goes_on(capsys):
    with showing("test"):
        with showing("search", sys.stdout), phase("searching"):
            pass
        assert listened()
    assert capsys.readouterr() == ("", "searching\nsearching: 0:00\n")


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_reader_that_went_away_ends_no_work(error):
    class Gone(io.StringIO):
        def write(self, text):
            raise error

    with showing("test", Gone()), phase("loading") as loading:
        loading.advance()
    assert loading.all_done == 1 and not loading.broken
