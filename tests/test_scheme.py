"""From names and options in the configuration to the parts of a scheme."""

import pytest
import torch
from examples_loader import script_arguments
from helpers import answers_of, group

from pst_rl import AGGREGATORS, REWARDS, WEIGHTINGS, PSTTrainer, Rewards, Weights
from pst_rl.aggregation import LeaveOneOut, Majority, Weighted
from pst_rl.rewards import MatchesAggregate, RandomReward
from pst_rl.rewards.base import blank
from pst_rl.scheme import check_weights, find_discussion, make_aggregator, make_providers, make_weighting
from pst_rl.stages.pmi import PMIWeights
from pst_rl.stages.weighting import Unweighted


class Fixed:
    """r = value * scale."""

    def __init__(self, value, *, scale=1.0):
        self.value = value * scale

    def __call__(self, batch):
        values, abstain = blank(batch)
        return Rewards(values + self.value, abstain)


@pytest.fixture
def fixed(monkeypatch):
    """A registered reward with options of its own."""
    monkeypatch.setitem(REWARDS, "fixed", Fixed)


@pytest.fixture
def providers(config):
    """`providers(given, options)`: reward providers by name."""
    return lambda given, options=None, **fields: make_providers(given, config(reward_options=options, **fields))


# Aggregators


def test_an_aggregator_is_built_from_its_name(config):
    assert isinstance(make_aggregator(config(aggregator="leave_one_out")), LeaveOneOut)


def test_an_unknown_aggregator_is_answered_with_the_known_ones(config):
    with pytest.raises(ValueError, match=f"Unknown aggregator 'oracle'; choose one of {', '.join(AGGREGATORS)}"):
        make_aggregator(config(aggregator="oracle"))


def test_aggregator_options_reach_the_aggregator(config):
    made = make_aggregator(config(aggregator="weighted", aggregator_options={"score": {"a": 1.0, "b": 5.0}}))
    assert isinstance(made, Weighted)
    assert answers_of(made(group([[["1", "1"]], [["2", "3"]]])))[0][0][0] in ("2", "3")


@pytest.mark.parametrize(("options", "quorum"), [(None, 0.4), ({}, 0.4), ({"quorum": 0.7}, 0.7)])
def test_the_quorum_is_an_option_like_any_other(config, options, quorum):
    assert make_aggregator(config(quorum=0.4, aggregator_options=options)).quorum == quorum


def test_an_aggregator_without_a_quorum_is_built_without_one(config):
    make_aggregator(config(aggregator="last_peer", quorum=0.4))


def test_a_misspelt_aggregator_option_is_answered_with_the_known_ones(config):
    with pytest.raises(ValueError, match="aggregator 'weighted' has no option scores; it takes score, quorum"):
        make_aggregator(config(aggregator="weighted", aggregator_options={"scores": {}}))


def test_an_option_of_an_aggregator_that_takes_none_is_refused(config):
    with pytest.raises(ValueError, match="aggregator 'last_peer' has no option depth; it takes none"):
        make_aggregator(config(aggregator="last_peer", aggregator_options={"depth": 1}))


def test_an_aggregator_of_the_users_is_known_by_its_name(config, monkeypatch):
    monkeypatch.setitem(AGGREGATORS, "mine", lambda depth=2: Majority(1 / depth))
    assert make_aggregator(config(aggregator="mine", aggregator_options={"depth": 4})).quorum == 0.25


def test_an_option_out_of_range_is_refused_by_the_aggregator_itself(config):
    with pytest.raises(ValueError, match="quorum must be a share"):
        make_aggregator(config(aggregator_options={"quorum": 7}))


# Weightings


class Doubled:
    """w = 2, with a memory of how often it was asked."""

    def __init__(self, factor=2.0):
        self.factor, self.asked, self.seen = factor, 0, []

    def __call__(self, request):
        self.asked += 1
        self.seen.append(request)
        ones = torch.ones(request.group.shape)
        return Weights(self.factor * ones, float("nan") * ones)

    def state_dict(self):
        return {"asked": self.asked}

    def load_state_dict(self, state):
        self.asked = state["asked"]


def test_without_a_word_every_weight_is_one():
    from pst_rl import PSTConfig

    assert isinstance(make_weighting(PSTConfig("runs/x", report_to="none")), Unweighted)


def test_weighting_options_reach_the_weighting(config):
    made = make_weighting(config(weighting="pmi", weighting_options={"tau": 2.0, "direction": "more"}))
    assert made == PMIWeights(tau=2.0, direction="more")


def test_an_unknown_weighting_is_answered_with_the_known_ones(config):
    with pytest.raises(ValueError, match="Unknown weighting 'oracle'; choose one of none, pmi"):
        make_weighting(config(weighting="oracle"))


def test_a_misspelt_weighting_option_is_answered_with_the_known_ones(config):
    with pytest.raises(ValueError, match="weighting 'pmi' has no option taus; it takes scorer, target, .* tau,"):
        make_weighting(config(weighting_options={"taus": 2}))


def test_an_option_without_a_weighting_is_refused(config):
    with pytest.raises(ValueError, match="weighting 'none' has no option tau; it takes none"):
        make_weighting(config(weighting="none", weighting_options={"tau": 2}))


def test_a_weighting_of_the_users_is_known_by_its_name(config, monkeypatch):
    monkeypatch.setitem(WEIGHTINGS, "doubled", Doubled)
    assert make_weighting(config(weighting="doubled", weighting_options={"factor": 3.0})).factor == 3.0


def test_a_function_of_z_takes_the_place_of_the_sigmoid(trainer, config, questions, tiny):
    def linear(z):
        return 1 - z

    assert make_weighting(config(), function=linear) == PMIWeights(function=linear)
    built = PSTTrainer({"llama": tiny["llama"]}, config(), questions(), weight_function=linear)
    assert built.weighting.function is linear
    with pytest.raises(
        ValueError, match="weight_function maps PMI to weights, but PMI is not used: set weighting='pmi'"
    ):
        make_weighting(config(weighting="none"), function=linear)


def test_what_cannot_be_called_is_no_weighting(trainer):
    with pytest.raises(TypeError, match=r"must be callable, got 'pmi'; name one in PSTConfig\(weighting=...\)"):
        trainer(weigh="pmi")


def test_a_weighting_of_the_users_weighs_the_updates_and_is_in_the_checkpoint(trainer, tmp_path):
    settings = {"max_steps": 1, "per_device_train_batch_size": 8, "max_completion_length": 8, "rewards": ["random"]}
    saved = settings | {"save_strategy": "steps", "save_steps": 1}
    first, second = Doubled(), Doubled()
    run = trainer(weigh=first, **saved)
    run.train()
    request = first.seen[0]
    assert first.asked == 1 and request.engines == run.engines and list(request.rewards) == ["random"]
    assert request.active.shape == request.group.shape == (2, 2, 4) and request.answer_template == "#### {answer}"
    assert all((engine.update.weights == 2.0).all() for engine in run.engines)
    trainer(weigh=second, **settings).train(resume_from_checkpoint=True)
    assert second.asked == 1  # nothing was left to do
    with pytest.raises(ValueError, match='weighting: "doubled" in the checkpoint, "pmi" now'):
        trainer(**settings).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (torch.ones(1, 1, 2), TypeError, "weighting 'mine' returned Tensor; it must return Weights"),
        (
            Weights(torch.ones(1, 2), torch.ones(1, 1, 2)),
            ValueError,
            r"\(1, 2\) and pmi of \(1, 1, 2\); .*\(1, 1, 2\)",
        ),
        (Weights(torch.ones(1, 1, 2), torch.ones(2)), ValueError, "must have the shape"),
        (Weights(torch.tensor([[[1.0, float("nan")]]]), torch.ones(1, 1, 2)), ValueError, "is not finite"),
    ],
)
def test_what_a_weighting_must_not_return_is_refused(weights, error, message):
    with pytest.raises(error, match=message):
        check_weights("mine", weights, group([[["1", "2"]]]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"pmi": "on"}, r"PSTConfig\(pmi='on'\) is now PSTConfig\(weighting='pmi'\)"),
        ({"pmi": "off", "pmi_tau": 2.0}, r"is now PSTConfig\(weighting='none'\)"),
        ({"pmi_tau": 2.0}, r"is now PSTConfig\(weighting='pmi', weighting_options=\{'tau': 2.0\}\)"),
        ({"pmi_from_cache": True}, r"weighting_options=\{'from_cache': True\}"),
    ],
)
def test_fields_of_an_earlier_version_are_answered_with_what_they_are_now(config, old, new):
    with pytest.raises(TypeError, match=new):
        config(**old)


# Reward providers


def test_reward_options_reach_the_provider_they_name(providers, fixed):
    made = providers(["matches_aggregate", "fixed"], {"fixed": {"value": 2.0, "scale": 3.0}})
    assert list(made) == ["matches_aggregate", "fixed"]
    assert made["fixed"](group([[["1"]]])).values.item() == 6.0


def test_a_misspelt_reward_option_is_answered_with_the_known_ones(providers, fixed):
    with pytest.raises(ValueError, match="reward 'fixed' has no option vaule; it takes value, scale"):
        providers(["fixed"], {"fixed": {"vaule": 2.0}})


def test_an_option_that_is_needed_is_named(providers, fixed):
    with pytest.raises(ValueError, match="reward 'fixed' needs the option value; set it in reward_options"):
        providers(["fixed"])


def test_an_option_of_a_reward_that_takes_none_is_refused(providers):
    with pytest.raises(ValueError, match="reward 'random' has no option p; it takes none"):
        providers(["random"], {"random": {"p": 0.5}})


@pytest.mark.parametrize("given", [["matches_aggregate"], [RandomReward()]])
def test_options_of_a_reward_that_is_not_used_by_name_are_refused(providers, given):
    with pytest.raises(ValueError, match="reward_options names random, which is not among the rewards by name"):
        providers(given, {"random": {}})


def test_an_unknown_reward_is_answered_with_the_known_ones(providers):
    with pytest.raises(ValueError, match=f"Unknown reward 'oracle'; choose from {', '.join(REWARDS)}"):
        providers(["oracle"])


@pytest.mark.parametrize("one", ["random", RandomReward()])
def test_one_reward_needs_no_list(providers, one):
    assert list(providers(one)) == ["random"]


@pytest.mark.parametrize("pair", [["random", RandomReward()], [lambda batch: None] * 2])
def test_rewards_need_distinct_names(providers, pair):
    with pytest.raises(ValueError, match="distinct names"):
        providers(pair)


def test_no_reward_at_all_is_refused(providers):
    with pytest.raises(ValueError, match="No reward providers"):
        providers([])


@pytest.mark.parametrize(
    ("options", "template"), [(None, "= {answer}"), ({"answer_template": "{answer}!"}, "{answer}!")]
)
def test_settings_of_the_run_reach_a_provider_that_takes_them(providers, monkeypatch, options, template):
    class Says(Fixed):
        def __init__(self, answer_template):
            self.answer_template = answer_template

    monkeypatch.setitem(REWARDS, "says", Says)
    made = providers(["says"], options and {"says": options}, answer_template="= {answer}")
    assert made["says"].answer_template == template


def test_a_reward_may_need_company(trainer, tiny):
    lonely = Fixed(1.0)
    lonely.min_peers = 2
    with pytest.raises(ValueError, match="reward 'fixed', as it is set up, needs at least 2 peers, got 1"):
        trainer({"llama": tiny["llama"]}, reward_providers=[lonely])


@pytest.mark.parametrize("kind", [AGGREGATORS, REWARDS, WEIGHTINGS])
def test_every_registered_name_says_what_it_computes(kind):
    assert [name for name, factory in kind.items() if not factory.__doc__] == []


def test_options_reach_a_run(config, questions, tiny, fixed):
    args = config(
        rewards=["fixed"],
        reward_options={"fixed": {"value": 2.0}},
        aggregator="weighted",
        aggregator_options={"score": {"llama": 2.0}},
    )
    run = PSTTrainer({"llama": tiny["llama"]}, args, questions())
    assert (run.providers["fixed"].value, run.aggregator.score["llama"]) == (2.0, 2.0)


@pytest.mark.parametrize("aggregator", ["weighted", lambda batch: None])
def test_an_aggregator_that_is_no_aggregator_is_refused(trainer, aggregator):
    with pytest.raises(TypeError, match="must be a pst_rl.aggregation.Aggregator, got"):
        trainer(aggregator=aggregator)


def test_options_and_schedules_are_json_on_the_command_line(tmp_path):
    flags = ["--output-dir", str(tmp_path), "--report-to", "none", "--rewards", "matches_aggregate", "random"]
    flags += ["--aggregator-options", '{"quorum": 0.5}', "--reward-options", '{"random": {}}']
    args = script_arguments([*flags, "--reward-schedules", '{"random": [1, 0]}']).config
    assert args.aggregator_options == {"quorum": 0.5}
    assert args.reward_options == {"random": {}}
    assert args.reward_schedules == {"random": [1, 0]}


# Discussions


def declares(name, discussion):
    def provider(batch):
        return Rewards(*blank(batch))

    provider.name, provider.discussion = name, discussion
    return provider


def test_the_declared_discussion_is_found():
    mine = object()
    assert find_discussion({"plain": MatchesAggregate(), "talks": declares("talks", mine)}) is mine


def test_without_a_declaration_there_is_no_discussion():
    assert find_discussion({"plain": MatchesAggregate(), "none": declares("none", None)}) is None


def test_two_discussions_are_refused_by_name():
    with pytest.raises(ValueError, match="Only one reward provider may declare a discussion, but one, two all do"):
        find_discussion({name: declares(name, object()) for name in ("one", "two")})


def test_two_discussions_are_refused_before_training(trainer):
    with pytest.raises(ValueError, match="one, two all do"):
        trainer(reward_providers=[declares(name, object()) for name in ("one", "two")])
