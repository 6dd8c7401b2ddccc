"""From a start to a critical point with its evidence."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from hessscope.backends import ExactBackend, LanczosBackend, choose_backend, measure_criticality
from hessscope.objective import Objective
from hessscope.operators import HessianOperator
from hessscope.progress import Progress, silent
from hessscope.refinement.certificates import Certificate
from hessscope.refinement.options import RefinementOptions
from hessscope.refinement.result import CriticalPoint
from hessscope.refinement.search import Observer, first_state, run
from hessscope.refinement.states import SearchState
from hessscope.spectra import Criticality, SpectralDensity, Spectrum

_WITHOUT_SPECTRUM = ("interrupted", "non_finite")


def refine(
    objective: Objective,
    method: str = "newton",
    *,
    start: torch.Tensor | None = None,
    resume: SearchState | None = None,
    observer: Observer | None = None,
    progress: Progress = silent,
    **options: Any,
) -> CriticalPoint:
    """Search for a critical point near a start, and say what kind of point it is.

    Args:
        objective: L, such as an ``EmpiricalRisk`` or a ``FunctionObjective``.
        method: a name from ``METHODS``: "newton", "damped_newton", "saddle_free_newton",
            "gradient_norm", "gradient_descent", …
        start: where to begin, shape (n,); default where the objective stands.
        resume: go on from this state instead.
        observer: called with the ``SearchState`` after each step; if it returns True the search
            stops with status "interrupted".
        progress: told of the spectrum's stages at the end.
        **options: fields of ``RefinementOptions``.

    Returns:
        Where the search ended, whatever the reason: see its status and certificate.

    Raises:
        OptionError: an option cannot be used.
    """
    chosen = RefinementOptions(method=method, **options)
    state = first_state(objective, start) if resume is None else resume
    state = run(objective, chosen, state, observer)
    return conclude(objective, chosen, state, progress)


def conclude(
    objective: Objective, options: RefinementOptions, state: SearchState, progress: Progress
) -> CriticalPoint:
    """Compute the spectrum and the certificate of the last point."""
    began = time.perf_counter()
    last = state.trace[-1]
    certificate = Certificate(
        level="residual-only",
        reason="not computed",
        gradient_norm=last.gradient_norm,
        gradient_norm_relative=last.gradient_norm / state.trace[0].gradient_norm
        if state.trace[0].gradient_norm
        else 0.0,
        gradient_floor=math.nan,
        flatness=math.nan,
        newton_decrement=math.nan,
        newton_length=math.nan,
        inverse_norm=math.nan,
        lipschitz=math.nan,
        h=math.nan,
        radius=math.nan,
    )
    criticality: Criticality | None = None
    spectrum: Spectrum | SpectralDensity | None = None
    inertia = None
    hvps = last.hvps
    if state.status not in _WITHOUT_SPECTRUM:
        hessian = HessianOperator(
            objective, state.parameters, plan=state.plan, memory=options.memory
        )
        spectrum = solve(hessian, options, progress)
        inertia = spectrum.inertia(options.tolerance)
        norm = max(abs(spectrum.lambda_min), abs(spectrum.lambda_max))
        criticality = measure_criticality(hessian, norm, inertia.tolerance)
        hvps += hessian.hvps
    seconds = last.seconds + time.perf_counter() - began
    return CriticalPoint(
        state, options.as_dict(), certificate, criticality, spectrum, inertia, hvps, seconds
    )


def solve(
    hessian: HessianOperator, options: RefinementOptions, progress: Progress
) -> Spectrum | SpectralDensity:
    """The spectrum at the end, by the backend that was asked for."""
    exact = ExactBackend(memory=options.memory)
    name = options.backend
    if name == "auto":
        name = choose_backend(hessian, exact).name
    if name == "exact":
        return exact.solve(hessian, progress)
    lanczos = LanczosBackend(options.steps, options.probes, options.seed, memory=options.memory)
    return lanczos.solve(hessian, progress)
