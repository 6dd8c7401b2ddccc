"""The widest gap of a spectrum: is its degeneracy a property of the point, or of the tolerance?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessscope.spectra.exact import Spectrum

# Where τ may be chosen within a factor of ten without changing a count, that is called a gap.
GAP_DECADES = 1.0
# An eigenvalue above this part of the largest would not be called zero by anybody: wide gaps there
# part outliers from the bulk, and say nothing about zeros.
LARGEST_ZERO = 1e-3


@dataclass(frozen=True)
class WidestGap:
    """The widest stretch of the |λ| axis, on a logarithmic scale, that no eigenvalue can be in.

    Every tolerance between its ends gives the same counts, whatever rounding has done.

    Attributes:
        lower: largest |λ| below it plus δ; δ itself where there is none.
        upper: smallest |λ| above it less δ.
        index: #(λ < −τ) for every τ in it.
        degeneracy: #(|λ| ≤ τ) for every τ in it.
        size: number n of eigenvalues.
        searched: from where to where its lower end was looked for: δ, and a thousandth of the
            largest |λ|.
        degeneracies: the degeneracy at these two tolerances.
    """

    lower: float
    upper: float
    index: int
    degeneracy: int
    size: int
    searched: tuple[float, float]
    degeneracies: tuple[int, int]

    @property
    def decades(self) -> float:
        """Its width, log₁₀(upper/lower)."""
        return math.log10(self.upper / self.lower)

    @property
    def found(self) -> bool:
        """It is as wide as a decade, so that it deserves the name."""
        return self.decades >= GAP_DECADES

    def in_words(self) -> str:
        """One sentence for tables and reports."""
        if self.found:
            return (
                f"gap of {self.decades:.1f} decades between {self.lower:.2g} and {self.upper:.2g}: "
                f"the degeneracy {self.degeneracy:,} and the index {self.index:,} hold for every "
                "τ in it"
            )
        low, high = self.searched
        first, last = self.degeneracies
        return (
            f"no gap between {low:.2g} and {high:.2g} (the widest has {self.decades:.1f} decades): "
            f"the degeneracy goes from {first:,} to {last:,} there and is not a property of this "
            "point alone"
        )

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {
            "found": self.found,
            "lower": self.lower,
            "upper": self.upper,
            "decades": self.decades,
            "index": self.index,
            "degeneracy": self.degeneracy,
            "searched_from": self.searched[0],
            "searched_to": self.searched[1],
            "in_words": self.in_words(),
        }


def widest_gap(spectrum: Spectrum) -> WidestGap | None:
    """Find the widest gap in |λ|, on a logarithmic scale, between δ and a thousandth of max|λ|.

    Only its lower end must lie there. An eigenvalue may be anywhere within δ of where it was
    computed, so gaps are counted between the ends of these intervals; below δ there is none.
    A ``SpectralDensity`` does not know all eigenvalues, so no gap can be claimed from one.

    Returns:
        None where all eigenvalues are 0, or the noise floor hides everything up to there.
    """
    values = spectrum.eigenvalues
    sizes = np.sort(np.abs(values))
    largest = float(sizes[-1])
    # Without a noise floor (a spectrum known in closed form) there is still float64's.
    delta = max(spectrum.noise_floor.total, float(np.finfo(np.float64).eps) * largest)
    limit = LARGEST_ZERO * largest
    if not delta < limit:
        return None
    lower = np.concatenate([[0.0], sizes[:-1]]) + delta
    upper = sizes - delta
    possible = (lower < limit) & (upper > lower)
    if not possible.any():
        return None
    widths = np.where(possible, np.log(np.where(possible, upper, 1.0) / lower), -np.inf)
    k = int(np.argmax(widths))
    middle = math.sqrt(lower[k] * upper[k])
    return WidestGap(
        lower=float(lower[k]),
        upper=float(upper[k]),
        index=int(np.sum(values < -middle)),
        degeneracy=k,
        size=len(values),
        searched=(delta, limit),
        degeneracies=(int(np.sum(sizes <= delta)), int(np.sum(sizes <= limit))),
    )
