"""Model cards: TRL's own, and in it the other peers, the scheme, the settings and the measured table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, get_token
from peft import LoraConfig, PeftModel
from transformers import SchedulerType

from pst_rl.aggregation import AGGREGATORS
from pst_rl.aggregation.votes import Majority
from pst_rl.data import FILE_FORMATS, PRESETS
from pst_rl.files import write_atomically
from pst_rl.peers.adapters import own_adapter
from pst_rl.peers.asked import asked_by
from pst_rl.peers.sources import gguf_on_hub
from pst_rl.report import RunResults, markdown_table, pipe_table
from pst_rl.rewards import provider_name
from pst_rl.stages.pmi import PMIWeights
from pst_rl.stages.weighting import Unweighted, Weighting
from pst_rl.tiny import TINY_PEERS

if TYPE_CHECKING:
    from pst_rl.aggregation import Aggregator
    from pst_rl.config import PSTConfig
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.peers.spec import PeerSpec
    from pst_rl.stages.reward_mix import RewardMix

HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
# All folders before the last part of an absolute path, or of one from the home folder; not of a URL or a fraction.
_FOLDERS = re.compile(
    r"(?<![\w/:.~<)\]-])(?:(?:file://)?~?/(?:[\w.@+-]+/)+|[A-Za-z]:[/\\]{1,2}(?:[\w.@+-]+[/\\]{1,2})*)(?=[\w.@+-])"
)
HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class CardRun:
    """What the cards say a run was.

    Attributes:
        peers, specs: All peers, by name.
        args: The run's settings.
        aggregator, mix: The scheme; `mix` names all reward providers.
        updated: Names of the peers whose update step runs.
        questions: Number of training questions.
        step: Optimizer steps done.
        results: The measured table, once there is one.
        dataset: What was trained on: as pushed with, or as measured on.
    """

    peers: Mapping[str, PeerTrainer]
    specs: Mapping[str, PeerSpec]
    args: PSTConfig
    aggregator: Aggregator
    mix: RewardMix
    weighting: Weighting
    updated: Collection[str]
    questions: int
    step: int
    results: RunResults | None
    dataset: str | None


def write_peer_card(run: CardRun, name: str, folder: Path) -> None:
    """Writes the model card of one peer, `README.md`, into a folder.

    TRL drafts it, in a folder of its own: the peer's output folder may be on its way to the Hub. Added are who the
    other peers were, the scheme and its settings and, if there are results, the measured table. Folders of this
    machine are never named.
    """
    peer, spec = run.peers[name], run.specs[name]
    title = (peer.args.hub_model_id or name).split("/")[-1]
    supervised = run.args.supervised
    output_dir = peer.args.output_dir
    with TemporaryDirectory() as drafts:
        peer.args.output_dir = drafts
        try:
            peer.create_model_card(
                model_name=title,
                dataset_name=hub_dataset(run.dataset),
                tags=["supervised"] if supervised else [],
            )
        finally:
            peer.args.output_dir = output_dir
        card = ModelCard.load(Path(drafts) / "README.md")

    card.data.tags = sorted(card.data.tags)  # TRL's order changes from run to run
    card.data.pipeline_tag = "text-generation"
    if isinstance(peer.model, PeftModel):
        card.data.library_name = "peft"
    text = card.text.replace('model="None"', f'model="{title}"')  # TRL's, before there is a repository
    if supervised:
        text = text.replace(f"# Model Card for {title}", f"# Model Card for {title} (supervised)", 1)
    if hub_model(spec) is None:
        card.data.base_model = None
        text = re.sub(r"version of \[.*?\]\(.*?\)", f"version of {describe_base(peer, spec)}", text, count=1)
    elif (repo := hub_model(spec)) != (path := base_path(spec)):  # a GGUF file in a repository
        card.data.base_model = repo
        text = text.replace(f"[{path}](https://huggingface.co/{path})", f"{link(str(repo))} (`{path}`)")
    text = insert_before(text, "## Quick start", summary(run, name))
    text = insert_before(text, "### Framework versions", details(run, name))
    card.text = without_secrets(text, run.args.hub_token)
    write_atomically(folder / "README.md", card.save)


def insert_before(text: str, heading: str, addition: str) -> str:
    """`text` with the addition before the heading, or at its end if there is no such heading."""
    before, heading, after = text.partition(heading)
    return f"{before.rstrip()}\n\n{addition}\n\n{heading}{after}"


# ---- paragraphs and tables ----


def summary(run: CardRun, name: str) -> str:
    """What happened, in two sentences; a supervised run says so here."""
    others = [f"`{other}`" for other in run.peers if other != name]
    company = f"together with {' and '.join(others)}" if others else "alone"
    if run.args.supervised:
        labels = "**The run was supervised:** gold answers of the training questions were read."
    else:
        labels = "No label of the training questions was read."
    return f"It was trained by pst-rl as `{name}`, {company}. {labels}"


def details(run: CardRun, name: str) -> str:
    """The peers, the scheme with its settings, and the measured table."""
    peers = [(f"`{n}`{' (this model)' * (n == name)}", *peer_row(run, n)) for n in run.peers]
    parts = [
        "### Peers",
        markdown(("Peer", "Base model", "Updated", "Repository"), peers),
        "### Scheme and settings",
        markdown(("Setting", "Value"), settings(run, name)),
    ]
    if run.results is not None:
        results = replace(run.results, dataset=describe_data(run.results.dataset))
        parts += ["### Results", markdown_table(results)]
    if any(tiny_name(spec) for spec in run.specs.values()):
        parts.append(
            "The tiny peers of pst-rl are a constructed test bed: a gain here is no evidence about larger models."
        )
    peer, spec = run.peers[name], run.specs[name]
    if isinstance(peer.model, PeftModel) and hub_model(spec) is None:
        parts.append(
            "This repository holds an adapter whose base model was a folder on the machine it was trained on, and "
            f"`adapter_config.json` still names that folder. Load that model, {describe_base(peer, spec)}, yourself "
            "and put the adapter on it with `PeftModel.from_pretrained(base, ...)`."
        )
    return "\n\n".join(parts)


def peer_row(run: CardRun, name: str) -> tuple[str, str, str]:
    """Base model, what of it was updated, and the repository of one peer."""
    peer, spec = run.peers[name], run.specs[name]
    if not spec.trainable:
        updated = "no, frozen"
    elif name not in run.updated:
        updated = "no, the last peer"
    elif isinstance(peer.model, PeftModel):
        config = peer.model.active_peft_config
        updated = f"LoRA, rank {config.r}" if isinstance(config, LoraConfig) else f"{config.peft_type.value} adapter"
        updated += " on quantized weights" * (spec.quantization_config is not None)
    else:
        updated = "all weights"
    return describe_base(peer, spec), updated, link(peer.hub_model_id) if peer.hub_model_id else "-"


def settings(run: CardRun, name: str) -> Iterable[tuple[str, str]]:
    """What one would need to know to run it again, as (setting, value)."""
    args, spec = run.args, run.specs[name]
    data = run.dataset
    questions = str(run.questions) + (f" of {describe_data(data)}" if data else "")
    yield "Training questions", questions + (", with gold answers" if args.supervised else ", unlabelled")
    if args.context == "sequential":
        yield "Answers", f"sequential, {args.order} order; later peers read the {args.peer_context} of earlier ones"
    else:
        yield "Answers", "independent of each other"
    yield "Aggregator", describe_aggregator(run)
    yield "Rewards", ", ".join(n + " (only monitored)" * (n not in run.mix.trained) for n in run.mix.weights)
    yield "Reward weights", ", ".join(f"{n} {w:g}" for n, w in run.mix.weights.items() if w != 0.0)
    for label, options in (
        ("Aggregator options", args.aggregator_options),
        ("Reward options", args.reward_options),
        ("Reward schedules", args.reward_schedules),
    ):
        if options:
            yield label, f"`{json.dumps(options)}`"
    yield "Objective", args.objective
    yield "Loss", f"{args.loss_type}, beta {args.beta:g}"
    yield "PMI weights", describe_pmi(run.weighting)
    group = f"{args.num_generations} for each question and peer, {args.generation_batch_size // args.num_generations}"
    yield "Samples", f"{group} questions at a time, temperature {args.temperature:g}, top_p {args.top_p:g}"
    yield "Completion length", f"at most {args.max_completion_length} tokens"
    asked = asked_by(run.peers[name])
    yield "Measured in", asked.precision
    if asked.chat_template_kwargs:
        yield "Chat template told", f"`{json.dumps(asked.chat_template_kwargs)}`"
    if asked.template_date:
        yield "Date in the chat template", asked.template_date
    yield "Optimizer steps", str(run.step)
    rate = args.learning_rate if spec.learning_rate is None else spec.learning_rate
    yield "Learning rate", f"{rate:g}, {SchedulerType(args.lr_scheduler_type).value} schedule"
    yield "Seed", str(args.seed)


def describe_aggregator(run: CardRun) -> str:
    """Its name in `AGGREGATORS`, or its class."""
    aggregator = run.aggregator
    name = {kind: key for key, kind in AGGREGATORS.items()}.get(type(aggregator), type(aggregator).__name__)
    return f"{name}, quorum {aggregator.quorum:g}" if isinstance(aggregator, Majority) else name


def describe_pmi(weighting: Weighting) -> str:
    """The options of the weights, in the words of the configuration."""
    if not isinstance(weighting, PMIWeights):
        return "off" if isinstance(weighting, Unweighted) else f"replaced by {provider_name(weighting)}"
    switches = ("direction", "scorer", "target", "conditioning", "marginal", "reduction")
    named = [f"{switch} {getattr(weighting, switch)}" for switch in switches]
    tau = "a running standard deviation" if weighting.tau is None else f"{weighting.tau:g} nats"
    return ", ".join(["on", *named, f"tau {tau}"])


def markdown(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; a bar inside a cell is escaped."""
    return "\n".join(pipe_table(header, rows))


# ---- names, never paths ----


def without_secrets(text: str, token: str | None = None) -> str:
    """`text` with the last part only of each folder of this machine, and without Hub tokens: given, in use, or any.

    >>> without_secrets('judge "/home/me/models/juror", ~/data/q.jsonl; 3 km/h, https://hf.co/a/b; hf_' + "a" * 34)
    'judge "juror", q.jsonl; 3 km/h, https://hf.co/a/b; <token>'
    """
    for secret in (token, get_token()):
        text = text.replace(secret, "<token>") if secret else text
    return _FOLDERS.sub("", HUB_TOKEN.sub("<token>", text))


def link(repo: str) -> str:
    """A Markdown link to a repository on the Hub."""
    return f"[{repo}](https://huggingface.co/{repo})"


def base_path(spec: PeerSpec) -> str:
    """Hub id, folder or GGUF file of a peer's base model; empty for a model that was built in memory."""
    if not isinstance(spec.model, (str, os.PathLike)):
        return str(spec.model.config._name_or_path)
    own = own_adapter(spec)
    return str(spec.model if own is None else own["base_model_name_or_path"])


def hub_model(spec: PeerSpec) -> str | None:
    """The Hub id of a peer's base model, or `None` if it is local."""
    path = base_path(spec)
    path = (gguf_on_hub(path) or (path,))[0]
    return path if HUB_ID.fullmatch(path) and not os.path.isdir(path) else None


def tiny_name(spec: PeerSpec) -> str | None:
    """Which embedded tiny peer this is, if it is one."""
    folder = Path(base_path(spec)).resolve()
    return next((name for name, tiny in TINY_PEERS.items() if tiny.resolve() == folder), None)


def describe_base(peer: PeerTrainer, spec: PeerSpec) -> str:
    """A link to the base model, or what it is if it is not on the Hub."""
    if (repo := hub_model(spec)) is not None:
        return link(repo)
    if (tiny := tiny_name(spec)) is not None:
        return f"the pst-rl tiny peer ({tiny})"
    return f"a local {peer.model.config.model_type} model"


def hub_dataset(source: str | None) -> str | None:
    """The Hub id of a data set given as `load_questions` takes it, or `None` if it is not on the Hub."""
    if source in PRESETS:
        return PRESETS[source].hub_id
    repo = (source or "").partition(":")[0]
    local = Path(repo).suffix.lower() in FILE_FORMATS or os.path.exists(repo)
    return repo if "/" in repo and HUB_ID.fullmatch(repo) and not local else None


def describe_data(source: str) -> str:
    """Its Hub id, or the name of the file."""
    if source == "tiny":
        return "pst_rl.tiny"
    return hub_dataset(source) or Path(source).name
