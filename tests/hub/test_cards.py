"""Model cards: what they say, and what they must not."""

from pathlib import Path

import pytest
import yaml

from pst_rl.aggregation import LastPeer
from pst_rl.hub.cards import describe_data, hub_dataset, hub_model
from pst_rl.peers.spec import PeerSpec
from pst_rl.report import PeerResult, RunResults, VoteResult

RESULTS = RunResults(
    {name: PeerResult(0.4, 0.5, (0.05, 0.15)) for name in ("gemma2", "llama")},
    vote=VoteResult(0.5, 0.6),
    pooled_vote=VoteResult(),
    dataset=str(Path.home() / "secret" / "mine.jsonl"),
    n_test=20,
    seed=7,
)


@pytest.fixture
def card(trainer, tmp_path):
    """`card(results=..., dataset_name=..., **of_the_trainer)`: the front matter and the text of gemma2's card."""

    def write(results=None, dataset_name=None, **options):
        built = trainer(**options)
        built.results, built.dataset_name = results, dataset_name
        built.write_card("gemma2", tmp_path / "card")
        _, front, text = (tmp_path / "card" / "README.md").read_text().split("---\n", 2)
        return yaml.safe_load(front), text

    return write


def test_a_card_names_the_peers_the_scheme_and_the_table(card, tmp_path):
    front, text = card(results=RESULTS, quorum=0.34, seed=7, weighting_options={"tau": 0.5})
    assert {"pst-rl", "pst", "trl"} <= set(front["tags"]) and "supervised" not in front["tags"]
    assert "| `llama` | the pst-rl tiny peer (llama) | all weights |" in text
    assert "| Aggregator | majority, quorum 0.34 |" in text
    assert "| Seed | 7 |" in text and "tau 0.5 nats" in text
    assert "| PMI weights | on, direction less, scorer responder, target answer, conditioning own_reasoning, " in text
    assert "| gemma2 | 40.0 | 50.0 | +10.0 | [+5.0, +15.0] |" in text
    assert "supervised" not in text.lower()
    # No folder of this machine, and nothing that TRL's template was not given.
    assert "of mine.jsonl" in text and str(Path.home() / "secret") not in text
    assert str(tmp_path) not in text and str(Path(__file__).parents[2]) not in text
    assert "None" not in text and "base_model" not in front


def test_a_supervised_run_says_so_in_title_summary_and_tags(card):
    front, text = card(supervised=True, rewards=["supervised_gold"], peft=lora())
    assert "# Model Card for run-gemma2 (supervised)" in text
    assert "**The run was supervised:**" in text.partition("## Quick start")[0]
    assert "supervised" in front["tags"] and "with gold answers" in text
    # It is an adapter as well.
    assert front["library_name"] == "peft" and "LoRA, rank 2" in text and "still names that folder" in text


def test_a_hub_data_set_is_linked(card):
    front, text = card(dataset_name="gsm8k", weighting="none", context="sequential", aggregator=LastPeer())
    assert front["datasets"] == "openai/gsm8k" and "huggingface.co/datasets/openai/gsm8k" in text
    assert "| PMI weights | off |" in text and "| Aggregator | last_peer |" in text
    assert "sequential, fixed order; later peers read the answers" in text


def test_a_weighting_of_the_users_is_named(card):
    def trust(request): ...

    assert "| PMI weights | replaced by trust |" in card(weigh=trust)[1]


def test_a_frozen_peer_and_a_last_peer_that_is_not_updated_are_marked(card, tiny):
    peers = {"gemma2": tiny["gemma2"], "juror": PeerSpec(tiny["qwen2"], trainable=False), "llama": tiny["llama"]}
    _, text = card(peers=peers, update_last_peer=False)
    assert "| `juror` | the pst-rl tiny peer (qwen2) | no, frozen | - |" in text
    assert "| `llama` | the pst-rl tiny peer (llama) | no, the last peer | - |" in text


def test_only_models_on_the_hub_are_named(tiny):
    assert hub_model(PeerSpec("google/gemma-2-2b-it")) == "google/gemma-2-2b-it"
    assert hub_model(PeerSpec(tiny["llama"])) is None
    assert hub_model(PeerSpec("./models/mine")) is None
    assert hub_model(PeerSpec("~/mine")) is None


@pytest.mark.parametrize(
    "source, repo, shown",
    [
        ("gsm8k", "openai/gsm8k", "openai/gsm8k"),
        ("owner/set:config", "owner/set", "owner/set"),
        ("tiny", None, "pst_rl.tiny"),
        ("data/mine.jsonl", None, "mine.jsonl"),
        ("/home/me/mine.parquet", None, "mine.parquet"),
    ],
)
def test_a_data_set_is_shown_by_hub_id_or_file_name(source, repo, shown):
    assert (hub_dataset(source), describe_data(source)) == (repo, shown)


def lora():
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["q_proj"])


def test_a_folder_that_may_be_on_its_way_to_the_hub_is_left_alone(trainer, tmp_path):
    """A push during training failed now and then: the next card was being drafted in the folder that was uploaded."""
    built = trainer()
    peer = built.peers["gemma2"]
    output_dir = peer.args.output_dir
    built.write_card("gemma2", tmp_path / "card")
    assert (tmp_path / "card" / "README.md").is_file()
    assert peer.args.output_dir == output_dir and not Path(output_dir, "README.md").exists()
