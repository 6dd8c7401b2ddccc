"""What a direction is: curvature at a point, and the steps that it offers."""

from __future__ import annotations

from typing import Protocol

import torch

from hessscope.errors import MemoryLimitError
from hessscope.operators import (
    HessianOperator,
    memory_in_words,
    memory_limit,
    memory_room,
    room_in_words,
)
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

    def memory_needed(self, theta: torch.Tensor) -> int:
        """Bytes of what it keeps of the curvature at θ, shape (n,), beyond a few vectors."""
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
