"""Embedded tiny models: three peers and the questions they half know, a learner, and an in-context concept model.

Each peer holds a planted misconception, so the pooled vote is better than any of them: a constructed test bed for
eliciting half-known skills, not evidence about larger models. The learner was pretrained on discussions too: it can
revise its answer after a remark, and remark on an answer. The concept model infers from labelled items in its context
what the labels mean: the test bed of `pst_rl.coherence`. Importing this module loads no model library.
"""

import json
from pathlib import Path

from pst_rl.files import file_digest
from pst_rl.tiny.concepts import CLAIM_STYLE, CONCEPT_STYLE, concept_claims, concept_labels, concept_questions
from pst_rl.tiny.discussion import LEARNER_STYLE, PEER_STYLE
from pst_rl.tiny.questions import tiny_questions

__all__ = [
    "CLAIM_STYLE",
    "CONCEPT_STYLE",
    "LEARNER_STYLE",
    "PEER_STYLE",
    "TINY_CONCEPT_MODEL",
    "TINY_LEARNER",
    "TINY_PEERS",
    "concept_claims",
    "concept_labels",
    "concept_questions",
    "tiny_questions",
    "verify_checksums",
]

FOLDER = Path(__file__).parent

TINY_PEERS: dict[str, Path] = {name: FOLDER / name for name in ("gemma2", "llama", "qwen2")}
"""Name -> folder, for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`."""

TINY_LEARNER: Path = FOLDER / "learner"
"""Folder of the learner, loaded in the same way; `LEARNER_STYLE` and `PEER_STYLE` say how it discusses."""

TINY_CONCEPT_MODEL: Path = FOLDER / "concept"
"""Folder of the concept model; `CONCEPT_STYLE` and `CLAIM_STYLE` say how it is shown items and claims."""

CHECKED = (
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def verify_checksums(folder: Path = FOLDER) -> None:
    """Compare the files of the shipped models with `checksums.json`.

    Raises:
        ValueError: names every file that is missing or differs.
    """
    recorded: dict[str, str] = json.loads((folder / "checksums.json").read_text())["sha256"]
    wrong = [name for name, digest in recorded.items() if not _matches(folder / name, digest)]
    if wrong:
        raise ValueError(
            f"Tiny peer files missing or changed: {', '.join(wrong)}. Reinstall the package, or remake them with "
            "scripts/train_tiny_peers.py and scripts/train_concept_model.py."
        )


def _matches(file: Path, digest: str) -> bool:
    return file.is_file() and file_digest(file) == digest
