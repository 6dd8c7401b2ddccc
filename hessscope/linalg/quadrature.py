"""Gauss quadrature, and brackets of mass by Gauss–Radau rules, from a Lanczos tridiagonal matrix.

A symmetric operator A and a unit vector v define a measure with mass (uᵢ·v)² at each eigenvalue
λᵢ. k Lanczos steps give the k-point Gauss rule of that measure: nodes are the eigenvalues of the
tridiagonal T, weights the squared first components of its eigenvectors (Golub & Meurant,
"Matrices, Moments and Quadrature", 2010, chapter 6). It is exact on polynomials of degree 2k − 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg


@dataclass(frozen=True)
class Quadrature:
    """One quadrature rule of a measure of total mass 1.

    Attributes:
        nodes: ascending, shape (k,), the Ritz values.
        weights: shape (k,), non-negative, sum 1.
        residuals: shape (k,), ‖A y − θ y‖ of each Ritz pair, in the units of A.
    """

    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray

    def cumulative_bracket(self, x: float) -> tuple[float, float]:
        """Bounds on the mass of the measure at or below x.

        By the Chebyshev–Markov–Stieltjes separation theorem the cumulative measure passes between
        the partial sums of the weights on both sides of every node (Szegő, "Orthogonal
        Polynomials", theorem 3.41.1). With x between the nodes k and k + 1 that leaves
        Σ_{j<k} w_j ≤ μ(−∞, x] ≤ Σ_{j≤k+1} w_j. Rigorous in exact arithmetic.
        """
        below = int(np.searchsorted(self.nodes, x, side="right"))
        lower = float(np.sum(self.weights[: max(below - 1, 0)]))
        upper = float(np.sum(self.weights[: below + 1]))
        return lower, min(upper, 1.0)


def gauss(alphas: np.ndarray, betas: np.ndarray) -> Quadrature:
    """Gauss rule of a Lanczos run.

    Args:
        alphas: diagonal of T, shape (k,).
        betas: shape (k,): the k − 1 off-diagonal entries of T, and last the norm of the residual
            after step k, from which the residuals of the Ritz pairs follow.
    """
    power = _power(alphas, betas)
    nodes, vectors = scipy.linalg.eigh_tridiagonal(
        np.ldexp(alphas, -power), np.ldexp(betas[:-1], -power)
    )
    weights = vectors[0] ** 2
    residuals = np.abs(betas[-1] * vectors[-1])
    return Quadrature(np.ldexp(nodes, power), weights / weights.sum(), residuals)


def mass_bracket(rule: Quadrature, alphas: np.ndarray, betas: np.ndarray, x: float) -> MassBracket:
    """Bounds on the mass that a run's measure has below x.

    The Gauss–Radau rule with a node at x has, among all measures with the moments of the run, the
    least mass below x and the most mass at x (Chebyshev–Markov–Stieltjes; Krein & Nudelman,
    "The Markov Moment Problem", 1977, chapter II). So every such measure has at least the rule's
    weights below x there, and at most these and the weight at x. Rigorous in exact arithmetic.
    Cost: O(k²), k the number of steps.

    Args:
        rule: the run's Gauss rule.
        alphas: diagonal of T, shape (k,).
        betas: shape (k,), as in ``gauss``.
        x: where to cut.
    """
    k = len(alphas)
    below = int(np.searchsorted(rule.nodes, x))
    power = _power(alphas, betas)
    cut, x = x, float(np.ldexp(x, -power))
    alphas, betas = np.ldexp(alphas, -power), np.ldexp(betas, -power)
    try:
        diagonal = _extended(alphas, betas, x)
    except np.linalg.LinAlgError:  # x is a node of the Gauss rule, which then says the same
        return MassBracket(*rule.cumulative_bracket(cut))
    at = most_mass(alphas, betas, x)
    # Nodes of both rules alternate: as many are below x as the Gauss rule has, and k − below above.
    if below <= k - below:
        lower = _weight(diagonal, betas, range(below))
        return MassBracket(lower, min(lower + at, 1.0))
    upper = 1.0 - _weight(diagonal, betas, range(below + 1, k + 1))
    return MassBracket(max(upper - at, 0.0), upper)


class MassBracket(NamedTuple):
    """Least and most mass that a measure of total mass 1 can have below a point."""

    lower: float
    upper: float


def _power(alphas: np.ndarray, betas: np.ndarray) -> int:
    """Power of two by which T is divided, so that no square leaves the range of the numbers."""
    largest = max(float(np.abs(alphas).max()), float(betas.max()))
    return max(-900, min(int(np.frexp(largest)[1]), 900))


def _extended(alphas: np.ndarray, betas: np.ndarray, node: float) -> np.ndarray:
    """Diagonal of T with one more row, such that ``node`` is an eigenvalue.

    The eigensystem of that matrix is the Gauss–Radau rule with this node (Golub & Meurant 2010,
    section 6.2).

    Raises:
        numpy.linalg.LinAlgError: ``node`` is an eigenvalue of T already.
    """
    k = len(alphas)
    banded = np.zeros((3, k))
    banded[0, 1:] = betas[:-1]
    banded[1] = alphas - node
    banded[2, :-1] = betas[:-1]
    right = np.zeros(k)
    right[-1] = betas[-1] ** 2
    last = scipy.linalg.solve_banded((1, 1), banded, right)[-1]
    if not np.isfinite(last):
        raise np.linalg.LinAlgError(f"{node} is an eigenvalue of T")
    return np.append(alphas, node + last)


def _weight(diagonal: np.ndarray, betas: np.ndarray, which: range) -> float:
    """Sum of the weights of some neighbouring nodes, by their numbers."""
    if not which:
        return 0.0
    _, vectors = scipy.linalg.eigh_tridiagonal(
        diagonal, betas, select="i", select_range=(which.start, which.stop - 1)
    )
    return float(np.sum(vectors[0] ** 2))


def most_mass(alphas: np.ndarray, betas: np.ndarray, x: float) -> float:
    """1/Σ pⱼ(x)² over the orthonormal polynomials to degree k: the most mass that can be at x.

    Beyond the nodes it is the most mass from x on, too. Cost: O(k).
    """
    before, here, last, total = 0.0, 1.0, 0.0, 1.0
    for alpha, beta in zip(alphas.tolist(), betas.tolist(), strict=True):
        before, here = here, (x - alpha) * here - last * before
        if here and not beta:  # nothing is left beside the nodes
            return 0.0
        here, last = here / (beta or 1.0), beta
        total += here * here
        if total > 1e200:  # outside of the nodes the polynomials grow without end
            return 0.0
    return 1.0 / total
