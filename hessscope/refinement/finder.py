"""``hs.refine``: search for a critical point from a start, and certify it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from hessscope.backends import ExactBackend, LanczosBackend, choose_backend
from hessscope.criticality.evidence import gradient_floor, measure_criticality
from hessscope.criticality.null_spaces import Symmetries
from hessscope.objective import Objective
from hessscope.operators import HessianOperator
from hessscope.options.fields import takes
from hessscope.options.refine import AUTO, ObjectiveSearch, SearchOptions
from hessscope.refinement.certificates import Certificate, certify
from hessscope.refinement.result import CriticalPoint
from hessscope.refinement.search import first_state, run
from hessscope.refinement.states import SearchState
from hessscope.refinement.stopping import plausible_floor
from hessscope.refinement.strategy import Strategy
from hessscope.registry import PRODUCTS
from hessscope.spectra import Criticality, Inertia, Result

# Eigenvectors make flatness, Newton step and quotient exact, and cost a few times the eigenvalues.
VECTORS_UP_TO = 4000
_WITHOUT_SPECTRUM = ("interrupted", "non_finite")


@takes(ObjectiveSearch)
def refine(options: ObjectiveSearch) -> CriticalPoint:
    """Search for a critical point near a start, classify it, and certify it.

    Returns:
        Where the search ended, whatever the reason: see its status and certificate.

    Raises:
        OptionError: an option cannot be used.
        MemoryLimitError: the method's matrix or the spectrum at the end do not fit.
        SolverError: the eigenvalue solver failed at the end. An ``observer`` has had the last
            state, from which ``resume`` continues.
    """
    objective, state = options.objective, options.resume
    if state is None:
        state = first_state(objective, options.start)
    state = run(objective, options, state, options.observer, check=options.check)
    return conclude(objective, options, state, options.symmetries)


def conclude(
    objective: Objective,
    options: SearchOptions,
    state: SearchState,
    symmetries: Symmetries | None = None,
) -> CriticalPoint:
    """Compute the spectrum and the certificate of the last point, and review the status by them.

    Args:
        objective: L.
        options: of the search.
        state: its last state, with a status.
        symmetries: tangents of symmetries of L, as for ``refine``.
    """
    began = time.perf_counter()
    strategy = Strategy.of(options, len(state.parameters))
    first, last = state.trace[0].gradient_norm, state.trace[-1].gradient_norm
    certificate = Certificate(
        "residual-only",
        f"no spectrum was computed ({state.status})",
        gradient_norm=last,
        gradient_norm_relative=last / first if first > 0 else math.nan,
    )
    criticality: Criticality | None = None
    spectrum: Result | None = None
    inertia: Inertia | None = None
    if state.status not in _WITHOUT_SPECTRUM:
        hessian: HessianOperator = PRODUCTS.find(
            options.products
        )(  # the search has checked the objective
            objective,
            state.parameters,
            plan=state.plan,
            memory=options.memory_in_bytes,
            check=False,
        )
        spectrum = solve(hessian, strategy.options)
        tau = options.tolerance
        if tau is None:
            tau = 2.0 * spectrum.noise_floor.total
        gradient = objective.gradient(hessian.at)
        floor = gradient_floor(objective, hessian.at, gradient, spectrum.norm)
        certificate = replace(certificate, gradient_floor=floor)
        floor = max(plausible_floor(floor, state), options.gradient_tolerance or 0.0)
        evidence = measure_criticality(
            hessian,
            spectrum.norm,
            tau,
            spectrum.inertia(tau).zero,
            floor=floor,
            spectrum=spectrum,
            symmetries=symmetries,
            smooth=options.smooth,
        )
        criticality = evidence.criticality
        certificate = certify(
            certificate, hessian, gradient, spectrum, evidence, tau, options.smooth
        )
        if options.tolerance is None:
            # What is zero at the critical point itself may be this far from zero here.
            tau = max(tau, 2.0 * certificate.eigenvalue_error)
        inertia = spectrum.inertia(tau)
        state = reviewed(replace(state, hvps=state.hvps + hessian.hvps), criticality)
    return CriticalPoint(
        state=state,
        configuration=strategy.stored(),
        certificate=certificate,
        criticality=criticality,
        spectrum=spectrum,
        inertia=inertia,
        seconds=state.trace[-1].seconds + time.perf_counter() - began,
    )


def reviewed(state: SearchState, criticality: Criticality) -> SearchState:
    """The status by the evidence of the whole spectrum, where the loop saw only a part of it."""
    if state.status == "diverging":
        return state
    if criticality.flat:
        return replace(state, status="flat_at_tolerance", reached=criticality.hidden)
    if criticality.critical and state.status != "converged":
        return replace(state, status="converged", reached=_words(criticality))
    if not criticality.critical and state.status == "converged":
        reached = criticality.broken if criticality.still else _words(criticality)
        return replace(state, status="step_too_small", reached=reached)
    return state


def _words(criticality: Criticality) -> str:
    return (
        f"by the spectrum at the end ‖g‖ is {criticality.gradient_norm:.2g}, at most "
        f"{criticality.gradient_floor:.2g} counts as zero, and a Newton step would go "
        f"{criticality.newton_length:.2g}"
    )


def solve(hessian: HessianOperator, options: SearchOptions) -> Result:
    """The spectrum at the end, by the backend that was asked for.

    Args:
        hessian: H.
        options: of the search, with every default filled in.
    """
    n, backend = hessian.shape[0], options.backend
    exact = ExactBackend(eigenvectors=n <= VECTORS_UP_TO, memory=options.memory_in_bytes)
    if backend == AUTO:
        backend, _ = choose_backend(hessian, exact)
    if backend == "exact":
        backend = exact
    elif backend == "lanczos":
        steps, probes = options.steps or 0, options.probes or 0
        backend = LanczosBackend(steps, probes, options.seed, memory=options.memory_in_bytes)
    return backend.solve(hessian, options.progress)
