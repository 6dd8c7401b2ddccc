"""Gauss and Gauss–Radau quadrature from a Lanczos tridiagonal matrix.

A symmetric operator A and a unit vector v define a measure with mass (uᵢ·v)² at each eigenvalue
λᵢ. k Lanczos steps give the k-point Gauss rule of that measure: nodes are the eigenvalues of the
tridiagonal T, weights the squared first components of its eigenvectors (Golub & Meurant,
"Matrices, Moments and Quadrature", 2010, chapter 6). It is exact on polynomials of degree 2k − 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg


@dataclass(frozen=True)
class Quadrature:
    """One quadrature rule of a measure of total mass 1.

    Attributes:
        nodes: ascending, shape (k,), the Ritz values.
        weights: shape (k,), non-negative, sum 1.
        residuals: shape (k,), ‖A y − θ y‖ of each Ritz pair, in the units of A.
        complete: the Krylov space is invariant, so that the rule is the measure itself.
    """

    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    complete: bool

    def moment(self, degree: int) -> float:
        """∫ x^degree dμ, exact for degree ≤ 2k − 1."""
        return float(np.sum(self.weights * self.nodes**degree))

    def cumulative_bracket(self, x: float) -> tuple[float, float]:
        """Bounds on the mass of the measure at or below x.

        By the Chebyshev–Markov–Stieltjes separation theorem the cumulative measure passes between
        the partial sums of the weights on both sides of every node (Szegő, "Orthogonal
        Polynomials", theorem 3.41.1). With x between the nodes k and k + 1 that leaves
        Σ_{j<k} w_j ≤ μ(−∞, x] ≤ Σ_{j≤k+1} w_j. Rigorous in exact arithmetic.
        """
        below = int(np.searchsorted(self.nodes, x, side="right"))
        if self.complete:
            mass = float(np.sum(self.weights[:below]))
            return mass, mass
        lower = float(np.sum(self.weights[: max(below - 1, 0)]))
        upper = float(np.sum(self.weights[: below + 1]))
        return lower, min(upper, 1.0)


def gauss(alphas: np.ndarray, betas: np.ndarray, complete: bool = False) -> Quadrature:
    """Gauss rule of a Lanczos run.

    Args:
        alphas: diagonal of T, shape (k,).
        betas: shape (k,): the k − 1 off-diagonal entries of T, and last the norm of the residual
            after step k, from which the residuals of the Ritz pairs follow.
        complete: the run ended in an invariant subspace.
    """
    nodes, vectors = scipy.linalg.eigh_tridiagonal(alphas, betas[:-1])
    weights = vectors[0] ** 2
    # A complete run's last norm is the rounding at which it was stopped, kept as the residual.
    return Quadrature(nodes, weights / weights.sum(), np.abs(betas[-1] * vectors[-1]), complete)


def gauss_radau(alphas: np.ndarray, betas: np.ndarray, node: float) -> Quadrature:
    """Gauss–Radau rule with one node prescribed (Golub & Meurant 2010, section 6.2).

    One more row is put under T so that ``node`` becomes an eigenvalue. Shapes as in ``gauss``.
    The rule is exact to degree 2k. At a prescribed node the partial sums of the weights bracket
    the measure without the weights beside it.

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
    delta = scipy.linalg.solve_banded((1, 1), banded, right)
    nodes, vectors = scipy.linalg.eigh_tridiagonal(np.append(alphas, node + delta[-1]), betas)
    weights = vectors[0] ** 2
    return Quadrature(nodes, weights / weights.sum(), np.zeros(k + 1), False)
