import math
from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pst_rl.coherence.language_model import LanguageModelPredictor
from pst_rl.coherence.scores import coherence, contexts_of, leave_one_out, leave_one_out_naive, score_given, sweep
from pst_rl.coherence.templates import Template

WORDS = (("0",), ("1",))
PROMPTS = [f"{'ab' * (i % 4)}{i}+{3 * i}={'?' * (1 + i % 3)}" for i in range(13)]  # of different lengths
SINGLES = [[item] for item in Random(0).sample(range(13), 13)]
GROUPS = [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9], [10, 11, 12]]
LABELS = [1, 0, None, 1, 0, 0, 1, None, 1, 1, 0, 1, 0]

SIZES = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
RANDOM = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **HEADS)),
    "gemma2 with a window": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, **HEADS, sliding_window=160)),
    "mistral with a window": lambda: MistralForCausalLM(MistralConfig(**SIZES, **HEADS, sliding_window=160)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)),
}


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny["llama"])


@pytest.fixture(scope="module")
def llama(tokenizer):
    torch.manual_seed(0)
    return RANDOM["llama"]().eval()


@pytest.fixture
def predictor(llama, tokenizer):
    """`predictor(**options)`: of the small random Llama."""

    def build(model=llama, prompts=PROMPTS, words=WORDS, **options):
        return LanguageModelPredictor(model, tokenizer, prompts, words, **{"separator": "\n", **options})

    return build


def plain(predictor, demos, item):
    """The scores of one item from one uncached forward pass over the whole text."""
    ids = list(predictor.start_ids)
    for demo in demos:
        ids += predictor.demo_ids(*demo)
    with torch.no_grad():
        logits = predictor.model(input_ids=torch.tensor([ids + predictor.prompt_ids[item]])).logits[0, -1]
    return torch.stack([logits[first].logsumexp(-1) for first in predictor.words.first]).log_softmax(-1)


def same(a, b):
    return (a - b).abs().max() < 1e-4


# Exactness


@pytest.mark.parametrize("blocks", [SINGLES, GROUPS], ids=["singles", "groups"])
@pytest.mark.parametrize("leaf_batch", [1, 4, 16])
@pytest.mark.parametrize("name", ["gemma2", "llama", "qwen2"])
def test_divide_and_conquer_equals_naive_on_the_tiny_peers(tiny, name, leaf_batch, blocks):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny[name]), AutoTokenizer.from_pretrained(tiny[name])
    asked = LanguageModelPredictor(model, tokenizer, PROMPTS, WORDS, separator="\n")
    fast = leave_one_out(asked, LABELS, blocks, leaf_batch=leaf_batch)
    assert same(fast, leave_one_out_naive(asked, LABELS, blocks))


@pytest.mark.parametrize("blocks", [SINGLES, GROUPS], ids=["singles", "groups"])
@pytest.mark.parametrize("name", RANDOM)
def test_divide_and_conquer_equals_naive_on_random_models(predictor, name, blocks):
    torch.manual_seed(1)
    asked = predictor(RANDOM[name]().eval())
    assert same(leave_one_out(asked, LABELS, blocks), leave_one_out_naive(asked, LABELS, blocks))


def test_eager_attention_gives_the_same(predictor):
    torch.manual_seed(0)
    model = RANDOM["llama"]().eval()
    model.set_attn_implementation("eager")
    assert same(leave_one_out(predictor(model), LABELS, GROUPS), leave_one_out(predictor(), LABELS, GROUPS))


def test_the_labels_shown_matter_by_far_more_than_the_tolerance(predictor):
    flipped = [None if label is None else 1 - label for label in LABELS]
    asked = predictor()
    assert (leave_one_out(asked, LABELS, SINGLES) - leave_one_out(asked, flipped, SINGLES)).abs().max() > 0.01


@pytest.mark.parametrize("name", RANDOM)
def test_scores_are_those_of_one_plain_pass_over_the_text(predictor, name):
    torch.manual_seed(1)
    asked, demos = predictor(RANDOM[name]().eval()), [(3, 1), (5, 0), (4, 1)]
    with asked.open().extended([demos]) as context:
        scores = context.score([[7, 0, 8]])
    assert same(scores, torch.stack([plain(asked, demos, item) for item in (7, 0, 8)]))


def test_without_demonstrations_scores_are_zero_shot(predictor):
    asked = predictor()
    assert same(score_given(asked, LABELS, [], [1, 6]), torch.stack([plain(asked, [], item) for item in (1, 6)]))


def test_probabilities_sum_to_one(predictor):
    assert torch.allclose(leave_one_out(predictor(), LABELS, SINGLES).exp().sum(1), torch.ones(13))


def test_the_chain_equals_step_by_step(predictor):
    asked, demos = predictor(), [(3, 1), (0, 0), (9, 1), (6, 1)]
    steps = [plain(asked, demos[:k], item) for k, (item, _) in enumerate(demos)]
    assert same(asked.open().chain(demos), torch.stack(steps))


def test_a_chain_continues_its_context(predictor):
    asked, demos = predictor(), [(3, 1), (0, 0), (9, 1), (6, 1)]
    with asked.open().extended([demos[:2]]) as context:
        assert same(context.chain(demos[2:]), asked.open().chain(demos)[2:])


def test_coherence_depends_on_the_order(predictor):
    found = coherence(predictor(), LABELS, [range(13), range(12, -1, -1)])
    assert abs(found.by_order[0] - found.by_order[1]) > 0.01


def test_targets_in_several_forward_passes_score_the_same(predictor):
    scores = [score_given(predictor(batch_size=size), LABELS, [3, 4, 5], range(13)) for size in (1, 5, 13)]
    assert same(scores[0], scores[1]) and same(scores[0], scores[2])


# The cache


def test_scoring_and_extending_leave_a_context_as_it_was(predictor):
    asked = predictor()
    with asked.open().extended([[(3, 1), (4, 0)]]) as context:
        once = context.score([[5, 6]])
        with context.extended([[(7, 1)]]) as deeper, deeper.extended([[(8, 0)], [(9, 1), (1, 1)]], [0, 0]) as pair:
            pair.score([[0], [2]])
        context.chain([(1, 0)])
        assert torch.equal(context.score([[5, 6]]), once)


def test_rows_side_by_side_do_not_see_each_other(predictor):
    asked = predictor()
    with (
        asked.open().extended([[(3, 1)], [(4, 0), (5, 1)], []], [0, 0, 0]) as rows,
        rows.extended([[(6, 1)], [(8, 0)], [(9, 1), (1, 1)]], [2, 0, 1]) as deeper,
    ):
        scores = deeper.score([[0], [2], [7]])
    histories = [([(6, 1)], 0), ([(3, 1), (8, 0)], 2), ([(4, 0), (5, 1), (9, 1), (1, 1)], 7)]
    assert same(scores, torch.stack([plain(asked, demos, item) for demos, item in histories]))


def test_rows_may_ask_for_different_numbers_of_items(predictor):
    asked = predictor()
    with asked.open().extended([[(3, 1)], [(4, 0)]], [0, 0]) as rows:
        scores = rows.score([[], [1, 2, 8]])
    assert same(scores, torch.stack([plain(asked, [(4, 0)], item) for item in (1, 2, 8)]))


def test_nothing_asked_is_no_row(predictor):
    asked = predictor()
    assert asked.open().score([[]]).shape == asked.open().chain([]).shape == (0, 2)


def test_using_a_context_under_an_open_extension_is_an_error(predictor):
    with predictor().open().extended([[(1, 1)]]) as context, context.extended([[(2, 0)]]) as deeper:
        deeper.score([[3]])
        with pytest.raises(RuntimeError, match="extension"):
            context.score([[4]])


def test_only_one_path_and_the_leaf_batch_are_in_memory(predictor, monkeypatch):
    asked, sizes, caches = predictor(prompts=["1+1="] * 64), [], set()
    read = LanguageModelPredictor.read

    def spy(self, cache, *args):
        result = read(self, cache, *args)
        caches.add(id(cache))
        sizes.append(cache.layers[0].keys.shape)  # (rows, heads, columns, head dimension)
        return result

    monkeypatch.setattr(LanguageModelPredictor, "read", spy)
    leave_one_out(asked, [1] * 64, [[i] for i in range(64)], leaf_batch=8)
    length = len(asked.demo_ids(0, 1))
    assert len(caches) == 1 and {shape[0] for shape in sizes} == {1}
    assert max(shape[2] for shape in sizes) <= (64 - 8 + 8 * (math.log2(8) + 1)) * length + 1


def test_naive_is_one_forward_pass_per_item(predictor, monkeypatch):
    asked, calls = predictor(), []
    monkeypatch.setattr(asked.model, "forward", lambda _call=asked.model.forward, **kw: calls.append(1) or _call(**kw))
    leave_one_out_naive(asked, [1] * 13, SINGLES)
    assert len(calls) == 13


def test_units_and_tokens_are_those_read(predictor):
    asked = predictor(prompts=["1+1="] * 16)
    leave_one_out(asked, [1] * 16, [[i] for i in range(16)], leaf_batch=4)
    demo, prompt = len(asked.demo_ids(0, 1)), len(asked.prompt_ids[0])
    assert asked.units == 16 * 5
    assert asked.tokens == 16 * 4 * demo + 16 * prompt + 2  # each half begins with its own start token


def test_a_sweep_scores_given_all_other_labels(predictor):
    asked, seen = predictor(), {}
    sweep(asked, list(LABELS), SINGLES, lambda block, scores: seen.update({block[0]: scores[0]}) or [LABELS[block[0]]])
    assert same(torch.stack([seen[i] for i in range(13)]), leave_one_out_naive(asked, LABELS, SINGLES))


# The model's mode, adapters and quantisation


def test_a_lora_model_scores_with_its_adapter(predictor):
    torch.manual_seed(0)
    model = get_peft_model(RANDOM["llama"](), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    asked = predictor(model.eval())
    scores = leave_one_out(asked, LABELS, SINGLES)
    assert same(scores, leave_one_out_naive(asked, LABELS, SINGLES))
    with model.disable_adapter():
        assert (leave_one_out(asked, LABELS, SINGLES) - scores).abs().max() > 0.01


def test_dropout_is_off_while_scoring_and_the_mode_is_put_back(tokenizer):
    model = RANDOM["gpt2"]().train()
    asked = LanguageModelPredictor(model, tokenizer, PROMPTS, WORDS)
    assert torch.equal(score_given(asked, LABELS, [3], [5]), score_given(asked, LABELS, [3], [5]))
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())


def test_it_scores_in_bfloat16(predictor):
    torch.manual_seed(0)
    asked = predictor(RANDOM["llama"]().to(torch.bfloat16).eval())
    scores = leave_one_out(asked, LABELS, SINGLES)
    assert scores.dtype == torch.float32
    assert (scores - leave_one_out_naive(asked, LABELS, SINGLES)).abs().max() < 0.1


def test_a_4_bit_model_scores(predictor, tmp_path):
    torch.manual_seed(0)
    sizes = SIZES | HEADS | {"hidden_size": 64, "head_dim": 16}  # bitsandbytes wants whole blocks of 64 on a CPU
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    quantised = BitsAndBytesConfig(load_in_4bit=True)
    asked = predictor(AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=quantised))
    scores = leave_one_out(asked, LABELS, SINGLES)
    assert same(scores, leave_one_out_naive(asked, LABELS, SINGLES))


# The window


@pytest.mark.parametrize("leaf_batch", [1, 4, 16])
@pytest.mark.parametrize("blocks", [SINGLES, GROUPS], ids=["singles", "groups"])
def test_dropping_demonstrations_is_the_same_by_every_path(predictor, blocks, leaf_batch):
    asked = predictor(max_tokens=60)
    fast = leave_one_out(asked, LABELS, blocks, leaf_batch=leaf_batch)
    assert asked.dropped > 0
    assert same(fast, leave_one_out_naive(asked, LABELS, blocks))


def test_what_does_not_fit_is_left_out_and_the_target_stays(predictor):
    asked = predictor()
    lengths = [len(asked.demo_ids(i, 1)) for i in range(13)]
    short = predictor(max_tokens=1 + lengths[0] + lengths[4] + max(map(len, asked.prompt_ids)))
    with short.open().extended([[(0, 1), (3, 1), (4, 1)]]) as context:
        scores = context.score([[3]])
    assert lengths[3] > lengths[4] and short.dropped == 1
    assert same(scores[0], plain(asked, [(0, 1), (4, 1)], 3))


def test_a_chain_scores_what_it_does_not_show(predictor):
    asked = predictor()
    room = 1 + len(asked.demo_ids(0, 1)) + len(asked.demo_ids(4, 1))
    short = predictor(max_tokens=room + max(map(len, asked.prompt_ids)))
    expected = [plain(asked, [], 0), plain(asked, [(0, 1)], 3), plain(asked, [(0, 1)], 4)]
    assert same(short.open().chain([(0, 1), (3, 1), (4, 1)]), torch.stack(expected))


def test_no_context_is_longer_than_the_window(predictor, monkeypatch):
    asked, positions = predictor(max_tokens=60), []
    forward = asked.model.forward
    monkeypatch.setattr(
        asked.model, "forward", lambda **kw: positions.append(kw["position_ids"].max()) or forward(**kw)
    )
    leave_one_out(asked, LABELS, SINGLES)
    assert 40 < max(positions) < 60


@pytest.mark.parametrize(
    ("name", "limit"),
    [("llama", 2048), ("mistral with a window", 160), ("gemma2 with a window", 8192), ("gpt2", 1024)],
)
def test_the_window_is_the_models_own(predictor, name, limit):
    assert predictor(RANDOM[name]()).max_tokens == limit


MIXED = {  # layers with a window, and layers without
    "gemma2": lambda **kinds: Gemma2ForCausalLM(Gemma2Config(**SIZES, **HEADS, **kinds)),
    "gemma3": lambda **kinds: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **HEADS, **kinds)),
    "qwen3": lambda **kinds: Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS, use_sliding_window=True, **kinds)),
}


@pytest.mark.parametrize("blocks", [SINGLES, GROUPS], ids=["singles", "groups"])
@pytest.mark.parametrize("name", MIXED)
def test_a_context_longer_than_the_window_of_some_layers_is_read_as_one_plain_pass_reads_it(predictor, name, blocks):
    torch.manual_seed(1)
    asked = predictor(MIXED[name](sliding_window=24, layer_types=["sliding_attention", "full_attention"]).eval())
    scores, contexts = leave_one_out(asked, LABELS, blocks), contexts_of(blocks, LABELS)
    lengths = [sum(len(asked.demo_ids(*demo)) for demo in demos) for demos in contexts.values()]
    assert min(lengths) > 3 * 24 and asked.dropped == 0
    assert same(scores, torch.stack([plain(asked, contexts[item], item) for item in range(13)]))
    assert same(scores, leave_one_out_naive(asked, LABELS, blocks))


def test_a_lora_changes_nothing_about_windows(predictor):
    torch.manual_seed(1)
    model = MIXED["gemma3"](sliding_window=24, layer_types=["sliding_attention", "full_attention"])
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    asked, contexts = predictor(adapted), contexts_of(SINGLES, LABELS)
    expected = torch.stack([plain(asked, contexts[item], item) for item in range(13)])
    assert same(leave_one_out(asked, LABELS, SINGLES), expected)


@pytest.mark.parametrize("limit", [0, 161])
def test_a_window_the_model_does_not_have_is_refused(predictor, limit):
    with pytest.raises(ValueError, match="max_tokens must lie in 1 .. 160"):
        predictor(RANDOM["mistral with a window"](), max_tokens=limit)


def test_a_prompt_longer_than_the_window_is_refused_by_name(predictor):
    with pytest.raises(ValueError, match="Item 1 has a prompt of"):
        predictor(prompts=["1+1=", "12 " * 100], max_tokens=64)


# Label words, normalisation, calibration


def test_variants_of_a_label_are_summed(predictor):
    asked, one = predictor(words=(("0", "2"), ("1",))), predictor(normalise=False, words=(("0",), ("2",), ("1",)))
    zero, two, other = one.open().score([[3]])[0].exp().tolist()
    expected = torch.tensor([zero + two, other]).log() - math.log(zero + two + other)
    assert same(asked.open().score([[3]])[0], expected)


def test_variants_that_begin_alike_count_once(predictor):
    twice, once = predictor(words=(("0", "0 "), ("1",))), predictor()
    assert torch.equal(twice.open().score([[3]]), once.open().score([[3]]))


def test_a_split_word_is_known_by_its_first_token_and_shown_whole(predictor):
    asked = predictor(words=(("zzq",), ("yyq",)))
    assert len(asked.words.ids[0]) > 1 and asked.words.first[0] == asked.words.ids[0][:1]
    assert asked.demo_ids(0, 0)[len(asked.prompt_ids[0]) :][: len(asked.words.ids[0])] == asked.words.ids[0]


def test_words_that_begin_alike_are_refused_by_name(predictor):
    with pytest.raises(ValueError, match="'zzq' and 'zzy' begin with the same token"):
        predictor(words=(("zzq",), ("zzy",)))


def test_a_default_variant_that_begins_like_another_label_is_left_out(predictor):
    names = Template("{claim}", ("0", "zz1", "ZZ")).label_words  # " zz" would be told from neither
    assert names[2] == (" ZZ", " zz")
    words = [tuple(type(word)(word.strip()) for word in variants) for variants in names]
    assert predictor(words=words).words.words == (("0",), ("zz1",), ("ZZ",))
    with pytest.raises(ValueError, match="'zz1' and 'zz' begin with the same token"):
        predictor(words=[tuple(map(str, variants)) for variants in words])


def test_demonstrations_are_written_with_the_first_variant(predictor, tokenizer):
    asked = predictor(words=(("0", "2"), ("1", "3")))
    assert tokenizer.decode(asked.demo_ids(0, 1)) == PROMPTS[0] + "1\n"


def test_three_labels(predictor):
    asked = predictor(words=(("0",), ("1",), ("2",)))
    scores = leave_one_out(asked, [2, 1, 0] * 4 + [2], SINGLES)
    assert scores.shape == (13, 3)
    assert same(scores, leave_one_out_naive(asked, [2, 1, 0] * 4 + [2], SINGLES))


def test_calibration_subtracts_the_prior_of_content_free_prompts(predictor):
    free = ["N/A=", "="]
    zero_shot = predictor(prompts=free).open().score([[0, 1]]).exp().mean(0)
    raw, calibrated = (predictor(calibrate=c, content_free=free).open().score([[4]])[0] for c in (False, True))
    assert same(calibrated, (raw - zero_shot.log()).log_softmax(-1))
    assert (calibrated - raw).abs().max() > 0.01


def test_a_content_free_prompt_itself_becomes_even(predictor):
    asked = predictor(prompts=["N/A="], calibrate=True, content_free=["N/A="])
    assert same(asked.open().score([[0]])[0].exp(), torch.tensor([0.5, 0.5]))


def test_unnormalised_scores_are_probabilities_among_all_tokens(predictor):
    asked = predictor(normalise=False)
    with torch.no_grad():
        logits = asked.model(torch.tensor([asked.start_ids + asked.prompt_ids[3]])).logits[0, -1]
    assert same(asked.open().score([[3]])[0], logits.log_softmax(-1)[[first[0] for first in asked.words.first]])


# Identity


def test_the_same_model_is_known_again_and_others_are_not(predictor, tiny, tokenizer):
    one, other = (AutoModelForCausalLM.from_pretrained(tiny["llama"]) for _ in range(2))
    assert predictor(one).identity() == predictor(other).identity()
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight += 0.01  # fine-tuned in place, under the same name
    differ = {name for name, value in predictor(one).identity().items() if value != predictor(other).identity()[name]}
    assert differ == {"model"} and predictor(one).identity()["model"].startswith("llama (")


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"prompts": [*PROMPTS[1:], "1"]}, "prompts"),
        ({"words": (("0", "2"), ("1",))}, "label_words"),
        ({"separator": "\n\n"}, "separator"),
        ({"max_tokens": 60}, "max_tokens"),
        ({"normalise": False}, "normalise"),
    ],
)
def test_what_changes_scores_changes_the_identity(predictor, options, differs):
    plain, changed = predictor().identity(), predictor(**options).identity()
    assert [name for name in plain if plain[name] != changed[name]] == [differs]


def test_how_fast_it_reads_does_not_change_the_identity(predictor):
    assert predictor().identity() == predictor(batch_size=3).identity()


# What cannot work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "no items"),
        ({"prompts": ["1+1=", ""]}, "Item 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"words": (("0",),)}, "at least two labels"),
        ({"words": (("0",), ())}, "at least one word"),
        ({"words": (("0",), ("",))}, "none may be empty"),
        ({"words": ("0", "1")}, "as a list"),
        ({"calibrate": True}, "content_free"),
        ({"calibrate": True, "content_free": ["="], "normalise": False}, "normalise"),
        ({"calibrate": True, "content_free": ["1 " * 4000]}, "Content-free prompt 0"),
    ],
)
def test_bad_options_are_refused(predictor, options, message):
    with pytest.raises(ValueError, match=message):
        predictor(**options)


def test_models_that_cannot_forget_or_place_tokens_are_refused(predictor):
    with pytest.raises(ValueError, match="attention layers only|no positions"):
        predictor(MambaForCausalLM(MambaConfig(vocab_size=512, hidden_size=16, num_hidden_layers=1)), max_tokens=64)
    with pytest.raises(ValueError, match="no positions"):
        predictor(BloomForCausalLM(BloomConfig(vocab_size=512, hidden_size=16, n_layer=1, n_head=2)), max_tokens=64)


def test_attention_without_a_mask_is_refused(predictor, llama, monkeypatch):
    monkeypatch.setattr(llama.config, "_attn_implementation", "flash_attention_2")
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
        predictor()
