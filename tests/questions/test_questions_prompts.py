import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from pst_rl import load_questions
from pst_rl.data import split_labels
from pst_rl.peers.prompts import show_peers

PARTS = [{"type": "text", "text": "2"}, {"type": "text", "text": "+2?"}]
FAULTS = {
    "a message without text": ([{"role": "system", "content": None}], "a message of the system without text"),
    "an image": (
        [{"role": "user", "content": [{"type": "image", "text": None}]}],
        "a part of type 'image' in a message of the user, and peers read text only",
    ),
    "an empty prompt": (" ", "an empty prompt"),
    "no messages": ([], "neither text nor a list of messages"),
    "no prompt": (None, "neither text nor a list of messages"),
    "no role": ([{"content": "a"}], "which has no role"),
    "half of a character": ([{"role": "user", "content": "\ud800"}], "half of a character"),
}


class Rows:
    """Rows that need not be of one type, as Arrow's are."""

    def __init__(self, prompts):
        self.prompts, self.column_names = prompts, ["prompt"]

    def __getitem__(self, name):
        return self.prompts

    def __len__(self):
        return len(self.prompts)

    def remove_columns(self, names):
        return self


@pytest.mark.parametrize(("prompt", "message"), FAULTS.values(), ids=FAULTS)
def test_a_prompt_that_is_none_is_refused_by_its_row(prompt, message):
    with pytest.raises(ValueError, match=f"Row 1 of The data set has .*{message}"):
        split_labels(Rows(["a", prompt]))


@pytest.mark.parametrize("more", [{}, {"answer": ["4"]}])
def test_content_in_parts_becomes_text(more):
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": PARTS}]]} | more)
    assert split_labels(data)[0][0] == {"prompt": [{"role": "user", "content": "2+2?"}], "question_id": 0}


def test_plain_prompts_are_left_as_they_are(questions):
    data = questions()
    assert split_labels(data)[0]["prompt"][:] == data["prompt"][:]


def several(rows):
    return DatasetDict({"train": rows})


FORMS = {
    "a stream": (lambda rows: IterableDataset.from_generator(lambda: iter(rows)), r"is a stream.*list\(stream.take"),
    "splits": (several, "is several: train. Pass one of them"),
    "a list": (lambda rows: rows.to_list(), r"is a list: make it a Dataset, with Dataset.from_list\(rows\)"),
    "images": (lambda rows: rows.add_column("image", [None] * len(rows)), "has a column 'image', but peers read text"),
}


@pytest.mark.parametrize(("make", "message"), FORMS.values(), ids=FORMS)
def test_a_form_that_is_not_taken_is_refused_before_a_model_is_loaded(trainer, questions, make, message):
    with pytest.raises((TypeError, ValueError), match=f"The training data set {message}"):
        trainer(data=make(questions()))
    if make is not several:
        with pytest.raises((TypeError, ValueError), match=f"The evaluation set {message}"):
            trainer(eval_data=make(questions()))
        with pytest.raises((TypeError, ValueError), match=f"The evaluation set 'a' {message}"):
            trainer(eval_data={"a": make(questions())})


def test_evaluation_sets_by_name_are_measured_each(trainer):
    sets = {name: load_questions("tiny", split=split, limit=4) for name, split in (("a", "test"), ("b", "validation"))}
    made = trainer(eval_data=DatasetDict(sets))
    results = made.evaluate()
    for name, rows in sets.items():
        assert "answer" not in made.eval_dataset[name].column_names
        alone = {f"eval_{name}_{key}": value for key, value in made.measure(rows).metrics().items()}
        assert alone.items() <= results.items() and f"eval_{name}_vote/accuracy" in alone
        assert made.measure(name).metrics() == made.measure(rows).metrics()
    assert made.evaluate({"c": sets["a"]}).keys() == {key.replace("_a_", "_c_") for key in results if "_a_" in key}
    with pytest.raises(ValueError, match="several evaluation sets: name one of a, b, not None"):
        made.measure()


def test_unused_columns_may_be_removed(trainer, questions):
    made = trainer(data=questions().add_column("level", ["1"] * len(questions())), remove_unused_columns=True)
    assert made.train_dataset.column_names == ["prompt", "question_id"]
    made.train()
    assert made._train_gold


def test_a_gold_that_is_none_is_refused_and_an_object_read():
    rows = {"prompt": ["a", "b"], "answer": [{"value": "5"}, {"value": "7"}]}
    assert split_labels(Dataset.from_dict(rows))[1].answers == ("5", "7")
    with pytest.raises(ValueError, match="Row 1 of The data set has in 'answer' nan, which.*label_columns"):
        split_labels(Dataset.from_dict(rows | {"answer": [1.0, float("nan")]}))


def test_other_models_texts_go_into_the_users_turn_before_the_beginning_of_an_answer():
    prompt = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "Let me see."}]
    shown = show_peers(prompt, ["4"], "\nP: {text}")
    assert [message["content"] for message in shown] == ["2+2?\nP: 4", "Let me see."]
