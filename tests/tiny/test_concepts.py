"""The concept world: splits, labels, the exact law; and the shipped concept model against it."""

import json
from collections import Counter
from math import log

import numpy as np
import pytest

from pst_rl.answers import extract_answer
from pst_rl.tiny import (
    CLAIM_STYLE,
    CONCEPT_STYLE,
    TINY_CONCEPT_MODEL,
    TINY_PEERS,
    concept_claims,
    concept_labels,
    concept_questions,
)
from pst_rl.tiny.concepts import (
    FEATURES,
    PRIOR,
    RELIABILITY,
    all_items,
    exact_coherence,
    item_text,
    split_of_item,
    zero_shot_agreement,
    zero_shot_labels,
    zero_shot_probabilities,
)

SIZES = {"train": 128, "validation": 32, "test": 96}
QUESTION = "large blue round rough heavy hollow new cold"
BEST = next(iter(PRIOR))


def texts(split, n, seed=0):
    return [row["question"] for row in concept_questions(split, n, seed)]


# Items and splits


def test_splits_share_no_item_and_hold_all():
    asked = {split: set(texts(split, n)) for split, n in SIZES.items()}
    assert sum(map(len, asked.values())) == 256
    assert set.union(*asked.values()) == {item_text(item) for item in all_items()}


@pytest.mark.parametrize("split", SIZES)
def test_every_split_has_all_combinations_of_answers_equally_often(split):
    counts = Counter(item[: len(PRIOR)] for item in all_items() if split_of_item(item) == split)
    assert set(counts.values()) == {SIZES[split] // 32} and len(counts) == 32


@pytest.mark.parametrize(("n", "most"), [(24, 1), (32, 1), (40, 2)])
def test_a_small_set_repeats_a_combination_of_answers_as_seldom_as_possible(n, most):
    columns = [concept_labels(texts("train", n, seed=4), concept) for concept in PRIOR]
    assert max(Counter(zip(*columns, strict=True)).values()) == most


def test_the_same_arguments_give_the_same_rows_and_another_seed_others():
    assert concept_questions("test", 20, seed=1) == concept_questions("test", 20, seed=1)
    assert set(texts("test", 20, seed=1)) != set(texts("test", 20, seed=2))


@pytest.mark.parametrize(
    ("split", "n", "message"), [("dev", 1, "choose train"), ("test", 97, "0 to 96, got 97"), ("test", -1, "got -1")]
)
def test_a_wrong_request_is_refused(split, n, message):
    with pytest.raises(ValueError, match=message):
        concept_questions(split, n)


# Labels


def test_a_concept_says_yes_to_the_first_word_of_its_feature():
    assert [concept_labels([QUESTION], concept) for concept in PRIOR] == [[1], [0], [1], [0], [1]]


def test_the_answer_is_that_of_the_most_salient_concept():
    for row in concept_questions("validation", 32):
        assert row["answer"] == ("yes" if row["question"].startswith("large") else "no")


@pytest.mark.parametrize(
    ("question", "concept", "message"),
    [
        (QUESTION, "age", "Unknown concept"),
        ("large blue", "size", "is no item"),
        (QUESTION + "er", "size", "is no item"),
    ],
)
def test_labels_of_what_is_no_concept_or_item_are_refused(question, concept, message):
    with pytest.raises(ValueError, match=message):
        concept_labels([question], concept)


def test_a_claim_is_true_where_it_is_the_concepts_answer():
    assert concept_labels([QUESTION] * 2, "size", claims=["yes", "no"]) == [1, 0]
    assert concept_labels([QUESTION] * 2, "colour", claims=["yes", "no"]) == [0, 1]
    with pytest.raises(ValueError, match="'maybe' is no answer"):
        concept_labels([QUESTION], "size", claims=["maybe"])


def test_a_question_has_both_claims_and_one_of_them_is_true():
    rows = concept_claims("train", 30)
    answers = {row["question"]: row["answer"] for row in concept_questions("train", 30)}
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["question"] == second["question"]
        assert {first["claim"]: first["gold"], second["claim"]: second["gold"]} == {
            answers[first["question"]]: "True",
            {"yes": "no", "no": "yes"}[answers[first["question"]]]: "False",
        }
    assert 5 < sum(row["claim"] == "yes" for row in rows[::2]) < 25


# The law


def test_the_zero_shot_label_is_that_of_any_three_concepts():
    questions = texts("train", 128)
    columns = zip(*(concept_labels(questions, concept) for concept in PRIOR), strict=True)
    assert zero_shot_labels(questions) == [int(sum(votes) > 2) for votes in columns]
    assert {zero_shot_agreement(concept) for concept in PRIOR} == {11 / 16}
    assert min(abs(p - 0.5) for p in zero_shot_probabilities(questions)) > 0.03


def test_the_zero_shot_probability_is_the_coherence_of_one_label():
    for question, p in zip(texts("test", 32), zero_shot_probabilities(texts("test", 32)), strict=True):
        assert exact_coherence([question], [1]) == pytest.approx(log(p))
        assert exact_coherence([question], [0]) == pytest.approx(log(1 - p))
        assert exact_coherence([question], [1], claims=["no"]) == pytest.approx(log(1 - p))


def test_the_coherence_of_a_concept_is_its_prior_and_its_reliability():
    questions = texts("train", 32)
    for concept, prior in PRIOR.items():
        a, b = RELIABILITY[concept]
        always_right = sum(log((a + k) / (a + b + k)) for k in range(32))
        coherence = exact_coherence(questions, concept_labels(questions, concept))
        assert coherence == pytest.approx(log(prior) + always_right, abs=0.01)  # the other concepts add less than 1 %


def test_the_exact_law_is_the_mixture_of_the_toy_where_reliabilities_are_equal(monkeypatch):
    from pst_rl.coherence.toy import ConceptMixture

    monkeypatch.setattr("pst_rl.tiny.concepts.RELIABILITY", dict.fromkeys(PRIOR, (7.0, 2.0)))
    questions = texts("test", 20)
    concepts = [concept_labels(questions, concept) for concept in PRIOR]
    mixture = ConceptMixture(concepts, list(PRIOR.values()), agree=7.0, disagree=2.0)
    labels = np.random.default_rng(0).integers(0, 2, 20).tolist()
    assert exact_coherence(questions, labels) == pytest.approx(mixture.log_joint(list(enumerate(labels))))


@pytest.mark.parametrize(("n", "lead"), [(24, 1.2), (64, 1.9)])
def test_the_labelling_by_the_most_salient_concept_leads_by_more_than_a_nat(n, lead):
    questions = texts("train", n)
    labellings = [zero_shot_labels(questions), *(concept_labels(questions, concept) for concept in PRIOR)]
    nats = [exact_coherence(questions, labels) for labels in labellings]
    assert nats[1] - max(nats[0], *nats[2:]) > lead


# Sequences


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_CONCEPT_MODEL)


def drawn(tokenizer, style, rows, n):
    from tiny_models.concept_pretrain import form_of, sequences

    rng = np.random.default_rng(0)
    return sequences(rng, form_of(tokenizer, style), rows, n, tokenizer.bos_token_id, tokenizer.eos_token_id)


@pytest.mark.parametrize("style", [CONCEPT_STYLE, CLAIM_STYLE])
def test_a_sequence_is_the_text_that_a_style_describes(tokenizer, style):
    text = tokenizer.decode(drawn(tokenizer, style, 2, 6)["input_ids"][1])
    assert text.startswith(tokenizer.bos_token) and text.endswith(style["separator"])
    for line in text.removeprefix(tokenizer.bos_token).splitlines():
        question, rest = line.split(":")
        claim, label = rest.split("? ") if "{claim}" in style["template"] else ("", rest[1:])
        assert style["template"].format(question=question, claim=claim[1:]) + f" {label}" == line
        assert label in style["label_names"] and len(question.split()) == len(FEATURES)


def test_what_is_learned_are_the_labels_and_the_end_of_the_turn(tokenizer):
    batch = drawn(tokenizer, CONCEPT_STYLE, 3, 5)
    follows = batch["input_ids"][:, batch["logits_to_keep"] + 1]
    assert batch["labels"][:, ::2].equal(follows[:, ::2])
    assert set(batch["labels"][:, 1::2].flatten().tolist()) == {tokenizer.eos_token_id}
    assert set(tokenizer.batch_decode(follows[:, 1::2].flatten()[:, None])) == {"\n"}


def test_labels_follow_one_concept_at_the_planted_noise(tokenizer):
    lines = [tokenizer.decode(row[1:]).splitlines() for row in drawn(tokenizer, CONCEPT_STYLE, 400, 24)["input_ids"]]
    agreement = []
    for sequence in lines:
        questions, words = zip(*(line.split(": ") for line in sequence), strict=True)
        labels = [word == "yes" for word in words]
        agreement.append(max(np.mean(np.equal(concept_labels(questions, c), labels)) for c in PRIOR))
        assert len(set(questions)) == 24
    exact = sum(prior * RELIABILITY[c][0] / sum(RELIABILITY[c]) for c, prior in PRIOR.items())
    assert np.mean(agreement) == pytest.approx(exact, abs=0.015)


def test_claims_of_a_sequence_are_different_and_often_in_pairs(tokenizer):
    lines = [tokenizer.decode(row[1:]).splitlines() for row in drawn(tokenizer, CLAIM_STYLE, 20, 24)["input_ids"]]
    items = [{line.split(":")[0] for line in sequence} for sequence in lines]
    assert all(len({line.split("?")[0] for line in sequence}) == 24 for sequence in lines)
    assert [len(names) for names in items] == [12] * 10 + [24] * 10


def test_the_hint_falls_to_nothing_before_the_long_sequences(tokenizer):
    from tiny_models.concept_pretrain import concept_batches

    batches = list(concept_batches(tokenizer, 60, seed=0))
    hints = [batch["hint"] for batch in batches]
    assert len(hints) == 60 and set(hints[:30]) == {1.0} and set(hints[42:]) == {0.0}
    assert hints == sorted(hints, reverse=True)
    assert max(batch["input_ids"].shape[1] for batch in batches[:42]) < 256
    assert all(batch["hint"] == 0 for batch in batches if batch["input_ids"].shape[1] > 700)


def test_the_hint_adds_what_naming_the_concept_costs(tokenizer, model):
    import torch
    from tiny_models.concept_pretrain import Guided

    guided, batch = Guided(model), drawn(tokenizer, CONCEPT_STYLE, 4, 6)
    torch.nn.init.zeros_(guided.head.weight), torch.nn.init.zeros_(guided.head.bias)
    with torch.no_grad():
        plain, hinted = guided(**batch, hint=0.0).loss, guided(**batch, hint=2.0).loss
        own = model(**{name: batch[name] for name in ("input_ids", "logits_to_keep", "labels", "shift_labels")}).loss
    assert plain.item() == pytest.approx(own.item())
    assert (hinted - plain).item() == pytest.approx(2 * log(5), rel=1e-5)


# Tokenizer


def test_every_word_is_one_token(tokenizer):
    first, *others = FEATURES.values()
    words = [*first, *(f" {word}" for pair in others for word in pair), "\n", ":", "?"]
    words += [*CONCEPT_STYLE["label_words"], *CLAIM_STYLE["label_words"]]
    assert {word: len(tokenizer.encode(word, add_special_tokens=False)) for word in words} == dict.fromkeys(words, 1)


def test_auto_tokenizer_encodes_as_the_freshly_built_tokenizer(tokenizer):
    from tiny_models.concept_pretrain import build_concept_tokenizer

    built = build_concept_tokenizer()
    for text in [*texts("test", 40), "It's  $4.50 & 1,234!\n\n Why? ½ café", f"{QUESTION}: yes? True\n{QUESTION}:"]:
        assert tokenizer.encode(text) == built.encode(text)
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("style", [CONCEPT_STYLE, CLAIM_STYLE])
def test_pieces_encode_as_the_whole_text(tokenizer, style):
    prompt = style["template"].format(question=QUESTION, claim="no")
    pieces = [prompt, style["label_words"][1], style["separator"], prompt]
    apart = [token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False)]
    assert tokenizer.encode("".join(pieces)) == [tokenizer.bos_token_id, *apart]


def test_a_chat_prompt_is_an_item_without_labels_before_it(tokenizer):
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "yes"}]
    prompt = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, return_dict=False)
    assert prompt == tokenizer.encode(CONCEPT_STYLE["template"].format(question=QUESTION))
    answered = tokenizer.apply_chat_template(chat, tokenize=False)
    assert answered == f"{tokenizer.bos_token}{QUESTION}: yes{tokenizer.eos_token}\n"


# The shipped model


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY_CONCEPT_MODEL)


@pytest.fixture(scope="module")
def predict(model, tokenizer):
    from pst_rl.coherence.language_model import LanguageModelPredictor

    def build(questions):
        prompts = [CONCEPT_STYLE["template"].format(question=question) for question in questions]
        words = [[word] for word in CONCEPT_STYLE["label_words"]]
        return LanguageModelPredictor(model, tokenizer, prompts, words, separator=CONCEPT_STYLE["separator"])

    return build


def test_the_shipped_folder_is_small_and_checked():
    recorded = json.loads((TINY_PEERS["llama"].parent / "checksums.json").read_text())["sha256"]
    assert "concept/model.safetensors" in recorded
    assert sum(file.stat().st_size for file in TINY_CONCEPT_MODEL.iterdir()) < 2_000_000


def test_labels_in_context_say_which_concept_is_meant(predict):
    questions = texts("train", 96)
    for concept in PRIOR:
        labels = concept_labels(questions, concept)
        guesses = predict(questions).open().chain(list(enumerate(labels))).argmax(1).tolist()
        assert np.mean(np.equal(guesses, labels)[20:]) > 0.95


@pytest.mark.parametrize("n", [24, 64])
def test_the_most_coherent_labelling_is_the_most_salient_concepts(predict, n):
    from pst_rl.coherence.scores import coherence

    questions = texts("train", n)
    orders = [np.random.default_rng(r).permutation(n).tolist() for r in range(2)]
    labellings = {concept: concept_labels(questions, concept) for concept in PRIOR}
    labellings["zero-shot"] = zero_shot_labels(questions)
    nats = {name: coherence(predict(questions), labels, orders).nats for name, labels in labellings.items()}
    assert max(nats, key=nats.get) == BEST
    assert nats[BEST] - max(of for name, of in nats.items() if name != BEST) > 0.5


def test_zero_shot_labels_agree_with_it_on_at_most_four_fifths(predict):
    from pst_rl.coherence.scores import score_given

    questions = texts("train", 128)
    labels = score_given(predict(questions), [None] * 128, [], range(128)).argmax(1).tolist()
    assert 0.6 < np.mean(np.equal(labels, concept_labels(questions, BEST))) <= 0.8


def test_a_peer_gives_a_one_word_answer_and_ends_its_turn(model, tokenizer):
    chats = [[{"role": "user", "content": question}] for question in texts("test", 32)]
    inputs = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    completions = model.generate(**inputs, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    assert set(completions[:, 1].tolist()) == {tokenizer.eos_token_id}
    answers = [extract_answer(text) for text in tokenizer.batch_decode(completions, skip_special_tokens=True)]
    assert set(answers) == {"yes", "no"}
