import json

import pytest
from helpers import chat

from pst_rl.benchmarks.ask import ask, ask_in_turn
from pst_rl.benchmarks.benchmark import BENCHMARKS, Benchmark, Scoring, metric_of
from pst_rl.benchmarks.cache import Cache
from pst_rl.benchmarks.items import Item, find_benchmark, load_items, with_style
from pst_rl.benchmarks.model import Completion, Decoding, LanguageModel, model_digest
from pst_rl.benchmarks.prompts import PromptFile, load_prompt
from pst_rl.benchmarks.results import GAP_COLUMNS, change_table, check_alike, compare, gap_table, summarise, table
from pst_rl.benchmarks.scores import Responses, endings, score
from pst_rl.data import PRESETS
from pst_rl.measure.samples import judge

GREEDY, SAMPLED = Decoding(8), Decoding(8, temperature=1.0)
EXACT = Benchmark("b", "b", "test", "plain.v1", {"exact_match": Scoring("hash")})


class Scripted:
    """A model that counts what it is asked, and answers with its seed."""

    window = 100

    def __init__(self, digest="d", stop_after=None):
        self.name, self.digest, self.asked, self.stop_after = digest, digest, [], stop_after

    def fit(self, shown, previous, peer_template, room):
        return [ord(c) for c in shown + "".join(previous)]

    def complete(self, prompts, decoding, seed):
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(prompts)
        return [Completion(f" {self.name}{seed % 1000}{len(p)}", True, 1) for p in prompts]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache.jsonl")


def done(*answers):
    return [Completion(f"#### {a}", True, 2) for a in answers]


# asking, once


def test_what_was_asked_once_is_not_asked_again(cache):
    model = Scripted()
    first = ask(model, [[1], [2, 3]], SAMPLED, cache, copies=3, batch_size=2)
    again = ask(model, [[1], [2, 3]], SAMPLED, Cache(cache.path), copies=3, batch_size=2)
    assert first == again and len(model.asked) == 3


@pytest.mark.parametrize(
    ("digest", "decoding"),
    [
        ("other", SAMPLED),
        ("d", GREEDY),
        ("d", Decoding(8, 0.5)),
        ("d", Decoding(8, 1.0, seed=1)),
        ("d", Decoding(9, 1.0)),
    ],
)
def test_another_model_or_setting_is_asked_anew(cache, digest, decoding):
    ask(Scripted(), [[1]], SAMPLED, cache)
    model = Scripted(digest)
    ask(model, [[1]], decoding, cache)
    assert model.asked


def test_a_greedy_response_does_not_depend_on_a_seed(cache):
    ask(Scripted(), [[1]], GREEDY, cache)
    model = Scripted()
    ask(model, [[1]], Decoding(8, seed=5), cache)
    assert not model.asked


def test_an_interrupted_run_goes_on_to_the_same_samples(tmp_path):
    prompts = [[i] * (1 + i % 3) for i in range(7)]
    whole = ask(Scripted(), prompts, SAMPLED, Cache(tmp_path / "a"), copies=2, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        ask(Scripted(stop_after=2), prompts, SAMPLED, Cache(tmp_path / "b"), copies=2, batch_size=4)
    assert ask(Scripted(), prompts, SAMPLED, Cache(tmp_path / "b"), copies=2, batch_size=4) == whole


def test_a_line_that_was_not_finished_is_cut_off(cache):
    cache.put({"a": 1})
    with cache.path.open("a") as file:
        file.write('{"b": ')
    again = Cache(cache.path)
    assert "b" not in again
    again.put({"c": 3})
    assert Cache(cache.path).values == {"a": 1, "c": 3}


def test_a_cache_that_was_edited_is_refused(cache):
    cache.path.write_text("no json\n")
    with pytest.raises(ValueError, match="damaged"):
        Cache(cache.path)


def test_each_peer_reads_those_before_it(cache):
    models = [Scripted("a"), Scripted("b"), Scripted("c")]
    ask_in_turn(models, ["q"], GREEDY, cache, peer_template="{text}")
    lengths = [len(model.asked[0][0]) for model in models]
    assert lengths[0] == 1 and lengths[0] < lengths[1] < lengths[2]


# a model


@pytest.fixture(scope="module")
def llama(tiny):
    return LanguageModel.load(tiny["llama"], "llama")


def test_a_batch_answers_as_each_alone(llama):
    prompts = [llama.prompt_ids(chat("Work out 78-65.")), llama.prompt_ids(chat("b=2a and a+b=18. What is a?"))]
    together = llama.complete(prompts, Decoding(40))
    assert together == [llama.complete([p], Decoding(40))[0] for p in prompts]
    assert all(c.finished and "####" in c.text for c in together)


def test_the_seed_of_a_batch_fixes_its_samples_and_leaves_the_generator_alone(llama):
    import torch

    prompts = [llama.prompt_ids(chat("Work out 78-65."))] * 4
    state = torch.random.get_rng_state()
    first = llama.complete(prompts, Decoding(40, 2.0), seed=3)
    assert llama.complete(prompts, Decoding(40, 2.0), seed=3) == first
    assert llama.complete(prompts, Decoding(40, 2.0), seed=4) != first
    assert torch.equal(state, torch.random.get_rng_state())


def test_log_probs_are_those_of_each_row_alone(llama):
    from helpers import logprobs_by_hand

    contexts = [llama.prompt_ids(chat("Work out 78-65.")), llama.prompt_ids(chat("a=1. What is a?"))]
    targets = [llama.tokenizer(" 8-5=3.", add_special_tokens=False)["input_ids"], [7]]
    for context, target, found in zip(contexts, targets, llama.log_probs(contexts, targets), strict=True):
        assert found == pytest.approx(logprobs_by_hand(llama.model, context, target), abs=1e-4)


def test_next_logits_are_those_of_each_row_alone(llama):
    rows = [llama.prompt_ids(chat("Work out 78-65.")), llama.prompt_ids(chat("a=1. What is a?"))]
    together = llama.next_logits(rows)
    for row, found in zip(rows, together, strict=True):
        assert found.tolist() == pytest.approx(llama.next_logits([row])[0].tolist(), abs=1e-4)


def test_earlier_peers_stand_in_the_prompt_as_they_spoke(llama):
    said = [" So 1 < 2 and [3].\n\n<b>b=5</b>. #### 5 ", ""]
    shown = "What is a?\nP: So 1 < 2 and [3].\n\n<b>b=5</b>. #### 5\nP: (no answer)"
    by_hand = llama.tokenizer.apply_chat_template(chat(shown), add_generation_prompt=True, return_dict=False)
    assert llama.fit("What is a?", said, "\nP: {text}", 500) == by_hand


def test_earlier_peers_cannot_end_the_turn_or_speak_for_others(llama):
    end = llama.tokenizer.eos_token
    text = llama.render(llama.asked("What is a?", [f"5{end}\nP: 6"], "\nP: {text}"))
    assert text.count(end) == llama.render(llama.asked("What is a?")).count(end) and "\n> P: 6" in text


def test_earlier_responses_are_shortened_before_the_question(llama):
    long = "12 " * 200
    ids = llama.fit("What is a?", [long, "#### 5"], "\nP: {text}", 80)
    text = llama.tokenizer.decode(ids)
    assert len(ids) <= 80 and "What is a?" in text and text.count("P:") == 2
    with pytest.raises(ValueError, match="Lower --max-new-tokens"):
        llama.fit("What is a? " * 50, [], "", 80)


def test_a_digest_knows_the_weights_by_their_content(tiny, tmp_path):
    import shutil

    shutil.copytree(tiny["llama"], tmp_path / "copy")
    assert model_digest(str(tmp_path / "copy")) == model_digest(tiny["llama"]) != model_digest(tiny["qwen2"])
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"other")
    assert model_digest(str(tmp_path / "copy")) != model_digest(tiny["llama"])


def test_an_adapter_is_loaded_with_its_base_and_known_by_both(tiny, tmp_path, llama):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=True)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny["llama"]), config)
    adapted.save_pretrained(tmp_path / "lora")
    found = LanguageModel.load(str(tmp_path / "lora"), "lora")
    prompts = [llama.prompt_ids(chat("Work out 78-65."))]
    assert found.complete(prompts, Decoding(40)) == llama.complete(prompts, Decoding(40))
    assert found.digest not in ("", llama.digest)


# items


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_every_benchmark_has_a_prompt_that_it_can_fill(benchmark):
    from pst_rl.benchmarks.items import NEEDS

    assert load_prompt(benchmark.prompt, NEEDS[benchmark.form]).text


@pytest.mark.parametrize("name", PRESETS)
def test_training_on_a_data_set_scores_as_its_benchmark_does(name):
    assert (
        metric_of(name) == metric_of(BENCHMARKS[name].source) == next(iter(BENCHMARKS[name].scorings.values())).metric
    )
    assert (metric_of("simuleq"), metric_of("tiny"), metric_of("no_such_file.jsonl")) == ("first", "whole", "whole")


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("multiarith", "multiarith", 300),
        ("simuleq", "simuleq", 260),
        ("math500", "math500", 200),
        ("gsm8k", "gsm8k", 400),
        ("commonsenseqa", "commonsense_qa", 200),
        ("truthfulqa", "truthfulqa_claims", 256),
    ],
)
def test_the_gold_of_every_real_row_is_right_by_every_scoring(shared_data, name, file, count):
    benchmark = BENCHMARKS[name]
    items = load_items(benchmark, data=str(shared_data / f"{file}.jsonl"))
    assert len(items) >= 0.97 * count and len({item.shown for item in items}) == len(items)
    for scoring in benchmark.scorings.values():
        golds = [item.gold if isinstance(item.gold, list) else [item.gold] for item in items]
        texts = [" and ".join(rf"\boxed{{{g}}}" for g in own) for own in golds]
        if scoring.style in ("hash", "number"):
            texts = [f"#### {own[0]}" for own in golds]
        elif scoring.style == "choice" or benchmark.form == "claims":
            texts = [f"The answer is ({own[0]})." for own in golds]
        wrong = [
            (text, item.gold)
            for text, item in zip(texts, items, strict=True)
            if not judge(text, item.gold, style=scoring.style, metric=scoring.metric).correct
        ]
        assert wrong == []


def rows_file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_choices_may_be_labelled_or_a_list(tmp_path):
    labelled = {"question": "q1?", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "B"}
    item = load_items(BENCHMARKS["commonsenseqa"], data=rows_file(tmp_path, labelled))[0]
    assert item.gold == "B" and "(A) x\n(B) y" in item.shown
    listed = {"question": "q1?", "choices": ["x", "y"], "answer": 1}
    assert load_items(BENCHMARKS["mmlu"], data=rows_file(tmp_path, listed))[0] == item


@pytest.mark.parametrize("answer", [-1, 2, "C", "z"])
def test_an_answer_that_is_no_choice_is_refused(tmp_path, answer):
    row = {"question": "q1?", "choices": ["x", "y"], "answer": answer}
    with pytest.raises(ValueError, match=f"Row 0 of .* has the answer {answer!r}, but the choices A, B"):
        load_items(BENCHMARKS["mmlu"], data=rows_file(tmp_path, row))


def test_every_choice_of_truthfulqa_is_a_claim(tmp_path):
    row = {"question": "q?", "mc1_targets": {"choices": ["yes", "no"], "labels": [1, 0]}}
    items = load_items(BENCHMARKS["truthfulqa"], data=rows_file(tmp_path, row))
    assert [i.gold for i in items] == ["True", "False"] and "Claim: no" in items[1].shown


def test_questions_without_golds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no gold answers"):
        load_items(find_benchmark("x.jsonl"), data=rows_file(tmp_path, {"question": "q?"}))
    with pytest.raises(ValueError, match="no gold answer for 'r\\?'"):
        load_items(
            find_benchmark("x.jsonl"), data=rows_file(tmp_path, {"question": "q?", "answer": "1"}, {"question": "r?"})
        )


def test_a_prompt_is_filled_where_it_names_a_column_only():
    assert PromptFile("p", r"{question} \boxed{}").fill({"question": "{question}?"}) == r"{question}? \boxed{}"


def test_an_unknown_prompt_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="choose one of boxed.v1"):
        load_prompt("boxd.v1")
    (tmp_path / "p.txt").write_text("no question")
    with pytest.raises(ValueError, match="must contain {question}"):
        load_prompt(str(tmp_path / "p.txt"))


@pytest.mark.parametrize(("name", "hint"), [("gsm8", "did you mean gsm8k"), ("zzzz", "choose one of tiny, multi")])
def test_an_unknown_benchmark_is_answered_with_the_nearest(name, hint):
    with pytest.raises(ValueError, match=hint):
        find_benchmark(name)


# scores


def test_scores_of_peers_of_their_vote_and_of_the_last_in_turn():
    items = [Item("q", "q", "1"), Item("r", "r", "2")]
    responses = Responses(
        greedy={"a": done(1, 3), "b": done(1, 2), "c": done(5, 3)},
        sampled={"a": [done(1, 1), done(2, 3)], "b": [done(1, 7), done(2, 2)], "c": [done(8, 7), done(4, 5)]},
        collaborative={"a": done(0, 0), "b": done(0, 0), "c": done(1, 2)},
    )
    found = score(EXACT, items, responses, [1, 2])["exact_match"]
    assert found["a"] == {
        "greedy": [1, 0],
        "mean@2": [1, 0.5],
        "pass@1": [1, 0.5],
        "pass@2": [1, 1],
        "majority@1": [1, 0.5],
        "majority@2": [1, pytest.approx(found["a"]["majority@2"][1])],
    }
    assert found["vote"] == {"greedy": [1, 0], "majority@1": [1, 1], "majority@2": [1, 1]}
    assert found["collaborative"] == {"greedy": [1, 1]}


def test_a_response_that_was_cut_off_counts_only_if_asked():
    responses = Responses({"a": [Completion("#### 1", False, 2)]}, {}, {})
    items = [Item("q", "q", "1")]
    assert score(EXACT, items, responses, [])["exact_match"]["a"]["greedy"] == [0]
    assert score(EXACT, items, responses, [], parse_truncated=True)["exact_match"]["a"]["greedy"] == [1]


def test_first_and_set_are_scored_apart():
    responses = Responses({"a": [Completion(r"\boxed{1}", True, 2)]}, {}, {})
    found = score(BENCHMARKS["simuleq"], [Item("q", "q", ["1", "2"])], responses, [])
    assert found["first"]["a"]["greedy"] == [1] and found["set"]["a"]["greedy"] == [0]


def test_a_style_of_ones_own_replaces_the_scorings():
    assert with_style(BENCHMARKS["gsm8k"], "boxed").scorings == {"boxed": Scoring("boxed")}


# comparison


def results(hits, peer="a", questions=("x", "y", "z")):
    scores = {"exact_match": {peer: {"greedy": hits}}}
    return {"questions": list(questions), "peers": {peer: {}}, "scores": summarise(scores)}


def test_a_comparison_pairs_the_questions():
    change = compare(results([0, 0, 1]), results([1, 0, 1]), "old")["exact_match"]["a"]["greedy"]
    assert change["gain"] == pytest.approx(1 / 3) and change["p"] == 1 and change["ci95"][0] == 0


def test_single_models_are_compared_whatever_their_names():
    assert compare(results([0, 0, 1], "old"), results([1, 0, 1], "new"), "old")["exact_match"]["new"]


def asked(prompts="p", precision="float32", **rendering):
    return {"prompts": prompts, "stop_strings": [], "precision": precision} | rendering


def full(**fields):
    """Results with all that a comparison looks at."""
    settings = {"samples": 4, "temperature": 1.0, "top_p": 1.0, "seed": 0, "parse_truncated": False}
    whole = {
        "prompt": {"name": "plain.v1", "digest": "1"},
        "scorings": {"exact_match": {"style": "hash", "metric": "whole"}},
        "settings": settings | {"max_new_tokens": 16, "peer_template": None},
        "asked": {"a": asked()},
    }
    for name, value in fields.items():
        whole[name] = whole[name] | value if isinstance(whole.get(name), dict) else value
    return results([0, 0, 1]) | whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": {"name": "boxed.v1", "digest": "2"}}, "the prompt was plain.v1 and is boxed.v1"),
        ({"scorings": {"exact_match": {"style": "auto", "metric": "whole"}}}, "style was 'hash' and is 'auto'"),
        ({"scorings": {"exact_match": {"style": "hash", "metric": "first"}}}, "metric was 'whole' and is 'first'"),
        ({"settings": {"max_new_tokens": 1024}}, "max_new_tokens was 16 and is 1024"),
        ({"settings": {"parse_truncated": True}}, "parse_truncated was False and is True"),
        ({"settings": {"temperature": 0.5}}, "temperature was 1.0 and is 0.5"),
        ({"asked": {"a": asked("q")}}, "a's prompts was 'p' and is 'q'"),
        ({"asked": {"a": asked(stop_strings=["x"])}}, "a's stop_strings"),
        ({"asked": {"a": asked(precision="bfloat16")}}, "a's precision was 'float32' and is 'bfloat16'"),
        ({"asked": {"a": asked(template_date="2031-02-05")}}, "template_date was None and is '2031-02-05'"),
    ],
)
def test_what_was_asked_differently_is_not_compared(fields, message):
    with pytest.raises(ValueError, match=message) as raised:
        compare(full(), full(**fields), "old")
    assert "\n" not in str(raised.value) and "--compare-anyway" in str(raised.value)
    with pytest.raises(ValueError):
        check_alike(full(), {k: v for k, v in full(**fields).items() if k != "scores"}, "old")  # before there are any
    (difference,) = check_alike(full(), full(**fields), "old", anyway=True)
    assert message in difference
    after = full(**fields) | {"differently": [difference]}
    after["comparison"] = compare(full(), after, "old", anyway=True)
    assert f"Compared although: {difference}." in table(after)


def test_what_changes_no_score_may_differ():
    greedy = full(settings={"samples": 0})
    assert check_alike(full(), full(settings={"seed": 1, "samples": 8}), "old") == []
    assert check_alike(greedy, full(settings={"temperature": 0.1, "top_p": 0.5}), "old") == []
    assert check_alike(full(), full(settings={"peer_template": "{text}"}), "old") == []
    assert check_alike(results([0, 0, 1]), full(), "old") == []  # an older version's, which does not say


def test_a_gap_is_of_its_threshold_and_number_of_samples():
    gap = {"scope": "all", "quantile": 0.8}
    for changed in ({"samples": 8}, {"quantile": 0.5}, {"scope": "question"}):
        with pytest.raises(ValueError, match=f"{next(iter(changed))} was"):
            check_alike(full(settings=gap), full(settings=gap | changed), "old")


def test_models_without_a_name_in_common_are_refused_before_they_are_asked():
    with pytest.raises(ValueError, match="no peer in common"):
        check_alike(results([1, 1, 1]), results([1, 1, 1], "b") | {"peers": {"b": {}, "c": {}}}, "old")


def test_other_questions_are_not_compared():
    with pytest.raises(ValueError, match="other questions"):
        compare(results([0, 0, 1]), results([1, 0, 1], questions=("x", "y", "w")), "old")


def test_tables_of_scores_changes_and_gaps_are_whole_within_80_columns():
    score = {"value": 0.5, "ci95": [0.25, 0.75]}
    change = {"before": 0.4, "after": 0.5, "gain": 0.1, "ci95": [-0.1, 0.3], "p": 0.0001}
    name = "Qwen2.5-0.5B-Instruct-checkpoint-1200-and-more"
    metrics = ("greedy", "mean@8", *(f"{kind}@{k}" for kind in ("pass", "majority") for k in (1, 8)))
    found = {
        "questions": ["x", "y"],
        "finished": {name: 0.75},
        "parsed": {"exact_match": {name: 0.625}},
        "scores": {"exact_match": {name: dict.fromkeys(metrics, score), "vote": {"greedy": score}}},
        "comparison": {"exact_match": {name: {"greedy": change}}},
    }
    lines = table(found)
    assert (
        lines[0].startswith("exact_match, 2 questions") and lines[2].split()[:4] == "greedy finished no answer".split()
    )
    assert lines[4] == name and lines[5].split()[:5] == ["50.0", "[25.0,", "75.0]", "75.0", "37.5"]
    assert lines[6].split()[:6] == ["vote", "50.0", "[25.0,", "75.0]", "-", "-"]
    assert all(metric in "\n".join(lines) for metric in metrics)
    changes = change_table(found["comparison"])
    assert changes[2] == f"{name} greedy"
    assert changes[3].split() == ["40.0", "50.0", "+10.0", "[-10.0,", "+30.0]", "<", "0.001"]
    own = dict.fromkeys((*GAP_COLUMNS, "generation", "finished"), score) | {"relative_gap": None, "pass@3": score}
    gaps = gap_table(
        {"questions": ["x"], "settings": {"samples": 3}, "scores": {"likelihood/self": {name: own, "b": own}}}
    )
    assert gaps[0].startswith("samples, 3 of each of 1 questions") and "likelihood/self, in percent [95 %]" in gaps
    shown = " ".join(gaps)
    assert (
        all(column in shown for column in ("pass@3", "finished", "verified", "kept")) and "relative_gap" not in shown
    )
    for line in (*lines, *gaps, *changes):
        assert len(line) <= 80 and "…" not in line


def test_how_responses_end_is_told_for_every_system():
    made = {"a": [Completion("#### 1", False, 2), Completion("Hm.", True, 2)]}
    said = Responses(made, {}, {"a": made["a"], "b": [Completion("#### 1", True, 2)] * 2})
    assert endings(EXACT, said) == {
        "finished": {"a": 0.5, "collaborative": 1.0},
        "parsed": {"exact_match": {"a": 0.0, "collaborative": 1.0}},
    }
    assert endings(EXACT, said, parse_truncated=True)["parsed"]["exact_match"]["a"] == 0.5
