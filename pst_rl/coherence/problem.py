"""What a search is given: items, the rules between them, and the labels that are known. No gold label is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch

from pst_rl.coherence.constraints import Constraint

MOST_ASSIGNMENTS = 100_000  # of one block, which are enumerated


@dataclass(frozen=True)
class Problem:
    """A labelling problem.

    Attributes:
        n_items: Number of items.
        n_labels: Number of label values.
        constraints: Rules between items.
        clamped: Known labels by item; they are shown, and never changed.

    Raises:
        ValueError: No items, fewer than two labels, an item or label that does not exist, clamped labels that
            contradict each other, or a block with more than 100,000 consistent assignments.
    """

    n_items: int
    n_labels: int = 2
    constraints: tuple[Constraint, ...] = ()
    clamped: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.n_items < 1:
            raise ValueError("There are no items to label.")
        if self.n_labels < 2:
            raise ValueError(f"A labelling needs at least two label values, got {self.n_labels}.")
        unknown = {i for c in self.constraints for i in c.items if not 0 <= i < self.n_items}
        unknown |= {i for i in self.clamped if not 0 <= i < self.n_items}
        if unknown:
            raise ValueError(f"There is no item {sorted(unknown)[0]}: the problem has {self.n_items}.")
        if wrong := [i for i, label in self.clamped.items() if not 0 <= label < self.n_labels]:
            raise ValueError(f"Item {wrong[0]} is clamped to label {self.clamped[wrong[0]]} of {self.n_labels}.")
        for block in self.blocks:
            self.assignments(block)

    @cached_property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Items that share constraints, directly or through others, together; every item once, in order."""
        root = list(range(self.n_items))

        def find(item: int) -> int:
            while root[item] != item:
                root[item] = item = root[root[item]]
            return item

        for constraint in self.constraints:
            for a, b in pairwise(constraint.items):
                root[find(a)] = find(b)
        members: dict[int, list[int]] = {}
        for item in range(self.n_items):
            members.setdefault(find(item), []).append(item)
        return tuple(map(tuple, members.values()))

    @cached_property
    def block_of(self) -> tuple[int, ...]:
        """For every item the index of its block."""
        return tuple(index for _, index in sorted((i, b) for b, block in enumerate(self.blocks) for i in block))

    def assignments(self, block: Sequence[int]) -> torch.Tensor:
        """All labels that the items of a whole block can have together; (A, len(block)), long. Remembered.

        Raises:
            ValueError: If there are none (contradictory clamps) or too many.
        """
        if tuple(block) not in self._assignments:
            self._assignments[tuple(block)] = self._enumerate(tuple(block))
        return self._assignments[tuple(block)]

    @cached_property
    def _assignments(self) -> dict[tuple[int, ...], torch.Tensor]:
        return {}

    @cached_property
    def constraints_of(self) -> tuple[tuple[Constraint, ...], ...]:
        """For every item the constraints it is in."""
        found: list[list[Constraint]] = [[] for _ in range(self.n_items)]
        for constraint in self.constraints:
            for item in constraint.items:
                found[item].append(constraint)
        return tuple(map(tuple, found))

    def description(self) -> dict[str, Any]:
        """All of it, as JSON; equal only for equal problems."""
        return {
            "n_items": self.n_items,
            "n_labels": self.n_labels,
            "clamped": [list(pair) for pair in sorted(self.clamped.items())],
            "constraints": [constraint.description(self.n_labels) for constraint in self.constraints],
        }

    def violations(self, labels: Sequence[int | None]) -> list[tuple[int, int]]:
        """All pairs of items whose labels cannot both hold; what I(D) of ICM counts."""
        return [pair for constraint in self.constraints for pair in constraint.violations(labels)]

    def _enumerate(self, block: tuple[int, ...]) -> torch.Tensor:
        """Grows partial assignments item by item, and drops those that already violate a rule."""
        constraints = list(dict.fromkeys(c for item in block for c in self.constraints_of[item]))
        column = {item: k for k, item in enumerate(block)}
        grown = torch.zeros(1, 0, dtype=torch.long)  # (A, items so far)
        for k, item in enumerate(block):
            values = torch.tensor([self.clamped[item]] if item in self.clamped else range(self.n_labels))
            grown = torch.cat([grown.repeat_interleave(len(values), 0), values.repeat(len(grown))[:, None]], 1)
            for constraint in (c for c in constraints if item in c.items):
                place = constraint.items.index(item)
                for other, seen in enumerate(constraint.items):
                    if column[seen] < k:
                        grown = grown[self._allowed(constraint, other, place)[grown[:, column[seen]], grown[:, k]]]
            if len(grown) > MOST_ASSIGNMENTS:
                raise ValueError(
                    f"The {len(block)} items that share constraints with item {block[0]} can be labelled in more than "
                    f"{MOST_ASSIGNMENTS} ways; split the group."
                )
            for constraint in (c for c in constraints if item in c.items):
                if all(column[i] <= k for i in constraint.items):
                    own = grown[:, [column[i] for i in constraint.items]].tolist()
                    grown = grown[torch.tensor([constraint.allows_all(labels) for labels in own], dtype=torch.bool)]
        if not len(grown):
            clamps = {item: self.clamped[item] for item in block if item in self.clamped}
            raise ValueError(f"No labels of the items {list(block)} fit their constraints and the clamped {clamps}.")
        return grown

    def _allowed(self, constraint: Constraint, p: int, q: int) -> torch.Tensor:
        """Whether the items at positions p and q of a constraint may be labelled [a, b]; (L, L), bool."""
        values = range(self.n_labels)
        if p < q:
            return torch.tensor([[constraint.allows(p, a, q, b) for b in values] for a in values])
        return torch.tensor([[constraint.allows(q, b, p, a) for b in values] for a in values])
