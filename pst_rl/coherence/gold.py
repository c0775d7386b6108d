"""Gold labels: how they are written in data, and the few that are given away."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from pst_rl.questions.table import place

if TYPE_CHECKING:
    from pst_rl.questions.table import Rows


def read_label(value: Any, names: Sequence[str]) -> int | None:
    """The index of a label given by name (in any case), index or truth value; `None` for `None`, "" and -1.

    >>> [read_label(value, ("False", "True")) for value in ("true", 1, True, 0.0, "0", None, -1)]
    [1, 1, 1, 0, 0, None, None]

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip().casefold()
    folded = [name.casefold() for name in names]
    if text in folded:
        return folded.index(text)
    if text in ("", "-1"):
        return None
    if isinstance(value, bool):
        text = str(int(value))
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ValueError(f"the label {value!r} is none of {', '.join(names)}")


def read_labels(data: Rows, name: str, column: str | None, names: Sequence[str]) -> list[int | None]:
    """The labels of a column of the data called `name`; all unknown without a column.

    Raises:
        ValueError: Names the first row whose label cannot be read.
    """
    labels: list[int | None] = []
    for row, value in enumerate(data[column] if column else [None] * len(data)):
        try:
            labels.append(read_label(value, names))
        except ValueError as error:
            raise ValueError(
                f"{place(data, row, name)}, column {column!r}: {error}. Set label_names (or gold_column) to fit."
            ) from error
    return labels


def give_away(clamp: int | Sequence[int], golds: Sequence[int | None], seed: int) -> dict[int, int]:
    """Clamped labels: `clamp` of the known ones, drawn by `seed`, or those of the items that it lists.

    Raises:
        ValueError: If so many are not known, or an item has none.
    """
    known = {i: label for i, label in enumerate(golds) if label is not None}
    if isinstance(clamp, int):
        if not 0 <= clamp <= len(known):
            raise ValueError(f"clamp={clamp} labels were asked for, but {len(known)} items have a gold label.")
        clamp = Random(seed).sample(list(known), clamp)
    if unknown := [i for i in clamp if i not in known]:
        raise ValueError(f"Item {unknown[0]} cannot be clamped: it has no gold label.")
    return {i: known[i] for i in sorted(set(clamp))}
