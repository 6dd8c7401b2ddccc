"""Measuring what rounding does to an operator."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch

from hessscope.errors import NonFiniteError, PrecisionWarning
from hessscope.linalg.lanczos import gaussian
from hessscope.operators import CurvatureOperator, MatrixOperator

POWER_STEPS = 8
# Products in randomised arithmetic. Over 269 small random networks the matrix was off by up to
# 1.6 times the largest difference of five draws, by a fifth of it in the median.
DRAWS, SAFETY = 10, 3.0
# Length of a vector's random part, beside 1 for the other.
_EXPLORED = 0.5
# Differences this many times larger than those between draws are no rounding.
UNEXPLAINED = 100.0

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
    norm = _norm(torch.from_numpy(np.asarray(values, dtype=np.float64)))
    return SOLVER_ERROR * (limits.eps * norm + math.sqrt(len(values)) * limits.smallest_normal)


def _norm(values: torch.Tensor) -> float:
    """‖·‖₂, also where squares would be too small or too large for the data type."""
    top = float(torch.linalg.vector_norm(values, ord=math.inf)) if len(values) else 0.0
    if not 0.0 < top < math.inf:
        return top
    return top * float(torch.linalg.vector_norm(values.to(torch.float64) / top))


def warn_of_disagreement(difference: float, norm: float, dtype: torch.dtype) -> None:
    """Warn where two ways of computing A differ by far more than rounding explains.

    The reason may be an operation whose second derivative is not the derivative of its first (terms
    of a custom function that is differentiable only once are left out by ``torch.autograd.grad``
    without an error).

    Args:
        difference: ‖·‖₂ of the difference, or ``asymmetry_norm``.
        norm: ‖A‖₂.
        dtype: of A; differences up to √eps·‖A‖ get no warning.
    """
    limits = torch.finfo(dtype)
    if difference > math.sqrt(limits.eps) * norm + limits.smallest_normal:
        warnings.warn(
            f"the matrix is uncertain by {difference:.3g}, and its largest eigenvalue is "
            f"{norm:.3g}: far more than rounding explains. It is not symmetric, or products "
            "computed in two ways disagree: some operation of the model may compute in lower "
            "precision, or have no correct second derivative. Eigenvalues and counts are good to "
            "that only",
            PrecisionWarning,
            stacklevel=3,
        )


def arithmetic_of(operator: CurvatureOperator) -> str:
    """The data type of the operator's arithmetic, which may have fewer digits than its products."""
    return str(getattr(operator, "arithmetic", operator.dtype)).removeprefix("torch.")


def products_of(operator: CurvatureOperator) -> dict[str, Any]:
    """For a result's options: how products were computed, where that was not by derivatives."""
    found = getattr(operator, "differences", None)
    return {} if found is None else {"products": found.as_dict()}


def operator_noise(
    operator: CurvatureOperator,
    solved: torch.Tensor | None = None,
    draws: int = DRAWS,
    along: torch.Tensor | None = None,
) -> tuple[float, int]:
    """Bound what rounding does to A: three times the largest ‖(A − A′)v‖ over ten draws of A′.

    A′ is A in randomised arithmetic (``recomputed``), drawn anew for each product; differences of
    gradients with half the step, too. Each v is the largest difference so far, as in a power
    iteration, and a random part, since a draw may hide what others show. An operator that is a
    given matrix has no error of its own: 0.

    Args:
        operator: A, seen through its products.
        solved: the matrix that was solved in place of A, where there is one.
        draws: other than ten where more are to follow.
        along: unit vector to begin with, shape (n, 1), such as the top eigenvector; default none.

    Returns:
        The bound, and the Hessian-vector products that it took: ``draws``, as many again
        where no matrix was solved, and 10 where √eps·‖A‖ is exceeded.

    Raises:
        NonFiniteError: a draw is not finite, though A is.

    Warns:
        PrecisionWarning: the two differ by far more than draws differ among themselves.
    """
    other = operator.recomputed()
    if other is None:
        return 0.0, 0
    reference: CurvatureOperator = operator if solved is None else MatrixOperator(solved)
    largest, norm, before = 0.0, 0.0, operator.hvps
    n = operator.shape[0]
    direction = along
    for draw in range(draws):
        # In place: there are models of which few vectors fit in the memory.
        vector = gaussian(n, 1, 0, dtype=torch.float64, device=operator.device, first=draw)
        length = torch.linalg.vector_norm(vector)
        vector.mul_(_EXPLORED).div_(length)
        if direction is not None:
            vector += direction.double() / _norm(direction)
        vector = vector.div_(torch.linalg.vector_norm(vector)).to(operator.dtype)
        product, drawn = reference.apply(vector), _drawn(other, vector)
        norm = max(norm, _norm(product))
        difference = product - drawn
        growth = _norm(difference)
        if growth > largest:
            largest, where, first, direction = growth, vector, drawn, difference
    if largest > math.sqrt(torch.finfo(operator.dtype).eps) * norm:
        # Rounding scatters: what all draws have alike is something else.
        spread = max(_norm(first - _drawn(other, where)) for _ in range(DRAWS))
        if largest > UNEXPLAINED * spread:
            warn_of_disagreement(largest, norm, operator.dtype)
    return SAFETY * largest, other.hvps + operator.hvps - before


def _drawn(other: CurvatureOperator, vector: torch.Tensor) -> torch.Tensor:
    """A product in randomised arithmetic."""
    try:
        return other.apply(vector)
    except NonFiniteError as error:
        raise NonFiniteError(
            "rounded otherwise, a product is not finite: some logarithm, root or quotient hangs on "
            "the last digit of a difference, such as log(1 - p) where p is nearly 1. Write it "
            "without the difference (a loss of logits, log1p, logsigmoid)"
        ) from error


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
