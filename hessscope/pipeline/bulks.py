"""Outliers, gradient and bulk of a spectrum, computed or as known already."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from hessscope.backends import EigenvectorBackend
from hessscope.errors import HessscopeWarning, MemoryLimitError, OptionError, SolverError
from hessscope.operators import ObjectiveOperator
from hessscope.progress import Progress, silent
from hessscope.spectra import (
    BulkSplit,
    Eigenpairs,
    GradientAlignment,
    Inertia,
    Outliers,
    Result,
    bulk_edge,
    compare_with_semicircle,
    eigenvalues_needed,
    find_outliers,
    gradient_alignment,
    searched_for,
)

# Eigenvectors take memory and products; beyond this many the question is another one.
_MOST_VECTORS = 120


def split_bulk(
    operator: ObjectiveOperator,
    result: Result,
    inertia: Inertia,
    gradient_floor: float,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> BulkSplit | None:
    """Count outliers, locate the gradient, and compare the bulk with the semicircle.

    Where not all eigenvalues are known, the highest are computed with their vectors. Cost: some
    tens to some hundreds of products, and a gradient.

    Args:
        operator: the matrix, of an ``EmpiricalRisk``.
        result: its spectrum.
        inertia: its counts; what counts as zero belongs to no bulk.
        gradient_floor: a gradient below this is rounding, and lies nowhere.
        seed: of the eigenvector computation.
        progress: called with the products.

    Returns:
        None, after a warning, where the eigenvectors needed cannot be computed or fewer than six
        eigenvalues are positive.
    """
    risk = operator.objective.network
    assert risk is not None
    classes, positive = risk.classes, inertia.positive.estimate
    searched = searched_for(classes, positive)
    if result.eigenvalues is None:
        searched = min(searched, _MOST_VECTORS - eigenvalues_needed(0))
    needed = eigenvalues_needed(searched)
    try:
        if result.eigenvalues is not None:
            highest = result.eigenvalues[::-1][:needed]
            outliers = find_outliers(highest, searched)
            pairs = _pairs(operator, max(_numbers(classes, outliers)), seed, progress)
        else:
            pairs = _pairs(operator, needed, seed, progress)
            highest = pairs.values
            outliers = find_outliers(highest, searched)
    except (SolverError, MemoryLimitError, OptionError) as error:
        warnings.warn(f"no outliers and bulk: {error}", HessscopeWarning, stacklevel=2)
        return None
    gradient = risk.gradient(operator.at)
    alignment: GradientAlignment | None = None
    if float(torch.linalg.vector_norm(gradient)) > gradient_floor:
        numbers = _numbers(classes, outliers)
        alignment = gradient_alignment(gradient.cpu().numpy(), pairs.vectors, numbers)
    edge = bulk_edge(highest, outliers)
    return BulkSplit(
        highest=np.array(highest[: outliers.searched + 1]),
        outliers=outliers,
        classes=classes,
        alignment=alignment,
        semicircle=compare_with_semicircle(result, inertia.tolerance, edge),
        hvps=pairs.hvps,
    )


def _numbers(classes: int | None, outliers: Outliers) -> tuple[int, ...]:
    """In which spaces the gradient is looked for: of C − 1, of C, of as many as are outliers."""
    wanted = {1, outliers.by_gap, outliers.by_edge}
    if classes:
        wanted |= {classes - 1, classes}
    return tuple(sorted(k for k in wanted if 1 <= k <= _MOST_VECTORS))


def _pairs(operator: ObjectiveOperator, count: int, seed: int, progress: Progress) -> Eigenpairs:
    backend = EigenvectorBackend(count, "highest", seed=seed, memory=operator.memory)
    pairs = backend.solve(operator, progress)
    if len(pairs) < min(count, operator.shape[0]):
        # The missing ones need not be the last, so nothing can be counted.
        raise SolverError("not all of the highest eigenvalues converged")
    return pairs
