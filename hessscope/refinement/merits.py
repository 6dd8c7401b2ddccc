"""Merit functions, which accepted steps decrease."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod

import torch

from hessscope.refinement.points import Point
from hessscope.refinement.steps import Step


class Merit(ABC):
    """A function of θ that accepted steps decrease."""

    name: str

    @abstractmethod
    def slope(self, point: Point, step: Step) -> float:
        """Derivative at θ along the step."""

    @abstractmethod
    def predicted(self, point: Point, step: Step) -> float:
        """Decrease that the local model predicts for the whole step."""

    @abstractmethod
    def improvement(self, before: Point, after: Point) -> float:
        """Decrease from one point to another; NaN where the other is not finite."""


class GradientMerit(Merit):
    """½‖∇L‖², for critical points of any index.

    With a step p its slope is (Hg)·p = g·Hp, and the model is ½‖g + Hp‖².
    """

    name = "gradient"

    def slope(self, point: Point, step: Step) -> float:
        """g·Hp."""
        return float(point.gradient @ step.image)

    def predicted(self, point: Point, step: Step) -> float:
        """½‖g‖² − ½‖g + Hp‖²."""
        return -float((point.gradient + 0.5 * step.image) @ step.image)

    def improvement(self, before: Point, after: Point) -> float:
        """½‖g‖² before, less ½‖g‖² after."""
        return (
            0.5
            * (before.gradient_norm - after.gradient_norm)
            * (before.gradient_norm + after.gradient_norm)
        )


class LossMerit(Merit):
    """L itself, for minima; where its changes drown in rounding, ‖∇L‖ decides."""

    name = "loss"

    def slope(self, point: Point, step: Step) -> float:
        """g·p."""
        return float(point.gradient @ step.vector)

    def predicted(self, point: Point, step: Step) -> float:
        """−g·p − ½ p·Hp."""
        return -float((point.gradient + 0.5 * step.image) @ step.vector)

    def improvement(self, before: Point, after: Point) -> float:
        """L before, less L after; below rounding, a share of it that ‖g‖² fell by."""
        change = before.loss - after.loss
        eps = torch.finfo(before.parameters.dtype).eps
        rounding = 8 * eps * abs(before.loss) + sys.float_info.min
        if not abs(change) <= rounding or before.gradient_norm == 0.0:
            return change
        share = 1.0 - (after.gradient_norm / before.gradient_norm) ** 2
        return rounding * max(share, -1.0) if share == share else share


MERITS: dict[str, Merit] = {"gradient": GradientMerit(), "loss": LossMerit()}
