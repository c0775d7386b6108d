"""FoldICM and fine-tuning on labels."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl.coherence.constraints import AllEqual
from pst_rl.coherence.finetune import fine_tuned
from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search import FoldICM
from pst_rl.coherence.toy import ConceptMixture
from pst_rl.tiny import TINY_PEERS

# Whether a number is above 5: nothing that the model knows, and learnt in a few steps.
PROMPTS = [f"Is {n}{m} high? " for n in range(2, 10) for m in range(2)]
TRUE = [int(n > 5) for n in range(2, 10) for _ in range(2)]
FAST = {"learning_rate": 3e-3, "num_train_epochs": 16, "per_device_train_batch_size": 8}


@pytest.fixture
def predictor():
    model = AutoModelForCausalLM.from_pretrained(TINY_PEERS["llama"])
    tokenizer = AutoTokenizer.from_pretrained(TINY_PEERS["llama"])
    return LanguageModelPredictor(model, tokenizer, PROMPTS, (("0",), ("1",)))


def scores(predictor):
    return predictor.open().score([range(len(PROMPTS))])


def test_fine_tuning_teaches_the_labels_and_leaves_the_model_alone(predictor):
    before = scores(predictor)
    trained = fine_tuned(predictor, list(enumerate(TRUE)), FAST)
    assert scores(trained).argmax(1).tolist() == TRUE
    assert torch.equal(scores(predictor), before)
    lengths = [len(predictor.start_ids) + len(ids) + 1 for ids in predictor.prompt_ids]
    trained = fine_tuned(predictor, list(enumerate(TRUE)), FAST | {"num_train_epochs": 2})
    assert trained.tokens == 2 * sum(lengths)


def test_an_adapter_can_be_trained_instead(predictor):
    from peft import LoraConfig

    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trained = fine_tuned(predictor, list(enumerate(TRUE)), FAST | {"num_train_epochs": 1}, adapter)
    assert not torch.equal(scores(trained), scores(predictor))
    assert any("lora" in name for name, _ in trained.model.named_parameters())


def test_nothing_to_train_on_is_said(predictor):
    with pytest.raises(ValueError, match="nothing to fine-tune on"):
        fine_tuned(predictor, [])


def test_only_a_language_model_is_fine_tuned():
    with pytest.raises(ValueError, match="not a ConceptMixture"):
        fine_tuned(ConceptMixture([[0, 1]], [1.0]), [(0, 1)])


def test_known_labels_spread_to_the_folds_that_lack_them(predictor):
    clamped = {i: label for i, label in enumerate(TRUE) if i not in (0, 15)}
    problem = Problem(16, 2, (), clamped)
    found = FoldICM(folds=4, rounds=1, training=FAST).search(predictor, problem)
    assert list(found.labels) == TRUE
    assert all(found.labels[i] == label for i, label in clamped.items())
    assert found.tokens > 0 and found.units > 0


def test_a_block_is_never_labelled_by_a_model_that_saw_it(predictor, monkeypatch):
    seen = []

    def spy(predictor, demos, *args, **kwargs):
        seen.append({item for item, _ in demos})
        return predictor.with_model(predictor.model)

    monkeypatch.setattr("pst_rl.coherence.search.folds.fine_tuned", spy)
    problem = Problem(16, 2, tuple(AllEqual((i, i + 1)) for i in range(0, 16, 2)))
    found = FoldICM(folds=4, rounds=1).search(predictor, problem)
    assert len(seen) == 4 and all(len(items) == 12 for items in seen)
    assert all((i in items) == (i + 1 in items) for items in seen for i in range(0, 16, 2))
    assert found.violations == 0


def test_an_interrupted_search_goes_on_where_it_was(predictor, monkeypatch, tmp_path):
    search = FoldICM(folds=2, rounds=2, training=FAST | {"num_train_epochs": 1})
    whole = search.search(predictor, Problem(16), seed=3)
    real, calls = fine_tuned, []

    def breaks(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr("pst_rl.coherence.search.folds.fine_tuned", breaks)
    with pytest.raises(KeyboardInterrupt):
        search.search(predictor, Problem(16), seed=3, folder=tmp_path)
    again = search.search(predictor, Problem(16), seed=3, folder=tmp_path)
    assert len(calls) == 5, "two folds before, the broken one, and two after"
    assert again == whole


@pytest.mark.parametrize(("options", "message"), [({"folds": 1}, "folds"), ({"rounds": 0}, "rounds")])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FoldICM(**options)
