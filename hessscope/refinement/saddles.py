"""Stable and good saddles (Sankar & Balasubramanian 2017, definitions 3 and 4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class SaddleConstants:
    """The smallest constants with which a point is a stable saddle, and a good one.

    Attributes:
        kappa: number of non-zero eigenvalues, the upper end of its interval.
        epsilon: ‖∇L‖; the definition asks for less than its ε.
        rho: Lipschitz constant of the Hessian near the point, an estimate; NaN where none was
            made.
        delta: loss above the best one known; NaN where that is not known.
        size: number n of parameters; κ < n, so that there are zeros.
    """

    kappa: int
    epsilon: float
    rho: float
    delta: float
    size: int

    def stable(self, kappa: int, epsilon: float, rho: float = float("inf")) -> bool:
        """(κ, ε, ρ)-stable: ‖∇L‖ < ε, at most κ < n non-zero eigenvalues, Hessian ρ-Lipschitz."""
        lipschitz = rho == float("inf") or self.rho <= rho
        return self.epsilon < epsilon and self.kappa <= kappa < self.size and lipschitz

    def good(self, kappa: int, epsilon: float, delta: float, rho: float = float("inf")) -> bool:
        """(κ, ε, ρ, δ)-good: stable, and the loss is at most δ above the best."""
        return self.stable(kappa, epsilon, rho) and self.delta <= delta

    def as_dict(self) -> dict[str, float | int]:
        """The form it has in JSON and in records."""
        return asdict(self)
