"""Newton-MR: the Newton step by MINRES, for critical points of large networks.

Roosta, Liu, Xu & Mahoney, "Newton-MR: Inexact Newton method with minimum residual sub-problem
solver" (2022); for descent in the loss, Liu & Roosta, "A Newton-MR algorithm with complexity
guarantees for nonconvex smooth unconstrained optimization" (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hessscope.linalg.minres import MinresResult, minres
from hessscope.operators import HessianOperator
from hessscope.refinement.points import Point
from hessscope.refinement.steps import SingleStep, Step


class MinresCurvature:
    """What MINRES found: one step.

    Args:
        result: of H p = −g.
        step: the one to take.
    """

    def __init__(self, result: MinresResult, step: Step) -> None:
        self._step = step
        self.norm, self.steepness = result.norm, result.steepness
        self.index = -1

    def steps(self, gradient: torch.Tensor) -> SingleStep:
        """The step; it belongs to the gradient that the system was solved for."""
        return SingleStep(self._step)


@dataclass(frozen=True)
class NewtonMR:
    """−H⁺g, inexactly: MINRES until ‖H r‖ has fallen to a part of ‖H g‖.

    The iterates of MINRES are directions of descent of ½‖g‖² whatever the signs of the curvature.
    For descent in the loss they are not, so there MINRES stops at the first direction of
    non-positive curvature, and that is the step.

    Cost of a step: up to ``steps`` products; memory 8n numbers.

    Attributes:
        steps: MINRES steps at most.
        descend: the step is to go down in the loss.
        tolerance: part of ‖H g‖ at which MINRES ends.
    """

    steps: int
    descend: bool = False
    tolerance: float = 1e-2
    dense: ClassVar[bool] = False
    few_products: ClassVar[bool] = False
    damped: ClassVar[bool] = False

    def memory_needed(self, theta: torch.Tensor) -> int:
        """Nothing to speak of: eight vectors."""
        return 0

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> MinresCurvature:
        """Solve H p = −g."""
        result = minres(
            hessian.matvec,
            -point.gradient,
            self.steps,
            self.tolerance,
            stop_at_nonpositive=self.descend,
        )
        if self.descend and result.nonpositive is not None:
            along = result.nonpositive
            # As long as the parameters at most: along it no model gives a length.
            size = float(torch.linalg.vector_norm(along))
            along = along * ((1.0 + point.parameter_norm) / size)
            return MinresCurvature(result, Step(along, hessian.matvec(along)))
        return MinresCurvature(result, Step(result.solution, -point.gradient - result.residual))
