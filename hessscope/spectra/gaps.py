"""The widest gap of a spectrum: is its degeneracy a property of the point, or of the tolerance?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hessscope.spectra.result import Result

# Where τ may be chosen within a factor of ten without changing a count, that is called a gap.
GAP_DECADES = 1.0
# An eigenvalue above this part of the largest would not be called zero by anybody: wide gaps there
# part outliers from the bulk, and say nothing about zeros.
LARGEST_ZERO = 1e-3


@dataclass(frozen=True)
class Stretch:
    """Tolerances between which a count is the same, whatever rounding has done.

    Attributes:
        lower: largest |λ| that is left of it plus δ; δ itself where there is none.
        upper: smallest |λ| that is right of it less δ.
    """

    lower: float
    upper: float

    @property
    def decades(self) -> float:
        """Its width, log₁₀(upper/lower)."""
        return math.log10(self.upper / self.lower)

    @property
    def found(self) -> bool:
        """It is as wide as a decade, so that it deserves the name of a gap."""
        return self.decades >= GAP_DECADES

    def __contains__(self, tolerance: float) -> bool:
        """Whether a tolerance lies in it."""
        return self.lower < tolerance < self.upper

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {"found": self.found, **asdict(self), "decades": self.decades}


@dataclass(frozen=True)
class WidestGap:
    """Where on the |λ| axis, on a logarithmic scale, there are no eigenvalues for longest.

    Attributes:
        gap: the widest stretch without any eigenvalue: every τ in it gives the same counts.
        index: #(λ < −τ) for every τ in the gap.
        degeneracy: #(|λ| ≤ τ) for every τ in the gap.
        negative: the widest stretch without negative eigenvalues: every τ in it gives the same
            index.
        negative_index: that index.
        searched: from where to where their lower ends were looked for: δ, and a thousandth of the
            largest |λ|.
        degeneracies: the degeneracy at these two tolerances.
        indices: likewise the index.
    """

    gap: Stretch
    index: int
    degeneracy: int
    negative: Stretch
    negative_index: int
    searched: tuple[float, float]
    degeneracies: tuple[int, int]
    indices: tuple[int, int]

    def in_words(self) -> str:
        """One sentence for tables and reports."""
        gap, negative = self.gap, self.negative
        if gap.found:
            return (
                f"gap of {gap.decades:.1f} decades between {gap.lower:.2g} and {gap.upper:.2g}: "
                f"the degeneracy {self.degeneracy:,} and the index {self.index:,} hold for every "
                "τ in it"
            )
        (low, high), (first, last) = self.searched, self.degeneracies
        alone = (
            f"the index {self.negative_index:,} holds for every τ between {negative.lower:.2g} "
            f"and {negative.upper:.2g}"
            if negative.found
            else "nor is the index, which goes from {:,} to {:,}".format(*self.indices)
        )
        return (
            f"no gap between {low:.2g} and {high:.2g} (the widest has {gap.decades:.2g} decades): "
            f"the degeneracy goes from {first:,} to {last:,} there and is not a property of this "
            f"point alone; {alone}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {
            **self.gap.as_dict(),
            "index": self.index,
            "degeneracy": self.degeneracy,
            "of_the_index": {**self.negative.as_dict(), "index": self.negative_index},
            "searched_from": self.searched[0],
            "searched_to": self.searched[1],
            "in_words": self.in_words(),
        }


def widest_gap(spectrum: Result) -> WidestGap | None:
    """Find the widest gap in |λ|, on a logarithmic scale, and that of the negative eigenvalues.

    Only its lower end must lie between δ and a thousandth of max|λ|. An eigenvalue may be anywhere
    within δ of where it was computed, so gaps are counted between the ends of these intervals;
    below δ there is none.

    Returns:
        None where not all eigenvalues are known, where all are 0, or where the noise floor hides
        everything up to there.
    """
    values = spectrum.eigenvalues
    if values is None:
        return None
    sizes = np.sort(np.abs(values))
    negative = -values[values < 0][::-1]
    largest = float(sizes[-1])
    # Without a noise floor (a spectrum known in closed form) there is still float64's.
    delta = max(spectrum.noise_floor.total, float(np.finfo(np.float64).eps) * largest)
    limit = LARGEST_ZERO * largest
    if not delta < limit:
        return None
    gap, degeneracy = _widest(sizes, delta, limit, largest)
    of_negative, left = _widest(negative, delta, limit, largest)
    middle = math.sqrt(gap.lower * gap.upper)
    return WidestGap(
        gap=gap,
        index=int(np.sum(negative > middle)),
        degeneracy=degeneracy,
        negative=of_negative,
        negative_index=len(negative) - left,
        searched=(delta, limit),
        degeneracies=(int(np.sum(sizes <= delta)), int(np.sum(sizes <= limit))),
        indices=(int(np.sum(negative > delta)), int(np.sum(negative > limit))),
    )


def _widest(sizes: np.ndarray, delta: float, limit: float, end: float) -> tuple[Stretch, int]:
    """The widest stretch between ascending sizes, or from 0 or to the end; how many are left of it.

    One of no width at δ, where there is none.
    """
    lower = np.append(0.0, sizes) + delta
    upper = np.append(sizes - delta, end)
    possible = (lower < limit) & (upper > lower)
    if not possible.any():
        return Stretch(delta, delta), int(np.sum(sizes <= delta))
    widths = np.where(possible, np.log(np.where(possible, upper, 1.0) / lower), -np.inf)
    k = int(np.argmax(widths))
    return Stretch(float(lower[k]), float(upper[k])), k
