"""The options of `pst-rl train` that are not the trainer's, and what they stand for. Importing it loads no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig

    from pst_rl.peers.spec import PeerSpec


@dataclass
class TrainOptions:
    """What a training run is about; how it is trained is in `PSTConfig` and TRL's `ModelConfig`."""

    preset: str = "auto"
    """Named options to start from: demo, own, small, qlora or paper; auto is demo for the tiny peers, own for
    others."""
    method: str | None = None
    """A published method by its name: ttrl, srt, co-rl, empo, intuitor, rent, pst, saie ... (docs/schemes)."""
    config: str | None = None
    """YAML or JSON file with options; flags override it."""
    peers: list[str] = field(default_factory=lambda: ["tiny"])
    """Hub ids, folders (also of LoRA adapters) or GGUF files, [repo:]file.gguf, `NAME=PLACE` to name one; `tiny`: the
    embedded three. In a file also names with options of their own: {a: {model: org/model, learning_rate: 1e-6}}."""
    dataset: str = "tiny"
    """`tiny`, multiarith, simuleq, math500, gsm8k, a Hub id, or a .jsonl, .json, .csv or .parquet file."""
    question_column: str | None = None
    """Column with the questions, if it cannot be guessed."""
    answer_column: str | None = None
    """Column with gold answers (used to measure only), if it cannot be guessed."""
    prompt_template: str = "{question}"
    """Name of a prompt of the package (boxed.v1), a text file, or a text with {question}. `prompt` means the same."""
    train_questions: int | None = None
    """Unlabelled questions to train on; unset: all of the training split."""
    eval_split: str = "test"
    """Split to measure on; choose settings on `validation`."""
    test_questions: int = 900
    """Held-out questions to measure greedy exact match on."""
    pooled_questions: int = 300
    """How many of them are also answered by samples, for the pooled vote; 0 to leave it out."""
    pooled_samples: int = 8
    """Samples per peer and question for the pooled vote."""


@dataclass
class Train(TrainOptions):
    """Let several models train each other on questions without labels, and measure them before and after.

    All options of `PSTConfig` (a `GRPOConfig`) and of TRL's `ModelConfig` are flags, too: `pst-rl train --help` lists
    them. For several processes: `accelerate launch --num_processes N -m pst_rl.cli train ...`.
    """

    overwrite: bool = False
    """Take away what an earlier run left in the output folder, and begin anew; other files stay."""
    dry_run: bool = False
    """Show the first prompt of each peer, and estimate tokens, memory and time; load no weights, write nothing."""
    tokens_per_second: float | None = None
    """For the time in a dry run: completion tokens of all peers per second of training, from a short run of yours."""


def load_splits(options: TrainOptions) -> tuple[Dataset, Dataset]:
    """The questions to train on, and those to measure on.

    Raises:
        FileNotFoundError, ValueError: They cannot be had or read; or a peer is nowhere, which is seen first, before
            anything is fetched.
    """
    from pst_rl.data import load_questions
    from pst_rl.hub.places import check_place
    from pst_rl.peers.sources import is_gguf
    from pst_rl.peers.spec import default_name
    from pst_rl.peers.words import read_peers

    for peer in read_peers(options.peers):
        if not is_gguf(peer.model):
            of = f" of peer {peer.name or default_name(peer.model)!r}"
            check_place(peer.model, of, peer.options.get("revision"))
    columns: dict[str, Any] = {"question_column": options.question_column, "answer_column": options.answer_column}
    train, test = (
        load_questions(options.dataset, split=split, limit=limit, prompt_template=options.prompt_template, **columns)
        for split, limit in (("train", options.train_questions), (options.eval_split, options.test_questions))
    )
    return train, test


def data_note(options: TrainOptions) -> str:
    """What the questions come from, what is measured on, and how a source with one split was divided."""
    from pst_rl.data import split_sizes

    text = f"{options.dataset}, measured on {options.eval_split}"
    if sizes := split_sizes(options.dataset, options.question_column):
        parts = " / ".join(f"{size:,} {split}" for split, size in sizes.items())
        text += f"; its {sum(sizes.values()):,} different questions are divided by a hash of each: {parts}"
    return text


def scoring_note(options: TrainOptions, metric: str) -> list[str]:
    """A line that says so, where the benchmark of the data set has answers scored in a way of its own."""
    from pst_rl.benchmarks.benchmark import metric_of

    if metric == "whole" or metric != metric_of(options.dataset):
        return []
    return [f"note        {options.dataset} is scored as its benchmark does: --answer-metric {metric}"]


def named_peers(peers: list[str], model: ModelConfig | None = None) -> list[PeerSpec] | dict[str, PeerSpec]:
    """What `PSTTrainer` takes as its peers; `tiny` stands for the embedded ones.

    Args:
        model: How they are loaded where a peer does not say: `dtype`, `attn_implementation` and `model_revision`.
            TRL's default dtype, `"float32"`, leaves it to [`~pst_rl.peers.spec.PeerSpec`], which takes bfloat16 beside
            quantized weights.

    Raises:
        ValueError: As [`~pst_rl.peers.words.read_peers`].
    """
    from pst_rl.peers.spec import PeerSpec
    from pst_rl.peers.words import read_peers
    from pst_rl.tiny import TINY_PEERS

    loaded: dict[str, Any] = {}
    if model is not None:
        loaded = {
            "dtype": None if model.dtype == "float32" else model.dtype,
            "attn_implementation": model.attn_implementation,
            "revision": None if model.model_revision == "main" else model.model_revision,
        }
    if peers == ["tiny"]:
        return {name: PeerSpec(str(folder), **loaded) for name, folder in TINY_PEERS.items()}
    return [PeerSpec(peer.model, peer.name, **loaded | _lora_of(peer.options)) for peer in read_peers(peers)]


def _lora_of(options: dict[str, Any]) -> dict[str, Any]:
    """A peer's own options, those of its LoRA made a `LoraConfig`."""
    if not isinstance(options.get("peft_config"), dict):
        return options
    from peft import LoraConfig

    return options | {"peft_config": LoraConfig(**{"task_type": "CAUSAL_LM"} | options["peft_config"])}
