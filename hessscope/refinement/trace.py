"""Trace of a search, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np


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
