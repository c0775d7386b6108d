import json
import random

import pytest
from datasets import Dataset

from pst_rl.coherence.builders import claims_from_comparisons, claims_from_responses
from pst_rl.coherence.claims import load_claims
from pst_rl.coherence.constraints import AllEqual, Antisymmetric, AtMostOne, ExactlyOne, OneAnswer
from pst_rl.coherence.gold import read_label
from pst_rl.coherence.templates import TEMPLATES, Template, find_template

ROWS = [
    {"question": "2 + 2?", "claim": "It is 4.", "answer_text": "4", "label": 1},
    {"question": "2 + 2?", "claim": "Four, i.e. 4.0", "answer_text": "4.0", "label": 1},
    {"question": "2 + 2?", "claim": "It is 5.", "answer_text": "5", "label": 0},
    {"question": "1 + 2?", "claim": "It is 3.", "answer_text": "3", "label": 1},
]


def file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def with_column(**columns):
    """`ROWS` with further columns, given as lists."""
    return [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(ROWS)]


# What is read


def test_a_prompt_ends_right_before_the_label_word():
    claims = load_claims(ROWS)
    assert claims.prompts[0] == "Question: 2 + 2?\nClaim: It is 4.\nI think this claim is"
    assert claims.label_words == ((" False", " false"), (" True", " true"))


def test_gold_is_in_neither_rows_nor_prompts():
    claims = load_claims(ROWS)
    assert claims.gold == (1, 1, 0, 1)
    assert claims.rows[0] == {"question": "2 + 2?", "claim": "It is 4.", "answer_text": "4"}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "dataset"])
def test_every_form_of_the_data_gives_the_same_claims(tmp_path, form):
    data = Dataset.from_list(ROWS)
    path = str(tmp_path / f"data.{form}")
    writers = {"jsonl": data.to_json, "json": data.to_json, "csv": data.to_csv, "parquet": data.to_parquet}
    if form in writers:
        writers[form](path)
    claims, expected = load_claims(path if form in writers else data), load_claims(ROWS)
    assert (claims.prompts, claims.gold, claims.rows) == (expected.prompts, expected.gold, expected.rows)


def test_columns_may_have_any_name():
    rows = [{"q": "Is it?", "said": "Yes.", "ok": "true"}, {"q": "Is it?", "said": "No.", "ok": "FALSE"}]
    claims = load_claims(rows, question_column="q", claim_column="said", gold_column="ok")
    assert claims.prompts[1] == "Question: Is it?\nClaim: No.\nI think this claim is" and claims.gold == (1, 0)


def test_a_split_keeps_a_question_together():
    rows = [{"question": f"q{i // 2}", "claim": f"c{i}"} for i in range(200)]
    parts = [load_claims(rows, split=split).groups for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 200 and not set(parts[0]) & set(parts[2])


def test_a_limit_keeps_whole_groups():
    claims = load_claims(ROWS, limit=3, group_rule="at_most_one", seed=1)
    assert claims.groups in [("2 + 2?",) * 3, ("1 + 2?",)]
    assert load_claims(ROWS, limit=1).groups == ("1 + 2?",)


def test_choices_are_read_with_letters_and_labelled_by_letter():
    rows = [{"question": "Which?", "choices": {"label": ["A", "B", "C"], "text": ["x", "y", "z"]}, "answerKey": "C"}]
    claims = load_claims(rows, template="multiple_choice", label_names="ABC", true_label="A")
    assert claims.prompts == ("Question: Which?\nA. x\nB. y\nC. z\nAnswer:",)
    assert claims.problem.n_labels == 3 and claims.gold == (2,) and claims.label_words[2] == (" C",)


# Gold and keys: inputs only


def everything_but_gold(rows, **options):
    claims = load_claims(rows, group_rule="one_answer", answer_column="answer_text", limit=3, **options)
    return claims.prompts, claims.rows, claims.groups, claims.problem


def test_permuting_gold_changes_nothing_else():
    gold = [row["label"] for row in ROWS]
    expected = everything_but_gold(ROWS)
    for seed in range(6):
        random.Random(seed).shuffle(gold)
        assert everything_but_gold(with_column(label=gold)) == expected


def test_a_key_that_touches_gold_is_refused_with_the_reason():
    for touch in (lambda row: row["label"], lambda row: row.get("label"), lambda row: "label" in row):
        with pytest.raises(ValueError, match="'label', which may hold gold labels, and is refused.*inputs only"):
            load_claims(ROWS, key=touch)


def test_a_key_sees_all_inputs():
    claims = load_claims(ROWS, key=lambda row: (sorted(row), row["claim"][:2])[1], group_rule="at_most_one")
    assert claims.groups == ("It", "Fo", "It", "It")
    assert claims.problem.constraints == (AtMostOne((0, 2, 3)),)


@pytest.mark.parametrize("options", [{"group_column": "label"}, {"template": "{question} {label}"}])
def test_gold_is_refused_as_an_input(options):
    with pytest.raises(ValueError, match="'label' is taken to have gold labels, and refused as an input"):
        load_claims(ROWS, **options)


def test_columns_that_may_be_gold_are_taken_away_unless_they_are_named_as_inputs():
    rows = with_column(answer=["4"] * 4, verdicts=["x"] * 4)
    assert "answer" not in load_claims(rows).rows[0] and "verdicts" not in load_claims(rows).rows[0]
    assert load_claims(rows, answer_column="answer", group_rule="one_answer").rows[0]["answer"] == "4"


@pytest.mark.parametrize(
    ("value", "label"),
    [("True", 1), ("false", 0), (True, 1), (0, 0), (1.0, 1), ("1", 1), (None, None), ("", None), (-1, None)],
)
def test_gold_may_be_a_name_an_index_or_a_truth_value(value, label):
    assert read_label(value, ("False", "True")) == label


def test_a_name_goes_before_an_index():
    assert read_label("1", ("1", "0")) == 0


def test_a_gold_word_that_is_no_label_names_the_row():
    with pytest.raises(
        ValueError, match="Row 2 of The data, column 'label': the label 'maybe' is none of False, True"
    ):
        load_claims(with_column(label=["True", "False", "maybe", "True"]))


def test_gold_of_one_value_is_warned_of(caplog):
    load_claims(with_column(label=[1, 1, 1, 1]))
    assert "every gold label is True" in caplog.text


def test_claims_without_gold_have_none(caplog):
    rows = [{key: row[key] for key in ("question", "claim")} for row in ROWS]
    assert load_claims(rows).gold == (None,) * 4 and not caplog.text


# Groups


def test_equal_answers_are_equal_by_canonical_key():
    claims = load_claims(ROWS, group_rule="one_answer", answer_column="answer_text")
    assert claims.problem.constraints == (OneAnswer((0, 1, 2), answers=("4", "4", "5")),)


def test_without_an_answer_column_claims_are_compared_as_text():
    rows = [{"question": "q", "claim": c} for c in ("It is  4.", "it is 4.", "It is 5.")]
    (constraint,) = load_claims(rows, group_rule="one_answer").problem.constraints
    assert constraint.violations([1, 0, 0]) == [(0, 1)] and not constraint.violations([1, 1, 0])


def test_a_claim_without_an_answer_is_in_no_rule():
    rows = with_column(answer_text=["4", None, "5", "3"])
    (constraint,) = load_claims(rows, group_rule="one_answer", answer_column="answer_text").problem.constraints
    assert constraint.items == (0, 2)


@pytest.mark.parametrize(
    ("rule", "kind"), [("at_most_one", AtMostOne), ("exactly_one", ExactlyOne), ("all_equal", AllEqual)]
)
def test_a_rule_holds_in_every_group_of_two_or_more(rule, kind):
    assert load_claims(ROWS, group_rule=rule).problem.constraints == (kind((0, 1, 2)),)


def test_rows_without_a_group_are_in_none():
    claims = load_claims(with_column(team=["a", None, "a", None]), group_column="team", group_rule="antisymmetric")
    assert claims.problem.constraints == (Antisymmetric((0, 2)),)
    assert len(set(claims.groups)) == 3


def test_the_true_label_is_found_by_name():
    rows = [{key: value for key, value in row.items() if key != "label"} for row in ROWS]
    claims = load_claims(rows, label_names=["right", "wrong"], true_label="right", group_rule="at_most_one")
    assert claims.true_label == 0 and claims.problem.constraints[0].value == 0
    with pytest.raises(ValueError, match="set true_label"):
        load_claims(rows, label_names=["right", "wrong"], group_rule="at_most_one")


def test_an_antisymmetric_group_of_three_is_named():
    with pytest.raises(ValueError, match=r"The group '2 \+ 2\?' has 3 rows, but an antisymmetric pair has two"):
        load_claims(ROWS, group_rule="antisymmetric")


# Clamped labels


def test_nothing_is_clamped_unless_asked_for():
    assert load_claims(ROWS).problem.clamped == {}


def test_so_many_are_drawn_whatever_their_gold():
    drawn = load_claims(ROWS, clamp=2, seed=3).problem.clamped
    other = load_claims(with_column(label=[0, 0, 1, 0]), clamp=2, seed=3).problem.clamped
    assert len(drawn) == 2 and drawn.keys() == other.keys()
    assert all(drawn[i] == ROWS[i]["label"] for i in drawn)


def test_items_are_clamped_by_number_or_by_a_column():
    assert load_claims(ROWS, clamp=[2, 0]).problem.clamped == {0: 1, 2: 0}
    claims = load_claims(with_column(known=[None, "True", "False", None]), clamp="known")
    assert claims.problem.clamped == {1: 1, 2: 0} and "known" not in claims.rows[0]


def test_contradictory_clamps_name_their_group():
    rows = with_column(label=[1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"group '2 \+ 2\?' contradict its rule: {0: 'True', 1: 'False', 2: 'False'}"):
        load_claims(rows, group_rule="one_answer", answer_column="answer_text", clamp="label")


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claim_column": "clam"}, "has no column 'clam'; it has question, claim, answer_text, label"),
        ({"group_column": "team"}, "has no column 'team'.*Set group_column"),
        ({"gold_column": "truth"}, "has no column 'truth'"),
        ({"group_rule": "some"}, "Unknown group_rule 'some': choose one of one_answer"),
        ({"template": "{question} {clam}"}, r"unknown placeholder \{clam\}; it may use \{question\}, \{claim\}"),
        ({"template": "corectness"}, "did you mean 'correctness'"),
        ({"clamp": 5}, "clamp=5 labels were asked for, but 4 items have a gold label"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"key": len, "group_column": "claim"}, "not by both"),
        ({"template": "multiple_choice", "claim_column": "claim", "label_names": ["A"]}, "two or more labels"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_claims(ROWS, **options)


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        load_claims(file(tmp_path, "data.jsonl", ""))
    with pytest.raises(ValueError, match="data.csv has no questions"):
        load_claims(file(tmp_path, "data.csv", "question,claim,label\n"))
    with pytest.raises(ValueError, match="The data has no claims"):
        load_claims([])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_claims(str(tmp_path / "none.jsonl"))


def test_a_name_that_is_neither_file_nor_hub_id_is_refused():
    with pytest.raises(ValueError, match=r"Unknown data 'mydata': give a Hub id \(owner/name\) or a .jsonl"):
        load_claims("mydata")


def test_an_empty_claim_names_its_row():
    with pytest.raises(ValueError, match=r"Row 1 of The data: \{claim\} is empty"):
        load_claims(with_column(claim=["a", " ", "b", "c"]))


def test_choices_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match=r"Row 0 of The data has 2 choices, but there are 4 labels \(A, B, C, D\)"):
        load_claims([{"question": "q", "choices": ["x", "y"]}], template="multiple_choice")


# Templates


def test_braces_in_the_data_are_no_placeholders():
    claims = load_claims([{"question": "What is {x}?", "claim": "{question}"}, {"question": "b", "claim": "c"}])
    assert claims.prompts[0] == "Question: What is {x}?\nClaim: {question}\nI think this claim is"


def test_a_format_string_may_use_other_columns():
    claims = load_claims(ROWS, template="{answer_text}: {{{claim}}}\nThis is", label_names=["no", "yes", "unsure"])
    assert claims.prompts[0] == "4: {It is 4.}\nThis is"
    assert claims.problem.n_labels == 3 and claims.label_words[2] == (" unsure",)


def test_named_templates_fill_in_and_begin_words_with_a_blank():
    for template in TEMPLATES.values():
        prompt = template.render(dict.fromkeys(template.placeholders, "text"))
        assert not prompt.endswith((" ", "\n")) and all(word[0] == " " for word, *_ in template.label_words)


def test_variants_of_a_label_word_are_given_with_a_bar():
    assert Template("{claim}", ("n", "y"), (" no| No", " yes")).label_words == ((" no", " No"), (" yes",))


def test_a_content_free_prompt_says_nothing():
    assert find_template("correctness").content_free == "Question: N/A\nClaim: N/A\nI think this claim is"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{claim} ",), "ends with a blank"),
        (("no columns",), "nothing to fill in"),
        (("{claim",), "no format string"),
        (("{claim}", ("a", "a")), "must be different"),
        (("{claim}", ("a", "b"), ("x",)), "a word for each"),
    ],
)
def test_a_template_that_cannot_work_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Template(*arguments)


# Recorded answers and comparisons

RESPONSES = [
    {"question": "2 + 2?", "answer": "4", "responses": {"a": "#### 4", "b": "So it is 4.0", "c": "#### 5", "d": None}},
    {"question": "1 + 2?", "answer": "3", "responses": {"a": "#### 7", "b": "no idea", "c": None, "d": None}},
]


def test_every_different_answer_is_a_claim():
    claims = claims_from_responses(RESPONSES)
    assert [row["claim"] for row in claims.rows] == ["The answer is 4.", "The answer is 5.", "The answer is 7."]
    assert claims.rows[0]["models"] == ["a", "b"] and claims.gold == (1, 0, 0)
    assert claims.problem.constraints == (OneAnswer((0, 1), answers=("4", "5")),)


def test_every_response_is_a_claim():
    claims = claims_from_responses(RESPONSES, claim="response")
    assert [row["claim"] for row in claims.rows] == ["#### 4", "So it is 4.0", "#### 5", "#### 7", "no idea"]
    assert claims.gold == (1, 1, 0, 0, 0)
    assert claims.problem.constraints == (OneAnswer((0, 1, 2), answers=("4", "4", "5")),)


def test_gold_answers_leave_recorded_claims_as_they_are():
    other = [row | {"answer": "9"} for row in RESPONSES]
    a, b = claims_from_responses(RESPONSES), claims_from_responses(other)
    assert (a.prompts, a.rows, a.groups, a.problem) == (b.prompts, b.rows, b.groups, b.problem) and a.gold != b.gold


def test_gold_of_recorded_answers_is_by_the_metric_asked_for():
    rows = [{"question": "q", "responses": ["\\boxed{4, 5}", "\\boxed{5, 4}", "\\boxed{4}"], "answer": "4"}]
    assert claims_from_responses(rows).gold == (0, 0, 1)
    assert claims_from_responses(rows, metric="first").gold == (1, 0, 1)


def test_responses_without_any_answer_are_refused():
    with pytest.raises(ValueError, match="No response of The data has a final answer"):
        claims_from_responses([{"question": "q", "responses": ["no idea"]}])


PAIRS = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20)]


def test_a_pair_is_claimed_either_way_round():
    claims = claims_from_comparisons(PAIRS, response_columns=("chosen", "rejected"), preferred="chosen")
    assert claims.problem.constraints[:2] == (Antisymmetric((0, 1)), Antisymmetric((2, 3)))
    assert all(sum(claims.gold[i : i + 2]) == 1 for i in range(0, 40, 2))
    first, second = claims.rows[:2]
    assert (first["response_a"], first["response_b"]) == (second["response_b"], second["response_a"])
    assert all(g == row["response_a"].startswith("good") for g, row in zip(claims.gold, claims.rows, strict=True))


def test_the_order_of_the_columns_says_nothing():
    claims = claims_from_comparisons(PAIRS, response_columns=("chosen", "rejected"), preferred="chosen")
    assert 4 <= sum(claims.gold[::2]) <= 16


def test_the_better_response_may_be_named_by_row():
    rows = [{"prompt": "q", "response_a": "x", "response_b": "y", "better": better} for better in ("A", "b", None)]
    claims = claims_from_comparisons(rows, preferred="better")
    better = [r["response_a"] for r, g in zip(claims.rows, claims.gold, strict=True) if g]
    assert better == ["x", "y"] and claims.gold[4:] == (None, None)
    with pytest.raises(ValueError, match="Row 0 of The data: better says 'C'; it must say A, B"):
        claims_from_comparisons([rows[0] | {"better": "C"}], preferred="better")


def test_a_conversation_is_refused_with_its_row():
    rows = [{"prompt": [{"role": "user", "content": "hi"}], "response_a": "x", "response_b": "y"}]
    with pytest.raises(ValueError, match="Row 0 of The data: a conversation"):
        claims_from_comparisons(rows)


# Real data


def test_truthfulqa_claims_load_as_they_are(shared_data):
    path = str(shared_data / "truthfulqa_claims.jsonl")
    claims = load_claims(path, group_column="consistency_id", template="truthfulness")
    rows = [json.loads(line) for line in (shared_data / "truthfulqa_claims.jsonl").read_text().splitlines()]
    assert claims.gold == tuple(row["label"] for row in rows) and len(set(claims.groups)) == 64


def test_recorded_answers_become_claims(shared_data):
    claims = claims_from_responses(str(shared_data / "recorded_gsm8k.jsonl"))
    assert set(claims.gold) == {0, 1} and len(set(claims.groups)) == 200
    assert not claims.problem.violations(claims.gold)


@pytest.mark.parametrize("name", ["truthfulqa_claims", "recorded_gsm8k"])
def test_other_gold_labels_leave_real_claims_as_they_are(shared_data, name):
    rows = [json.loads(line) for line in (shared_data / f"{name}.jsonl").read_text().splitlines()]
    if name == "truthfulqa_claims":
        options = {"group_column": "consistency_id", "group_rule": "at_most_one", "template": "truthfulness"}
        a, b = (load_claims(r, **options) for r in (rows, [row | {"label": 1 - row["label"]} for row in rows]))
    else:
        a, b = map(claims_from_responses, (rows, [row | {"answer": "12345"} for row in rows]))
    assert (a.prompts, a.rows, a.groups, a.problem) == (b.prompts, b.rows, b.groups, b.problem) and a.gold != b.gold
