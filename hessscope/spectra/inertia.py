"""Counts of negative, zero and positive eigenvalues, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_WIDE = 0.1  # of n: a wider interval leaves the estimate without support


class CountInterval(int):
    """A number of eigenvalues, with what is known of it.

    It is its estimate: ``count > 100``, ``count + 1``, ``count / n``, ``int(count)``. Two intervals
    are equal where all four fields are; an interval equals a number where its estimate does.

    Attributes:
        lower: smallest count that the evidence allows.
        estimate: best estimate.
        upper: largest count that the evidence allows.
        confidence: probability with which such intervals contain the truth; 1.0 where nothing
            was sampled.
    """

    lower: int
    upper: int
    confidence: float

    def __new__(cls, lower: int, estimate: int, upper: int, confidence: float) -> CountInterval:
        """Make an interval; it is ordered."""
        if not 0 <= lower <= estimate <= upper:
            raise ValueError(f"not an interval: {lower}, {estimate}, {upper}")
        made = super().__new__(cls, estimate)
        made.lower, made.upper, made.confidence = lower, upper, confidence
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return CountInterval, tuple(self.as_dict().values())

    @property
    def estimate(self) -> int:
        """Best estimate."""
        return int(self)

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

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in self.as_dict().items())
        return f"CountInterval({fields})"

    def __format__(self, spec: str) -> str:
        return format(self.estimate, spec) if spec else str(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CountInterval):
            return self.as_dict() == other.as_dict()
        return self.estimate == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


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
    def counts(self) -> dict[str, CountInterval]:
        """The three counts, by their names in JSON and records."""
        return {"index": self.negative, "degeneracy": self.zero, "positive": self.positive}

    @property
    def decided(self) -> bool:
        """Every count is the same at both ends of its interval."""
        return all(count.lower == count.upper for count in self.counts.values())

    def usable(self, count: CountInterval) -> bool:
        """Whether one of the counts has an interval of at most a tenth of n.

        The estimate within a wider one is not a result: it is printed with a question mark.
        """
        return count.upper - count.lower <= _WIDE * self.size

    def summary(self) -> dict[str, str]:
        """Index, degeneracy and positive count as they are printed, and their tolerance."""
        shown = {
            name: str(count) if self.usable(count) else str(count).replace(" ", "? ", 1)
            for name, count in self.counts.items()
        }
        return {**shown, "tolerance": f"{self.tolerance:.2g}"}

    def as_dict(self) -> dict[str, Any]:
        """The three counts as JSON and records have them, each with ``usable``."""
        return {
            name: {**count.as_dict(), "usable": self.usable(count)}
            for name, count in self.counts.items()
        }
