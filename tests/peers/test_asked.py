"""The record of how a peer was asked: written with its weights, read where it is evaluated."""

import json

import pytest

from pst_rl.benchmarks.model import model_digest
from pst_rl.peers.asked import FILE, Asked, adopted, asked_by, read_asked, write_asked


def test_what_is_written_is_read(tmp_path):
    asked = Asked(
        stop_strings=["\n"],
        chat_template_kwargs={"a": 1},
        template_date="2031-02-05",
        dtype="float32",
        autocast="bfloat16",
        sampling={"temperature": 0.5},
    )
    write_asked(asked, tmp_path)
    assert read_asked(tmp_path) == read_asked(str(tmp_path)) == asked
    assert asked.precision == "float32 with bfloat16 autocast"


def test_a_model_without_a_record_has_none(tiny, tmp_path):
    assert read_asked(tiny["llama"]) is None
    assert read_asked("no-such-owner/no-such-model") is None  # nor one that cannot be reached


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is damaged"),
        ("[]", "is damaged"),
        ('{"base_template": "x"}', "is damaged"),
        ('{"version": 9}', "has version 9, and this pst_rl reads 1"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_asked(tmp_path)


def test_options_of_ones_own_come_first():
    recorded = Asked(dtype="float32", autocast="bfloat16", chat_template_kwargs={"a": 1})
    assert recorded.with_own({"dtype": None, "stop_strings": None}) == recorded
    assert recorded.with_own({"dtype": "bfloat16"}).precision == "bfloat16"
    assert recorded.with_own({"autocast": "no"}).precision == "float32"
    assert recorded.with_own({"chat_template_kwargs": {}}).chat_template_kwargs == {}


def test_everything_that_is_taken_over_is_named_but_what_was_set_by_hand():
    base = Asked(stop_strings=["\n\nQ:"], dtype="bfloat16")
    said = ["dtype 'bfloat16'", "stop_strings ['\\n\\nQ:']", f"base_template {base.base_template!r}"]
    assert adopted(base, base, []) == said
    assert adopted(base, base.with_own({"dtype": "float32"}), ["dtype"]) == said[1:]
    assert adopted(base, base, ["stop_strings", "base_template"]) == said[:1]
    assert adopted(Asked(stop_strings=[]), Asked(stop_strings=[]), []) == []  # it has a chat template


def test_a_run_leaves_a_record_beside_its_peers(trainer, tiny):
    run = trainer({"llama": tiny["llama"]}, temperature=0.7, parse_truncated=True, template_date="2031-02-05")
    run.save_model()
    folder = f"{run.args.output_dir}/llama"
    asked = read_asked(folder)
    assert asked == asked_by(run.engines[0])
    assert (asked.answer_style, asked.parse_truncated, asked.max_completion_length) == ("hash", True, 40)
    assert asked.sampling["temperature"] == 0.7 and asked.precision == "float32"
    assert asked.template_date is None  # its chat template writes no date
    with open(f"{folder}/{FILE}") as file:
        assert json.load(file)["version"] == 1


def test_the_record_is_no_part_of_what_a_model_is_known_by(tiny, tmp_path):
    import shutil

    folder = tmp_path / "peer"
    shutil.copytree(tiny["llama"], folder)
    before = model_digest(str(folder))
    write_asked(Asked(), folder)
    assert model_digest(str(folder)) == before


@pytest.mark.parametrize("name", ["/there/x.gguf", "org/model:x.gguf"])
def test_a_gguf_file_has_no_record(name):
    assert read_asked(name) is None
