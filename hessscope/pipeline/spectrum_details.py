"""What is computed beside a spectrum: the kind of point, causes of zeros, eigenvectors."""

from __future__ import annotations

import contextlib
import warnings

from hessscope.backends import EigenvectorBackend
from hessscope.criticality import measure_criticality, measure_gradient
from hessscope.degeneracy import DegeneracyAttribution, attribute_degeneracy
from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    MemoryLimitError,
    ObjectiveError,
    SolverError,
)
from hessscope.objective import EmpiricalRisk
from hessscope.operators import GaussNewtonOperator, HessianOperator, ObjectiveOperator
from hessscope.options.spectrum import SpectrumOptions
from hessscope.spectra import Criticality, Eigenpairs, Inertia, Result, classify


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
