"""Evaluations and gaps on the page of `pst-rl report`: read, judged once more, shown, and never run."""

import json
import re
from dataclasses import replace

import pytest
from report_pages import Parsed

from pst_rl.cli import main as cli
from pst_rl.report.measured import read_folders, read_measured, response_rows
from pst_rl.report.measured_page import gap_rows, measured_table, score_rows
from pst_rl.report.page import write_page
from pst_rl.report.questions import Limits
from pst_rl.report.results_file import write_results_file

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
HALF = {"value": 0.5, "ci95": [0.25, 0.75], "by_question": [1.0, 0.0]}
SAID = [("1+1?", "2"), (f"2+2? {EVIL}", "4")]


def evaluation(folder, finished=True, **changes):
    """Two questions, two peers: `a` is right and then cut off; `<b>` is wrong and says nothing."""
    rows = [
        {
            "question": question,
            "answer": gold,
            "responses": {
                "a": f"The answer is 3. No: the answer is {gold}.",
                "<b>": "Hm." if number else f"{EVIL} so 7",
            },
            "samples": {"a": ["#### 2", "#### 5"], "<b>": ["", ""]},
            "collaborative": {"a": "#### 2", "<b>": "#### 4"},
        }
        | (
            {
                "finished": {
                    "responses": {"a": not number, "<b>": True},
                    "samples": {"a": [True, False], "<b>": [True, True]},
                    "collaborative": {"a": True, "<b>": True},
                }
            }
            if finished
            else {}
        )
        for number, (question, gold) in enumerate(SAID)
    ]
    results = {
        "benchmark": EVIL,
        "prompt": {"name": "boxed.v1", "digest": "0"},
        "scorings": {"exact_match": {"style": "auto", "metric": "whole"}},
        "questions": ["0", "1"],
        "settings": {"samples": 2, "seed": 0, "max_new_tokens": 8, "parse_truncated": False},
        "peers": {"a": {}, "<b>": {}},
        "finished": {"a": 0.5, "<b>": 1.0},
        "parsed": {"exact_match": {"a": 0.5, "<b>": 0.5}},
        "scores": {"exact_match": {"a": {"greedy": HALF, "mean@2": HALF}, "<b>": {"greedy": HALF}, "vote": {}}},
        "comparison": {
            "exact_match": {"a": {"greedy": {"before": 0.1, "after": 0.5, "gain": 0.4, "ci95": [0.1, 0.6], "p": 0.01}}}
        },
    } | changes
    write_results_file(folder, "evaluation", results)
    (folder / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def gaps(folder):
    own = dict.fromkeys(("generation", "verified", "gap", "kept", "finished", "unparsed", "pass@4"), HALF)
    results = {
        "benchmark": "tiny",
        "questions": ["0", "1"],
        "settings": {"samples": 4},
        "peers": {"a": {}, "<b>": {}},
        "scores": {"likelihood/self": {"a": own | {"relative_gap": None}, "<b>": own}},
    }
    write_results_file(folder, "gap", results)
    return folder


@pytest.fixture
def both(tmp_path):
    return [evaluation(tmp_path / "evaluated"), gaps(tmp_path / "gaps")]


def said(folder, **limits):
    return response_rows([read_measured(folder)], Limits(**limits))


# ---- reading ----


def test_a_folder_is_read_as_what_it_holds(both, tmp_path):
    runs, measured = read_folders(both)
    assert runs == [] and [(one.kind, one.name, one.peers) for one in measured] == [
        ("evaluation", "evaluated", ["a", "<b>"]),
        ("gap", "gaps", ["a", "<b>"]),
    ]


def test_results_of_nobody_are_refused_as_no_run(tmp_path):
    (tmp_path / "results.json").write_text('{"kind": "dream"}')
    with pytest.raises(ValueError, match="holds 'dream'. What is needed here is a training run"):
        read_folders([tmp_path])


def test_every_response_has_its_verdict_and_why_it_is_read_so(both):
    first, second = said(both[0])
    assert (first["question"], first["gold"]) == ("1+1?", "2")
    assert [(one["peer"], one["kind"]) for one in first["said"]] == [
        ("a", "greedy"), ("<b>", "greedy"), ("a", "in turn"), ("<b>", "in turn"),
        ("a", "sample 1"), ("a", "sample 2"), ("<b>", "sample 1"), ("<b>", "sample 2"),
    ]  # fmt: skip
    right = first["said"][0]
    assert (right["answer"], right["cut"], right["right"]) == ("2", False, {"exact_match": True})
    assert right["why"][1].startswith("read as phrase") and right["why"][2].startswith("not '3'")
    silent = second["said"][1]
    assert (silent["answer"], silent["cut"], silent["why"]) == (None, False, ["no answer"])


def test_a_response_that_was_cut_off_has_no_answer_but_says_what_it_would_be(both):
    cut = said(both[0])[1]["said"][0]
    assert (cut["answer"], cut["cut"], cut["right"]) == (None, True, {"exact_match": False})
    assert cut["why"][0].startswith("cut off, so no answer is read") and "answer '4'" in cut["why"][1]


def test_where_cut_off_responses_were_read_they_have_an_answer(tmp_path):
    folder = evaluation(tmp_path, settings={"parse_truncated": True}, scores={"exact_match": {}})
    cut = said(folder)[1]["said"][0]
    assert (cut["answer"], cut["cut"], cut["right"]) == ("4", True, {"exact_match": True})


def test_the_verdict_of_a_greedy_response_is_the_one_that_was_scored(tmp_path):
    flipped = {"exact_match": {"a": {"greedy": HALF | {"by_question": [0.0, 1.0]}}}}
    rows = said(evaluation(tmp_path, scores=flipped))
    assert [row["said"][0]["right"]["exact_match"] for row in rows] == [False, True]


def test_every_style_that_differs_says_how_it_reads(tmp_path):
    scorings = {"strict": {"style": "hash"}, "flexible": {"style": "number"}}
    one = said(evaluation(tmp_path, scorings=scorings, scores={}))[0]["said"][0]
    assert one["right"] == {"strict": False, "flexible": True} and one["answer"] is None
    assert one["why"][0] == "strict: no answer" and one["why"][1].startswith("flexible: answer '2'")


def test_what_is_missing_is_named_and_the_rest_shown(tmp_path):
    older = read_measured(evaluation(tmp_path / "older", finished=False))
    assert "run pst-rl eval again" in older.missing[0]
    assert {one["cut"] for row in response_rows([older], Limits()) for one in row["said"]} == {None}
    for text, message in (("{", "cannot be read"), ('{"a": 1}\n', "has no responses"), ("", "is of 0 questions")):
        folder = evaluation(tmp_path / "broken")
        (folder / "responses.jsonl").write_text(text)
        found = read_measured(folder)
        assert found.rows == () and (not text or message in found.missing[0])
    (folder / "responses.jsonl").unlink()
    assert "what was said is not known" in read_measured(folder).missing[0]
    short = evaluation(tmp_path / "short", questions=["0", "1", "2"])
    assert "is of 2 questions and results.json of 3" in read_measured(short).missing[0]


def test_long_responses_and_many_questions_are_cut_and_say_so(both):
    (row,) = said(both[0], measured=1, characters=10)
    assert re.search(r"^The answer… \(\d+ more characters\)$", row["said"][0]["text"])


# ---- the page ----


def test_the_tables_have_scores_endings_and_gaps(both):
    evaluated, gap = (read_measured(folder) for folder in both)
    table = measured_table([evaluated], "evaluation")
    assert table["header"] == ["Scoring", "Who", "greedy, %", "finished, %", "no answer, %", "mean@2, %"]
    assert [cell.text for cell in table["rows"][0].cells] == ["exact_match", "a", "50.0", "50.0", "50.0", "50.0"]
    found = measured_table([gap, replace(gap, name="other")], "gap")
    assert found["header"][:6] == ["Of", "Verifier", "Peer", "generation, %", "verified, %", "gap, points"]
    assert [row.cells[0].text for row in found["rows"]] == 2 * ["gaps"] + 2 * ["other"]
    assert "relative gap, %" not in found["header"]  # nobody has one
    assert [name for name, _, _ in score_rows(evaluated)] == ["a", "<b>"]
    assert [name for name, _, _ in gap_rows(gap)] == ["likelihood/self: a", "likelihood/self: <b>"]


def test_the_command_shows_evaluations_and_gaps_on_one_page(both, capsys):
    assert cli.main(["report", *map(str, both)]) == 0
    page = (both[0] / "report" / "report.html").read_text()
    parsed = Parsed(page)
    ids = {attributes.get("id") for _, attributes in parsed.tags}
    assert {"evaluations", "gaps", "panel-scores", "panel-gaps", "said-table"} <= ids
    assert not {"accuracy", "training", "options", "questions-table"} & ids
    data = json.loads(parsed.data)
    assert data["measured"] == ["evaluated"] and len(data["said"]) == 2 and data["rows"] == []
    text = " ".join(parsed.texts)
    assert "Compared with an earlier one" in text and "+40.0" in text
    assert [tag for tag, attributes in parsed.tags if tag == "b" or any(n.startswith("on") for n in attributes)] == []
    assert (both[0] / "report" / "gaps.png").is_file() and "The page is" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["evaluation", "gap"])
def test_results_with_nothing_in_them_still_make_a_page(kind, tmp_path):
    write_results_file(tmp_path, kind, {"questions": ["q"], "scores": {}, "peers": {"a": {}}})
    page = write_page([], tmp_path / "out", measured=[read_measured(tmp_path)])
    assert 'id="evaluations"' in page.read_text() or 'id="gaps"' in page.read_text()


# ---- in a browser ----


@pytest.mark.parametrize("width", [400, 1440])
def test_responses_are_shown_filtered_and_not_run(both, width, browser):
    page = write_page([], both[0] / "out", measured=[read_measured(folder) for folder in both])
    tab = browser.new_page(viewport={"width": width, "height": 900})
    wrong = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(page.as_uri())
    for control, value, left in (
        ("kind", "greedy", 4), ("verdict", "right", 1), ("verdict", "cut", 1), ("verdict", "none", 2),
        ("verdict", "", 4), ("peer", "<b>", 2), ("kind", "", 8),
    ):  # fmt: skip
        tab.select_option(f"#said-{control}", value)
        assert tab.locator("tr.response").count() == left == int(tab.inner_text("#said-count").split()[0])
    tab.fill("#said-search", "2+2 ONERROR")
    assert tab.locator("tr.response").count() == 4 and EVIL in tab.inner_text("#said-table")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert wrong == [] and "owned" not in tab.title() and tab.locator("#said-table img").count() == 0
    tab.close()
