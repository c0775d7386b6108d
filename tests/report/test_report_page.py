"""The page of `pst-rl report`: what it reads, what it shows, and that no text of a model acts on it."""

import base64
import hashlib
import json
import math
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
from helpers import group, targets
from jinja2 import UndefinedError
from report_pages import Parsed

import pst_rl.report.page as page_module
from pst_rl.cli import main as cli
from pst_rl.report import PeerResult, RunResults, VoteResult, write_results
from pst_rl.report.page import environment, write_page
from pst_rl.report.panels import accuracy_interval
from pst_rl.report.questions import Limits, chosen_steps, question_rows
from pst_rl.report.results import read_results
from pst_rl.report.run import read_run, read_runs
from pst_rl.report.text import plain, visible
from pst_rl.stages.completions_table import completions_table, report_completions, write_completions

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
NAME = "<b>$llama_{x}$"


def table(step, prompts=("1+1?", "2+2?"), peers=("gemma", NAME), block=None, **extra):
    """Two samples of each peer: gemma says 2 twice, the other 2 and nothing; the target is 2."""
    return pandas.DataFrame(
        {
            "step": step, "block": step if block is None else block, "peer": peer, "question": q, "chain": g,
            "prompt": prompt, "completion": f"{EVIL} says {peer}", "answer": None if peer != "gemma" and g else "2",
            "target": "2", "target_share": 0.75, "pmi": math.nan if g else -1.0, "weight": 1.0 + q,
            "reward/matches_aggregate": float(peer == "gemma" or not g), **extra,
        }
        for peer in peers for q, prompt in enumerate(prompts) for g in range(2)
    )  # fmt: skip


def make_run(folder, steps=(0, 4), alarms=(), **results):
    """A folder as a run leaves it, with hostile names, prompts and completions."""
    peers = {"gemma": PeerResult(0.4, 0.5, (0.06, 0.14), 0.9, 1.0), NAME: PeerResult(0.6, 0.58, (-0.05, 0.01))}
    defaults = {
        "vote": VoteResult(0.65, 0.7), "pooled_vote": VoteResult(), "dataset": EVIL, "n_test": 100, "seed": 3,
        "seconds": {"generate": 3.0, EVIL: 1.0}, "config": {"learning_rate": 1e-4, EVIL: EVIL}, "alarms": list(alarms),
    }  # fmt: skip
    write_results(RunResults(peers=peers, **defaults | results), folder)
    for step in steps:
        write_completions(table(step, prompts=("1+1?", f"2+2? {EVIL}\x1b[1m\u202e")), folder)
    logs = [
        {"step": s, "peers/agreement": 0.1 * s, "gemma/reward": 0.5, f"{NAME}/reward": math.nan, "gemma/parsed": 1.0}
        for s in (1, 2)
    ]
    state = folder / "checkpoint-2" / "trainer_state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"global_step": 2, "log_history": logs}))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two runs; the second differs in its learning rate and recorded no PMI log."""
    base = tmp_path_factory.mktemp("runs")
    first = make_run(base / "first", alarms=[f"step 2: gemma: {EVIL}"])
    second = make_run(base / "second", steps=(0,), config={"learning_rate": 2e-4})
    return write_page(read_runs([first, second]), base / "out")


# ---- text ----


def test_control_characters_are_shown_and_do_nothing():
    assert visible("a\x1b[1m\x00\u202e\ud800\n\tb") == "a␛[1m␀⟨U+202E⟩⟨U+D800⟩\n\tb"


def test_markup_is_escaped_in_elements_and_attributes():
    made = environment().from_string('<p title="{{ text }}">{{ text }}</p>').render(text='<a href="x">\'&\x00')
    assert made == '<p title="{0}">{0}</p>'.format("&lt;a href=&#34;x&#34;&gt;&#39;&amp;␀")


def test_a_name_that_the_template_does_not_know_is_an_error():
    with pytest.raises(UndefinedError, match="'nobody' is undefined"):
        environment().from_string("{{ nobody }}").render()


def test_only_style_script_and_data_are_not_escaped():
    template = (Path(page_module.__file__).parent / "page.html.jinja").read_text()
    assert re.findall(r"\{\{-? *([^}]*?) *\| *safe", template) == ["style", "data", "script"]
    assert template.count("safe }") == 3 and "autoescape" not in template
    assert "Markup" not in Path(page_module.__file__).read_text()


def test_labels_of_charts_hold_no_formula_and_one_line():
    assert plain("a$b$\nc" + 40 * "d", 8) == r"a\$b\$ cd…"


# ---- reading a run ----


def test_results_are_read_as_they_were_written(tmp_path):
    results = RunResults(
        {"a": PeerResult(0.1, 0.2, (0.0, 0.2))}, VoteResult(), VoteResult(0.5), "x", 5, 1, alarms=["w"]
    )
    assert read_results(write_results(results, tmp_path)) == results


def test_a_folder_without_a_run_is_refused_and_the_runs_inside_are_named(tmp_path, capsys):
    make_run(tmp_path / "inside")
    assert cli.main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "holds no run" in said and str(tmp_path / "inside") in said


@pytest.mark.parametrize(
    "flags, message",
    [
        (["nowhere"], "There is no folder 'nowhere'."),
        ([], "at least one run"),
        ([".", "."], "named twice"),
        ([".", "--questions", "0"], "at least 1"),
        ([".", "--stepz", "1"], "--stepz"),
    ],
)
def test_wrong_commands_say_what_is_wrong(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *flags]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_report_says_to_run_it_again(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pst_rl.report.measured.read_folders", interrupt)
    assert cli.main(["report", "a"]) == 130
    assert capsys.readouterr().err.strip().endswith("pst-rl report a")


def test_missing_parts_are_named(tmp_path):
    write_completions(table(0), tmp_path)
    run = read_run(tmp_path)
    assert [part.split()[0].rstrip(":,") for part in run.missing] == ["results.json", "trainer_state.json", "the"]
    assert run.peers == ["gemma", NAME] and run.alarms is None


def test_broken_parts_are_named_and_the_others_read(tmp_path):
    make_run(tmp_path)
    (tmp_path / "results.json").write_text("{")
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("[]")
    (tmp_path / "completions" / "completions_00009.parquet").write_text("cut")
    (tmp_path / "completions" / "foreign.jsonl").write_text('{"step": 1, "reward": 2}\n')
    run = read_run(tmp_path)
    broken = [part for part in run.missing if "cannot be read" in part or "is no table" in part]
    assert len(broken) == 4 and sorted(run.tables) == [0, 4] and len(run.history) == 2


def test_completions_may_be_json_lines_and_answers_stay_text(tmp_path):
    (tmp_path / "completions").mkdir()
    table(3).to_json(tmp_path / "completions" / "c.jsonl", orient="records", lines=True)
    assert question_rows([read_run(tmp_path)], Limits())[0]["targets"] == [["2", 4]]


def test_the_newest_state_counts(tmp_path):
    make_run(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 9, "log_history": [{"step": 9}]}')
    assert [entry["step"] for entry in read_run(tmp_path).history] == [9]


def test_alarms_of_a_run_that_did_not_end_come_from_its_checkpoint(tmp_path):
    import torch

    make_run(tmp_path, alarms=())
    (tmp_path / "results.json").unlink()
    torch.save({"parts": {"collapse": {"alarms": ["step 1: a: length"]}}}, tmp_path / "checkpoint-2/joint_state_0.pt")
    assert read_run(tmp_path).alarms == ["step 1: a: length"]
    (tmp_path / "checkpoint-2/joint_state_0.pt").write_bytes(b"cut")
    assert read_run(tmp_path).alarms is None


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / side / "run", steps=()) for side in "ab"]
    assert [run.name for run in read_runs(folders)] == [str(folder) for folder in folders]


# ---- the completions table ----


def test_the_table_says_whether_an_answer_is_the_target():
    import torch

    from pst_rl.records import Weights

    made = group([[["1/2", "0.5", None]]], targets=targets([[["0.5", "0.5", "0.5"]]]), step=2, block=5)
    rows = completions_table(made, {}, Weights(torch.ones(1, 1, 3), torch.full((1, 1, 3), math.nan)))
    assert list(rows["agrees"]) == [True, True, False] and set(rows["block"]) == {5}
    assert "gold" not in "".join(rows.columns)


def test_two_generation_batches_of_one_step_are_both_kept(tmp_path):
    for block in (0, 1):
        write_completions(table(0, block=block), tmp_path)
    assert len(question_rows([read_run(tmp_path)], Limits())) == 4


def test_the_table_goes_to_the_trackers_that_are_reported_to(monkeypatch):
    logged = {}
    for name in ("wandb", "trackio"):
        stand_in = SimpleNamespace(
            log=partial(logged.__setitem__, name), Table=lambda dataframe: list(dataframe["peer"])
        )
        monkeypatch.setitem(sys.modules, name, stand_in)
    report_completions(table(0, peers=("gemma",)), ["wandb", "tensorboard"])
    assert logged == {"wandb": {"completions": ["gemma"] * 4}}


# ---- the rows of questions ----


def test_a_row_has_the_means_of_each_peer(tmp_path):
    write_completions(table(0), tmp_path)
    row = question_rows([read_run(tmp_path)], Limits())[1]
    other = row["peers"][NAME]
    assert (row["prompt"], row["share"], row["distinct"]) == ("2+2?", 0.75, 1)
    assert other["answers"] == [["2", 1, True], [None, 1, False]]
    assert (other["rewards"], other["weight"], other["pmi"]) == ({"matches_aggregate": 0.5}, 2.0, -1.0)


def test_later_turns_are_shown(tmp_path):
    write_completions(table(0, turns=[{"remark": "sure?", "text": "yes"}]), tmp_path)
    sample = question_rows([read_run(tmp_path)], Limits())[0]["peers"]["gemma"]["samples"][0]
    assert sample["later"] == ["[told] sure?\n[answered] yes"]


def test_steps_are_chosen_evenly_with_the_first_and_the_last(tmp_path):
    make_run(tmp_path, steps=range(0, 40, 2))
    run = read_run(tmp_path)
    steps = chosen_steps(run, Limits(most_steps=4))
    assert (len(steps), steps[0], steps[-1]) == (4, 0, 38)
    assert chosen_steps(run, Limits(steps=(4, 5))) == [4]


def test_long_completions_are_cut_and_say_so(tmp_path):
    write_completions(table(0), tmp_path)
    rows = question_rows([read_run(tmp_path)], Limits(characters=10))
    assert re.search(r"^.{10}… \(\d+ more characters\)$", rows[0]["peers"]["gemma"]["samples"][0]["completion"])


def test_runs_share_axes_and_labels_stand_at_their_lines(tmp_path, monkeypatch):
    import matplotlib

    from pst_rl.report.panels import ACCURACY, TRAINING, draw_charts

    def made(name, values):
        run = read_run(make_run(tmp_path / name, steps=()))
        return replace(
            run, history=[{"step": 1, f"{peer}/reward": v} for peer, v in zip(run.peers, values, strict=True)]
        )

    runs = [made("low", (0.0, 1.0)), made("high", (9.0, 10.0))]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        reward, accuracy = (draw_charts(runs, [panel], tmp_path)[0].pictures for panel in (TRAINING[0], ACCURACY))
    heights = [float(re.search(r'y="([\d.]+)"[^>]*>gemma<', svg.decode())[1]) for svg in reward]
    assert heights[0] > heights[1] + 100  # points, from the top
    assert all(b"greedy vote" in svg for svg in accuracy)


def test_an_accuracy_has_the_wilson_interval():
    low, high = accuracy_interval(0.5, 100)
    assert low == pytest.approx(0.4038, abs=1e-3) and high == pytest.approx(0.5962, abs=1e-3)


# ---- the page ----


def test_nothing_is_loaded_from_outside(page):
    parsed = Parsed(page.read_text())
    places = [v for _, attributes in parsed.tags for k, v in attributes.items() if k in ("src", "href", "action")]
    assert places and all(place.startswith(("data:", "#")) for place in places)
    policies = [attributes.get("content", "") for tag, attributes in parsed.tags if tag == "meta"]
    assert any("default-src 'none'" in policy for policy in policies) and "@import" not in page.read_text()


def test_hostile_text_makes_no_tag(page):
    tags = Parsed(page.read_text()).tags
    assert [attributes for tag, attributes in tags if tag == "script"] == [
        {"type": "application/json", "id": "data"}, {},
    ]  # fmt: skip
    assert not [tag for tag, attributes in tags if tag == "b" or any(name.startswith("on") for name in attributes)]


def test_template_syntax_in_names_and_texts_is_shown_and_not_run(tmp_path):
    sum_of = "{{ 7 * 191 }}{% raw %}"
    run = make_run(tmp_path / "a", steps=(), dataset=sum_of, alarms=[sum_of], config={sum_of: sum_of})
    page = write_page([replace(read_run(run), name=sum_of, missing=(sum_of,))], tmp_path / "out")
    said = "".join(Parsed(page.read_text()).texts)
    assert "1337" not in said
    assert said.count(sum_of) >= 7  # title, heading, data set, missing part, alarm, option and its value


def test_the_policy_allows_the_pages_own_script_and_no_other(page):
    parsed = Parsed(page.read_text())
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = page.read_text().rpartition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    assert page.read_text().startswith("<!doctype html>")


def test_the_data_survives_its_escaping(page):
    data = json.loads(Parsed(page.read_text()).data)
    assert data["runs"] == ["first", "second"] and data["peers"] == ["gemma", NAME]
    assert data["rows"][1]["prompt"] == f"2+2? {EVIL}␛[1m⟨U+202E⟩"


def test_the_page_has_all_parts(page):
    ids = {attributes.get("id") for _, attributes in Parsed(page.read_text()).tags}
    assert {
        "panel-accuracy",
        "panel-reward",
        "panel-agreement",
        "panel-pmi",
        "panel-seconds",
        "questions-table",
    } <= ids
    assert "panel-kl" not in ids and "not-logged" in ids  # named, not drawn
    text = " ".join(Parsed(page.read_text()).texts)
    assert "step 2: gemma: </script>" in text and "[+6.0, +14.0]" in text and "Options that differ" in text


def test_each_panel_is_a_png_too(page):
    assert (page.parent / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert not list(page.parent.glob("part.*"))


def test_the_command_shows_what_a_bare_run_has(tmp_path, capsys):
    write_completions(table(0), tmp_path)
    assert cli.main(["report", str(tmp_path), "--output-dir", str(tmp_path / "new")]) == 0
    html = (tmp_path / "new" / "report.html").read_text()
    assert 'id="missing"' in html and "1+1?" in html and "missing results.json" in capsys.readouterr().out


# ---- in a browser ----


@pytest.fixture(params=[400, 1600])
def tab(browser, page, request):
    """The page, opened at this width; at the end nothing was loaded, nothing went wrong, nothing overflows."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.goto(Path(page).as_uri())
    yield opened
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [Path(page).as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "owned" not in opened.title()
    opened.close()


def count(tab):
    return int(tab.inner_text("#count").split()[0])


def test_pictures_and_rows_are_shown(tab):
    assert tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert count(tab) == tab.locator("tr.question").count() == 6


def test_filters_keep_the_matching_rows(tab):
    for control, value, left in (("run", "1", 2), ("run", "", 6), ("step", "4", 2), ("kind", "abstained", 0)):
        tab.select_option(f"#{control}", value)
        assert count(tab) == left
    tab.select_option("#kind", "lacking")
    tab.select_option("#step", "")
    tab.fill("#search", "2+2 ONERROR")
    assert count(tab) == 3


def test_rows_are_sorted_by_a_peers_weight(tab):
    tab.select_option("#figure", "weight")
    tab.select_option("#sort", f"peer:{NAME}|down")
    assert "2+2?" in tab.inner_text("tr.question >> nth=0") and "1+1?" in tab.inner_text("tr.question >> nth=5")
    tab.select_option("#sort", f"peer:{NAME}|up")
    assert "1+1?" in tab.inner_text("tr.question >> nth=0")


def test_samples_open_and_close_with_their_text_unread(tab):
    button = tab.locator("tr.question button >> nth=0")
    button.click()
    assert tab.locator("tr.samples tbody tr").count() == 4
    assert EVIL in tab.inner_text("tr.samples") and tab.locator("tr.samples img").count() == 0
    button.click()
    assert tab.locator("tr.samples").count() == 0


def test_a_peer_can_be_left_out(tab):
    tab.uncheck("#peer-1")
    assert tab.locator(f"td[data-label='{NAME}']").count() == 0 and tab.locator("td[data-label=gemma]").count() == 6
