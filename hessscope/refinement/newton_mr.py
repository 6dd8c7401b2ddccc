"""Newton-MR: the Newton step by MINRES, for critical points of large networks.

Roosta, Liu, Xu & Mahoney, "Newton-MR: Inexact Newton method with minimum residual sub-problem
solver" (2022); for descent in the loss, Liu & Roosta, "A Newton-MR algorithm with complexity
guarantees for nonconvex smooth unconstrained optimization" (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hessscope.linalg.minres import minres
from hessscope.operators import HessianOperator
from hessscope.options.refine import SearchOptions
from hessscope.refinement.directions import Direction, SingleStep
from hessscope.refinement.points import Point
from hessscope.refinement.states import Step


@dataclass(frozen=True)
class NewtonMR(Direction):
    """−H⁺g, inexactly: MINRES until ‖H r‖ has fallen to a part of ‖H g‖.

    The iterates of MINRES are directions of descent of ½‖g‖² whatever the signs of the curvature.
    For descent in the loss they are not, so there MINRES stops at the first direction of
    non-positive curvature, and that is the step.

    Cost of a step: up to ``steps`` products; memory 8n numbers.

    Attributes:
        steps: maximum number of MINRES steps.
        descend: go down in the loss.
        tolerance: part of ‖H g‖ at which MINRES ends.
    """

    globalisation: ClassVar[str] = "backtracking"
    krylov_steps: ClassVar[int] = 200

    steps: int = krylov_steps
    descend: bool = False
    tolerance: float = 1e-2

    @classmethod
    def of(cls, options: SearchOptions) -> NewtonMR:
        """Of ``krylov_steps`` products, for the merit of the search."""
        return cls(options.krylov_steps or cls.krylov_steps, descend=options.merit == "loss")

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> SingleStep:
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
            step = Step(along, hessian.matvec(along))
        else:
            step = Step(result.solution, -point.gradient - result.residual)
        return SingleStep(step, result.norm, result.steepness)
