"""Sampled numbers, counts and traces, each with its interval.

Let E project on N of n eigenvectors and v ~ N(0, I). Then vᵀEv and vᵀ(I − E)v are independent, χ²
with N and n − N degrees of freedom, whatever the eigenvectors are. Over p such vectors the share
R = Σ vᵀEv / Σ vᵀv therefore follows Beta(pN/2, p(n − N)/2) exactly. Its only unknown is N, and
inverting its quantiles gives an interval with the stated confidence for any p, also for one.

For p Gaussian vectors in m dimensions R = Σ vᵀAv / Σ vᵀv estimates the mean eigenvalue t = tr A/m.
Let B = A − t, and let all differences of eigenvalues be at most Λ. By the cumulants of a quadratic
form, Σ ½(2s)ᵏ tr Bᵏ/k with |tr Bᵏ| ≤ Λᵏ⁻²‖B‖²_F, both tails of mR − tr A are at most those that
Chernoff's bound allows to Λ/p times a centred χ² with d = p‖B‖²_F/Λ² degrees of freedom (Laurent &
Massart 2000 have a simpler, wider form of it). Of d the same vectors give an upper bound: since
ln(1 + 2sλ²) ≥ (λ/Λ)² ln(1 + 2sΛ²) for |λ| ≤ Λ, the lower tail of Σ vᵀB²v/Λ² is at most that which
Chernoff's bound allows to χ² with d degrees of freedom. Nothing is taken to be normal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from scipy.special import betainc


@dataclass(frozen=True)
class Estimate:
    """A number with an interval.

    Attributes:
        value: the estimate.
        lower: lower end.
        upper: upper end.
        confidence: of the interval.
    """

    value: float
    lower: float
    upper: float
    confidence: float

    def __str__(self) -> str:
        """``23.97`` where nothing was sampled, else ``23.9 [22, 26]``."""
        if self.confidence == 1.0:
            return f"{self.value:.6g}"
        return f"{self.value:.4g} [{self.lower:.4g}, {self.upper:.4g}]"

    def as_dict(self, name: str) -> dict[str, Any]:
        """The number under its name, and its interval, as JSON has them: null for infinity."""
        lower, upper = (x if math.isfinite(x) else None for x in (self.lower, self.upper))
        interval = {"lower": lower, "upper": upper, "confidence": self.confidence}
        return {name: self.value, f"{name}_interval": interval}


def student_interval(values: np.ndarray, confidence: float) -> Estimate:
    """Mean of ``values``, one for each probe, with Student's interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, -math.inf, math.inf, confidence)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(scipy.stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, confidence)


def count_interval(
    lower: float, upper: float, size: int, probes: int, error: float
) -> tuple[int, int]:
    """The counts N that a share between ``lower`` and ``upper`` leaves possible.

    Where R is known (``lower`` = ``upper``) the interval contains the truth with probability of at
    least 1 − ``error``; bounds of R only widen it. Cost: 4 log₂ n values of the distribution.

    Args:
        lower: least share R that the evidence allows.
        upper: most.
        size: n, of the space in which the vectors are Gaussian.
        probes: p.
        error: probability with which the interval may miss N, half of it on each side.

    Returns:
        The smallest and the largest N.
    """

    def at_most(share: float, count: int) -> float:
        """P(R ≤ share); falls with the count."""
        if count == 0 or share >= 1.0:
            return 1.0
        if count == size or share <= 0.0:
            return 0.0
        return float(betainc(probes * count / 2, probes * (size - count) / 2, share))

    everything = range(size + 1)
    # The first count that has become too improbable to leave so small, or so large, a share.
    too_many = bisect_left(everything, True, key=lambda count: at_most(upper, count) < error / 2)
    # 1 for count = 0 where there is no mass at all, which leaves that count possible.
    enough = bisect_left(
        everything,
        True,
        key=lambda count: lower <= 0.0 or (count > 0 and 1.0 - at_most(lower, count) >= error / 2),
    )
    least = min(enough, size)
    return least, max(too_many - 1, least)


def trace_deviation(
    probes: int, size: int, total: float, squares: float, spread: float, error: float
) -> float:
    """Half the width of an interval for tr A around mR.

    Args:
        probes: p.
        size: m.
        total: Σ vᵀv.
        squares: Σ vᵀ(A − R)²v / Λ².
        spread: Λ, at least λ_max − λ_min.
        error: probability with which the interval may miss: two fifths on each side, a fifth for d.
    """
    if squares == 0.0:
        return 0.0
    half = float(size)  # in units of Λ: R and t both lie between λ_min and λ_max
    while True:
        # R is where Σ vᵀ(A − x)²v is least, and t not farther from it than half/m.
        seen = squares + total * (half / size) ** 2
        # Eigenvalues Λ apart at most have a variance of Λ²/4 at most.
        most = min(_degrees(seen, math.log(5.0 / error)), probes * size / 4)
        narrower = most / probes * _excess(2.0 * math.log(2.5 / error) / most)
        if narrower > 0.999 * half:
            return spread * half
        half = narrower


def _degrees(seen: float, level: float) -> float:
    """The d > s at which Chernoff's bound of P(χ²_d ≤ s), ½(s − d + d ln(d/s)), is as unlikely."""

    def likely(d: float) -> bool:
        return 0.5 * (seen - d + d * math.log(d / seen)) <= level

    return _last(likely, seen)


def _excess(level: float) -> float:
    """The y at which y − ln(1 + y) has this value."""
    return _last(lambda y: y - math.log1p(y) <= level, 0.0)


def _last(holds: Callable[[float], bool], start: float) -> float:
    """Where what holds from ``start`` on ends, rounded up."""
    step = max(start, 1.0)
    while holds(start + step):
        step *= 2.0
    low, high = start, start + step
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
