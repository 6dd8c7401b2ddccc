"""Attribution of the degeneracy: each zero eigenvalue to a cause.

H = G + R, where G = Σ Jᵀ (∂²ℓ/∂f²) J has a rank that the number of outputs bounds. By Weyl's
inequality the n − rank(G) zero eigenvalues of G are moved by ‖H − G‖₂ at most. Where all residuals
are fitted, R = 0 and this is the main reason for zeros (Sagun et al. 2017, arXiv:1706.04454).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from hessscope.degeneracy import causes
from hessscope.degeneracy.activity import by_zero_rows, find_zero_rows
from hessscope.degeneracy.results import Cause, DegeneracyAttribution, Ledger
from hessscope.degeneracy.searches import Search, by_data, by_duplicates, by_symmetry
from hessscope.errors import ObjectiveError, OptionError
from hessscope.linalg.lanczos import gaussian, lanczos
from hessscope.objective.boundaries import nearest_boundary
from hessscope.operators import CurvatureOperator, HessianOperator, as_operator
from hessscope.progress import Progress, silent
from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.inertia import Inertia

# Matrices up to this size are computed and solved, if they take no more products than this.
_DENSE = 3_000
_MOST_PRODUCTS = 500
_STEPS = 50
# Kuczyński & Woźniakowski (1992), theorem 4.2: after 50 steps from a Gaussian vector a Ritz value
# is short of ‖A‖₂ by more than 12 % with a probability below 1e-10 √n.
_SHORT = 0.12


def _by_gauss_newton(
    hessian: CurvatureOperator, gauss_newton: CurvatureOperator, ledger: Ledger, seed: int
) -> Iterator[Cause]:
    """Zeros of the Gauss–Newton part: an explanation only where τ is as large as their shift.

    Nothing where the matrices are costly and the outputs no fewer than n.

    Args:
        hessian: H.
        gauss_newton: G at the same point, its penalty included or not as in H.
        ledger: what has been counted so far.
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
        distance, source = float(np.linalg.norm(full - part, 2)) + zero, "eigenvalues of G"
    else:
        outputs = _count_outputs(hessian)
        if outputs is None or outputs >= n:
            return
        rank, source = outputs, "number of outputs"
        start = gaussian(n, 1, seed, dtype=hessian.dtype, device=hessian.device)
        (run,) = lanczos(lambda v: hessian.apply(v) - gauss_newton.apply(v), start, _STEPS)
        distance = float(np.abs(run.quadrature().nodes).max()) / (1 - _SHORT)
    near = n - rank
    new = max(near - ledger.count, 0) if distance <= ledger.tolerance else 0
    text = f"rank {rank:,} by the {source}: {near:,} within ‖H − G‖₂ of zero"
    evidence = "Weyl's inequality"
    yield Cause(causes.GAUSS_NEWTON_RANK, text, near, new, distance, distance, evidence)


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


_MOST_PLACES = 3


def attribute_degeneracy(
    hessian: Any,
    counts: Spectrum | SpectralDensity | Inertia,
    *,
    tolerance: float | None = None,
    gauss_newton: CurvatureOperator | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> DegeneracyAttribution:
    """Find out how many null directions of a Hessian have which cause.

    Candidates come from the data, the network's modules and its weights; what does not apply is
    not found. Each is verified on the operator and counted once, beyond all before it
    (``ledger``). So at least ``explained`` eigenvalues lie within ±τ, by products with H alone;
    what the spectrum has beyond them is left unexplained.

    Args:
        hessian: H, best a ``HessianOperator``; of any other symmetric operator only the zero rows
            are found.
        counts: the spectrum, the density or their counts at τ.
        tolerance: τ, where ``counts`` is no ``Inertia``; default 2δ.
        gauss_newton: the Gauss–Newton operator at the same point, whose rank bounds what is left.
        seed: of the random combinations.
        progress: called with the work done.

    Cost: 10 products for the zero rows; one for each direction of a space of up to 256, and 10
    for a larger one; twice as many for symmetries of critical points; two passes of the
    derivatives with respect to the outputs of fully connected layers.

    Raises:
        OptionError: the counts are not those of a matrix of this size.
    """
    operator = as_operator(hessian)
    inertia = counts if isinstance(counts, Inertia) else counts.inertia(tolerance)
    n = operator.shape[0]
    if inertia.size != n:
        raise OptionError(
            f"the counts are of {inertia.size} eigenvalues, and the operator has {n}: give the "
            "spectrum of the same operator"
        )
    before = operator.hvps
    tau = inertia.tolerance
    notes: list[str] = []
    risk = operator.objective.network if isinstance(operator, HessianOperator) else None
    penalty = risk.l2 if risk is not None else 0.0
    if risk is not None:
        boundary = nearest_boundary(risk, hessian.at)
        if boundary.distance == 0.0:
            note = (
                f"θ is on a kink of {boundary.name}: what torch takes for its derivatives there is "
                "a convention, and null directions of that matrix are none of the loss"
            )
            hvps = operator.hvps - before
            return DegeneracyAttribution((), tau, inertia.zero, 0.0, hvps, (note,))
    progress("zero rows", 0, 0)
    zero = find_zero_rows(operator, penalty, seed)
    ledger = Ledger(operator, tau, zero, penalty, seed)
    if isinstance(operator, HessianOperator) and risk is not None:
        search = Search(operator, risk, ledger, notes, progress)
        found = [*by_data(search, zero), *by_symmetry(search), *by_duplicates(search)]
    else:
        found = [*by_zero_rows(zero, [], {"the matrix": slice(0, n)}, ledger)]
    merged = _merged(found)
    if gauss_newton is not None:
        merged += _by_gauss_newton(operator, gauss_newton, ledger, seed)
    explained = sum(cause.new for cause in merged)
    if explained > inertia.zero.upper:
        notes.append(
            f"{explained:,} null directions are verified, and the counts allow for "
            f"{inertia.zero.upper:,} zeros at most: their interval is too low"
        )
    residual = max([ledger.residual, *(cause.residual for cause in merged if cause.new)])
    return DegeneracyAttribution(
        tuple(merged), tau, inertia.zero, residual, operator.hvps - before, tuple(notes)
    )


def _merged(found: list[Cause]) -> list[Cause]:
    """One row for each cause, in their order."""
    merged = []
    for name in causes.ORDER:
        parts = [cause for cause in found if cause.name == name]
        if not parts:
            continue
        directions = sum(part.directions for part in parts)
        texts = list(dict.fromkeys(part.description for part in parts))
        if len(texts) > _MOST_PLACES:
            texts = [f"{directions:,} in {len(texts)} places"]
        counted = [part.residual for part in parts if part.new]
        evidence = dict.fromkeys(part.evidence for part in parts)
        merged.append(
            Cause(
                name,
                ", ".join(texts),
                directions,
                sum(part.new for part in parts),
                math.hypot(*counted) if counted else max(part.residual for part in parts),
                max(part.identity for part in parts),
                ", ".join(evidence),
            )
        )
    return merged
