import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import chat, group, logprobs_by_hand, response, scripted, targets

from pst_rl.peers.prompts import show_peers
from pst_rl.records import LocalRows, Rewards
from pst_rl.stages.pmi import PMIWeights, RunningScale, _log_mean_exp, sigmoid_weight
from pst_rl.stages.weighting import Unweighted, WeightRequest, active_samples

QUESTIONS = ["What is 28+47?", "What is 2+3?"]
TEXTS = [  # [peer][row]; two chains of each question
    [" 8+7=15. 2+4+1=7. #### 75", " 8+7=15. 2+4=6. #### 65", " 2+3=5. #### 5", " 2-3=1. #### 1"],
    [" 8+7=15. 2+4=6. #### 65", " 28+47=75. #### 75", " 2+3=5. #### 5", " 2+2=4. 4+1"],
    [" 8+7=15. #### 15", " 8+7=15. 2+4+1=7. #### 75", " 3+2=5. #### 5", " #### 5"],
]
TARGETS = [[["75", "75"], ["5", "5"]]] * 3
REASONING = [[text.split(" ####")[0] for text in texts] for texts in TEXTS]


def shown(prompt, previous):
    return show_peers(prompt, previous, "\nP: {text}")


def weight_request(batch, active=None, engines=(), rollouts=()):
    """The request to weigh this group; all samples are active unless told otherwise."""
    return WeightRequest(
        engines=list(engines),
        group=batch,
        rewards={},
        rollouts=list(rollouts),
        local=LocalRows(0, batch.shape[1] * batch.shape[2], batch.shape[2]),
        active=torch.ones(batch.shape, dtype=torch.bool) if active is None else torch.tensor(active),
        build_prompt=shown,
        answer_template="#### {answer}",
        batch_size=16,
    )


def given(pmi, **options):
    """The weights made of a PMI that is given, not scored."""
    return type("Given", (PMIWeights,), {"pmi": lambda self, request: torch.tensor(pmi)})(**options)


@pytest.fixture
def scene(trainer, tiny):
    """`scene(**options)`: PMI with these options, and the request to weigh three tiny peers that answered `TEXTS`."""

    def build(made=TARGETS, **options):
        joint = trainer(dict(tiny), weighting_options=options)
        rows = [chat(question) for question in QUESTIONS for _ in range(2)]
        rollouts = [scripted(engine, rows, texts) for engine, texts in zip(joint.engines, TEXTS, strict=True)]
        responses = [
            [
                [response(a and a.text, t) for a, t in zip(r.answers[i : i + 2], r.texts[i : i + 2], strict=True)]
                for i in (0, 2)
            ]
            for r in rollouts
        ]
        batch = group(responses, prompts=tuple(map(chat, QUESTIONS)), targets=targets(made))
        return joint.weighting, weight_request(batch, engines=joint.engines, rollouts=rollouts)

    return build


# The weight


def test_the_weight_is_one_where_the_response_says_nothing_about_the_target():
    assert sigmoid_weight(torch.zeros(1)).item() == 1.0


def test_the_weight_falls_from_two_to_zero_as_pmi_rises():
    weights = sigmoid_weight(torch.tensor([-50.0, -1.0, 1.0, 50.0]))
    assert weights.tolist() == pytest.approx([2.0, 2 / (1 + math.exp(-1)), 2 / (1 + math.e), 0.0])


def test_the_scale_starts_at_the_first_deviation_and_follows_slowly():
    scale = RunningScale()
    assert scale.update("a", torch.tensor([0.0, 4.0])) == 2.0
    assert scale.update("a", torch.tensor([0.0, 6.0])) == pytest.approx(math.sqrt(0.9 * 4 + 0.1 * 9))
    assert scale.update("b", torch.tensor([0.0, 1.0])) == 0.5


@pytest.mark.parametrize("pmi", [[], [3.0], [3.0, 3.0]])
def test_values_that_do_not_vary_leave_the_scale_as_it_was(pmi):
    scale = RunningScale()
    assert scale.update("a", torch.tensor(pmi)) == 1.0
    scale.update("a", torch.tensor([0.0, 4.0]))
    assert scale.update("a", torch.tensor(pmi)) == 2.0


def test_a_restored_scale_goes_on_where_it_was():
    scale, restored = RunningScale(), RunningScale()
    scale.update("a", torch.tensor([0.0, 4.0]))
    restored.load_state_dict(scale.state_dict())
    scale.update("a", torch.tensor([0.0, 9.0]))  # the copy is its own
    assert restored.update("a", torch.tensor([])) == 2.0


# From PMI to weights


def weighed(pmi, active=None, **options):
    batch = group([[["1"] * len(pmi)]], targets=targets([[["1"] * len(pmi)]]))
    return given([[pmi]], **{"tau": 1.0} | options)(weight_request(batch, active and [[active]]))


def test_tau_divides_pmi():
    assert weighed([3.0], tau=2.0).values.item() == pytest.approx(2 / (1 + math.exp(1.5)))


def test_the_other_direction_updates_aligned_samples_more():
    weights = weighed([3.0, -3.0, 0.0], direction="more").values.flatten().tolist()
    assert weights == pytest.approx([2 / (1 + math.exp(-3)), 2 / (1 + math.exp(3)), 1.0])


def test_unset_tau_is_the_running_deviation():
    weights = weighed([0.0, 8.0], tau=None)
    assert weights.metrics["a/pmi/tau"] == 4.0
    assert weights.values.flatten().tolist() == pytest.approx([1.0, 2 / (1 + math.exp(2))])


def test_a_function_of_the_users_replaces_the_sigmoid():
    assert weighed([3.0, -1.0], function=lambda z: 1 - z).values.flatten().tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_pmi_that_is_no_number_stops_the_update_and_is_counted(value):
    weights = weighed([value, 0.0])
    assert weights.values.flatten().tolist() == [0.0, 1.0]
    assert weights.metrics["a/pmi/nonfinite"] == 1.0
    assert weights.metrics["a/pmi/mean"] == 0.0


def test_weights_that_cannot_differ_from_one_are_warned_of_once(caplog):
    batch = group([[["1", "1"]]], targets=targets([[["1", "1"]]]))
    blind = given([[[0.0, 0.0]]])
    for _ in range(2):
        assert blind(weight_request(batch)).values.flatten().tolist() == [1.0, 1.0]
    (record,) = caplog.records
    assert "'a': PMI is 0" in record.getMessage() and "in_prompt" in record.getMessage()


@pytest.mark.parametrize(("pmi", "active"), [([0.0, 0.1], None), ([0.0, 0.0], [False, False])])
def test_weights_that_differ_or_do_not_matter_are_not_warned_of(pmi, active, caplog):
    weighed(pmi, active)
    assert not caplog.records


def test_responses_that_are_nothing_but_their_answer_have_no_pmi(scene, monkeypatch, caplog):
    bare = [[" #### 75", " #### 65", " #### 5", " #### 1"]] * 3
    monkeypatch.setitem(globals(), "TEXTS", bare)
    weighting, request = scene()
    weights = weighting(request)
    assert weights.pmi.abs().max() < 1e-4 and (weights.values - 1).abs().max() < 1e-4
    assert len([r for r in caplog.records if "PMI is 0" in r.getMessage()]) == 3


def test_inactive_samples_keep_weight_one_and_are_not_counted():
    weights = weighed([float("nan"), 2.0], active=[False, True])
    assert weights.values.flatten().tolist() == pytest.approx([1.0, 2 / (1 + math.e**2)])
    assert weights.metrics["a/pmi/nonfinite"] == 0.0


def test_weights_carry_no_gradient():
    assert not weighed([1.0]).values.requires_grad


def test_aligned_and_misaligned_pmi_are_reported_apart():
    batch = group([[["1", "2"]]], targets=targets([[["1", "1"]]]))
    metrics = given([[[5.0, -3.0]]])(weight_request(batch)).metrics
    assert (metrics["a/pmi/aligned"], metrics["a/pmi/misaligned"], metrics["a/pmi/mean"]) == (5.0, -3.0, 1.0)


def test_a_reward_that_needs_no_target_is_kept_where_there_is_none():
    batch = group([[["1", "2"]]], targets=targets([[[None, "1"]]]))
    result = given([[[float("nan"), 0.0]]])(weight_request(batch))
    assert result.values.flatten().tolist() == [1.0, 1.0]
    assert result.metrics["a/pmi/nonfinite"] == 0.0


def test_unweighted_samples_keep_their_advantage_and_have_no_pmi():
    weights = Unweighted()(weight_request(group([[["1", "2"]]])))
    assert weights.values.tolist() == [[[1.0, 1.0]]]
    assert weights.pmi.isnan().all() and weights.metrics == {}
    assert (Unweighted.name, PMIWeights.name) == ("none", "pmi")


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scorer": "everyone"}, "scorer must be one of responder, last_peer, other_peers, got 'everyone'"),
        ({"target": "text"}, "target must be one of answer, response"),
        ({"conditioning": "none"}, "conditioning must be one of own_reasoning, in_prompt"),
        ({"marginal": "mean"}, "marginal must be one of own_samples, unconditional"),
        ({"reduction": "mean"}, "reduction must be one of sum, per_token"),
        ({"direction": "up"}, "direction must be one of less, more"),
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": -1.0}, "tau must be positive"),
        ({"from_cache": True, "scorer": "last_peer"}, "needs scorer='responder'"),
        ({"from_cache": True, "conditioning": "in_prompt"}, "conditioning='own_reasoning'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PMIWeights(**options)


def test_options_say_what_the_weighting_needs():
    assert (PMIWeights().min_peers, PMIWeights().needs_caches) == (1, False)
    assert (PMIWeights(scorer="other_peers").min_peers, PMIWeights(from_cache=True).needs_caches) == (2, True)


def test_pmi_is_of_a_configuration_that_names_it():
    named = SimpleNamespace(weighting="pmi", weighting_options={"tau": 2.0})
    assert PMIWeights.of(named) == PMIWeights(tau=2.0)
    assert PMIWeights.of(SimpleNamespace(weighting="pmi", weighting_options=None)) == PMIWeights()
    assert PMIWeights.of(SimpleNamespace(weighting="none", weighting_options=None)) is None


def test_its_memory_is_the_running_deviation():
    first, second = given([[[0.0, 8.0]]]), PMIWeights()
    first(weight_request(group([[["1", "1"]]], targets=targets([[["1", "1"]]]))))
    second.load_state_dict(first.state_dict())
    assert second.scale.variance == {"a": 16.0}
    with pytest.raises(TypeError, match="scale"):
        PMIWeights(scale=RunningScale())  # no option


# Which samples are scored


def rewards(values, abstain=None):
    values = torch.tensor(values)
    return Rewards(values, torch.zeros_like(values, dtype=torch.bool) if abstain is None else torch.tensor(abstain))


def settings(**fields):
    return SimpleNamespace(**{"objective": "grpo", "multi_objective_aggregation": "sum_then_normalize"} | fields)


def test_only_groups_whose_rewards_vary_are_active():
    active = active_samples([rewards([[[1.0, 0.0], [1.0, 1.0]]])], [1.0], settings())
    assert active.tolist() == [[[True, True], [False, False]]]


def test_samples_a_provider_abstains_on_neither_vary_nor_are_active():
    active = active_samples([rewards([[[1.0, 0.0, 1.0]]], [[[False, True, False]]])], [1.0], settings())
    assert not active.any()


@pytest.mark.parametrize(("weights", "vary"), [([1.0, 1.0], False), ([1.0, 2.0], True)])
def test_several_rewards_count_by_their_weights(weights, vary):
    both = [rewards([[[1.0, 0.0]]]), rewards([[[0.0, 1.0]]])]
    assert active_samples(both, weights, settings()).all().item() is vary


def test_a_sample_that_some_provider_scores_is_active_and_counts_by_what_scored_it():
    first = rewards([[[1.0, 1.0], [0.0, 3.0]]])
    second = rewards([[[0.0, 5.0], [0.0, 0.0]]], [[[False, True], [True, True]]])
    active = active_samples([first, second], [1.0, 1.0], settings())
    assert active.tolist() == [[[False, False], [True, True]]]


@pytest.mark.parametrize(
    "field", [{"objective": "weighted_sft"}, {"multi_objective_aggregation": "normalize_then_sum"}]
)
def test_all_scored_samples_are_active_where_advantages_do_not_come_from_the_group(field):
    active = active_samples([rewards([[[1.0, 1.0, 1.0]]], [[[False, False, True]]])], [1.0], settings(**field))
    assert active.tolist() == [[[True, True, False]]]


# PMI against direct computation

SWITCHES = [
    {},
    {"reduction": "per_token"},
    {"marginal": "unconditional"},
    {"marginal": "unconditional", "reduction": "per_token"},
    {"marginal": "unconditional", "target": "response"},
    {"marginal": "unconditional", "conditioning": "in_prompt"},
    {"conditioning": "in_prompt", "target": "response"},
    {"scorer": "last_peer"},
    {"scorer": "other_peers"},
    {"scorer": "other_peers", "reduction": "per_token"},
    {"scorer": "other_peers", "marginal": "unconditional", "reduction": "per_token"},
    {"scorer": "other_peers", "conditioning": "in_prompt", "reduction": "per_token"},
]


def scored_by_hand(weights, engine, p, row, conditional):
    """log p(target | question, response) or log p(target | question) under one peer, and the target's tokens."""
    question, answer = QUESTIONS[row // 2], TARGETS[p][row // 2][0]
    in_prompt = weights.conditioning == "in_prompt"
    target = f" #### {answer}" if weights.target == "response" or not in_prompt else f"#### {answer}"
    prompt = f"{question}\nP: {TEXTS[p][row].strip()}" if in_prompt and conditional else question
    context = engine.prompt_ids(chat(prompt))
    if conditional and not in_prompt:
        context += engine.text_ids(REASONING[p][row])
    tokens = logprobs_by_hand(engine.model, context, engine.text_ids(target))
    return sum(tokens), len(tokens)


def pmi_by_hand(weights, engines, p, row):
    """Each scorer's PMI with its own marginal, then the mean over scorers."""
    scorers = {"responder": [p], "last_peer": [2], "other_peers": [j for j in range(3) if j != p]}[weights.scorer]
    values = []
    for engine in (engines[s] for s in scorers):
        given, tokens = scored_by_hand(weights, engine, p, row, True)
        if weights.marginal == "unconditional":
            alone, _ = scored_by_hand(weights, engine, p, row, False)
        else:
            chains = [scored_by_hand(weights, engine, p, row // 2 * 2 + g, True)[0] for g in range(2)]
            alone = math.log(sum(math.exp(c) for c in chains) / 2)
        values.append((given - alone) / (tokens if weights.reduction == "per_token" else 1))
    return sum(values) / len(values)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s.values()) or "default")
def test_pmi_is_what_direct_computation_gives(scene, switches):
    weights, request = scene(**switches)
    by_hand = [pmi_by_hand(weights, request.engines, p, row) for p in range(3) for row in range(4)]
    assert weights.pmi(request).flatten().tolist() == pytest.approx(by_hand, abs=1e-4)


def test_reasoning_that_leads_to_the_target_has_higher_pmi(scene):
    weights, request = scene()
    pmi = weights.pmi(request)
    for p, q, g, r in request.group.cells():
        if r.key != request.group.targets[p][q][g].answer.key and r.answer:
            assert pmi[p, q, g] < pmi[p, q, 1 - g]


def test_own_samples_compare_each_chains_target_under_all_chains(scene):
    # With a target of its own in each chain (`last_peer`), log p(target | question) is still a mean over responses.
    made = [[["75", "65"], ["5", "5"]]] * 3
    weights, request = scene(made)
    engine = request.engines[0]
    contexts = [engine.prompt_ids(chat(QUESTIONS[0])) + engine.text_ids(r) for r in REASONING[0][:2]]
    log_p = lambda answer: [
        sum(logprobs_by_hand(engine.model, c, engine.text_ids(f" #### {answer}"))) for c in contexts
    ]
    by_hand = [
        log_p(answer)[g] - math.log(sum(map(math.exp, log_p(answer))) / 2) for g, answer in enumerate(["75", "65"])
    ]
    assert weights.pmi(request)[0, 0].tolist() == pytest.approx(by_hand, abs=1e-4)


def test_each_chains_own_target_is_scored_under_its_own_response_alone(scene, scored):
    made = [[["75", "65"], ["5", "5"]]] * 3
    weights, request = scene(made, marginal="unconditional")
    engine = request.engines[0]
    question = engine.prompt_ids(chat(QUESTIONS[0]))
    by_hand = []
    for answer, reasoning in zip(["75", "65"], REASONING[0][:2], strict=True):
        target = engine.text_ids(f" #### {answer}")
        given, alone = (
            sum(logprobs_by_hand(engine.model, context, target))
            for context in (question + engine.text_ids(reasoning), question)
        )
        by_hand.append(given - alone)
    assert weights.pmi(request)[0, 0].tolist() == pytest.approx(by_hand, abs=1e-4)
    assert len(scored) == 3 * 4 * 2  # each row's own target, with and without its response


@pytest.mark.parametrize(("conditioning", "asked"), [("own_reasoning", True), ("in_prompt", False)])
def test_the_question_is_the_prompt_that_was_answered_or_the_plain_one(scene, scored, conditioning, asked):
    weights, request = scene(marginal="unconditional", conditioning=conditioning)
    answered = [engine.prompt_ids(chat("What is 9+9?")) for engine in request.engines]
    rollouts = [
        replace(rollout, prompt_ids=[ids] * 4) for rollout, ids in zip(request.rollouts, answered, strict=True)
    ]
    request.active[2, 1, 1] = False  # nothing precedes its answer, so its context is the prompt alone
    weights.pmi(replace(request, rollouts=rollouts))
    assert any(context in answered for _, context, _ in scored) is asked


@pytest.mark.parametrize("switches", [{}, {"reduction": "per_token"}, {"marginal": "unconditional"}], ids=str)
def test_pmi_from_the_samplings_cache_is_that_from_token_ids(trainer, tiny, monkeypatch, switches):
    from pst_rl.stages import pmi as module

    options = switches | {"from_cache": True}
    joint = trainer({"llama": tiny["llama"]}, shared_prefill=True, weighting_options=options)
    engine, pairs, score = joint.engines[0], [], module.sum_logprobs_from_cache
    engine.keeps_caches = True
    monkeypatch.setattr(
        module, "sum_logprobs_from_cache", lambda engine, new, size: pairs.extend(new) or score(engine, new, size)
    )
    rollout = engine.answer([chat(question) for question in QUESTIONS for _ in range(2)])
    made = [[response(None, text) for text in rollout.texts[i : i + 2]] for i in (0, 2)]
    batch = group([made], prompts=tuple(map(chat, QUESTIONS)), targets=targets(TARGETS[:1]))
    request = weight_request(batch, engines=joint.engines, rollouts=[rollout])
    from_cache = joint.weighting.pmi(request)
    assert [len(pair) for pair in pairs] == [4] * 4  # every one with its cache
    engine.live.clear()
    assert torch.allclose(from_cache, joint.weighting.pmi(request), atol=1e-2)
    assert [len(pair) for pair in pairs[4:]] == [2] * 4


@pytest.fixture
def scored(monkeypatch):
    """The (engine, context, target) of everything the PMI stage has scored."""
    from pst_rl.stages import pmi as weights

    seen, score = [], weights.sum_logprobs

    def spy(engine, pairs, batch_size):
        seen.extend((engine, *pair) for pair in pairs)
        return score(engine, pairs, batch_size)

    monkeypatch.setattr(weights, "sum_logprobs", spy)
    return seen


@pytest.mark.parametrize("scorer", ["responder", "other_peers"])
def test_the_own_answer_and_the_end_of_turn_are_cut_off_before_the_target(scene, scored, scorer):
    weights, request = scene(scorer=scorer)
    weights.pmi(request)
    assert scored
    for engine, context, target in scored:
        assert not {*engine.eos_token_ids} & {*context, *target}
        text = engine._tokenizer.decode([*context, *target])
        assert text.count("####") == 1 and text.endswith(("#### 75", "#### 5"))


def test_inactive_samples_are_not_scored(scene, scored):
    weights, request = scene()
    request.active[:, 0] = False
    pmi = weights.pmi(request)
    assert len(scored) == 6
    assert torch.isnan(pmi[:, 0]).all() and torch.isfinite(pmi[:, 1]).all()


def test_a_chain_without_a_target_is_not_scored_itself(scene):
    weights, request = scene([[["75", None], ["5", "5"]]] * 3)
    request = replace(request, active=torch.tensor([[[True, False], [True, True]]] * 3))
    pmi = weights.pmi(request)
    assert torch.isnan(pmi[:, 0, 1]).all()
    assert torch.isfinite(pmi[:, 0, 0]).all()


def test_an_inactive_sample_has_no_pmi_though_its_target_was_scored_for_another(scene):
    weights, request = scene()
    request.active[:, 0, 1] = False
    pmi = weights.pmi(request)
    assert torch.isnan(pmi[:, 0, 1]).all() and torch.isfinite(pmi[:, 0, 0]).all()


def test_a_target_without_text_has_no_pmi(scene):
    weights, request = scene(target="response")
    silent = replace(request.group.targets[0][0][0], text=None)
    batch = replace(request.group, targets=(((silent,) * 2, request.group.targets[0][1]),) * 3)
    pmi = weights.pmi(replace(request, group=batch))
    assert torch.isnan(pmi[:, 0]).all() and torch.isfinite(pmi[:, 1]).all()


def test_the_marginal_is_a_mean_over_the_responses_that_have_a_probability():
    nan = float("nan")
    assert _log_mean_exp([math.log(0.2), nan, math.log(0.4)]) == pytest.approx(math.log(0.3))
    assert math.isnan(_log_mean_exp([nan, -math.inf]))


@pytest.mark.parametrize(
    ("options", "pmi"),
    [
        # sums -2 and -6 over 4 tokens: log of the mean probability is log((e^-2 + e^-6) / 2), and only then / 4
        ({"reduction": "sum"}, (math.log(2) - math.log1p(math.exp(-4)))),
        ({"reduction": "per_token"}, (math.log(2) - math.log1p(math.exp(-4))) / 4),
        ({"reduction": "sum", "marginal": "unconditional"}, -2.0 + 5.0),
        ({"reduction": "per_token", "marginal": "unconditional"}, (-2.0 + 5.0) / 4),
    ],
)
def test_lengths_divide_after_the_mean_over_samples(options, pmi):
    scores = [{0: (-2.0, -5.0, 4)}, {0: (-6.0, -5.0, 4)}]
    assert PMIWeights(**options)._pmi(scores, 0) == pytest.approx(pmi)


@pytest.mark.parametrize(("reduction", "lengths"), [("sum", (1, 1)), ("per_token", (2, 5))])
def test_each_scorer_has_its_own_marginal(reduction, lengths):
    # p = .1 and .3 under the first scorer, .8 and .4 under the second: marginals .2 and .6
    probabilities = [{1: 0.1, 2: 0.8}, {1: 0.3, 2: 0.4}]
    scores = [{s: (math.log(p), math.nan, lengths[s - 1]) for s, p in row.items()} for row in probabilities]
    weighting = PMIWeights(scorer="other_peers", reduction=reduction)
    for g, (first, second) in enumerate([(0.1 / 0.2, 0.8 / 0.6), (0.3 / 0.2, 0.4 / 0.6)]):
        by_hand = (math.log(first) / lengths[0] + math.log(second) / lengths[1]) / 2
        assert weighting._pmi(scores, g) == pytest.approx(by_hand, abs=1e-6)


def test_a_process_scores_its_own_rows_where_the_complete_batch_expects_them(scene, monkeypatch):
    weights, request = scene(marginal="unconditional")
    whole = weights.pmi(request)
    nothing = [[{}] * 3] * 2
    monkeypatch.setattr("pst_rl.stages.pmi.gather_object", lambda rows: nothing + rows)
    halves = [
        replace(
            r,
            **{name: getattr(r, name)[2:] for name in ("prompts", "prompt_ids", "completion_ids", "texts", "answers")},
        )
        for r in request.rollouts
    ]
    pmi = weights.pmi(replace(request, rollouts=halves, local=LocalRows(2, 2, 2)))
    assert torch.isnan(pmi[:, 0]).all()
    assert pmi[:, 1].flatten().tolist() == pytest.approx(whole[:, 1].flatten().tolist(), rel=1e-5, abs=1e-5)
