"""The contract of a discussion: what is refused before a model is loaded, whoever wrote the discussion."""

from types import SimpleNamespace

import pytest

from pst_rl import PSTTrainer
from pst_rl.discussion import check_discussion
from pst_rl.discussion.saie import SAIERollout
from pst_rl.rewards import MatchesAggregate


class Plain:
    """A discussion that takes any peers."""

    def respond(self, context):
        return context.rollouts


class OnlyInPairs(Plain):
    """A discussion of one's own, which refuses peers."""

    def check(self, peers):
        if len(peers) != 2:
            raise ValueError(f"needs two peers, got {', '.join(peers)}")


def settings(objective="grpo", use_vllm=False, world_size=1):
    return SimpleNamespace(objective=objective, use_vllm=use_vllm, world_size=world_size)


@pytest.mark.parametrize("objective", ["weighted_sft", "aggregate_sft"])
def test_an_objective_of_single_answers_refuses_a_discussion(objective):
    with pytest.raises(ValueError, match="throw the discussion away"):
        check_discussion(Plain(), settings(objective), ["a"])
    check_discussion(None, settings(objective), ["a"])


def test_an_objective_on_discussions_needs_one():
    with pytest.raises(ValueError, match="needs a reward provider that declares a discussion"):
        check_discussion(None, settings("discussion_sft"), ["a"])
    check_discussion(Plain(), settings("discussion_sft"), ["a"])


@pytest.mark.parametrize(("use_vllm", "world_size", "refused"), [(True, 2, True), (True, 1, False), (False, 2, False)])
def test_vllm_serves_a_discussion_on_one_process_only(use_vllm, world_size, refused):
    asked = settings(use_vllm=use_vllm, world_size=world_size)
    check_discussion(None, asked, ["a"])
    if refused:
        with pytest.raises(ValueError, match="vLLM cannot serve"):
            check_discussion(Plain(), asked, ["a"])
    else:
        check_discussion(Plain(), asked, ["a"])


def test_each_discussion_refuses_the_peers_it_cannot_work_with():
    check_discussion(OnlyInPairs(), settings(), ["a", "b"])
    with pytest.raises(ValueError, match="needs two peers, got a"):
        check_discussion(OnlyInPairs(), settings(), ["a"])
    with pytest.raises(ValueError, match="'d' is not one of the peers a, b"):
        check_discussion(SAIERollout(partner="d"), settings(), ["a", "b"])


def test_a_discussion_refuses_before_any_model_is_loaded(config, questions, tiny, monkeypatch):
    monkeypatch.setattr("pst_rl.loop.joint_trainer.PeerTrainer", None)  # loading one would be another error
    provider = MatchesAggregate()
    provider.discussion = OnlyInPairs()
    with pytest.raises(ValueError, match="needs two peers, got llama"):
        PSTTrainer({"llama": tiny["llama"]}, config(), questions(), reward_providers=[provider])
