"""Counts of negative, zero and positive eigenvalues, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_WIDE = 0.1  # of n: a wider interval leaves the estimate without support


@dataclass(frozen=True, eq=False)
class CountInterval:
    """A number of eigenvalues, with what is known of it.

    It compares, calculates and converts as its estimate: ``count > 100``, ``count + 1``,
    ``count / n``, ``int(count)``. Two intervals are equal where all four fields are; an interval
    equals a number where its estimate does.

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

    def __format__(self, spec: str) -> str:
        return format(self.estimate, spec) if spec else str(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CountInterval):
            return self.as_dict() == other.as_dict()
        return self.estimate == other

    def __hash__(self) -> int:
        return hash(self.estimate)

    def __index__(self) -> int:
        return self.estimate

    def __bool__(self) -> bool:
        return bool(self.estimate)

    # With another interval the second operand's own method is called, with a number as the other.
    def __lt__(self, other: float | CountInterval) -> bool:
        return self.estimate < other

    def __le__(self, other: float | CountInterval) -> bool:
        return self.estimate <= other

    def __gt__(self, other: float | CountInterval) -> bool:
        return self.estimate > other

    def __ge__(self, other: float | CountInterval) -> bool:
        return self.estimate >= other

    def __add__(self, other: Any) -> Any:
        return self.estimate + other

    def __radd__(self, other: Any) -> Any:
        return other + self.estimate

    def __sub__(self, other: Any) -> Any:
        return self.estimate - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.estimate

    def __mul__(self, other: Any) -> Any:
        return self.estimate * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.estimate

    def __truediv__(self, other: Any) -> Any:
        return self.estimate / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.estimate


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

    def usable(self, count: CountInterval) -> bool:
        """Whether one of the counts has an interval of at most a tenth of n.

        The estimate within a wider one is not a result: it is printed with a question mark.
        """
        return count.upper - count.lower <= _WIDE * self.size

    def summary(self) -> dict[str, str]:
        """Index, degeneracy and positive count as they are printed, and their tolerance."""
        counts = {"index": self.negative, "degeneracy": self.zero, "positive": self.positive}
        shown = {
            name: str(count) if self.usable(count) else str(count).replace(" ", "? ", 1)
            for name, count in counts.items()
        }
        return {**shown, "tolerance": f"{self.tolerance:.2g}"}

    def as_dict(self) -> dict[str, Any]:
        """The three counts as JSON and records have them, each with ``usable``."""
        counts = {"index": self.negative, "degeneracy": self.zero, "positive": self.positive}
        return {
            name: {**count.as_dict(), "usable": self.usable(count)}
            for name, count in counts.items()
        }
