"""The card of a labelled data set, and its way to the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

from pst_rl.coherence.accuracy import accuracy
from pst_rl.coherence.claims import Claims
from pst_rl.coherence.export import most_coherent
from pst_rl.coherence.labelling import Labelling, agreement
from pst_rl.files import write_atomically
from pst_rl.hub.cards import describe_data, hub_dataset, hub_model, link, markdown, tiny_name, without_secrets
from pst_rl.peers.spec import PeerSpec

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

CONFIGS = {"parquet": "labels", "jsonl": "labels", "sft": "sft", "preference": "preference"}
CARD = "README.md"


def write_card(
    claims: Claims, labellings: Sequence[Labelling], model: str, files: Mapping[str, Path], folder: str | Path
) -> Path:
    """Writes the card, `README.md`, into the folder. Folders of this machine are never named.

    It says the method, the model, what was read (tokens), the coherence of the labels (nats), the seeds, whether gold
    labels were given, and the accuracy if gold labels are known.

    Args:
        model: Hub id or folder of the model.
        files: What `write_labels` wrote.
    """
    data = DatasetCardData(
        tags=["pst-rl", "pseudo-labels", *(["semi-supervised"] if claims.problem.clamped else [])],
        source_datasets=[repo] if (repo := hub_dataset(claims.source)) else None,
        configs=[
            {"config_name": config, "data_files": path.name, **({"default": True} if config == "labels" else {})}
            for config, path in {CONFIGS[name]: files[name] for name in reversed(list(files))}.items()
        ],
    )
    path = Path(folder) / CARD
    text = without_secrets(_text(claims, labellings, model))
    write_atomically(path, str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")))
    return path


def open_repository(repo_id: str, private: bool | None = None, api: HfApi | None = None) -> None:
    """Creates the data set's repository where it is missing: before a search, so that nothing is searched in vain.

    Raises:
        ValueError: If it cannot be called so, or the token is missing, wrong, or may not write there.
    """
    validate_repo_id(repo_id)
    try:
        (api or HfApi()).create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403):
            raise
        raise ValueError(
            f"The Hub does not let you create {repo_id!r}. Log in with `hf auth login`, with a token that may write."
        ) from error


def push_labels(
    folder: str | Path, files: Mapping[str, Path], repo_id: str, method: str, api: HfApi | None = None
) -> CommitInfo:
    """Pushes the card and these files of the folder, and nothing else of it, in one commit."""
    return (api or HfApi()).upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=str(folder),
        commit_message=f"Labels by {method}",
        allow_patterns=[CARD, *(path.name for path in files.values())],
    )


def describe_model(model: str) -> str:
    """A link to the model, or what it is if it is not on the Hub."""
    spec = PeerSpec(model)
    if (tiny := tiny_name(spec)) is not None:
        return f"the pst-rl tiny peer ({tiny})"
    return link(repo) if (repo := hub_model(spec)) is not None else "a local model"


def _text(claims: Claims, labellings: Sequence[Labelling], model: str) -> str:
    best, given = most_coherent(labellings), len(claims.problem.clamped)
    gold = "No gold label was used to find them."
    if given:
        gold = f"**{given} gold labels were given**, and are marked in `clamped`."
    if "supervised" in best.method:
        gold = "**The method is supervised:** it read gold labels."
    added = "`label`, its `probability`, the step `changed_at` at which it was taken, and the `agreement` of the seeds"
    return "\n\n".join(
        [
            f"# Labels by {best.method}",
            f"The labels of {describe_data(claims.source)} as {describe_model(model)} finds them most coherent, "
            f"searched by pst-rl. {gold} Added to the rows are {added}.",
            markdown(("", ""), _rows(claims, labellings, model)),
            "Coherence is the log-probability of all labels, each given those before it. A coherent labelling is not "
            "necessarily a right one: it follows whatever concept the model finds most salient.",
        ]
    )


def _rows(claims: Claims, labellings: Sequence[Labelling], model: str) -> Iterator[tuple[str, str]]:
    best, problem = most_coherent(labellings), claims.problem
    yield "Method", best.method
    yield "Model", describe_model(model)
    yield "Items", f"{len(claims)}, {len(problem.constraints)} constraints between them"
    yield "Labels", ", ".join(claims.label_names)
    yield "Template", f"`{claims.template.text!r}`"
    yield "Gold labels given", str(len(problem.clamped))
    yield "Seeds", ", ".join(str(labelling.seed) for labelling in labellings) + f" (written: {best.seed})"
    if len(labellings) > 1:
        yield "Agreement of the seeds", f"{100 * fmean(agreement(labellings)):.1f} %"
    yield "Coherence", f"{best.coherence:.2f} nats; violated pairs: {best.violations}"
    yield "Read", f"{sum(labelling.tokens for labelling in labellings):,} tokens, all seeds together"
    measured = accuracy(best, claims.gold, problem.clamped)
    if measured is not None:
        low, high = 100 * measured.interval.low, 100 * measured.interval.high
        known = f"{len(measured.right)} items with a gold label that was not given"
        yield "Accuracy", f"{100 * measured.share:.1f} % (95 % interval {low:.1f} to {high:.1f}), on {known}"
        yield "Balanced accuracy", f"{100 * measured.balanced:.1f} %"
