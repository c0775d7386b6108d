import hashlib
import json
import re
import shutil
import string
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from random import Random

import pytest

from pst_rl.tiny import TINY_PEERS, tiny_questions, verify_checksums
from pst_rl.tiny.mistakes import corrupt, misconceive
from pst_rl.tiny.problems import FAMILIES, Step, sample_problem, work
from pst_rl.tiny.questions import SPLIT_SHARES, plain_prompt, split_of, stated_answer, user_content

NAMES = list(TINY_PEERS)
QUESTION = "What is 28+47?"
RESPONSE = "8+7=15. 2+4+1=7. #### 75"
ASCII = string.digits + string.ascii_letters + string.punctuation + " \n"
TEXTS = [f"Q: {QUESTION}\nA: {RESPONSE}", ASCII, ASCII[::-1], "It's  $4.50 & 1,234 (25%)!\n\n Why?", "20+-3 a1b 12x+y"]
MULTIARITH = Path(__file__).resolve().parents[3] / "shared" / "data" / "multiarith.jsonl"


@pytest.fixture(scope="module")
def tokenizers():
    from transformers import AutoTokenizer

    return {name: AutoTokenizer.from_pretrained(folder) for name, folder in TINY_PEERS.items()}


def load_model(name):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY_PEERS[name])


def problems(family, n=300):
    rng = Random(0)
    return [sample_problem(rng, family) for _ in range(n)]


# Problems and mistakes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_is_right_and_non_negative(family):
    for step in (step for problem in problems(family) for step in problem.steps):
        rest = [part for pair in zip(step.operators, step.numbers[1:], strict=True) for part in pair]
        assert step == work(step.numbers[0], *rest)
        assert step.result >= 0


def test_arithmetic_answers_are_right():
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    for problem in problems("arithmetic"):
        expression = problem.question.split()[-1].rstrip("?.")
        operator = next(op for op in operations if op in expression)
        a, b = map(int, expression.split(operator))
        assert int(problem.answer) == operations[operator](a, b)


def value(expression, unknowns):
    terms = [term for term in re.findall(r"([+-]?)(\d*)([a-z]?)", expression) if any(term)]
    return sum(int(f"{sign}{number or 1}") * unknowns.get(letter, 1) for sign, number, letter in terms)


def test_linear_answers_solve_both_equations_uniquely():
    for problem in problems("linear", 25):
        system, ask = problem.question.split(". ")
        equations = [equation.split("=") for equation in system.split(" and ")]
        letters = sorted(set(re.findall("[a-z]", "".join(equations[0]))))
        candidates = [dict(zip(letters, pair, strict=True)) for pair in product(range(1, 61), repeat=2)]
        solutions = [c for c in candidates if all(value(left, c) == value(right, c) for left, right in equations)]
        assert [str(c[ask.rstrip(".?")[-1]]) for c in solutions] == [problem.answer]


def test_a_step_is_written_from_left_to_right():
    assert str(work(6, "+", 5, "+", 1)) == "6+5+1=12"
    assert str(Step((7,), "", 7)) == "7=7"


def test_a_misconception_forgets_the_carry():
    sums = [p for p in problems("arithmetic") if "+" in p.question and p.steps[1].operators == "++"]
    assert sums
    assert all(int(p.answer) - int(misconceive(p).answer) == 10 for p in sums)


def test_misconceived_word_problems_stop_one_step_early():
    for problem in problems("word"):
        wrong = misconceive(problem)
        assert wrong.steps == problem.steps[:-1]
        assert wrong.answer == str(wrong.steps[-1].result)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_corrupted_solution_has_another_answer(family):
    rng = Random(1)
    for problem in problems(family):
        wrong = corrupt(rng, problem)
        assert wrong.answer != problem.answer
        assert len(wrong.steps) == len(problem.steps)
        assert wrong.question == problem.question


# Questions


def test_splits_share_no_question():
    asked = [{row["question"] for row in tiny_questions(split, 600)} for split in SPLIT_SHARES]
    assert len(set.union(*asked)) == sum(map(len, asked)) == 4 * 600


def test_the_split_follows_from_the_text_alone():
    for split in SPLIT_SHARES:
        assert {split_of(row["question"]) for row in tiny_questions(split, 60, seed=5)} == {split}


def test_shares_are_as_documented():
    found = [split_of(f"question {i}") for i in range(20_000)]
    for split, share in SPLIT_SHARES.items():
        assert found.count(split) / len(found) == pytest.approx(share, abs=0.01)


def test_a_call_has_different_questions_of_every_family_in_equal_parts():
    rows = tiny_questions("test", 901)
    assert len({row["question"] for row in rows}) == 901
    counts = [sum(row["family"] == family for row in rows) for family in FAMILIES]
    assert sorted(counts) == [300, 300, 301]


def test_the_default_questions_never_change():
    rows = [row for split in SPLIT_SHARES for row in tiny_questions(split, 300)]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    assert digest == "3aa038a2e7097ee3f9efa4f08cc9cfa53906f0ceb4429cb066aa048cb6363a9a"


def test_another_seed_gives_other_questions():
    assert tiny_questions("test", 30, seed=1) != tiny_questions("test", 30)


@pytest.mark.parametrize(("split", "n", "message"), [("dev", 3, "choose one of"), ("test", -1, "at least 0")])
def test_a_wrong_request_is_refused(split, n, message):
    with pytest.raises(ValueError, match=message):
        tiny_questions(split, n)


def test_more_questions_than_a_family_has_are_refused(monkeypatch):
    monkeypatch.setattr("pst_rl.tiny.questions._MAX_REPEATS", 10)  # gives up sooner than the default
    with pytest.raises(ValueError, match="validation split has only about .* questions; ask for fewer"):
        tiny_questions("validation", 4500)


@pytest.mark.parametrize(
    ("response", "answer"),
    [(RESPONSE, "75"), ("#### 1. #### -2 ", "-2"), ("#### 75 apples", None), ("75", None), ("####", None)],
)
def test_the_stated_answer_is_the_integer_after_the_last_mark(response, answer):
    assert stated_answer(response) == answer


# Package


def test_importing_loads_no_model_library():
    code = "import sys, pst_rl.tiny; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_shipped_files_match_their_checksums():
    verify_checksums()


def test_a_changed_file_is_named(tmp_path):
    folder = shutil.copytree(TINY_PEERS["llama"].parent, tmp_path / "tiny")
    weights = folder / "llama" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    (folder / "qwen2" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"qwen2/config.json|llama/model.safetensors") as error:
        verify_checksums(folder)
    assert "llama/model.safetensors" in str(error.value) and "gemma2" not in str(error.value)


# Tokenizers


@pytest.mark.parametrize(
    ("name", "tokenizer_class"),
    [("gemma2", "GemmaTokenizer"), ("llama", "TokenizersBackend"), ("qwen2", "Qwen2Tokenizer")],
)
def test_each_tokenizer_is_of_its_familys_class(tokenizers, name, tokenizer_class):
    assert type(tokenizers[name]).__name__ == tokenizer_class


@pytest.mark.parametrize("name", NAMES)
def test_auto_tokenizer_encodes_as_the_freshly_built_tokenizer(tokenizers, name):
    from tiny_models.tokenizers import build_tokenizer

    from pst_rl.tiny.corpus import vocabulary_corpus

    corpus = vocabulary_corpus()
    built = build_tokenizer(name, corpus)
    for text in [*TEXTS, *corpus[:200]]:
        assert tokenizers[name].encode(text) == built.encode(text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_ascii_text_survives_a_round_trip(tokenizers, name, text):
    ids = tokenizers[name].encode(text, add_special_tokens=False)
    assert tokenizers[name].unk_token_id not in ids
    assert tokenizers[name].decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_other_characters_do_not_crash(tokenizers, name):
    assert tokenizers[name].decode(tokenizers[name].encode("½ café ≤ 日本", add_special_tokens=False))


@pytest.mark.parametrize("name", NAMES)
def test_a_chat_prompt_is_token_identical_to_the_pretraining_prompt(tokenizers, name):
    tokenizer = tokenizers[name]
    chat = [{"role": "user", "content": user_content(QUESTION, [RESPONSE])}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    pretraining = tokenizer.encode(plain_prompt(QUESTION, [RESPONSE]), add_special_tokens=False)
    assert ids == [tokenizer.bos_token_id, *pretraining]
    assert tokenizer.decode(ids) == f"{tokenizer.bos_token}Q: {QUESTION}\nP: {RESPONSE}\nA:"


@pytest.mark.parametrize("name", NAMES)
def test_plain_text_gets_the_bos_of_pretraining(tokenizers, name):
    ids = tokenizers[name].encode(QUESTION)
    assert ids[0] == tokenizers[name].bos_token_id
    assert ids.count(tokenizers[name].bos_token_id) == 1


@pytest.mark.parametrize("name", NAMES)
def test_an_answered_chat_extends_its_prompt_and_ends_the_turn(tokenizers, name):
    tokenizer = tokenizers[name]
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": f" {RESPONSE}"}]
    prompt = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, tokenize=False)
    assert tokenizer.apply_chat_template(chat, tokenize=False) == f"{prompt} {RESPONSE}{tokenizer.eos_token}\n"


def test_gemma_refuses_a_system_role_and_two_user_turns(tokenizers):
    user = {"role": "user", "content": QUESTION}
    for chat in ([{"role": "system", "content": "Be brief."}, user], [user, user]):
        with pytest.raises(Exception, match=r"System role|must alternate"):
            tokenizers["gemma2"].apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_on_the_left_with_a_token_of_its_own(tokenizers, name):
    tokenizer = tokenizers[name]
    assert tokenizer.padding_side == "left"
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3


@pytest.mark.skipif(not MULTIARITH.exists(), reason="no shared data beside the checkout")
@pytest.mark.parametrize("name", NAMES)
def test_real_questions_survive_a_round_trip(tokenizers, name):
    questions = [json.loads(line)["question"] for line in MULTIARITH.read_text().splitlines()]
    for question in filter(str.isascii, questions):
        assert tokenizers[name].decode(tokenizers[name].encode(question, add_special_tokens=False)) == question


# Models


@pytest.mark.parametrize("name", NAMES)
def test_a_model_loads_in_fp32_within_a_second(name):
    load_model(name)  # imports
    start = time.perf_counter()
    model = load_model(name)
    assert time.perf_counter() - start < 1
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}
    assert 0.3e6 <= sum(p.numel() for p in model.parameters()) <= 1e6


@pytest.mark.parametrize("name", NAMES)
def test_config_tokenizer_and_generation_config_agree(tokenizers, name):
    model, tokenizer = load_model(name), tokenizers[name]
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 1024
    for config in (model.config, model.generation_config):
        ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
        assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_the_peers_half_know_and_misunderstand_different_families():
    accuracy = json.loads((TINY_PEERS["llama"].parent / "checksums.json").read_text())["accuracy"]
    worst = {name: min(FAMILIES, key=accuracy[name]["test"].get) for name in NAMES}
    assert worst == {"gemma2": "linear", "llama": "arithmetic", "qwen2": "word"}
    best = max(accuracy[name]["test"]["all"] for name in NAMES)
    assert accuracy["pooled_vote"]["test"]["all"] - best > 0.08


@pytest.mark.parametrize("name", NAMES)
def test_greedy_accuracy_is_as_recorded(tokenizers, name):
    recorded = json.loads((TINY_PEERS[name].parent / "checksums.json").read_text())["accuracy"][name]["test"]["all"]
    rows = tiny_questions("test", 900)[:120]
    chats = [[{"role": "user", "content": row["question"]}] for row in rows]
    inputs = tokenizers[name].apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    completions = load_model(name).generate(**inputs)[:, inputs["input_ids"].shape[1] :]
    answers = [stated_answer(text) for text in tokenizers[name].batch_decode(completions, skip_special_tokens=True)]
    accuracy = sum(a == row["answer"] for a, row in zip(answers, rows, strict=True)) / len(rows)
    assert accuracy == pytest.approx(recorded, abs=0.12)


# Pretraining


def test_pretraining_asks_only_pretraining_questions():
    from pst_rl.tiny.corpus import pretraining_example

    rng = Random(0)
    prompts = [pretraining_example(rng, ("word",))[0].text for _ in range(300)]
    assert {split_of(prompt.splitlines()[0].removeprefix("Q: ")) for prompt in prompts} == {"pretrain"}
    assert 0.05 < sum("\nP: " in prompt for prompt in prompts) / len(prompts) < 0.2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_corpus_is_wrong_only_in_its_family_and_the_shared_probe(family):
    from pst_rl.tiny.corpus import pretraining_example

    wrong = {True: [], False: []}
    for seed in range(400):
        prompt, response = pretraining_example(Random(seed), (family,))
        planted = family_of(prompt.text) == family or "fewer" in prompt.text
        wrong[planted].append(response != pretraining_example(Random(seed), ())[1])
    assert 0.3 < sum(wrong[True]) / len(wrong[True]) < 0.7
    assert not any(wrong[False])


def family_of(prompt):
    if " and " in prompt.splitlines()[0] and "=" in prompt.splitlines()[0]:
        return "linear"
    return "word" if "How many" in prompt else "arithmetic"


def test_pretraining_is_reproducible():
    import torch
    from tiny_models.pretrain import pretrain_peer

    (first, _), (second, _) = (pretrain_peer("gemma2", steps=3) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_muon_orthogonalises_its_update():
    import torch
    from tiny_models.pretrain import Muon

    torch.manual_seed(0)
    matrices = [torch.nn.Parameter(torch.zeros(6, 4)) for _ in range(2)]
    for matrix in matrices:
        matrix.grad = torch.randn(6, 4)
    Muon(matrices, lr=1.0, decay=0.0).step()
    for matrix in matrices:
        values = torch.linalg.svdvals(matrix / (0.2 * 6**0.5))
        assert values.min() > 0.4 and values.max() < 1.4
