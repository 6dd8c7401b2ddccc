"""The loop of a search: from one state to the next, until there is a reason to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from hessscope.errors import NonFiniteError, OptionError
from hessscope.objective import Objective
from hessscope.operators import HessianOperator
from hessscope.options.refine import SearchOptions
from hessscope.refinement import stopping
from hessscope.refinement.directions import Curvature, memory_left
from hessscope.refinement.globalisation import Accepted
from hessscope.refinement.points import Point, Trace, TraceStep
from hessscope.refinement.states import SearchState
from hessscope.refinement.stopping import Reason
from hessscope.refinement.strategy import Strategy
from hessscope.registry import PRODUCTS

Observer = Callable[[SearchState], object]


def first_state(objective: Objective, start: torch.Tensor | None = None) -> SearchState:
    """The state before the first step.

    Raises:
        OptionError: the start has another length than θ.
    """
    here = objective.parameters
    theta = here
    if start is not None:
        theta = torch.as_tensor(start, dtype=here.dtype, device=here.device).detach().clone()
    if theta.shape != here.shape:
        raise OptionError(
            f"start has shape {tuple(theta.shape)}; expected a vector of {len(here)} parameters"
        )
    point = Point(objective, theta)
    row = TraceStep(point.loss, point.gradient_norm, point.parameter_norm, gradients=1)
    return SearchState(theta, Trace((row,)), torch.zeros_like(theta))


def run(
    objective: Objective,
    options: SearchOptions,
    state: SearchState,
    observer: Observer | None = None,
    *,
    check: bool = True,
) -> SearchState:
    """Take steps until there is a reason to stop.

    Args:
        objective: L.
        options: how.
        state: where to begin or to resume; with the same state come the same results.
        observer: called with the state after each step; if it returns True, the search stops with
            status "interrupted". A KeyboardInterrupt abandons the step under way.
        check: whether L and its derivatives are checked first (``HessianOperator.check``).

    Returns:
        The last state, with its status.

    Raises:
        MemoryLimitError: what the method holds does not fit, such as the whole Hessian.
    """
    strategy = Strategy.of(options, len(objective.parameters))
    left = memory_left(
        strategy.direction,
        objective.parameters,
        "`method=krylov_sfn` takes two vectors for each of `krylov_steps`, newton_mr eight in all",
        options.memory_in_bytes,
    )
    state = state.reopened(strategy.method, objective.parameters)
    point = Point(objective, state.parameters)
    if not point.finite:
        return state.ended(
            "non_finite",
            f"loss {point.loss} and gradient norm {point.gradient_norm} where the search begins",
        )
    try:
        origin: HessianOperator = PRODUCTS.find(options.products)(
            objective, point.parameters, plan=state.plan, memory=left, check=check
        )
        state = replace(state, plan=origin.plan)
        while True:
            with objective.kernels():
                state, point = advance(point, origin, strategy, state)
            if state.status is not None:
                return state
            if observer is not None and observer(state) is True:
                return state.ended("interrupted", "stopped after a step, as asked")
    except KeyboardInterrupt:
        return state.ended("interrupted", "stopped during a step, which was abandoned")


def advance(
    point: Point, origin: HessianOperator, strategy: Strategy, state: SearchState
) -> tuple[SearchState, Point]:
    """Compute the curvature and take its steps, or find the reason to stop.

    Args:
        point: the state's point, with what was evaluated there.
        origin: the Hessian at some point, whose plan is used.
        strategy: how.
        state: where the search stands.
    """
    began = time.perf_counter()
    plan = origin.plan_for_few if strategy.direction.few_products else origin.plan
    hessian = origin.moved(point.parameters, plan)
    try:
        if point.gradient_norm == 0.0:
            return state.ended("converged", "the gradient is exactly zero"), point
        curvature = strategy.direction.curvature(point, hessian, state.previous_step)
        look = stopping.Look(point, hessian, curvature, strategy.options, state)
        reason = stopping.before_step(look)
        if reason is None and state.iterations >= (strategy.options.max_iterations or 0):
            reason = stopping.at_limit(look)
        accepted: list[Accepted] = []
        if reason is None and not look.stands_still:
            accepted = _steps(point, curvature, strategy, state)
        if reason is None and not accepted and strategy.globalisation_at(state).fallback:
            state = replace(state, fallback=state.iterations)
            accepted = _steps(point, curvature, strategy, state)
        if not accepted:
            return _ended(state, reason or stopping.without_step(look), hessian), point
    except NonFiniteError as error:
        return _ended(state, ("non_finite", str(error)), hessian), point
    last, new = state.trace[-1], accepted[-1].point
    step = new.parameters - point.parameters if len(accepted) > 1 else accepted[0].step
    row = TraceStep(
        loss=new.loss,
        gradient_norm=new.gradient_norm,
        parameter_norm=new.parameter_norm,
        step_length=float(torch.linalg.vector_norm(step)),
        damping=accepted[-1].damping,
        scale=accepted[-1].fraction,
        index=curvature.index,
        hvps=state.hvps + hessian.hvps,
        hessians=last.hessians + int(strategy.direction.dense),
        gradients=last.gradients + sum(inner.gradients for inner in accepted),
        seconds=last.seconds + time.perf_counter() - began,
    )
    following = replace(
        state,
        parameters=new.parameters,
        trace=state.trace.with_step(row),
        previous_step=step,
        scale=accepted[-1].memory,
        scale_of=type(strategy.globalisation_at(state)).__name__,
        hvps=row.hvps,
    )
    return following, new


def _steps(
    point: Point, curvature: Curvature, strategy: Strategy, state: SearchState
) -> list[Accepted]:
    """The steps by one curvature: as many as are allowed and accepted."""
    globalisation = strategy.globalisation_at(state)
    memory = state.scale if state.scale_of == type(globalisation).__name__ else math.nan
    accepted: list[Accepted] = []
    for _ in range(strategy.options.inner_steps or 1):
        found = globalisation.search(point, curvature, strategy.merit, memory)
        if found is None:
            break
        accepted.append(found)
        point, memory = found.point, found.memory
        if point.gradient_norm == 0.0:
            break
    return accepted


def _ended(state: SearchState, reason: Reason, hessian: HessianOperator) -> SearchState:
    return replace(state.ended(*reason), hvps=state.hvps + hessian.hvps)
