"""What is computed beside a spectrum: kind of point, causes, eigenvectors, bulk."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import torch

from hessscope.backends import EigenvectorBackend
from hessscope.criticality import measure_criticality, measure_gradient
from hessscope.degeneracy import DegeneracyAttribution, attribute_degeneracy
from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    MemoryLimitError,
    ObjectiveError,
    OptionError,
    SolverError,
)
from hessscope.objective import EmpiricalRisk
from hessscope.operators import GaussNewtonOperator, HessianOperator, ObjectiveOperator
from hessscope.options.spectrum import SpectrumOptions
from hessscope.progress import Progress, silent
from hessscope.spectra import (
    BulkSplit,
    Criticality,
    Eigenpairs,
    GradientAlignment,
    Inertia,
    Outliers,
    Result,
    bulk_edge,
    classify,
    compare_with_semicircle,
    eigenvalues_needed,
    find_outliers,
    gradient_alignment,
    searched_for,
)


def judge(
    operator: ObjectiveOperator,
    risk: EmpiricalRisk,
    result: Result,
    inertia: Inertia | None,
    *,
    whole: bool,
) -> tuple[Criticality, str]:
    """The evidence for or against ∇L = 0, and what kind of point it is, as far as that is known.

    Args:
        operator: the matrix that was solved.
        risk: L as a function of all parameters.
        result: its spectrum.
        inertia: its counts; None where there are none.
        whole: it is the Hessian over all parameters.
    """
    if operator.arithmetic != operator.dtype:
        evidence = measure_gradient(risk, risk.parameters, result.norm)
        return evidence, f"not classified (that takes more digits than {result.dtype} has)"
    norm = result.norm
    tau = inertia.tolerance if inertia else 1e-12 * norm
    if whole and isinstance(operator, HessianOperator):
        zeros = inertia.zero if inertia else None
        criticality = measure_criticality(operator, norm, tau, zeros).criticality
    else:
        criticality = measure_gradient(risk, risk.parameters, norm)
    if not isinstance(operator, HessianOperator):
        return criticality, "not classified (that takes the Hessian)"
    if not whole:
        return criticality, "not classified (that takes all parameters)"
    if inertia is not None:
        return criticality, classify(inertia, criticality)
    if criticality.critical:
        return criticality, "critical point, not classified (the backend counts nothing)"
    norm_text = f"{criticality.gradient_norm:.3g}"
    return criticality, f"not a critical point (gradient norm {norm_text})"


def explain_zeros(
    hessian: ObjectiveOperator, inertia: Inertia, options: SpectrumOptions
) -> DegeneracyAttribution:
    """Attribute the degeneracy; with the Gauss–Newton part where the model has outputs."""
    assert isinstance(hessian, HessianOperator)
    gauss_newton = None
    with contextlib.suppress(ObjectiveError), warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # of a linear loss, for which G = 0
        gauss_newton = GaussNewtonOperator(hessian.objective, hessian.at, memory=hessian.memory)
    return attribute_degeneracy(
        hessian,
        inertia,
        gauss_newton=gauss_newton,
        seed=options.seed,
        progress=options.progress,
    )


def find_eigenpairs(
    operator: ObjectiveOperator, result: Result, options: SpectrumOptions
) -> Eigenpairs | None:
    """The eigenvectors that are asked for; a warning in their place where that fails.

    Where all eigenvalues are known, the pairs are checked by them.
    """
    if options.eigenvectors is None:
        return None
    backend = EigenvectorBackend.parse(
        options.eigenvectors, seed=options.seed, memory=operator.memory
    )
    try:
        pairs = backend.solve(operator, options.progress)
    except (SolverError, MemoryLimitError) as error:
        # The spectrum that was computed before is not to be lost for this.
        warnings.warn(f"no eigenvectors: {error}", HessscopeWarning, stacklevel=2)
        return None
    if result.eigenvalues is not None:
        off = pairs.farthest_from(result.eigenvalues)
        if off > float(pairs.residuals.max()) + result.noise_floor.total:
            warnings.warn(
                f"the eigenvalues found with their vectors are up to {off:.3g} from those of the "
                "exact spectrum: one or more were passed over",
                HessscopeWarning,
                stacklevel=2,
            )
    return pairs


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
