"""Measuring what rounding does to an operator."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch

from hessscope.errors import PrecisionWarning
from hessscope.linalg.probes import gaussian
from hessscope.operators import CurvatureOperator, MatrixOperator

POWER_STEPS = 8

# Householder tridiagonalisation and the QR iteration are backward stable in the Frobenius norm.
# Measured for LAPACK's dsyevd and ssyevd on matrices of four kinds (Gaussian, Gram with decaying
# and with flat spectrum, ten decades of eigenvalues), n = 50 to 4,000: eigenvalues are off by up to
# 5 eps·‖A‖_F. In terms of ‖A‖₂ the factor grows to 160, so that norm is the wrong scale.
SOLVER_ERROR = 8.0


def solver_noise(values: np.ndarray, dtype: torch.dtype) -> float:
    """Bound of the solver's error: 8 (eps·‖A‖_F + √n·η), by the eigenvalues themselves.

    η is the smallest normal number: what is smaller has no digits to be relied on.
    """
    limits = torch.finfo(dtype)
    values = np.asarray(values, dtype=np.float64)
    # Squares of small and of large numbers leave the range of the data type.
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    norm = scale * float(np.linalg.norm(values / scale))
    return SOLVER_ERROR * (limits.eps * norm + math.sqrt(len(values)) * limits.smallest_normal)


def warn_of_disagreement(noise: float, norm: float, dtype: torch.dtype) -> None:
    """Warn where the matrix is known to far fewer digits than its data type has.

    Rounding alone stays far below √eps·‖A‖. More means that something else is wrong, such as an
    operation whose second derivative is not the derivative of its first (terms of a custom function
    that is differentiable only once are left out by ``torch.autograd.grad`` without an error).

    Args:
        noise: ‖·‖₂ of the difference between two ways of computing A, or ``asymmetry_norm``.
        norm: ‖A‖₂.
        dtype: of A.
    """
    limits = torch.finfo(dtype)
    if noise > math.sqrt(limits.eps) * norm + limits.smallest_normal:
        warnings.warn(
            f"the matrix is uncertain by {noise:.3g}, and its largest eigenvalue is {norm:.3g}: "
            "far more than rounding explains. It is not symmetric, or products computed in two "
            "ways disagree: some operation of the model may compute in lower precision, or have "
            "no correct second derivative. Eigenvalues and counts are good to that only",
            PrecisionWarning,
            stacklevel=3,
        )


def operator_noise(
    operator: CurvatureOperator, solved: torch.Tensor | None = None
) -> tuple[float, int]:
    """Estimate ‖A − A′‖₂, A′ the same operator but for rounding (``recomputed``).

    Power iteration on the difference, started from a random vector; the largest growth seen is
    returned. It is a lower bound of the norm that comes close to it, and it contains the rounding
    of the products themselves. An operator that is a given matrix has no error of its own: 0.

    Args:
        operator: A, seen through its products.
        solved: the matrix that was solved in place of A, where there is one.

    Returns:
        The norm, and the Hessian-vector products that it took: 8 at most, and as many again where
        no matrix was solved.
    """
    other = operator.recomputed()
    if other is None:
        return 0.0, 0
    reference: CurvatureOperator = operator if solved is None else MatrixOperator(solved)
    vector = gaussian(operator.shape[0], 1, seed=0, dtype=operator.dtype, device=operator.device)
    vector /= torch.linalg.vector_norm(vector)
    largest, before = 0.0, operator.hvps
    for _ in range(POWER_STEPS):
        difference = reference.apply(vector) - other.apply(vector)
        growth = float(torch.linalg.vector_norm(difference))
        largest = max(largest, growth)
        if growth == 0.0:
            break
        vector = difference / growth
    return largest, other.hvps + operator.hvps - before


def asymmetry_norm(matrix: torch.Tensor, block: int = 512) -> float:
    """Estimate how far (A + Aᵀ)/2 is from what else an asymmetric A may stand for.

    That is the larger of two 2-norms: of D = (A − Aᵀ)/2, the distance to A itself, and of
    M = U + Uᵀ, U the upper triangle of D, the distance to the symmetric matrix that either
    triangle of A makes with its mirror image. Both can be n times the largest entry of D. Each is
    found by power iteration from a random vector, a lower bound that comes close.

    Cost: 8 passes over A, or one where it is symmetric. Memory: a few blocks.

    Args:
        matrix: A, shape (n, n).
        block: rows and columns of D that are computed at once.
    """
    n = len(matrix)
    pair = gaussian(n, 2, seed=0, dtype=matrix.dtype, device=matrix.device)
    # Dᵀ = −D and Mᵀ = M: in the lower triangle the two differ in sign only.
    signs = pair.new_tensor([-1.0, 1.0])
    pair /= torch.linalg.vector_norm(pair, dim=0)
    largest = 0.0
    for _ in range(POWER_STEPS):
        images = torch.zeros_like(pair)
        for i in range(0, n, block):
            for j in range(i, n, block):
                here, there = slice(i, i + block), slice(j, j + block)
                upper = (matrix[here, there] - matrix[there, here].T) / 2
                if i == j:
                    upper.triu_()
                images[here] += upper @ pair[there]
                images[there] += signs * (upper.T @ pair[here])
        growth = torch.linalg.vector_norm(images, dim=0)
        largest = max(largest, float(growth.max()))
        if not bool(growth.all()):
            break
        pair = images / growth
    return largest
