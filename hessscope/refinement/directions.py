"""What a direction is: curvature at a point, and the steps that it offers."""

from __future__ import annotations

from typing import Protocol

import torch

from hessscope.operators import HessianOperator
from hessscope.refinement.points import Point
from hessscope.refinement.steps import Steps


class Curvature(Protocol):
    """What a direction computed of the Hessian at one point.

    Attributes:
        norm: ‖H‖₂, or the best lower bound that came up; NaN where nothing did.
        steepness: ‖Hg‖/‖g‖ for the point's own gradient.
        index: number of negative eigenvalues; −1 where it is not known.
    """

    norm: float
    steepness: float
    index: int

    def steps(self, gradient: torch.Tensor) -> Steps:
        """The steps for a gradient, by this curvature."""
        ...


class Direction(Protocol):
    """A way to choose steps from gradient and Hessian."""

    @property
    def dense(self) -> bool:
        """Needs the whole matrix."""
        ...

    @property
    def few_products(self) -> bool:
        """Makes one or two at a point, for which little should be prepared."""
        ...

    @property
    def damped(self) -> bool:
        """Its steps get shorter with more damping."""
        ...

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> Curvature:
        """Look at the Hessian at a point.

        Args:
            point: θ with its gradient.
            hessian: H at θ.
            previous_step: the last Δθ; zero before the first.
        """
        ...
