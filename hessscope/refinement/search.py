"""The loop: from one state to the next, until there is a reason to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from hessscope.errors import NonFiniteError, OptionError
from hessscope.objective import Objective
from hessscope.operators import HessianOperator
from hessscope.refinement import stopping
from hessscope.refinement.options import RefinementOptions
from hessscope.refinement.points import Point
from hessscope.refinement.states import SearchState
from hessscope.refinement.trace import Trace, TraceStep

Observer = Callable[[SearchState], object]


def first_state(objective: Objective, start: torch.Tensor | None = None) -> SearchState:
    """The state before the first step.

    Raises:
        OptionError: the start has another length than θ.
    """
    here = objective.parameters
    theta = here if start is None else torch.as_tensor(start).to(here).detach().clone()
    if theta.shape != here.shape:
        raise OptionError(
            f"start has shape {tuple(theta.shape)}; expected a vector of {len(here)} parameters"
        )
    point = Point(objective, theta)
    row = TraceStep(point.loss, point.gradient_norm, point.parameter_norm, gradients=1)
    return SearchState(theta, Trace((row,)), torch.zeros_like(theta))


def run(
    objective: Objective,
    options: RefinementOptions,
    state: SearchState,
    observer: Observer | None = None,
) -> SearchState:
    """Take steps until there is a reason to stop.

    Args:
        objective: L.
        options: how.
        state: where to begin or to go on; with the same state come the same results.
        observer: called with the state after each step; if it returns True, the search stops with
            status "interrupted". A KeyboardInterrupt gives up the step under way.

    Returns:
        The last state, with its status.
    """
    point = Point(objective, state.parameters.to(objective.parameters))
    if not point.finite:
        return state.ended(
            "non_finite",
            f"loss {point.loss} and gradient norm {point.gradient_norm} where the search begins",
        )
    try:
        origin = HessianOperator(
            objective, point.parameters, plan=state.plan, memory=options.memory
        )
        state = replace(state.reopened(), plan=origin.plan)
        while True:
            state, point = advance(point, origin, options, state)
            if state.status is not None:
                return state
            if observer is not None and observer(state) is True:
                return state.ended("interrupted", "stopped after a step, as asked")
    except KeyboardInterrupt:
        return state.ended("interrupted", "stopped during a step, which was given up")


def advance(
    point: Point, origin: HessianOperator, options: RefinementOptions, state: SearchState
) -> tuple[SearchState, Point]:
    """Take one step, or find the reason to stop.

    Args:
        point: the state's point, with what was evaluated there.
        origin: the Hessian at some point, whose plan is used.
        options: how.
        state: where the search stands.
    """
    began = time.perf_counter()
    method, merit = options.chosen, options.chosen_merit
    hessian = origin.moved(point.parameters)
    if point.gradient_norm == 0.0:
        return state.ended("converged", "the gradient is exactly zero"), point
    try:
        curvature = method.direction.curvature(point, hessian, state.previous_step)
        steps = curvature.steps(point.gradient)
        reason = stopping.before_step(point, hessian, curvature, steps, options, state)
        if reason is not None:
            return state.ended(*reason), point
        if state.iterations >= options.iteration_limit:
            return state.ended(*stopping.at_limit(point, hessian, options)), point
        accepted = options.chosen_globalisation.search(point, steps, merit, state.scale)
    except NonFiniteError as error:
        return state.ended("non_finite", str(error)), point
    if accepted is None:
        return state.ended(*stopping.without_step(point, hessian, curvature, options)), point
    last, new = state.trace[-1], accepted.point
    row = TraceStep(
        loss=new.loss,
        gradient_norm=new.gradient_norm,
        parameter_norm=new.parameter_norm,
        step_length=float(torch.linalg.vector_norm(accepted.step)),
        damping=accepted.damping,
        scale=accepted.fraction,
        index=curvature.index,
        hvps=last.hvps + hessian.hvps,
        hessians=last.hessians + int(method.direction.dense),
        gradients=last.gradients + accepted.gradients,
        seconds=last.seconds + time.perf_counter() - began,
    )
    following = replace(
        state,
        parameters=new.parameters,
        trace=state.trace.with_step(row),
        previous_step=accepted.step,
        scale=accepted.memory,
    )
    return following, new
