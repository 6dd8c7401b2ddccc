"""Directions of first order: descent in the loss, and in ½‖∇L‖²."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from hessscope.operators import HessianOperator
from hessscope.refinement.directions import Direction, SingleStep
from hessscope.refinement.points import Point
from hessscope.refinement.states import Step


class GradientDescent(Direction):
    """−g, scaled by the curvature along g: the minimum of the quadratic model where it has one.

    Cost of a step: one product. Where the curvature along g is negative or zero, its absolute
    value, at least a small part of the gradient, scales the step.
    """

    globalisation: ClassVar[str] = "backtracking"
    merit: ClassVar[str] = "loss"
    max_iterations: ClassVar[int] = 2000
    few_products: ClassVar[bool] = True

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> SingleStep:
        """Hg, one product."""
        size = point.gradient_norm
        unit = point.gradient / size  # squares of a small gradient underflow
        image = hessian.matvec(unit)
        steepness = float(torch.linalg.vector_norm(image))
        # At the least a step of the order of the parameters themselves.
        curved = max(abs(float(unit @ image)), size / (1.0 + point.parameter_norm), 1e-300)
        length = size / curved
        return SingleStep(Step(-length * unit, -length * image), steepness, steepness)


class GradientNormDescent(Direction):
    """−Hg, the steepest descent of ½‖g‖², to the minimum of ½‖g + Hp‖² along it.

    Cost of a step: two products. It converges slowly, by the square of the condition number, and
    is here to compare with (Pennington & Bahri 2017; Frye et al. 2020 on where it ends).
    """

    globalisation: ClassVar[str] = "backtracking"
    max_iterations: ClassVar[int] = 2000
    few_products: ClassVar[bool] = True

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> SingleStep:
        """Hg and H²g, two products."""
        size = point.gradient_norm
        along = hessian.matvec(point.gradient / size)
        steepness = float(torch.linalg.vector_norm(along))
        if steepness > 0.0:
            along = along / steepness  # squares of what is small or large leave the range
        image = hessian.matvec(along)
        twice = float(torch.linalg.vector_norm(image))
        length = size * (steepness / twice) / twice if twice > 0.0 else 0.0
        length = length if math.isfinite(length) else 0.0
        return SingleStep(Step(-length * along, -length * image), max(steepness, twice), steepness)
