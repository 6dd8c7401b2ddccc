"""Directions and merits: the steps that the curvature at a point offers, and what they decrease."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from hessscope.backends.measured_noise import SOLVER_ERROR
from hessscope.criticality.evidence import newton_lengths
from hessscope.errors import MemoryLimitError
from hessscope.operators import (
    HessianOperator,
    memory_in_words,
    memory_limit,
    memory_room,
    room_in_words,
)
from hessscope.options.refine import SearchOptions
from hessscope.refinement.points import Point
from hessscope.refinement.states import Step, Steps


class Curvature(ABC):
    """What a direction computed of the Hessian at one point.

    Attributes:
        norm: ‖H‖₂, or the best lower bound that came up; NaN where nothing did.
        steepness: ‖Hg‖/‖g‖ for the point's own gradient.
        index: number of negative eigenvalues; −1 where it is not known.
    """

    norm: float
    steepness: float
    index: int = -1

    @abstractmethod
    def steps(self, gradient: torch.Tensor) -> Steps:
        """The steps for a gradient, by this curvature."""

    def newton_length(self, point: Point, hessian: HessianOperator, tau: float | None) -> float:
        """‖H⁺_τ g‖, here by Lanczos from g; the default τ bounds the solver's rounding."""
        eps = torch.finfo(point.parameters.dtype).eps
        tau = 2 * SOLVER_ERROR * eps * self.norm if tau is None else tau
        return newton_lengths(hessian, point.gradient, tau)[0]


class SingleStep(Curvature):
    """The curvature of a direction that offers one step, which may be shortened but not turned.

    Args:
        step: for the gradient at the point.
        norm: lower bound of ‖H‖₂.
        steepness: ‖Hg‖/‖g‖.
    """

    damped = False

    def __init__(self, step: Step, norm: float, steepness: float) -> None:
        self._step, self.norm, self.steepness = step, norm, steepness

    def steps(self, gradient: torch.Tensor) -> SingleStep:
        """The one step, whatever the gradient."""
        return self

    def step(self, damping: float) -> Step:
        """The step, whatever the damping."""
        return self._step

    def damping_for(self, radius: float) -> float:
        """There is no damping."""
        return 0.0


class Direction(ABC):
    """A way to choose steps from gradient and Hessian, with the defaults of searches by it.

    Attributes:
        globalisation: default.
        merit: default.
        max_iterations: default.
        krylov_steps: default; None where there is no Krylov space.
        inner_steps: default number of steps by the same curvature.
        dense: it needs the whole matrix.
        few_products: it makes one or two at a point, for which little should be prepared.
        damped: its steps get shorter with more damping.
    """

    globalisation: ClassVar[str] = "damping_search"
    merit: ClassVar[str] = "gradient"
    max_iterations: ClassVar[int] = 200
    krylov_steps: ClassVar[int | None] = None
    inner_steps: ClassVar[int] = 1
    dense: ClassVar[bool] = False
    few_products: ClassVar[bool] = False
    damped: ClassVar[bool] = False

    @classmethod
    def of(cls, options: SearchOptions) -> Direction:
        """Make it for the options of a search, whose defaults are filled in."""
        return cls()

    def memory_needed(self, theta: torch.Tensor) -> int:
        """Bytes of what it keeps of the curvature at θ, shape (n,), beyond a few vectors."""
        return 0

    @abstractmethod
    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> Curvature:
        """Look at the Hessian at a point.

        Args:
            point: θ with its gradient.
            hessian: H at θ.
            previous_step: the last Δθ; zero before the first.
        """


def memory_left(
    direction: Direction, theta: torch.Tensor, remedy: str, memory: int | None = None
) -> int:
    """What is left for products; a direction that would not fit is refused before any work.

    Args:
        direction: to be taken.
        theta: θ, shape (n,).
        remedy: what takes less.
        memory: bytes that the process may hold; default four fifths of what is free.

    Returns:
        The limit in bytes for all but what the direction keeps.

    Raises:
        MemoryLimitError: it would not fit.
    """
    needed = direction.memory_needed(theta)
    if needed > memory_room(memory, theta.device):
        raise MemoryLimitError(
            f"what this method keeps of the Hessian of {len(theta):,} parameters takes "
            f"{memory_in_words(needed)}, and {room_in_words(memory, theta.device)}: {remedy}"
        )
    return memory_limit(memory, theta.device) - needed


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
