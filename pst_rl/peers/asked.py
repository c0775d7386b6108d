"""How a peer was asked in its run, kept beside its weights: an evaluation asks the same way, or says what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.files import write_atomically
from pst_rl.peers.prompts import BASE_TEMPLATE

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer

FILE = "asked.json"
VERSION = 1
"""Of the layout; raised when an older reader would misread a file."""
_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Asked:
    """How a model is asked, and how its answers are read. The defaults are those of a model without a record.

    Attributes:
        base_template: Text around the prompt, for a model without a chat template.
        stop_strings: A response ends before the first of these; `None`: by whether there is a chat template.
        chat_template_kwargs: For the chat template.
        template_date: The day that the chat template writes as today's; `None` if it writes none, or the fixed one.
        dtype: Of the weights as they were measured; `None` if it is not known.
        autocast: The dtype that forward passes were computed in, if it is another one than that of the weights.
        load_in_4bit: Whether the weights were quantized.
        answer_style, answer_metric, parse_truncated: How a response was read, and compared with gold.
        max_completion_length: Room for a response.
        prompt_template: Text around each `{question}`, if the run was started by `pst-rl train`.
        sampling: `temperature`, `top_p`, `top_k`, `min_p`, `repetition_penalty` and `generation_kwargs` of samples;
            the last two also of greedy answers.
    """

    base_template: str = BASE_TEMPLATE
    stop_strings: list[str] | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    template_date: str | None = None
    dtype: str | None = None
    autocast: str | None = None
    load_in_4bit: bool = False
    answer_style: str = "auto"
    answer_metric: str = "whole"
    parse_truncated: bool = False
    max_completion_length: int | None = None
    prompt_template: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)

    def with_own(self, given: Mapping[str, Any]) -> Asked:
        """With what is given instead; `None` leaves what is there, and `"no"` is no autocast.

        A dtype of one's own ends the record's autocast.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if "dtype" in chosen:
            chosen.setdefault("autocast", "no")
        if chosen.get("autocast") == "no":
            chosen["autocast"] = None
        return replace(self, **chosen)

    @property
    def precision(self) -> str:
        """For messages, such as "float32 with bfloat16 autocast"."""
        autocast = f" with {self.autocast} autocast" if self.autocast else ""
        return f"{self.dtype or 'its own dtype'}{autocast}{', 4 bits' if self.load_in_4bit else ''}"


def adopted(recorded: Asked, chosen: Asked, own: Iterable[str]) -> list[str]:
    """What of a record an evaluation takes over, as `name value`, for messages.

    A model with a chat template has no stop strings, and reads no `base_template`.

    Args:
        chosen: How the model is asked.
        own: Fields that were set by hand.
    """
    names = ("dtype", "autocast", "chat_template_kwargs", "template_date", "stop_strings")
    names += ("base_template",) if recorded.stop_strings else ()
    values = {name: getattr(chosen, name) for name in names if name not in own}
    return [f"{name} {value!r}" for name, value in values.items() if value not in (None, {}, [])]


def alike(records: Iterable[Asked | None], name: str) -> Any:
    """What all records say of this field; `None` where there is no record, or where they differ."""
    values = [None if record is None else getattr(record, name) for record in records]
    return values[0] if values and all(value == values[0] for value in values) else None


def asked_by(engine: PeerTrainer, prompt_template: str | None = None) -> Asked:
    """How a run asks one of its peers."""
    args, model = engine.args, engine.model
    sampling = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs")
    return Asked(
        base_template=args.base_template,
        stop_strings=engine.stop_strings,
        chat_template_kwargs=engine.chat_template_kwargs,
        template_date=engine.template_date,
        dtype=str(model.dtype).removeprefix("torch."),
        autocast=_AUTOCAST.get(engine.accelerator.mixed_precision),
        load_in_4bit=bool(getattr(model, "is_loaded_in_4bit", False)),
        answer_style=args.answer_style,
        answer_metric=args.answer_metric,
        parse_truncated=args.parse_truncated,
        max_completion_length=args.max_completion_length,
        prompt_template=prompt_template,
        sampling={name: getattr(args, name) for name in sampling},
    )


def write_asked(asked: Asked, folder: str | Path) -> Path:
    """Writes the record into a peer's folder, and returns its path."""
    return write_atomically(Path(folder) / FILE, json.dumps({"version": VERSION} | asdict(asked), indent=2) + "\n")


def read_asked(model: str | Path) -> Asked | None:
    """The record of a peer's folder or Hub repository; `None` if it has none, is a file, or the Hub cannot be reached.

    Raises:
        ValueError: The file is damaged, or of a newer version.
    """
    from transformers.utils import cached_file

    from pst_rl.peers.sources import is_gguf

    if is_gguf(model):  # a file, which has nothing beside it
        return None
    absent = ("gated_repo", "missing_entries", "connection_errors")
    path = cached_file(str(model), FILE, **{f"_raise_exceptions_for_{kind}": False for kind in absent})
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        version = content.pop("version")
        if version == VERSION:
            known = {f.name for f in fields(Asked)}
            return Asked(**{name: value for name, value in content.items() if name in known})
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): it says how the peer was asked. Delete it to ask as usual."
        ) from error
    raise ValueError(
        f"{path} has version {version!r}, and this pst_rl reads {VERSION}: use the version that wrote it."
    )
