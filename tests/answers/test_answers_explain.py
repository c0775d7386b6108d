"""The explanation of a reading, its colours, and the command that shows a file of responses."""

import io
import json

import pytest
from rich.console import Console

from pst_rl.answers.explain import describe, explain, kind_of, render
from pst_rl.cli.answers import Answers, read_responses

RESPONSE = "<think>Maybe \\boxed{17}.</think>\nThe answer is 12. No.\nThe answer is 18 dollars for 3 days."


def lost(text, style="auto"):
    return [(c.text, c.reason, c.lost) for c in explain(text, style).considered]


@pytest.mark.parametrize(
    ("text", "considered"),
    [
        (RESPONSE, [("12", "phrase", "a later statement counts"), ("17", "box", "thoughts state no answer")]),
        (
            "The answer is 5.\n#### 6\nSo \\boxed{7}",
            [("6", "heading", "a box comes first"), ("5", "phrase", "a box comes first")],
        ),
        ("<think>So 5", [("5", "last_number", "thoughts state no answer")]),
        ("no idea", []),
        ("#### 18", []),
    ],
)
def test_what_lost_is_listed_with_the_reason(text, considered):
    assert lost(text) == considered


def test_an_explanation_says_what_was_chosen():
    explained = explain(RESPONSE)
    assert explained.answer.text == "18" and explained.kind == "number" and explained.begin == RESPONSE.index("\nThe")
    assert describe(explained)[:2] == [
        "answer '18'  key '18'  kind number",
        "read as phrase: after a phrase such as 'the answer is'",
    ]


@pytest.mark.parametrize(
    ("key", "kind"),
    [("~1, ~2", "list"), ("0=1|2", "equation"), ("[1; 2]", "tuple, interval, set or matrix"), ("1:2", "text")],
)
def test_a_key_has_a_kind(key, kind):
    assert kind_of(key) == kind


def test_the_answer_is_coloured_and_escape_sequences_are_not_obeyed():
    text = "\x1b[31m" + RESPONSE
    shown = render(text, explain(text))
    assert "\x1b" not in shown.plain and "\ufffd[31m" in shown.plain
    green = [shown.plain[span.start : span.end] for span in shown.spans if span.style == "bold black on green"]
    yellow = [shown.plain[span.start : span.end] for span in shown.spans if span.style == "yellow"]
    assert green == ["18"] and set(yellow) == {"12", "17"}


def test_a_long_response_shows_the_part_with_the_answer():
    text = "before " * 400 + "The answer is 20. " + "after " * 400
    shown = render(text, explain(text), characters=100).plain
    assert shown.startswith("... ") and len(shown) <= 104


# ---- the command ----


def show(tmp_path, capsys, content, **options):
    path = tmp_path / "responses"
    path.write_text(content)
    Answers(file=path, **options).run()
    return capsys.readouterr().out


def test_json_lines_are_read_by_column(tmp_path, capsys):
    rows = [{"text": "#### 18"}, {"text": ["So \\boxed{7}", "It is 5"]}, {"text": {"a": "nothing"}}]
    out = show(tmp_path, capsys, "\n".join(map(json.dumps, rows)) + "\n", column="text")
    assert "4 of 4" in out and "key '18'" in out and "read as box" in out and "no answer" in out
    assert out.count("25.0%") == 4 and "\x1b" not in out
    assert "25% of the answers are only the last quantity" in out


def test_plain_text_is_parted_by_lines_of_equals_signs(tmp_path, capsys):
    out = show(tmp_path, capsys, "#### 18\n\n[bold]x[/bold]\n=====\n#### 19\n", limit=1)
    assert "1 of 2" in out and "2 of 2" not in out and "1 more are not shown" in out and "[bold]x[/bold]" in out


def test_the_standard_input_is_read(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("#### 18"))
    Answers().run()
    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ('{"a": "x", "b": 1}', {}, r"line 1 has no column 'response'; name one with --column: a, b"),
        ('{"response": 3}', {}, r"line 1: column 'response' holds no text"),
        ('{"response": "x"}\nnot json', {}, r"line 2 is no JSON object"),
        ("\n\n", {}, "holds no response"),
        ("x", {"limit": -1}, "--limit"),
        ("x", {"style": "latex"}, "unknown answer style"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, capsys, content, options, message):
    with pytest.raises(ValueError, match=message) as error:
        show(tmp_path, capsys, content, **options)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nothing"):
        Answers(file=tmp_path / "nothing").run()


def test_colours_are_used_on_a_terminal_only():
    def drawn(**options):
        console = Console(file=io.StringIO(), width=80, **options)
        console.print(render(RESPONSE, explain(RESPONSE)))
        return console.file.getvalue()

    assert "\x1b[" in drawn(force_terminal=True, color_system="standard") and "\x1b[" not in drawn()


def test_text_that_begins_with_a_brace_is_plain_text():
    assert read_responses("{1, 2} is the set", "response", "x") == ["{1, 2} is the set"]
