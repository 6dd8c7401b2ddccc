"""Wigner's semicircle law, and how far a set of eigenvalues is from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

from hessscope.spectra.result import Result

# A quarter of a semicircle's mass lies within this part of its radius above the centre.
_QUARTILE = 0.4039727532995172
_RADII = 16
_FEWEST = 10


@dataclass(frozen=True)
class Semicircle:
    """The law with density 2/(πR²)·√(R² − (x − c)²) (Wigner 1958).

    Attributes:
        centre: c.
        radius: R, twice the standard deviation.
    """

    centre: float
    radius: float

    def density(self, x: np.ndarray) -> np.ndarray:
        """The density at x, 0 outside the support."""
        t = np.clip((np.asarray(x, dtype=float) - self.centre) / self.radius, -1.0, 1.0)
        return 2.0 / (math.pi * self.radius) * np.sqrt(1.0 - t**2)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Share of the law at or below x."""
        t = np.clip((np.asarray(x, dtype=float) - self.centre) / self.radius, -1.0, 1.0)
        return 0.5 + (t * np.sqrt(1.0 - t**2) + np.arcsin(t)) / math.pi

    def distance(self, points: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Kolmogorov–Smirnov distance to a discrete distribution: sup |F(x) − F₀(x)|.

        The largest share of the mass that lies on the wrong side of some x: 0 for the law itself, 1
        for distributions without overlap.

        Args:
            points: ascending, shape (m,).
            weights: shape (m,), sum 1; default 1/m each.
        """
        m = len(points)
        after = np.arange(1, m + 1) / m if weights is None else np.cumsum(weights)
        before = np.concatenate([[0.0], after[:-1]])
        law = self.cumulative(points)
        return float(max(np.abs(law - after).max(), np.abs(law - before).max()))


def fit_semicircle(points: np.ndarray, weights: np.ndarray | None = None) -> Semicircle:
    """The semicircle with the smallest Kolmogorov–Smirnov distance.

    Not the one of the same mean and variance, which a few far eigenvalues decide: where even this
    one is far away, no choice of centre and radius makes the law hold.

    Args:
        points: ascending, shape (m,), not all the same.
        weights: shape (m,), sum 1; default 1/m each.
    """
    m = len(points)
    mass = np.full(m, 1.0 / m) if weights is None else weights
    mean = float(points @ mass)
    deviation = math.sqrt(float((points - mean) ** 2 @ mass))
    low, median, high = np.interp([0.25, 0.5, 0.75], np.cumsum(mass), points)
    narrow = max((high - low) / (2 * _QUARTILE), 1e-6 * deviation)
    # Distributions of many scales have a minimum at each, so the search starts at the best of many.
    radii = np.geomspace(min(narrow, deviation), 4 * max(narrow, deviation), _RADII)
    starts = [(c, float(r)) for c in (mean, float(median)) for r in radii]
    law = min((Semicircle(*s) for s in starts), key=lambda s: s.distance(points, weights))
    # A simplex may shrink in a crease beside the minimum; one to the other side leaves it.
    for size in (0.1, -0.1):
        law = _nearer(law, size, points, weights)
    return law


def _nearer(
    law: Semicircle, size: float, points: np.ndarray, weights: np.ndarray | None
) -> Semicircle:
    """The best law that a simplex finds from this one, its sides a part of the radius."""

    def moved(x: np.ndarray) -> Semicircle:
        return Semicircle(law.centre + law.radius * float(x[0]), law.radius * math.exp(float(x[1])))

    def distance(x: np.ndarray) -> float:
        return moved(x).distance(points, weights)

    found = scipy.optimize.minimize(
        distance,
        np.zeros(2),
        method="Nelder-Mead",
        options={"initial_simplex": [[0, 0], [size, 0], [0, size]], "xatol": 1e-5, "fatol": 1e-7},
    )
    return moved(found.x)


def chance_distance(size: int) -> float:
    """What ``fit_semicircle`` leaves of a random symmetric matrix with normal entries (GOE).

    (0.2 + 0.38 ln m)/m, measured for m = 10 to 3,000: the mean to within 5 %, and single draws are
    within a factor 1.7. Eigenvalues repel each other, so this is far less than for independent
    numbers.

    Args:
        size: number m of eigenvalues.
    """
    return min(1.0, (0.2 + 0.38 * math.log(size)) / size)


@dataclass(frozen=True)
class SemicircleFit:
    """The best semicircle for the bulk of a spectrum, and what it is worth.

    Attributes:
        law: centre and radius.
        size: number m of eigenvalues in the bulk (estimated where probes were sampled).
        distance: the largest share of the bulk on the wrong side of some x; no other centre and
            radius have a smaller one.
        resolution: how well the bulk's own distribution is known; 0 where all eigenvalues are.
        chance: distance that random symmetric matrices of m rows have.
        below: share of the bulk below 0.
        tolerance: τ; the bulk has |λ| > τ.
        edge: the bulk has λ < edge.
    """

    law: Semicircle
    size: int
    distance: float
    resolution: float
    chance: float
    below: float
    tolerance: float
    edge: float

    @property
    def holds(self) -> bool | None:
        """The bulk is as close to the law as random symmetric matrices are; None where open."""
        limit = 2.0 * self.chance
        if self.distance - self.resolution > limit:
            return False
        return True if self.distance + self.resolution <= limit else None

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {
            "centre": self.law.centre,
            "radius": self.law.radius,
            "eigenvalues": self.size,
            "edge": self.edge if math.isfinite(self.edge) else None,
            "distance": self.distance,
            "resolution": self.resolution,
            "chance_distance": self.chance,
            "holds": self.holds,
            "share_below_zero": self.below,
            "share_below_zero_by_law": float(self.law.cumulative(np.zeros(1))[0]),
        }

    def in_words(self) -> str:
        """What may be said of the law, in a sentence."""
        by_chance = f"random symmetric matrices of {self.size:,} rows have {self.chance:.1g}"
        distance = f"{self.distance:.2g}"
        if self.resolution:
            distance += f" ± {self.resolution:.1g}"
        if self.holds:
            verdict = "the bulk is a semicircle as far as can be told"
        elif self.holds is None:
            verdict = "so few nodes cannot tell whether the bulk is a semicircle"
        else:
            verdict = "the bulk is no semicircle, whatever its centre and radius"
        return f"{verdict} (distance {distance}; {by_chance})"


def compare_with_semicircle(
    result: Result, tolerance: float, edge: float = math.inf
) -> SemicircleFit | None:
    """Fit the law to the bulk of a spectrum: without what counts as zero, and without outliers.

    Both are left out since no semicircle has a point mass or a far outlier, so that what is left is
    where the law may hold. Cost: a few hundred passes over the eigenvalues.

    Args:
        result: the spectrum, or a density.
        tolerance: τ; the bulk has |λ| > τ.
        edge: the bulk has λ < edge.

    Returns:
        None where fewer than ten eigenvalues are left, or none that differ.
    """
    points, masses = bulk_of(result, tolerance, edge)
    share = float(masses.sum())
    size = round(share * result.size)
    if size < _FEWEST or points[0] == points[-1]:
        return None
    weights = masses / share
    law = fit_semicircle(points, weights)
    return SemicircleFit(
        law=law,
        size=size,
        distance=law.distance(points, weights),
        resolution=result.resolution * float(weights.max()),
        chance=chance_distance(size),
        below=float(weights[points < 0].sum()),
        tolerance=tolerance,
        edge=edge,
    )


def bulk_of(
    result: Result, tolerance: float, edge: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues or nodes with |λ| > τ and λ < edge, ascending, and the share of n that each has.

    Args:
        result: the spectrum, or a density.
        tolerance: τ.
        edge: where the bulk ends.
    """
    points, masses = result.atoms()
    order = np.argsort(points)
    points, masses = points[order], masses[order]
    bulk = (np.abs(points) > tolerance) & (points < edge)
    return points[bulk], masses[bulk]
