"""How several rewards are mixed: constant weights, or weights that change over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RewardMix:
    """The weight of every reward provider, and how it changes.

        weight(progress) = base weight * schedule(progress)

    A schedule is a list of factors at equally spaced points of training, from the first step to the last; between two
    points it is linear. `[1, 0]` fades a reward out, `[0, 0, 1]` brings it in during the second half.

    Args:
        weights: Base weight by provider name. A provider of weight 0 is only monitored.
        schedules: Factors by provider name; providers without one keep their weight.

    Raises:
        ValueError: A schedule for an unknown or monitored provider, or one that is no list of finite factors >= 0; or
            schedules that are all 0 at some point before the end of training.
    """

    weights: Mapping[str, float]
    schedules: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self):
        if unknown := sorted(set(self.schedules) - set(self.trained)):
            raise ValueError(
                f"reward_schedules names {unknown}, but the providers with a weight are {sorted(self.trained)}."
            )
        for name, factors in self.schedules.items():
            numbers = isinstance(factors, (list, tuple)) and all(isinstance(f, (int, float)) for f in factors)
            if not numbers or not factors or not all(math.isfinite(f) and f >= 0.0 for f in factors):
                raise ValueError(f"The schedule of {name!r} must be a list of factors >= 0, got {factors!r}.")
        points = {i / (len(f) - 1) for f in self.schedules.values() if len(f) > 1 for i in range(len(f) - 1)}
        if silent := sorted(point for point in points | {0.0} if self.trained and not any(self.at(point).values())):
            raise ValueError(
                f"After {silent[0]:.0%} of training every reward weight is 0: there is nothing to learn from. Let one "
                "schedule stay above 0 there."
            )

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the providers that reach the loss."""
        return tuple(name for name, weight in self.weights.items() if weight != 0.0)

    def at(self, progress: float) -> dict[str, float]:
        """Weights of the providers that reach the loss, at a share of training in [0, 1]."""
        return {name: self.weights[name] * self._factor(name, progress) for name in self.trained}

    def _factor(self, name: str, progress: float) -> float:
        factors = self.schedules.get(name, [1.0])
        place = min(max(progress, 0.0), 1.0) * (len(factors) - 1)
        left = min(int(place), len(factors) - 1)
        right = min(left + 1, len(factors) - 1)
        return factors[left] + (place - left) * (factors[right] - factors[left])
