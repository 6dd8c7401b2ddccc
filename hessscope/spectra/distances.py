"""How far apart the spectra of a matrix's diagonal blocks are: Jensen–Shannon distances.

Zhang et al., "Why Transformers Need Adam" (arXiv:2402.16788), see in such distances why one step
size for all blocks does badly. Here the distance of two blocks is √JSD(p, q) between their spectral
densities p and q, each of integral 1, with logarithms to base 2: 0 where they agree, 1 where they
do not overlap (Endres & Schindelin 2003). JSD(p, q) = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2.

The densities of a pair are those of the eigenvalues as they are, not scaled, smoothed by Gaussians
of one width σ on one axis: from the smallest of both spectra and 0 to the largest of both and 0.
σ is 1/100 of that range; where few Lanczos steps resolve less, it is 0.8/steps of the range of the
nodes that are not locked.

An exact spectrum has the distance itself. Of a sampled one p is a mean over probes. √JSD is a
metric, so the distance is known to within e(p) + e(q), where e² = t² Σ JSD(pⱼ, p)/(P(P − 1)) over P
probes estimates how far a mean is from the true density, and t is Student's quantile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.estimates import Estimate
from hessscope.spectra.result import Result

_POINTS = 8
"""Of the grid, for each σ."""


@dataclass(frozen=True)
class BlockDistances:
    """Distances of the spectra of blocks, between 0 and 1.

    Attributes:
        names: of the blocks.
        values: shape (blocks, blocks), symmetric, 0 on the diagonal.
        lower: lower ends of their intervals.
        upper: upper ends.
        confidence: of the intervals; 1 where all spectra are exact.
    """

    names: tuple[str, ...]
    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    confidence: float

    @classmethod
    def of(cls, results: Mapping[str, Result]) -> BlockDistances:
        """Compare the spectra of at least two blocks, by their names."""
        every = list(results.values())
        values, lower, upper = np.zeros((3, len(every), len(every)))
        for i, j in combinations(range(len(every)), 2):
            found = spectral_distance(every[i], every[j])
            for matrix, value in (
                (values, found.value),
                (lower, found.lower),
                (upper, found.upper),
            ):
                matrix[i, j] = matrix[j, i] = value
        sampled = [r.confidence for r in every if isinstance(r, SpectralDensity) and r.rest]
        return cls(tuple(results), values, lower, upper, min(sampled, default=1.0))

    @property
    def mean(self) -> Estimate:
        """The mean over all pairs."""
        pairs = np.triu_indices(len(self.names), 1)
        value, lower, upper = (
            float(matrix[pairs].mean()) for matrix in (self.values, self.lower, self.upper)
        )
        return Estimate(value, lower, upper, self.confidence)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the distances, without the matrices."""
        return {"names": list(self.names), **self.mean.as_dict("mean")}

    def arrays(self) -> dict[str, np.ndarray]:
        """The matrices."""
        return {"values": self.values, "lower": self.lower, "upper": self.upper}


def spectral_distance(first: Result, second: Result) -> Estimate:
    """The Jensen–Shannon distance of two spectra, with what is known of its error.

    Example:
        >>> from hessscope import ExactBackend
        >>> one, other = (ExactBackend().solve(np.diag(x)) for x in ([1.0, 1.0], [1.0, 3.0]))
        >>> round(spectral_distance(one, other).value, 4)
        0.5579
    """
    low = min(0.0, first.lambda_min, second.lambda_min)
    high = max(0.0, first.lambda_max, second.lambda_max)
    both = (first, second)
    sigma = max(0.01 * (high - low), *map(_resolution, both))
    if sigma == 0.0:
        return Estimate(0.0, 0.0, 0.0, 1.0)

    def density(result: Result) -> np.ndarray:
        return _smoothed(result, low, high, sigma)

    means = [density(result) for result in both]
    value, error, confidence = _distance(*means), 0.0, 1.0
    for result, mean in zip(both, means, strict=True):
        if isinstance(result, SpectralDensity) and result.rest:
            probes = result.probes
            squares = sum(_distance(density(one), mean) ** 2 for one in result.by_probe())
            quantile = scipy.stats.t.ppf(0.5 + result.confidence / 2, max(probes - 1, 1))
            error += quantile * (squares / (probes * (probes - 1))) ** 0.5 if probes > 1 else 1.0
            confidence = min(confidence, result.confidence)
    return Estimate(value, max(value - error, 0.0), min(value + error, 1.0), confidence)


def _resolution(result: Result) -> float:
    """σ below which the nodes of the sampled rest of a spectrum would show."""
    if not isinstance(result, SpectralDensity) or not result.rest:
        return 0.0
    return 0.8 * float(np.nanmax(result.nodes) - np.nanmin(result.nodes)) / result.steps


def _smoothed(result: Result, low: float, high: float, sigma: float) -> np.ndarray:
    """Shares of the spectral measure at the points of a grid, smoothed by Gaussians."""
    step, ends = sigma / _POINTS, 5 * _POINTS
    values, masses = result.atoms()
    places = np.rint((values - low) / step).astype(np.int64).clip(0, round((high - low) / step))
    shares = np.bincount(places, weights=masses, minlength=round((high - low) / step) + 1)
    kernel = np.exp(-0.5 * (np.arange(-ends, ends + 1) / _POINTS) ** 2)
    smooth = np.convolve(shares, kernel)
    return smooth / smooth.sum()


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2
    nats = float(np.sum(scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle))) / 2
    return float(np.sqrt(min(max(nats / np.log(2), 0.0), 1.0)))
