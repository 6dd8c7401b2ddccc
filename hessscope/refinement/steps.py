"""Steps that one point offers, as a function of their damping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Step:
    """A step and its image under the Hessian, from which every merit's model follows.

    Attributes:
        vector: p, shape (n,).
        image: H p, shape (n,).
    """

    vector: torch.Tensor
    image: torch.Tensor

    @property
    def length(self) -> float:
        """‖p‖."""
        return float(torch.linalg.vector_norm(self.vector))


class Steps(Protocol):
    """The steps of a direction at one point."""

    damped: bool
    """Whether there is a family of steps, shorter with more damping."""

    def step(self, damping: float) -> Step:
        """The step for a damping ≥ 0; 0 is the direction's own, undamped step."""
        ...

    def damping_for(self, radius: float) -> float:
        """The smallest damping whose step is no longer than the radius."""
        ...


#: Of eigenvalues, damping and noise floor.
Filter = Callable[[torch.Tensor, float, float], torch.Tensor]
Lift = Callable[[torch.Tensor], torch.Tensor]


class SpectralSteps:
    """p(d) = −Σ φ(λⱼ, d) cⱼ vⱼ with a filter φ of the eigenvalues; cⱼ = vⱼ·g.

    Args:
        values: λ, shape (k,).
        coefficients: c, shape (k,).
        lift: weights w to Σ wⱼ vⱼ, shape (k,) to (n,).
        image: weights w to H Σ wⱼ vⱼ.
        filter: φ(λ, d), the inverse of the damped curvature, which falls to 0 with rising d.
        floor: below which λ counts as zero.
    """

    damped = True

    def __init__(
        self,
        values: torch.Tensor,
        coefficients: torch.Tensor,
        lift: Lift,
        image: Lift,
        filter: Filter,
        floor: float,
    ) -> None:
        self._values, self._coefficients = values, coefficients
        self._lift, self._image, self._filter, self._floor = lift, image, filter, floor

    def _weights(self, damping: float) -> torch.Tensor:
        return -self._filter(self._values, damping, self._floor) * self._coefficients

    def length(self, damping: float) -> float:
        """‖p(d)‖, without making the step."""
        return float(torch.linalg.vector_norm(self._weights(damping)))

    def step(self, damping: float) -> Step:
        """p(d) and its image."""
        weights = self._weights(damping)
        return Step(self._lift(weights), self._image(weights))

    def damping_for(self, radius: float) -> float:
        """Bisect for the smallest damping whose step is no longer than the radius."""
        if self.length(0.0) <= radius:
            return 0.0
        high = float(self._values.abs().max()) + 1e-30
        while self.length(high) > radius and math.isfinite(high):
            high *= 4.0
        low = high
        while self.length(low) <= radius and low > 1e-300:
            low /= 16.0
        for _ in range(60):
            middle = math.sqrt(low) * math.sqrt(high)
            if self.length(middle) > radius:
                low = middle
            else:
                high = middle
            # A step a little too short is as good: the radius itself is a guess.
            if high <= 1.01 * low:
                break
        return high
