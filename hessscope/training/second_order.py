"""Steps of damped Newton and saddle-free Newton, by the directions of the refiner."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from hessscope.objective import EmpiricalRisk
from hessscope.operators import HessianOperator, Plan
from hessscope.options.refine import SearchOptions
from hessscope.options.train import TrainingOptions
from hessscope.refinement.directions import Direction, memory_left
from hessscope.refinement.points import Point
from hessscope.refinement.states import Steps
from hessscope.refinement.strategy import Strategy
from hessscope.training.history import Step

# Vectors of one product where they are chosen freely: which number is fastest is found by timing,
# and the same seed would not give the same bits.
_VECTORS = 4
# Powers of ten that are tried above the largest damping of the list.
_LARGER = 12


class CurvatureSteps:
    """Steps of a second-order method; the damping is the one that lowers the loss most.

    The loss is that of the model in evaluation mode, over the batch.

    Args:
        risk: the loss and the data.
        model: whose parameters follow.
        options: of the run.

    Raises:
        MemoryLimitError: what the direction holds does not fit, such as the whole Hessian.
    """

    def __init__(
        self, risk: EmpiricalRisk, model: torch.nn.Module, options: TrainingOptions
    ) -> None:
        self._risk, self._model = risk, model
        self._direction = direction_of(options)
        self._dampings = options.damping
        self._inner = options.inner_steps if "inner_steps" in options.method.uses else 1
        self._curvature = options.log_curvature
        self._previous = torch.zeros_like(risk.parameters)
        self._plan: Plan | None = None
        self._whole: HessianOperator | None = None
        memory_left(
            self._direction,
            risk.parameters,
            "`optimizer=krylov_sfn` takes two vectors for each of `krylov_dimension`",
        )

    def step(self, which: torch.Tensor | slice) -> Step:
        """Take a step by the Hessian over the examples ``which``; see ``Step`` for the log."""
        parameters = dict(self._model.named_parameters())
        theta = self._risk.layout.flatten(parameters).detach()
        hessian = self._hessian(which, theta)
        start = Point(hessian.objective, theta)
        done = Step(start.loss, length=0.0)
        if self._curvature:
            g = start.gradient
            done = replace(done, gTg=start.gradient_norm**2, gTHg=float(g @ hessian.matvec(g)))
        if not math.isfinite(start.loss) or start.gradient_norm == 0.0:
            return done
        curvature = self._direction.curvature(start, hessian, self._previous)
        point = start
        for _ in range(self._inner):
            found = best_damping(point, curvature.steps(point.gradient), self._dampings)
            if found is None:
                break
            point, done = found[0], replace(done, damping=found[1])
            if point.gradient_norm == 0.0:
                break
        self._previous = point.parameters - theta
        with torch.no_grad():
            for name, part in self._risk.layout.unflatten(point.parameters).items():
                parameters[name].copy_(part)
        return replace(done, length=float(torch.linalg.vector_norm(self._previous)))

    def _hessian(self, which: torch.Tensor | slice, theta: torch.Tensor) -> HessianOperator:
        risk = self._risk
        if isinstance(which, slice) and which == slice(0, len(risk)):
            if self._whole is None:
                self._whole = self._planned(risk, theta)
            return self._whole.moved(theta)
        return self._planned(risk.on(which), theta)

    def _planned(self, risk: EmpiricalRisk, theta: torch.Tensor) -> HessianOperator:
        """The Hessian over some examples, with the products of the first of its kind."""
        if self._plan is None:
            plan = HessianOperator(risk, theta).plan
            self._plan = replace(plan, vectors=_VECTORS) if plan.way == "graph" else plan
        return HessianOperator(risk, theta, plan=self._plan, check=False)

    def state(self) -> dict[str, Any]:
        """What the next step depends on, as plain values and tensors."""
        plan = None if self._plan is None else self._plan.as_dict()
        return {"previous_step": self._previous.clone(), "plan": plan}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from what ``state`` gave."""
        self._previous = state["previous_step"].to(self._risk.parameters)
        self._plan = None if state["plan"] is None else Plan(**state["plan"])
        self._whole = None


def best_damping(
    point: Point, steps: Steps, dampings: tuple[float, ...]
) -> tuple[Point, float] | None:
    """Where the damping of the list leads that lowers the loss most (Dauphin et al. 2014, F.1).

    If none lowers it, larger ones are tried, each ten times the one before: the refiner's search
    of this kind also goes below the list, which is not the paper's way.

    Returns:
        The point and the damping; None where no damping lowers the loss.
    """
    best, chosen = point, math.nan
    largest = max(dampings) or 1.0
    for damping in (*dampings, *(largest * 10.0**power for power in range(1, _LARGER + 1))):
        if damping > largest and best is not point:
            break
        trial = point.moved(steps.step(damping).vector)
        if trial.loss < best.loss:
            best, chosen = trial, damping
    return None if best is point else (best, chosen)


def direction_of(options: TrainingOptions) -> Direction:
    """The refiner's direction of the same name, for descent in the loss."""
    steps = options.krylov_dimension
    search = SearchOptions(options.optimizer, merit="loss", krylov_steps=steps)
    return Strategy.of(search).direction
