"""Stopping rules: when a search ends, and why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hessscope.criticality.evidence import gradient_floor
from hessscope.operators import HessianOperator
from hessscope.options.refine import SearchOptions
from hessscope.refinement.directions import Curvature
from hessscope.refinement.points import Point, Trace
from hessscope.refinement.states import SearchState
from hessscope.spectra import Criticality

# The flatness of Look.slope: for sure, and where the search makes no headway either.
FLAT = 1e-6
NEARLY_FLAT = 1e-2
# Steps over which divergence and a standstill are judged.
WINDOW = 10
STALL_WINDOW = 40
_GROWTH = 1e6
_STEEP = 1e12

Reason = tuple[str, str]


@dataclass(frozen=True)
class Look:
    """What is known at a point before the next step; costly parts only when they are asked for.

    Attributes:
        point: θ.
        hessian: H at θ.
        curvature: what the direction made of it.
        options: of the search, with every default filled in.
        state: of the search at this point.
    """

    point: Point
    hessian: HessianOperator
    curvature: Curvature
    options: SearchOptions
    state: SearchState

    @cached_property
    def trace(self) -> Trace:
        """What the method under way has done."""
        return self.state.trace.since(self.state.begun)

    @property
    def near_floor(self) -> bool:
        """Whether it is worth measuring the floor, which costs a gradient."""
        eps = torch.finfo(self.point.parameters.dtype).eps
        scale = self.curvature.norm * (1.0 + self.point.parameter_norm) + abs(self.point.loss)
        return self.point.gradient_norm <= max(1e4 * eps * scale, self._asked)

    @property
    def _asked(self) -> float:
        return self.options.gradient_tolerance or 0.0

    @cached_property
    def floor(self) -> float:
        """The gradient norm that counts as zero."""
        point = self.point
        measured = gradient_floor(
            point.objective, point.parameters, point.gradient, self.curvature.norm
        )
        return max(plausible_floor(measured, self.state), self._asked)

    @property
    def words(self) -> str:
        """What is small about the gradient."""
        if self.floor == self._asked:
            return f"‖g‖ is at most the {self.floor:.2g} asked for"
        return f"‖g‖ is at its rounding floor ({self.floor:.2g})"

    @cached_property
    def criticality(self) -> Criticality:
        """The two-part test."""
        point = self.point
        length = self.curvature.newton_length(point, self.hessian, self.options.tolerance)
        return Criticality(point.gradient_norm, self.floor, length, point.parameter_norm)

    @property
    def slope(self) -> float:
        """‖Hg‖(1 + ‖θ‖)/‖g‖²: the slope of ½‖g‖² over its own size, for steps as long as θ.

        It grows without bound towards a critical point and falls to 0 towards a gradient-flat one.
        """
        point = self.point
        return self.curvature.steepness * (1.0 + point.parameter_norm) / point.gradient_norm

    @property
    def may_improve(self) -> bool:
        """The last step halved ‖g‖, and no tolerance was asked for that it meets."""
        trace = self.trace
        return (
            len(trace) > 1
            and trace[-1].gradient_norm < 0.5 * trace[-2].gradient_norm
            and trace[-1].gradient_norm > max(1e-2 * self.floor, self._asked)
        )

    @cached_property
    def stands_still(self) -> bool:
        """‖g‖, where it is what should fall, hardly fell over many steps."""
        since = max(self.state.fallback or 0, self.state.begun)
        norms = self.state.trace.since(since).column("gradient_norm")
        return (
            self.options.merit == "gradient"
            and len(norms) > STALL_WINDOW
            and bool(norms[-STALL_WINDOW:].min() > 0.99 * norms[:-STALL_WINDOW].min())
        )

    def flat(self, limit: float) -> Reason | None:
        """Gradient-flat, where the slope of ½‖g‖² is below a limit."""
        if self.slope > limit:
            return None
        return "gradient_flat", (
            f"‖g‖ is {self.point.gradient_norm:.3g}, and no step lowers it to first order: "
            f"‖Hg‖(1 + ‖θ‖)/‖g‖² = {self.slope:.2g}"
        )


def settled(look: Look) -> Reason | None:
    """Converged, or at the rounding floor on the way to infinity."""
    if not look.near_floor or look.point.gradient_norm > look.floor:
        return None
    if goes_to_infinity(look.trace):
        return "diverging", (
            f"{look.words}, and ‖θ‖ grows by steps that keep their length "
            f"({look.trace[-1].step_length:.3g})"
        )
    if look.criticality.critical:
        return "converged", (
            f"{look.words}, and a Newton step would go {look.criticality.newton_length:.2g}"
        )
    return None


def before_step(look: Look) -> Reason | None:
    """Whether the point is one to stop at."""
    found = settled(look)
    if found is not None:
        return None if found[0] == "converged" and look.may_improve else found
    trace = look.trace
    if goes_to_infinity(trace) and trace[-1].gradient_norm < 1e-8 * trace[0].gradient_norm:
        return "diverging", (
            f"‖g‖ falls and ‖θ‖ grows by steps that keep their length ({trace[-1].step_length:.3g})"
        )
    if trace[-1].parameter_norm > _GROWTH * (1.0 + trace[0].parameter_norm):
        return "diverging", f"‖θ‖ has grown to {trace[-1].parameter_norm:.3g}"
    if trace[-1].gradient_norm > _STEEP * (1.0 + trace[0].gradient_norm):
        return "diverging", f"‖g‖ has grown to {trace[-1].gradient_norm:.3g}"
    if look.options.merit != "gradient":
        return None
    return look.flat(FLAT)


def at_limit(look: Look) -> Reason:
    """The number of steps is used up."""
    reason = settled(look)
    if reason is None and look.options.merit == "gradient":
        reason = look.flat(NEARLY_FLAT)
    taken, limit = look.state.iterations, look.options.max_iterations
    more = "" if taken == limit else f", and at most {limit} were asked for"
    return reason or ("max_iterations", f"{taken} steps were taken{more}")


def without_step(look: Look) -> Reason:
    """No step made the merit smaller, or hardly so for long."""
    reason = settled(look)
    if reason is not None:
        return reason
    if look.point.gradient_norm <= look.floor:
        return "step_too_small", (
            f"{look.words}, but a Newton step would still go "
            f"{look.criticality.newton_length:.3g}: some curvature is too small to be resolved"
        )
    if look.stands_still:
        return look.flat(NEARLY_FLAT) or (
            "step_too_small",
            f"‖g‖ fell by less than 1 % over the last {STALL_WINDOW} steps",
        )
    return look.flat(NEARLY_FLAT) or (
        "step_too_small",
        f"no step lowers the merit ({look.options.merit}) any more; ‖g‖ is "
        f"{look.point.gradient_norm:.3g} and its rounding floor {look.floor:.2g}",
    )


def plausible_floor(measured: float, state: SearchState) -> float:
    """The rounding floor of ‖g‖, or what a critical point may have at most where that is less.

    Towards a pole of L the floor grows with ‖H‖ and overtakes ‖g‖. No gradient counts as zero that
    is larger than where the search began, unless it is small by itself.
    """
    first = state.trace[0].gradient_norm
    return min(measured, max(first, torch.finfo(state.parameters.dtype).eps ** 0.5))


def goes_to_infinity(trace: Trace) -> bool:
    """‖g‖ shrinks towards a point at infinity: steps keep their length and ‖θ‖ grows by them."""
    if len(trace) <= WINDOW:
        return False
    recent = trace.since(len(trace) - WINDOW - 1)
    norms, gradients = recent.column("parameter_norm"), recent.column("gradient_norm")
    lengths = recent.column("step_length")[1:]
    return bool(
        np.all(np.diff(norms) > 0)
        and np.all(np.diff(gradients) < 0)
        and lengths[-1] >= 0.5 * lengths.max()
        and norms[-1] - norms[0] >= max(0.2 * lengths.sum(), 1e-3 * (1.0 + norms[-1]))
    )
