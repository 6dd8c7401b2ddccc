"""Points of a search, evaluated when it is needed."""

from __future__ import annotations

import math
from functools import cached_property

import torch

from hessscope.objective import Objective


class Point:
    """θ with loss and gradient, each computed once and only if it is needed.

    Args:
        objective: L.
        parameters: θ, shape (n,).
    """

    def __init__(self, objective: Objective, parameters: torch.Tensor) -> None:
        self.objective = objective
        self.parameters = parameters

    @cached_property
    def loss(self) -> float:
        """L(θ); NaN or infinite where the function is."""
        return self.objective.value(self.parameters)

    @cached_property
    def gradient(self) -> torch.Tensor:
        """∇L(θ), shape (n,); the loss comes with it, unless it is known."""
        loss, gradient = self.objective.value_and_gradient(self.parameters)
        self.__dict__.setdefault("loss", loss)
        return gradient

    @cached_property
    def gradient_norm(self) -> float:
        """‖∇L(θ)‖."""
        return float(torch.linalg.vector_norm(self.gradient))

    @cached_property
    def parameter_norm(self) -> float:
        """‖θ‖."""
        return float(torch.linalg.vector_norm(self.parameters))

    @property
    def finite(self) -> bool:
        """Parameters, loss and gradient are finite, and so is ‖g‖²."""
        return (
            math.isfinite(self.parameter_norm)
            and math.isfinite(self.loss)
            and math.isfinite(self.gradient_norm**2 if self.gradient_norm < 1e150 else math.inf)
        )

    @property
    def gradients(self) -> int:
        """Gradients computed here so far: 0 or 1."""
        return int("gradient" in self.__dict__)

    def moved(self, step: torch.Tensor) -> Point:
        """The point θ + step."""
        return Point(self.objective, self.parameters + step)
