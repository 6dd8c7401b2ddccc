"""Counts of negative, zero and positive eigenvalues, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CountInterval:
    """A number of eigenvalues, with what is known of it.

    Attributes:
        lower: smallest count that the evidence allows.
        estimate: best estimate.
        upper: largest count that the evidence allows.
        confidence: probability with which such intervals contain the truth; 1.0 where nothing
            was sampled.
    """

    lower: int
    estimate: int
    upper: int
    confidence: float

    def __post_init__(self) -> None:
        """An interval is ordered."""
        if not 0 <= self.lower <= self.estimate <= self.upper:
            raise ValueError(f"not an interval: {self.lower}, {self.estimate}, {self.upper}")

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {
            "lower": self.lower,
            "estimate": self.estimate,
            "upper": self.upper,
            "confidence": self.confidence,
        }

    def __str__(self) -> str:
        """``225`` where the count is sure, else ``2,659 [2,640, 2,670]``."""
        if self.lower == self.upper:
            return f"{self.estimate:,}"
        return f"{self.estimate:,} [{self.lower:,}, {self.upper:,}]"


@dataclass(frozen=True)
class Inertia:
    """How many eigenvalues are below −τ, within ±τ, and above τ.

    Attributes:
        negative: the index, #(λ < −τ).
        zero: the degeneracy, #(|λ| ≤ τ).
        positive: #(λ > τ).
        tolerance: τ, in the units of the Hessian.
        noise_floor: δ, how far a computed eigenvalue may be from the true one.
    """

    negative: CountInterval
    zero: CountInterval
    positive: CountInterval
    tolerance: float
    noise_floor: float

    @property
    def size(self) -> int:
        """Number n of eigenvalues."""
        return self.negative.estimate + self.zero.estimate + self.positive.estimate

    @property
    def index_fraction(self) -> float:
        """α = index / n (Dauphin et al. 2014)."""
        return self.negative.estimate / self.size

    @property
    def decided(self) -> bool:
        """Every count is the same at both ends of its interval."""
        counts = (self.negative, self.zero, self.positive)
        return all(count.lower == count.upper for count in counts)
