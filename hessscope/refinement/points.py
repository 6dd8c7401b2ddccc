"""Points of a search, their trace, and the saddles among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np
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


@dataclass(frozen=True)
class SaddleConstants:
    """The smallest constants with which a point is a stable saddle, and a good one.

    Attributes:
        kappa: number of non-zero eigenvalues, the upper end of its interval.
        epsilon: ‖∇L‖; the definition asks for less than its ε.
        rho: Lipschitz constant of the Hessian near the point, an estimate; NaN where none was
            made.
        delta: loss above the best one known; NaN where that is not known.
        size: number n of parameters; κ < n, so that there are zeros.
    """

    kappa: int
    epsilon: float
    rho: float
    delta: float
    size: int

    def stable(self, kappa: int, epsilon: float, rho: float = float("inf")) -> bool:
        """(κ, ε, ρ)-stable: ‖∇L‖ < ε, at most κ < n non-zero eigenvalues, Hessian ρ-Lipschitz."""
        lipschitz = rho == float("inf") or self.rho <= rho
        return self.epsilon < epsilon and self.kappa <= kappa < self.size and lipschitz

    def good(self, kappa: int, epsilon: float, delta: float, rho: float = float("inf")) -> bool:
        """(κ, ε, ρ, δ)-good: stable, and the loss is at most δ above the best."""
        return self.stable(kappa, epsilon, rho) and self.delta <= delta

    def as_dict(self) -> dict[str, float | int]:
        """The form it has in JSON and in records."""
        return asdict(self)


@dataclass(frozen=True)
class TraceStep:
    """A point of the search and the step that led there.

    Attributes:
        loss: L.
        gradient_norm: ‖∇L‖.
        parameter_norm: ‖θ‖.
        step_length: ‖Δθ‖; NaN for the start.
        damping: of the accepted step, in the units of the direction's own formula; NaN where it
            knows none.
        scale: fraction of the direction's step that was taken; NaN for the start.
        index: negative eigenvalues of the Hessian that the step was computed from; −1 where it is
            not known.
        hvps: Hessian-vector products so far.
        hessians: dense Hessians assembled so far.
        gradients: gradients computed so far.
        seconds: wall time so far.
    """

    loss: float
    gradient_norm: float
    parameter_norm: float
    step_length: float = math.nan
    damping: float = math.nan
    scale: float = math.nan
    index: int = -1
    hvps: int = 0
    hessians: int = 0
    gradients: int = 0
    seconds: float = 0.0


_COLUMNS = tuple(field.name for field in fields(TraceStep))


@dataclass(frozen=True)
class Trace:
    """Every accepted point, the start first.

    Attributes:
        steps: one entry for each point.
    """

    steps: tuple[TraceStep, ...]

    def __len__(self) -> int:
        """Number of points, the start included."""
        return len(self.steps)

    def __getitem__(self, i: int) -> TraceStep:
        """The point after i steps."""
        return self.steps[i]

    def column(self, name: str) -> np.ndarray:
        """One quantity over all points, shape (len,)."""
        return np.array([getattr(step, name) for step in self.steps])

    def since(self, i: int) -> Trace:
        """The points from the one after i steps on."""
        return Trace(self.steps[i:])

    def with_step(self, step: TraceStep) -> Trace:
        """The trace with one more point."""
        return Trace((*self.steps, step))

    def arrays(self) -> dict[str, np.ndarray]:
        """All columns, as records hold them (``trace/loss``, …)."""
        return {f"trace/{name}": self.column(name) for name in _COLUMNS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Trace:
        """Make the trace that a record holds."""
        columns = (arrays[f"trace/{name}"].tolist() for name in _COLUMNS)
        return cls(tuple(TraceStep(*row) for row in zip(*columns, strict=True)))
