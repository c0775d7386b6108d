import pytest
from examples_loader import script_arguments

from pst_rl.cli.presets import OWN, PRESETS, TINY_STYLE, all_tiny, preset_for
from pst_rl.tiny import TINY_CONCEPT_MODEL, TINY_PEERS

QUIET = ("--report-to", "none")
OTHERS = ("--peers", "org/a", "org/b", "--dataset", "mine.jsonl", *QUIET)


@pytest.fixture
def trained(tmp_path):
    """A folder such as training one of the tiny peers leaves, and one of some other model."""
    for name, source in {"mine": TINY_PEERS["llama"] / "tokenizer.json", "other": None}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes(source.read_bytes() if source else b"{}")
    return tmp_path


def test_peers_are_tiny_if_they_have_a_tiny_tokenizer(trained):
    assert all_tiny(["tiny"])
    assert all_tiny([str(trained / "mine"), f"second={TINY_PEERS['qwen2']}"])
    assert not all_tiny([str(trained / "mine"), str(trained / "other")])
    assert not all_tiny(["org/a"]) and not all_tiny([str(TINY_CONCEPT_MODEL)])


def test_other_models_get_nothing_that_was_chosen_for_the_tiny_ones():
    arguments = script_arguments(OTHERS)
    config, script, model = arguments.config, arguments.script, arguments.model
    assert script.preset == "own"
    assert (config.max_completion_length, config.learning_rate, config.quorum) == (512, 1e-5, 0.0)
    assert model.use_peft and "\\boxed{}" in script.prompt_template
    assert (config.answer_style, config.answer_template) == ("auto", "The answer is \\boxed{{answer}}.")
    assert not any((config.shared_prefill, config.shared_prompts, config.skip_zero_advantage))
    assert not set(OWN) & {"answer_style", "answer_template", "peer_template", "quorum", "shared_prompts"}


def test_a_tiny_peer_that_was_trained_is_still_asked_as_a_tiny_one(trained):
    arguments = script_arguments(["--peers", str(trained / "mine"), *QUIET])
    assert (arguments.script.preset, arguments.config.answer_style) == ("demo", "hash")
    assert (arguments.script.dataset, arguments.script.prompt_template) == ("tiny", "{question}")


def test_the_demo_is_refused_for_other_models(trained):
    assert preset_for(["tiny"], "demo") == "demo"
    with pytest.raises(ValueError, match="chosen for the tiny peers"):
        script_arguments(["--preset", "demo", *OTHERS])


def test_other_models_need_questions():
    with pytest.raises(ValueError, match="--dataset FILE"):
        script_arguments(["--peers", "org/a", "org/b", *QUIET])


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        (["--gradient-checkpointing"], ["shared_prompts"]),
        (["--loss-type", "bnpo"], ["sort_micro_batches", "skip_zero_advantage"]),
        (["--rewards", "vote_share", "self_certainty"], ["skip_zero_advantage"]),
        (["--beta", "0.04"], ["skip_zero_advantage"]),
        ([], []),
    ],
)
def test_levers_of_a_preset_give_way_to_what_is_asked_for(flags, left_out):
    arguments = script_arguments([*flags, *QUIET])
    levers = ("shared_prefill", "shared_prompts", "sort_micro_batches", "skip_zero_advantage")
    assert {name for name in levers if not getattr(arguments.config, name)} == set(left_out)
    assert [note.split()[0] for note in arguments.notes] == left_out


def test_a_lever_that_a_user_asks_for_does_not_give_way():
    with pytest.raises(ValueError, match="shared_prompts=True needs"):
        script_arguments(["--gradient-checkpointing", "--shared-prompts", *QUIET])


def test_epochs_replace_the_steps_of_a_preset():
    config = script_arguments(["--num-train-epochs", "2", *QUIET]).config
    assert (config.max_steps, config.num_train_epochs) == (-1, 2)
    config = script_arguments(["--generation-batch-size", "128", *QUIET]).config
    assert config.steps_per_generation == 2


def test_a_method_is_a_set_of_options_between_preset_and_flags():
    config = script_arguments(["--method", "empo", *QUIET]).config
    assert config.rewards == ["semantic_entropy"]
    config = script_arguments(["--method", "pst", "--objective", "grpo", *QUIET]).config
    assert (config.context, config.aggregator, config.objective) == ("sequential", "last_peer", "grpo")
    with pytest.raises(ValueError, match="choose one of .*ttrl"):
        script_arguments(["--method", "xyz", *QUIET])


def test_peers_may_have_names_and_options(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "peers:\n  big: {model: org/a, trainable: false}\n  small: {model: org/b, learning_rate: 1.0e-6, "
        "peft_config: {r: 4}}\ndataset: mine.jsonl\nreport_to: none\n"
    )
    from pst_rl.cli.options import named_peers

    arguments = script_arguments(["--config", str(tmp_path / "run.yaml")])
    big, small = named_peers(arguments.script.peers)
    assert (big.name, big.model, big.trainable) == ("big", "org/a", False)
    assert (small.name, small.learning_rate, small.peft_config.r) == ("small", 1e-6, 4)
    assert arguments.script.preset == "own"


def test_every_preset_but_the_demo_leaves_the_tiny_style_to_tiny_peers():
    for name, preset in PRESETS.items():
        assert name == "demo" or not set(preset) & (set(TINY_STYLE) & {"answer_style", "answer_template"})
