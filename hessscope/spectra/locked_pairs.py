"""Converged eigenpairs, and what their coupling to the rest can move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LockedPairs:
    """Converged Ritz pairs that were projected off before the probes were drawn.

    Attributes:
        values: Ritz values θ, ascending, shape (m,).
        residuals: ‖A y − θ y‖ of each, shape (m,).
    """

    values: np.ndarray
    residuals: np.ndarray

    @classmethod
    def none(cls) -> LockedPairs:
        """No pair at all."""
        return cls(np.zeros(0), np.zeros(0))

    def __len__(self) -> int:
        """Number m of pairs."""
        return len(self.values)

    def shift(self, x: float, slack: float = 0.0) -> float:
        """How far eigenvalues near x may be from those of the two parts taken apart.

        Between Y and its complement A has the block E, whose columns are the residuals. By
        Haynsworth's inertia additivity as many eigenvalues of A are below x as of Θ, together with
        those of B − Eᵀ(Θ − x)⁻¹E, B being A on the complement. That term is at most
        Σ rᵢ²/|θᵢ − x| large. For pairs that are as close to x as their residuals are large, Weyl's
        bound, the norm of their columns, takes its place.

        Args:
            x: the point.
            slack: how far x itself may be moved by rounding.
        """
        coupled = self.residuals > 0.0
        residuals = self.residuals[coupled]
        distances = np.abs(self.values[coupled] - x) - slack
        near = distances <= residuals
        while True:
            moved = math.hypot(*residuals[near])
            nearer = near | (distances <= 2.0 * moved)
            if np.array_equal(near, nearer):
                break
            near = nearer
        far = ~near
        return moved + float(np.sum(residuals[far] * (residuals[far] / (distances[far] - moved))))

    def below(self, x: float) -> int:
        """Number of pairs with θ < x."""
        return int(np.sum(self.values < x))
