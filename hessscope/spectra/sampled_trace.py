"""How far a sampled mean of eigenvalues may be from the true one, for any spectrum.

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
from collections.abc import Callable


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
