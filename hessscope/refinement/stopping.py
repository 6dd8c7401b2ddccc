"""When a search ends, and why."""

from __future__ import annotations

import math

import numpy as np
import torch

from hessscope.backends.criticality import gradient_floor, newton_length
from hessscope.backends.noise import SOLVER_ERROR
from hessscope.operators import HessianOperator
from hessscope.refinement.directions import Curvature
from hessscope.refinement.options import RefinementOptions
from hessscope.refinement.points import Point
from hessscope.refinement.states import SearchState
from hessscope.refinement.steps import Steps
from hessscope.refinement.trace import Trace
from hessscope.spectra import Criticality

# ‖Hg‖(1 + ‖θ‖)/‖g‖² is how often a step as long as θ itself would take ½‖g‖² to zero, by its
# slope. It grows without bound towards a critical point and falls to zero towards a flat one.
FLAT = 1e-6
NEARLY_FLAT = 1e-2
# Steps over which a trend is judged.
WINDOW = 10
STALL_WINDOW = 40

Reason = tuple[str, str]


def stationarity(point: Point, hessian: HessianOperator) -> float:
    """‖Hg‖(1 + ‖θ‖)/‖g‖²: slope of ½‖g‖² over its own size, for steps as long as θ."""
    curved = float(torch.linalg.vector_norm(hessian.matvec(point.gradient)))
    return curved / point.gradient_norm * (1.0 + point.parameter_norm) / point.gradient_norm


def floor_of_gradient(point: Point, norm: float, options: RefinementOptions) -> float:
    """The gradient norm that counts as zero here."""
    measured = gradient_floor(
        point.objective, point.parameters, point.gradient, 0.0 if math.isnan(norm) else norm
    )
    return max(measured, options.gradient_tolerance or 0.0)


def near_floor(point: Point, norm: float, options: RefinementOptions) -> bool:
    """Whether it is worth measuring the floor: it costs a gradient."""
    eps = torch.finfo(point.parameters.dtype).eps
    guess = 1e4 * eps * (norm * (1.0 + point.parameter_norm) + abs(point.loss))
    return point.gradient_norm <= max(guess, options.gradient_tolerance or 0.0)


def before_step(
    point: Point,
    hessian: HessianOperator,
    curvature: Curvature,
    steps: Steps,
    options: RefinementOptions,
    state: SearchState,
) -> Reason | None:
    """Whether the point is one to stop at."""
    trace, norm = state.trace, curvature.norm
    if near_floor(point, norm, options) and point.gradient_norm <= floor_of_gradient(
        point, norm, options
    ):
        found = criticality(point, hessian, curvature, options)
        if found.critical:
            if goes_to_infinity(trace):
                return "diverging", "the gradient is at its rounding floor, far out"
            return "converged", "the gradient is at its rounding floor and a Newton step is short"
        if goes_to_infinity(trace):
            return (
                "diverging",
                f"the gradient is at its rounding floor, but a Newton step still goes "
                f"{found.newton_length:.3g}",
            )
    if goes_to_infinity(trace) and trace[-1].gradient_norm < 1e-8 * trace[0].gradient_norm:
        return "diverging", (
            "‖g‖ falls and ‖θ‖ grows with steps that keep their length, "
            f"{trace[-1].step_length:.3g}"
        )
    if trace[-1].parameter_norm > 1e6 * (1.0 + trace[0].parameter_norm):
        return "diverging", f"‖θ‖ has grown to {trace[-1].parameter_norm:.3g}"
    if options.chosen_merit.name == "gradient":
        flat = stationarity(point, hessian)
        if flat <= FLAT:
            return "gradient_flat", flat_words(point, flat)
        if stalled(trace):
            if flat <= NEARLY_FLAT:
                return "gradient_flat", flat_words(point, flat)
            return "step_too_small", (
                f"‖g‖ fell by less than 1 % over the last {STALL_WINDOW} steps"
            )
    return None


def criticality(
    point: Point, hessian: HessianOperator, curvature: Curvature, options: RefinementOptions
) -> Criticality:
    """The two-part test, by what the direction knows or by Lanczos."""
    values = getattr(curvature, "values", None)
    eps = torch.finfo(point.parameters.dtype).eps
    floor = floor_of_gradient(point, curvature.norm, options)
    if values is None:
        tau = options.tolerance
        if tau is None:
            tau = 2 * SOLVER_ERROR * eps * curvature.norm
        length = newton_length(hessian, point.gradient, tau)
    else:
        length = curvature.steps(point.gradient).step(0.0).length
    return Criticality(point.gradient_norm, floor, length, point.parameter_norm)


def flat_words(point: Point, flat: float) -> str:
    """What was reached at a gradient-flat point."""
    return (
        f"‖g‖ is {point.gradient_norm:.3g} and cannot be lowered to first order: "
        f"‖Hg‖(1 + ‖θ‖)/‖g‖² = {flat:.2g}"
    )


def goes_to_infinity(trace: Trace) -> bool:
    """‖g‖ shrinks towards a point at infinity: steps keep their length and ‖θ‖ grows by them."""
    if len(trace) <= WINDOW:
        return False
    norms = trace.column("parameter_norm")[-WINDOW - 1 :]
    lengths = trace.column("step_length")[-WINDOW:]
    gradients = trace.column("gradient_norm")[-WINDOW - 1 :]
    return bool(
        np.all(np.diff(norms) > 0)
        and np.all(np.diff(gradients) < 0)
        and lengths[-1] >= 0.5 * lengths.max()
        and norms[-1] - norms[0] >= 0.2 * lengths.sum()
    )


def stalled(trace: Trace) -> bool:
    """‖g‖ hardly fell over many steps."""
    if len(trace) <= STALL_WINDOW:
        return False
    return trace[-1].gradient_norm > 0.99 * trace[-1 - STALL_WINDOW].gradient_norm


def at_limit(point: Point, hessian: HessianOperator, options: RefinementOptions) -> Reason:
    """The number of steps is used up."""
    if options.chosen_merit.name == "gradient":
        flat = stationarity(point, hessian)
        if flat <= NEARLY_FLAT:
            return "gradient_flat", flat_words(point, flat)
    return "max_iterations", f"{options.iteration_limit} steps were taken"


def without_step(
    point: Point, hessian: HessianOperator, curvature: Curvature, options: RefinementOptions
) -> Reason:
    """No step made the merit smaller."""
    floor = floor_of_gradient(point, curvature.norm, options)
    if point.gradient_norm <= floor:
        length = criticality(point, hessian, curvature, options).newton_length
        return "step_too_small", (
            f"the gradient is at its rounding floor ({floor:.2g}), but a Newton step would still "
            f"go {length:.3g}: there is curvature too small to be resolved"
        )
    flat = stationarity(point, hessian)
    if flat <= NEARLY_FLAT:
        return "gradient_flat", flat_words(point, flat)
    return "step_too_small", (
        f"no step lowers the {options.chosen_merit.name} merit any more at ‖g‖ = "
        f"{point.gradient_norm:.3g} (rounding floor {floor:.2g})"
    )
