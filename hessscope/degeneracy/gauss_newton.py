"""What the rank of the Gauss–Newton part says of eigenvalues near zero.

H = G + R, where G = Σ Jᵀ (∂²ℓ/∂f²) J has a rank that the number of outputs bounds. By Weyl's
inequality the n − rank(G) zero eigenvalues of G are moved by ‖H − G‖₂ at most. Where all residuals
are fitted, R = 0 and this is the main reason for zeros (Sagun et al. 2017, arXiv:1706.04454).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hessscope.errors import ObjectiveError
from hessscope.linalg.lanczos import lanczos
from hessscope.linalg.probes import gaussian
from hessscope.operators import CurvatureOperator, HessianOperator

# Matrices up to this size are computed and solved, if they take no more products than this.
_DENSE = 3_000
_MOST_PRODUCTS = 500
_STEPS = 50
# Kuczyński & Woźniakowski (1992), theorem 4.2: after 50 steps from a Gaussian vector a Ritz value
# is short of ‖A‖₂ by more than 12 % with a probability below 1e-10 √n.
_SHORT = 0.12


@dataclass(frozen=True)
class GaussNewtonBound:
    """At least n − ``rank`` eigenvalues of H are within ±``distance``.

    Attributes:
        rank: of G, to within ``distance``; or a bound of it.
        distance: ‖H − G‖₂, and what was taken for zero in the rank; or a bound of it.
        source: how they were found, in words.
    """

    rank: int
    distance: float
    source: str


def gauss_newton_bound(
    hessian: CurvatureOperator, gauss_newton: CurvatureOperator, seed: int
) -> GaussNewtonBound | None:
    """Compare H with G; None where the matrices are costly and the outputs no fewer than n.

    Args:
        hessian: H.
        gauss_newton: G at the same point, its penalty included or not as in H.
        seed: of the start vector of Lanczos.

    Cost: both matrices for n up to 3,000 where they cost up to 500 products; else 50 products
    with each.
    """
    n = hessian.shape[0]
    if _is_cheap(hessian) and _is_cheap(gauss_newton):
        full = hessian.to_dense().cpu().double().numpy()
        part = gauss_newton.to_dense().cpu().double().numpy()
        values = np.linalg.eigvalsh((part + part.T) / 2)
        zero = 8 * torch.finfo(hessian.dtype).eps * float(np.linalg.norm(values))
        rank = int((np.abs(values) > zero).sum())
        distance = float(np.linalg.norm(full - part, 2)) + zero
        return GaussNewtonBound(rank, distance, "eigenvalues of G")
    outputs = _count_outputs(hessian)
    if outputs is None or outputs >= n:
        return None
    start = gaussian(n, 1, seed, dtype=hessian.dtype, device=hessian.device)
    (run,) = lanczos(lambda v: hessian.apply(v) - gauss_newton.apply(v), start, _STEPS)
    largest = float(np.abs(run.quadrature().nodes).max())
    return GaussNewtonBound(outputs, largest / (1 - _SHORT), "number of outputs")


def _is_cheap(operator: CurvatureOperator) -> bool:
    """Whether its matrix is small and few of its columns cost a product over all data."""
    assembly = getattr(operator, "assembly", None)
    columns = 0 if assembly is None else len(assembly.others)
    return operator.shape[0] <= _DENSE and columns <= _MOST_PRODUCTS


def _count_outputs(hessian: CurvatureOperator) -> int | None:
    """Bound of the rank of G: all outputs, less one an example where softmax loses it."""
    risk = hessian.objective.network if isinstance(hessian, HessianOperator) else None
    if risk is None:
        return None
    try:
        with torch.no_grad(), risk.kernels():
            outputs = risk.term(0, 1).outputs(risk.parameters)[0]
    except ObjectiveError:  # no tensor with a row for each example
        return None
    lost = outputs.ndim == 1 and risk.loss.plain_name in ("cross_entropy", "softmax_mse")
    return len(risk) * (outputs.numel() - lost)
