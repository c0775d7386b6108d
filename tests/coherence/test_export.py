import json
from types import SimpleNamespace

import pytest
from datasets import load_dataset
from hub_server import ROUTES, HubServer
from huggingface_hub import DatasetCard, HfApi

from pst_rl.coherence.builders import claims_from_comparisons
from pst_rl.coherence.claims import load_claims
from pst_rl.coherence.export import (
    label_rows,
    load_labelling,
    most_coherent,
    preference_rows,
    save_labelling,
    sft_rows,
    write_labels,
)
from pst_rl.coherence.labelling import Labelling

ROWS = [{"question": f"q{i // 2}", "claim": f"c{i}", "label": i % 2} for i in range(4)]


def labelled(*labels, **fields):
    """A labelling of two label values, each with probability 0.75."""
    probabilities = tuple((0.25, 0.75) if label else (0.75, 0.25) for label in labels)
    defaults = {
        "changed_at": tuple(range(len(labels))),
        "coherence": -1.5,
        "violations": 0,
        "units": 4,
        "tokens": 1000,
    }
    return Labelling(labels, probabilities, **defaults | {"seed": 0, "method": "icm"} | fields)


@pytest.fixture
def claims():
    return load_claims(ROWS)


@pytest.fixture
def written(claims, tmp_path):
    """`written(*labellings, formats=...)`: what was written, by format, as rows."""

    def write(*labellings, formats=("jsonl", "sft", "preference")):
        files = write_labels(claims, labellings, tmp_path, formats)
        return {name: [json.loads(line) for line in path.open()] for name, path in files.items()}

    return write


# Rows


def test_rows_have_the_label_its_probability_and_its_step(claims):
    assert label_rows(claims, labelled(0, 1, 1, 0))[1] == {
        "question": "q0", "claim": "c1", "label": "True", "probability": 0.75, "changed_at": 1, "agreement": None,
        "clamped": False,
    }  # fmt: skip


def test_agreement_is_over_all_seeds(claims):
    rows = label_rows(claims, labelled(0, 1, 1, 0), [labelled(0, 0, 1, 0), labelled(0, 0, 1, 0)])
    assert [row["agreement"] for row in rows] == [1.0, pytest.approx(2 / 3), 1.0, 1.0]


def test_given_labels_are_marked():
    rows = label_rows(load_claims(ROWS, clamp=[1]), labelled(0, 1, 1, 0))
    assert [row["clamped"] for row in rows] == [False, True, False, False]


def test_no_input_column_is_overwritten():
    claims = load_claims([row | {"probability": "p"} for row in ROWS])
    assert label_rows(claims, labelled(0, 1, 1, 0))[0]["input_probability"] == "p"


def test_gold_is_written_nowhere(tmp_path):
    rows = [row | {"label": None, "gold": "secret" * (i == 0) + "True" * (i > 0)} for i, row in enumerate(ROWS)]
    claims = load_claims(rows, gold_column="gold", label_names=["secret", "True"])
    for path in write_labels(
        claims, [labelled(1, 1, 1, 0)], tmp_path, ["jsonl", "parquet", "sft", "preference"]
    ).values():
        first = path.read_bytes().splitlines()[0]
        assert b"gold" not in first and (path.suffix == ".parquet" or b"secret" not in first)


def test_sft_rows_are_the_prompt_and_the_label_word(claims):
    assert sft_rows(claims, labelled(0, 1, 1, 0))[1] == {"prompt": claims.prompts[1], "completion": " True"}


def test_a_true_claim_is_preferred_to_a_false_one_of_its_group(claims):
    rows = preference_rows(claims, labelled(0, 1, 1, 1))
    assert rows == [{"prompt": "q0", "chosen": "c1", "rejected": "c0"}]


def test_every_true_claim_is_paired_with_every_false_one():
    claims = load_claims([{"question": "q", "claim": c} for c in ("a", "b", "c", "d", "a")])
    pairs = [(row["chosen"], row["rejected"]) for row in preference_rows(claims, labelled(1, 0, 1, 0, 0))]
    assert pairs == [("a", "b"), ("a", "d"), ("c", "b"), ("c", "d"), ("c", "a")]  # never a over a


def test_a_comparison_prefers_what_its_true_claim_says():
    claims = claims_from_comparisons([{"prompt": f"q{i}", "response_a": "x", "response_b": "y"} for i in range(2)])
    labels = [int(row["response_a"] == "y") for row in claims.rows]  # y is better, whichever way round
    assert preference_rows(claims, labelled(*labels)) == [
        {"prompt": f"q{i}", "chosen": "y", "rejected": "x"} for i in range(2)
    ]


def test_preferences_need_a_label_for_true():
    claims = load_claims(ROWS, label_names=["no", "yes"])
    with pytest.raises(ValueError, match="set question_column, claim_column and true_label"):
        preference_rows(claims, labelled(0, 1, 1, 0))


# Files


def test_the_most_coherent_labelling_without_violations_is_written(claims, written):
    labellings = [
        labelled(0, 0, 0, 0, coherence=-1.0, violations=1),
        labelled(0, 0, 1, 1, coherence=-3.0),
        labelled(1, 1, 0, 0, coherence=-2.0, seed=7),
    ]
    assert most_coherent(labellings).seed == 7
    assert [row["label"] for row in written(*labellings)["jsonl"]] == ["True", "True", "False", "False"]


def test_json_lines_are_always_written(written):
    assert list(written(labelled(0, 1, 1, 0), formats=["sft"])) == ["jsonl", "sft"]


def test_without_a_pair_there_is_no_preference_file(written, caplog):
    assert "preference" not in written(labelled(0, 0, 0, 0))
    assert "no preference pair" in caplog.text


def test_parquet_holds_the_same_rows(claims, tmp_path):
    files = write_labels(claims, [labelled(0, 1, 1, 0)], tmp_path, ["jsonl", "parquet"])
    lines = [json.loads(line) for line in files["jsonl"].open()]
    assert load_dataset("parquet", data_files=str(files["parquet"]), split="train").to_list() == lines


def test_values_of_several_types_are_text_in_parquet(tmp_path):
    big = 12157665459056928803
    claims = load_claims([{"question": "q", "claim": claim, "n": big} for claim in ("007", 7, 1.5, "null")])
    files = write_labels(claims, [labelled(0, 1, 1, 0)], tmp_path, ["parquet"])
    rows = load_dataset("parquet", data_files=str(files["parquet"]), split="train")
    assert rows["claim"][:] == ["007", "7", "1.5", "null"] and int(rows["n"][0]) == big
    assert [json.loads(line)["claim"] for line in files["jsonl"].open()] == ["007", 7, 1.5, "null"]


def test_a_write_that_fails_leaves_the_old_file(claims, tmp_path, monkeypatch):
    files = write_labels(claims, [labelled(0, 1, 1, 0)], tmp_path, ["jsonl"])
    before = files["jsonl"].read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_labels(claims, [labelled(1, 0, 0, 1)], tmp_path, ["jsonl"])
    assert files["jsonl"].read_bytes() == before


def test_a_labelling_is_read_back_as_it_was(tmp_path):
    save_labelling(labelled(0, 1, 1, 0), tmp_path / "x" / "labelling.json")
    assert load_labelling(tmp_path / "x" / "labelling.json") == labelled(0, 1, 1, 0)


def test_an_unknown_format_is_refused_before_anything_is_written(claims, tmp_path):
    with pytest.raises(ValueError, match="Unknown format 'yaml': choose from jsonl, parquet, sft, preference"):
        write_labels(claims, [labelled(0, 1, 1, 0)], tmp_path / "new", ["jsonl", "yaml"])
    assert not (tmp_path / "new").exists()


# The card, and the Hub


@pytest.fixture
def card(tmp_path):
    """`card(claims, *labellings)`: the card as text."""
    from pst_rl.coherence.card import write_card
    from pst_rl.tiny import TINY_PEERS

    def write(claims, *labellings):
        files = write_labels(claims, labellings, tmp_path, ["jsonl", "sft"])
        return write_card(claims, labellings, str(TINY_PEERS["llama"]), files, tmp_path).read_text()

    return write


def test_the_card_says_method_model_cost_coherence_and_seeds(claims, card):
    text = card(claims, labelled(0, 1, 1, 0), labelled(0, 1, 1, 0, seed=3, coherence=-1.25))
    for line in (
        "| Method | icm |",
        "| Model | the pst-rl tiny peer (llama) |",
        "| Coherence | -1.25 nats; violated pairs: 0 |",
        "| Read | 2,000 tokens, all seeds together |",
        "| Seeds | 0, 3 (written: 3) |",
        "| Agreement of the seeds | 100.0 % |",
        "No gold label was used",
    ):
        assert line in text


def test_the_card_gives_accuracy_only_where_gold_is_known(claims, card):
    assert "| Accuracy | 50.0 % (95 % interval" in card(claims, labelled(0, 1, 1, 0))
    without = load_claims([{"question": "q", "claim": "c"}] * 4)
    assert "Accuracy" not in card(without, labelled(0, 1, 1, 0))


def test_the_card_says_that_gold_labels_were_given(card):
    text = card(load_claims(ROWS, clamp=2), labelled(0, 1, 1, 0))
    assert "**2 gold labels were given**" in text and "semi-supervised" in text


def test_the_card_names_the_files_for_the_viewer_and_no_folder(claims, card, tmp_path):
    text = card(claims, labelled(0, 1, 1, 0))
    configs = {c["config_name"]: c["data_files"] for c in DatasetCard(text).data.configs}
    assert configs == {"labels": "labels.jsonl", "sft": "sft.jsonl"}
    assert str(tmp_path) not in text and "tiny/llama" not in text


@pytest.fixture
def hub(monkeypatch):
    """A Hub whose data sets are answered like models."""
    routes = [(m, pattern.replace("/api/models/", "/api/(?:models|datasets)/"), name) for m, pattern, name in ROUTES]
    routes = [
        (m, pattern.replace(r"/([\w.-]+/[\w.-]+)\.git", r"/(?:datasets/)?([\w.-]+/[\w.-]+)\.git"), n)
        for m, pattern, n in routes
    ]
    monkeypatch.setattr("hub_server.ROUTES", routes)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with HubServer(tokens={"secret"}) as server:
        yield SimpleNamespace(server=server, api=lambda token: HfApi(endpoint=server.url, token=token))


def test_labels_and_card_are_pushed_and_nothing_else(claims, card, hub, tmp_path):
    from pst_rl.coherence.card import open_repository, push_labels

    card(claims, labelled(0, 1, 1, 0))
    (tmp_path / "search.json").write_text("{}")
    files = write_labels(claims, [labelled(0, 1, 1, 0)], tmp_path, ["jsonl", "sft"])
    open_repository("user/labels", private=True, api=hub.api("secret"))
    push_labels(tmp_path, files, "user/labels", "icm", hub.api("secret"))
    repo = hub.server.repos["user/labels"]
    assert set(repo.files) == {".gitattributes", "README.md", "labels.jsonl", "sft.jsonl"} and repo.private
    assert repo.files["labels.jsonl"] == files["jsonl"].read_bytes()


def test_a_token_that_may_not_write_is_refused_in_one_line(hub):
    from pst_rl.coherence.card import open_repository

    with pytest.raises(ValueError, match="does not let you create 'user/labels'. Log in with `hf auth login`"):
        open_repository("user/labels", api=hub.api("wrong"))
