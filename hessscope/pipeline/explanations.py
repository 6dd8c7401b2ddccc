"""Why eigenvalues of a network's Hessian are zero."""

from __future__ import annotations

import contextlib
import warnings

from hessscope.degeneracy import DegeneracyAttribution, attribute_degeneracy
from hessscope.errors import AssumptionWarning, ObjectiveError
from hessscope.operators import GaussNewtonOperator, HessianOperator
from hessscope.progress import Progress
from hessscope.spectra import Inertia


def explain_zeros(
    hessian: HessianOperator, inertia: Inertia, seed: int, progress: Progress
) -> DegeneracyAttribution:
    """Attribute the degeneracy; with the Gauss–Newton part where the model has outputs.

    Args:
        hessian: H.
        inertia: its counts.
        seed: of random combinations.
        progress: told of every stage.
    """
    gauss_newton = None
    with contextlib.suppress(ObjectiveError), warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # of a linear loss, for which G = 0
        gauss_newton = GaussNewtonOperator(hessian.objective, hessian.at, memory=hessian.memory)
    return attribute_degeneracy(
        hessian, inertia, gauss_newton=gauss_newton, seed=seed, progress=progress
    )
